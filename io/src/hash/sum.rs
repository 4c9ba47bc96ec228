//! The sums that S3 keeps of objects, whichever was chosen. CRC64NVME is what is summed of everything that passes
//! ([`super::Crc64`]); the others are taken beside it, and only where an object has one or is to be given one.

use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// How to sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumKind {
    /// CRC-32 as zip has it.
    Crc32,
    /// CRC-32 with Castagnoli's polynomial.
    Crc32c,
    /// CRC-64 with the polynomial of NVMe.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// A running sum.
#[derive(Debug, Clone)]
pub struct Sum(Running);

#[derive(Debug, Clone)]
enum Running {
    Crc(crc_fast::Digest, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

/// What came out, its most significant byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumValue {
    bytes: [u8; 32],
    width_bytes: usize,
}

impl SumKind {
    /// The CRC and its width in bytes; None for hashes.
    fn crc(self) -> Option<(CrcAlgorithm, usize)> {
        match self {
            SumKind::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
            SumKind::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
            SumKind::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
            SumKind::Sha1 | SumKind::Sha256 => None,
        }
    }
}

impl Sum {
    /// The sum of no bytes.
    pub fn new(kind: SumKind) -> Sum {
        Sum(match (kind.crc(), kind) {
            (Some((crc, width_bytes)), _) => Running::Crc(crc_fast::Digest::new(crc), width_bytes),
            (None, SumKind::Sha1) => Running::Sha1(Sha1::new()),
            (None, _) => Running::Sha256(Sha256::new()),
        })
    }

    /// Adds `bytes` to the sum.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Running::Crc(digest, _) => digest.update(bytes),
            Running::Sha1(hash) => hash.update(bytes),
            Running::Sha256(hash) => hash.update(bytes),
        }
    }

    /// The sum of everything added.
    pub fn finish(self) -> SumValue {
        match self.0 {
            Running::Crc(digest, width_bytes) => SumValue::of_crc(digest.finalize(), width_bytes),
            Running::Sha1(hash) => SumValue::of(&hash.finalize()),
            Running::Sha256(hash) => SumValue::of(&hash.finalize()),
        }
    }
}

impl SumValue {
    /// Its bytes, the most significant one first.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.width_bytes]
    }

    fn of(value: &[u8]) -> SumValue {
        let mut bytes = [0; 32];
        bytes[..value.len()].copy_from_slice(value);
        SumValue { bytes, width_bytes: value.len() }
    }

    fn of_crc(crc: u64, width_bytes: usize) -> SumValue {
        SumValue::of(&crc.to_be_bytes()[8 - width_bytes..])
    }
}

/// The sum of parts that follow each other, from the sum of each and its length in bytes. None for hashes, which do not
/// combine, and for values of another width than the kind's.
pub fn combine_sums<'a>(kind: SumKind, parts: impl IntoIterator<Item = (&'a [u8], u64)>) -> Option<SumValue> {
    let (crc, width_bytes) = kind.crc()?;
    let mut whole = crc_fast::checksum(crc, &[]);
    for (value, size_bytes) in parts {
        let value = Some(value).filter(|value| value.len() == width_bytes)?;
        let part = value.iter().fold(0, |part, byte| part << 8 | u64::from(*byte));
        whole = match kind {
            // Our own arithmetic is the faster one.
            SumKind::Crc64Nvme => super::combine(whole, part, size_bytes),
            SumKind::Crc32 | SumKind::Crc32c | SumKind::Sha1 | SumKind::Sha256 => {
                crc_fast::checksum_combine(crc, whole, part, size_bytes)
            }
        };
    }
    Some(SumValue::of_crc(whole, width_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [SumKind; 5] = [SumKind::Crc32, SumKind::Crc32c, SumKind::Crc64Nvme, SumKind::Sha1, SumKind::Sha256];

    fn sum(kind: SumKind, bytes: &[u8]) -> SumValue {
        let mut sum = Sum::new(kind);
        sum.update(bytes);
        sum.finish()
    }

    #[test]
    fn the_published_check_values_come_out() {
        let hex = |value: SumValue| value.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = [
            "cbf43926",
            "e3069283",
            "ae8b14860a799888",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ];
        assert_eq!(KINDS.map(|kind| hex(sum(kind, b"123456789"))), expected);
    }

    proptest! {
        #[test]
        fn pieces_and_combined_parts_give_the_whole(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        ) {
            let whole = parts.concat();
            for kind in KINDS {
                let mut running = Sum::new(kind);
                parts.iter().for_each(|part| running.update(part));
                prop_assert_eq!(running.finish(), sum(kind, &whole));
                let sums: Vec<_> = parts.iter().map(|part| (sum(kind, part), part.len() as u64)).collect();
                let combined = combine_sums(kind, sums.iter().map(|(sum, size)| (sum.bytes(), *size)));
                prop_assert_eq!(combined, kind.crc().map(|_| sum(kind, &whole)));
            }
        }
    }
}
