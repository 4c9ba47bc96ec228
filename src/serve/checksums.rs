//! Checksums as S3 knows them: five algorithms, a value in base64, and what the value covers.
//!
//! An upload states its checksum in a header or in a trailer; the server computes the same algorithm over the bytes as
//! they pass, with the MD5 that becomes the ETag, and compares. The value of a multipart object is either that of the
//! whole (CRCs combine without reading the bytes again) or the hash of its parts' hashes with `-N` behind it.

use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;

/// One of the algorithms S3 accepts in `x-amz-checksum-algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// The algorithm with this name in `x-amz-checksum-algorithm`; case does not matter, as at AWS.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header, or trailer, that carries a value of this algorithm.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// What a multipart object's checksum covers when its creator did not say.
    pub(super) fn coverage_default(self) -> Coverage {
        match self {
            Self::Crc64Nvme => Coverage::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => Coverage::Composite,
        }
    }

    /// Whether a multipart object may have this algorithm with that coverage: hashes do not combine, and CRC64NVME
    /// exists for the whole object alone.
    pub(super) fn allows(self, coverage: Coverage) -> bool {
        match (self, coverage) {
            (Self::Crc32 | Self::Crc32c, Coverage::FullObject | Coverage::Composite)
            | (Self::Crc64Nvme, Coverage::FullObject)
            | (Self::Sha1 | Self::Sha256, Coverage::Composite) => true,
            (Self::Crc64Nvme, Coverage::Composite) | (Self::Sha1 | Self::Sha256, Coverage::FullObject) => false,
        }
    }

    /// The CRC behind this algorithm and its width in bytes; `None` for hashes.
    fn crc(self) -> Option<(CrcAlgorithm, usize)> {
        match self {
            Self::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
            Self::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
            Self::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// What a checksum was computed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Coverage {
    FullObject,
    Composite,
}

/// A stored checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checksum {
    pub(super) algorithm: Algorithm,
    pub(super) coverage: Coverage,
    /// Base64, big endian; a composite one ends in `-` and the number of parts.
    pub(super) value: String,
}

/// The MD5 and any checksums of one stream of bytes.
pub(super) struct Hasher {
    md5: Md5,
    running: Vec<(Algorithm, Running)>,
}

enum Running {
    Crc(crc_fast::Digest, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn new(algorithms: &[Algorithm]) -> Self {
        let running = algorithms.iter().map(|&algorithm| (algorithm, Running::new(algorithm))).collect();
        Self { md5: Md5::new(), running }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        for (_, running) in &mut self.running {
            running.update(bytes);
        }
    }

    /// The MD5 and, in the order asked for, each algorithm's value in base64.
    pub(super) fn finish(self) -> ([u8; 16], Vec<(Algorithm, String)>) {
        let sums = self.running.into_iter().map(|(algorithm, running)| (algorithm, running.finish())).collect();
        (self.md5.finalize().into(), sums)
    }
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => {
                let (crc, width_bytes) = algorithm.crc().expect("matched as a CRC just above");
                Self::Crc(crc_fast::Digest::new(crc), width_bytes)
            }
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Crc(digest, width_bytes) => encode_crc(digest.finalize(), width_bytes),
            Self::Sha1(hash) => encode(&hash.finalize()),
            Self::Sha256(hash) => encode(&hash.finalize()),
        }
    }
}

/// The ETag of a multipart object: the MD5 of its parts' MD5s and how many there are. `None` if a part's ETag is not one.
pub(super) fn multipart_etag<'a>(part_etags: impl ExactSizeIterator<Item = &'a str>) -> Option<String> {
    let count = part_etags.len();
    let mut md5 = Md5::new();
    for etag in part_etags {
        md5.update(decode_hex(etag)?);
    }
    Some(format!("{}-{count}", encode_hex(&md5.finalize())))
}

/// The checksum of an object made of parts, each with its value in base64 and its size in bytes.
///
/// `None` if a value is not base64 of the right length, which no upload that was verified can leave behind.
pub(super) fn multipart_checksum<'a>(
    algorithm: Algorithm,
    coverage: Coverage,
    parts: impl ExactSizeIterator<Item = (&'a str, u64)>,
) -> Option<Checksum> {
    let value = match coverage {
        Coverage::FullObject => {
            let (crc, width_bytes) = algorithm.crc()?;
            let mut whole = crc_fast::checksum(crc, &[]);
            for (value, size_bytes) in parts {
                whole = crc_fast::checksum_combine(crc, whole, decode_crc(value, width_bytes)?, size_bytes);
            }
            encode_crc(whole, width_bytes)
        }
        Coverage::Composite => {
            let count = parts.len();
            let mut running = Running::new(algorithm);
            for (value, _) in parts {
                running.update(&decode(value)?);
            }
            format!("{}-{count}", running.finish())
        }
    };
    Some(Checksum { algorithm, coverage, value })
}

/// Bytes as standard base64 with padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn decode(value: &str) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(value).ok()
}

fn encode_crc(crc: u64, width_bytes: usize) -> String {
    encode(&crc.to_be_bytes()[8 - width_bytes..])
}

fn decode_crc(value: &str, width_bytes: usize) -> Option<u64> {
    let bytes = decode(value)?;
    (bytes.len() == width_bytes).then(|| bytes.iter().fold(0, |crc, &byte| crc << 8 | u64::from(byte)))
}

/// Bytes as lower-case hexadecimal digits, as in an ETag.
pub(super) fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value_of(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(&[algorithm]);
        hasher.update(bytes);
        hasher.finish().1.remove(0).1
    }

    #[test]
    fn check_values_are_the_published_ones() {
        let cases = [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ];
        for (algorithm, expected) in cases {
            assert_eq!(value_of(algorithm, b"123456789"), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn an_etag_of_parts_is_the_hash_of_their_hashes() {
        let parts = ["5d41402abc4b2a76b9719d911017c592", "7d793037a0760186574b0282f2f435e7"];
        assert_eq!(multipart_etag(parts.into_iter()).unwrap(), "065947336a2f2a95ba8899f3675c3be6-2");
        assert_eq!(multipart_etag(["no hash"].into_iter()), None);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("MD5"), None);
    }

    proptest! {
        #[test]
        fn combined_crcs_equal_the_crc_of_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
            let whole = parts.concat();
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let values: Vec<_> = parts.iter().map(|part| (value_of(algorithm, part), part.len() as u64)).collect();
                let parts = values.iter().map(|(value, size_bytes)| (value.as_str(), *size_bytes));
                let combined = multipart_checksum(algorithm, Coverage::FullObject, parts).unwrap();
                prop_assert_eq!(combined.value, value_of(algorithm, &whole));
            }
        }
    }
}
