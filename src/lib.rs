//! Ropeway moves data between local disks and S3.
#![forbid(unsafe_code)]

pub mod serve;
