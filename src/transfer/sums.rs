//! The checksums that S3 keeps, taken of content and put together from those of parts. CRC64NVME needs none of this: it is
//! taken of everything that passes.

use ropeway_io::hash::{Sum, SumKind, SumValue, combine_sums};
use ropeway_s3proto::checksum::{Algorithm, Checksum, StoredChecksum};

use super::PartDone;

/// A checksum being taken.
pub(super) struct Running {
    algorithm: Algorithm,
    sum: Sum,
}

impl Running {
    pub(super) fn new(algorithm: Algorithm) -> Running {
        Running { algorithm, sum: Sum::new(kind(algorithm)) }
    }

    /// Adds bytes that lie in memory. A hash of much takes a while, and others on this core have their turn meanwhile.
    pub(super) async fn update(&mut self, content: &[u8]) {
        const TURN_BYTES: usize = 1 << 20;
        for (turn, bytes) in content.chunks(TURN_BYTES).enumerate() {
            if turn > 0 {
                tokio::task::yield_now().await;
            }
            self.sum.update(bytes);
        }
    }

    pub(super) fn finish(self) -> Checksum {
        checksum(self.algorithm, self.sum.finish())
    }
}

/// The checksum of a content.
pub(super) async fn sum_of(algorithm: Algorithm, content: &[u8]) -> Checksum {
    let mut running = Running::new(algorithm);
    running.update(content).await;
    running.finish()
}

/// The checksum of the parts' checksums, with their number.
pub(super) fn composite(algorithm: Algorithm, parts: impl Iterator<Item = Checksum>) -> StoredChecksum {
    let (mut sum, mut number) = (Sum::new(kind(algorithm)), 0);
    for part in parts {
        sum.update(part.bytes());
        number += 1;
    }
    StoredChecksum { checksum: checksum(algorithm, sum.finish()), parts: Some(number) }
}

/// The checksum of all bytes from those of the parts, each with its length. None if that does not follow from them.
pub(super) fn combined(algorithm: Algorithm, parts: &[(Checksum, u64)]) -> Option<Checksum> {
    let of_parts = parts.iter().map(|(checksum, size_bytes)| (checksum.bytes(), *size_bytes));
    combine_sums(kind(algorithm), of_parts).map(|value| checksum(algorithm, value))
}

/// What a service must keep of an object of these parts, of which it was given such checksums: the value of their bytes, or
/// of their checksums. None if a part has no such checksum, or hashes would have to be combined.
pub(super) fn of_parts(
    algorithm: Algorithm,
    is_composite: bool,
    parts: &[PartDone],
    of_part: impl Fn(&PartDone) -> Option<Checksum>,
) -> Option<StoredChecksum> {
    let sums: Option<Vec<(Checksum, u64)>> = parts.iter().map(|part| Some((of_part(part)?, part.size_bytes))).collect();
    let sums = sums.filter(|sums| sums.iter().all(|(sum, _)| sum.algorithm() == algorithm))?;
    match is_composite {
        true => Some(composite(algorithm, sums.into_iter().map(|(sum, _)| sum))),
        false => combined(algorithm, &sums).map(StoredChecksum::of_bytes),
    }
}

fn checksum(algorithm: Algorithm, value: SumValue) -> Checksum {
    Checksum::new(algorithm, value.bytes()).expect("a sum is as wide as its algorithm's values")
}

fn kind(algorithm: Algorithm) -> SumKind {
    match algorithm {
        Algorithm::Crc32 => SumKind::Crc32,
        Algorithm::Crc32c => SumKind::Crc32c,
        Algorithm::Crc64Nvme => SumKind::Crc64Nvme,
        Algorithm::Sha1 => SumKind::Sha1,
        Algorithm::Sha256 => SumKind::Sha256,
    }
}
