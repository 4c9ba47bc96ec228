//! S3's bytes to meaning and back: names, signatures, requests, answers, retries. No socket, file, clock, thread or
//! random number.
#![forbid(unsafe_code)]
