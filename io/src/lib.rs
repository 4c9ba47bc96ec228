//! The machine under Ropeway: cores, rings, files, buffers, hashes. Not S3 and not HTTP.
