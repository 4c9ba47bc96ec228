//! The checksums of bytes as they pass: CRC64NVME, which S3 combines over parts, MD5 for ETags and Content-MD5, and the others
//! that S3 knows where they are asked for. One MD5
//! is a chain in which every step waits for the one before, so a core is fast at it only by taking many streams at once:
//! `md5_kernel` is the compression function over the lanes of a vector, `md5_simd` the vectors of this processor, and
//! [`Md5Lanes`] brings the streams of a core together.

mod crc64;
mod md5;
mod md5_kernel;
mod md5_lanes;
#[cfg(target_arch = "x86_64")]
mod md5_simd;
mod sum;

pub use crc64::{Crc64, combine, crc64};
pub use md5::{Md5, md5};
pub use md5_kernel::{Kernel, Md5State};
pub use md5_lanes::{Md5Lane, Md5Lanes};
pub use sum::{Sum, SumKind, SumValue, combine_sums};
