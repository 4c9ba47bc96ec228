//! The checksums of bytes as they pass: CRC64NVME, which S3 combines over parts, and MD5 for ETags and Content-MD5.

mod crc64;
mod md5;

pub use crc64::{Crc64, combine, crc64};
pub use md5::{Md5, md5};
