//! Checksums as S3 writes them, and the names of the headers in which they travel. The hashing itself is the
//! caller's: it happens where the bytes are.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

/// Carries a CRC64NVME of the whole object or of one part; [`Algorithm::header`] knows those of the others.
pub const X_AMZ_CHECKSUM_CRC64NVME: &str = "x-amz-checksum-crc64nvme";
/// Names the algorithm of a multipart upload when it is created.
pub const X_AMZ_CHECKSUM_ALGORITHM: &str = "x-amz-checksum-algorithm";
/// `FULL_OBJECT` or `COMPOSITE`.
pub const X_AMZ_CHECKSUM_TYPE: &str = "x-amz-checksum-type";
/// Asks GET and HEAD to show the stored checksum.
pub const X_AMZ_CHECKSUM_MODE: &str = "x-amz-checksum-mode";
/// The MD5 of a body in base64; the service refuses a body that differs.
pub const CONTENT_MD5: &str = "content-md5";

/// The algorithms of which S3 keeps a checksum, one for each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32, the one of zip and Ethernet.
    Crc32,
    /// CRC-32 with Castagnoli's polynomial.
    Crc32c,
    /// CRC-64 with the polynomial of NVMe; S3's default.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// All of them, the most frequent one first.
    pub const ALL: [Self; 5] = [Self::Crc64Nvme, Self::Crc32, Self::Crc32c, Self::Sha1, Self::Sha256];

    /// S3's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The algorithm of this name, in whatever case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header that carries its value.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => X_AMZ_CHECKSUM_CRC64NVME,
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The element that carries its value in a document.
    #[must_use]
    pub fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// The algorithm whose value an element of this name carries.
    #[must_use]
    pub fn of_element(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.element() == name)
    }

    /// Bytes of a value.
    #[must_use]
    pub fn width_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Whether the value of a whole follows from those of its parts: CRCs combine, hashes do not.
    #[must_use]
    pub fn combines(self) -> bool {
        match self {
            Self::Crc32 | Self::Crc32c | Self::Crc64Nvme => true,
            Self::Sha1 | Self::Sha256 => false,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of one of the algorithms. On the wire it is the base64 of its bytes, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    /// As many as the algorithm's values have; the rest is zero.
    bytes: [u8; Checksum::BYTES_MAX],
}

impl Checksum {
    /// Bytes of the widest value.
    pub const BYTES_MAX: usize = 32;

    /// The value of these bytes, most significant first; `None` if it is not as many as the algorithm's values have.
    #[must_use]
    pub fn new(algorithm: Algorithm, value: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..value.len()).filter(|room| room.len() == algorithm.width_bytes())?.copy_from_slice(value);
        Some(Self { algorithm, bytes })
    }

    /// Of which algorithm it is.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, most significant first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.width_bytes()]
    }

    /// The form in headers and documents.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.bytes())
    }

    /// Reads what [`Self::to_base64`] writes; anything else is `None`.
    #[must_use]
    pub fn parse_base64(algorithm: Algorithm, text: &str) -> Option<Self> {
        // The decoder wants room for a whole group, so a text of another length is refused before it is read.
        if text.len() != algorithm.width_bytes().div_ceil(3) * 4 {
            return None;
        }
        let mut room = [0; Self::BYTES_MAX + 1];
        let written = STANDARD.decode_slice(text, &mut room).ok()?;
        Self::new(algorithm, &room[..written])
    }

    /// The value, if it is a CRC64NVME.
    #[must_use]
    pub fn crc64nvme(&self) -> Option<Crc64Nvme> {
        match (self.algorithm, self.bytes.first_chunk()) {
            (Algorithm::Crc64Nvme, Some(bytes)) => Some(Crc64Nvme(u64::from_be_bytes(*bytes))),
            _ => None,
        }
    }
}

impl From<Crc64Nvme> for Checksum {
    fn from(crc: Crc64Nvme) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..8].copy_from_slice(&crc.0.to_be_bytes());
        Self { algorithm: Algorithm::Crc64Nvme, bytes }
    }
}

/// The checksum that a service keeps of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoredChecksum {
    /// Its value.
    pub checksum: Checksum,
    /// How many parts it is made of, if it is the checksum of the parts' checksums and not of the object's bytes.
    pub parts: Option<u32>,
}

impl StoredChecksum {
    /// That of an object's bytes.
    #[must_use]
    pub fn of_bytes(checksum: Checksum) -> Self {
        Self { checksum, parts: None }
    }

    /// Reads the value of a header or element: a [`Checksum`], with a hyphen and the number of parts behind it if it is
    /// composite. One that is said to be composite and has no number proves nothing, and is `None` as well.
    #[must_use]
    pub fn parse(algorithm: Algorithm, text: &str, kind: Option<ChecksumType>) -> Option<Self> {
        let (value, parts) = match text.split_once('-') {
            Some((value, parts)) => (value, Some(parts.parse().ok().filter(|parts| *parts > 0)?)),
            None if kind == Some(ChecksumType::Composite) => return None,
            None => (text, None),
        };
        Some(Self { checksum: Checksum::parse_base64(algorithm, value)?, parts })
    }

    /// The value over all bytes of the object, if it is that.
    #[must_use]
    pub fn whole(&self) -> Option<Checksum> {
        self.parts.is_none().then_some(self.checksum)
    }
}

impl fmt::Display for StoredChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.checksum.to_base64())?;
        match self.parts {
            Some(parts) => write!(f, "-{parts}"),
            None => Ok(()),
        }
    }
}

/// A CRC64NVME; on the wire it is the base64 of its eight bytes, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crc64Nvme(pub u64);

impl Crc64Nvme {
    /// The form in headers and documents: eleven characters and one `=`.
    #[must_use]
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0.to_be_bytes())
    }

    /// Reads what [`Self::to_base64`] writes; anything else is `None`.
    #[must_use]
    pub fn parse_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        // The decoder wants room for a whole group, so a text of another length is refused before it is read.
        if text.len() != 12 {
            return None;
        }
        let mut room = [0; 9];
        let written = STANDARD.decode_slice(text, &mut room).ok()?;
        if written != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(&room[..8]);
        Some(Self(u64::from_be_bytes(bytes)))
    }
}

/// An MD5 of a body or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Md5Digest(pub [u8; 16]);

impl Md5Digest {
    /// The form of `Content-MD5`.
    #[must_use]
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    /// The form of an entity tag: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        let mut out = String::with_capacity(32);
        crate::text::push_hex(&mut out, &self.0);
        out
    }
}

/// Whether a stored checksum covers the object's bytes or the checksums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumType {
    /// Over all bytes of the object, so that it can be compared with what was read.
    FullObject,
    /// Over the parts' checksums, so that it depends on how the object was cut.
    Composite,
}

impl ChecksumType {
    /// The value of `x-amz-checksum-type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// Reads the value of `x-amz-checksum-type`; an unknown word is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "FULL_OBJECT" => Some(Self::FullObject),
            "COMPOSITE" => Some(Self::Composite),
            _ => None,
        }
    }
}

/// The unquoted entity tag that a server which keeps to the formula gives an object of `parts` parts;
/// `md5_of_md5s` is the MD5 over the parts' binary MD5s back to back.
#[must_use]
pub fn multipart_etag_text(md5_of_md5s: Md5Digest, parts: u32) -> String {
    format!("{}-{parts}", md5_of_md5s.to_hex())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc64nvme_on_the_wire() {
        // The check value of the algorithm over `123456789`.
        let check = Crc64Nvme(0xAE8B_1486_0A79_9888);
        assert_eq!(check.to_base64(), "rosUhgp5mIg=");
        assert_eq!(Crc64Nvme::parse_base64("rosUhgp5mIg="), Some(check));
        for bad in ["", "rosUhgp5mIg", "rosUhgp5mIg==", "rosUhgp5mIgA", "rosUhgp5mI==", "\u{e9}osUhgp5mIg="] {
            assert_eq!(Crc64Nvme::parse_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_algorithm_on_the_wire() {
        // The check values over `123456789`.
        let table = [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ];
        for (algorithm, text) in table {
            let checksum = Checksum::parse_base64(algorithm, text).unwrap();
            assert_eq!((checksum.algorithm(), checksum.to_base64().as_str()), (algorithm, text));
            assert_eq!(Checksum::new(algorithm, checksum.bytes()), Some(checksum));
            assert_eq!(checksum.crc64nvme().is_some(), algorithm == Algorithm::Crc64Nvme);
            assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), Some(algorithm));
            assert_eq!(Algorithm::of_element(algorithm.element()), Some(algorithm));
            for bad in ["", &text[1..], &format!("{text}A"), &text.replace('=', "A")] {
                assert!(bad == text || Checksum::parse_base64(algorithm, bad).is_none(), "{bad}");
            }
        }
        assert_eq!(Algorithm::parse("XXHASH64"), None);
        assert_eq!(Checksum::from(Crc64Nvme(7)).crc64nvme(), Some(Crc64Nvme(7)));
    }

    #[test]
    fn a_composite_one_says_of_how_many_parts() {
        let parse = |text, kind| StoredChecksum::parse(Algorithm::Crc32, text, kind);
        let whole = parse("y/Q5Jg==", None).unwrap();
        assert_eq!((whole.parts, whole.whole().is_some()), (None, true));
        let composite = parse("y/Q5Jg==-3", Some(ChecksumType::Composite)).unwrap();
        assert_eq!((composite.parts, composite.whole()), (Some(3), None));
        assert_eq!(composite.to_string(), "y/Q5Jg==-3");
        for bad in ["y/Q5Jg==-", "y/Q5Jg==-0", "y/Q5Jg==-x", "-3"] {
            assert_eq!(parse(bad, None), None, "{bad}");
        }
        assert_eq!(parse("y/Q5Jg==", Some(ChecksumType::Composite)), None);
    }

    #[test]
    fn md5_on_the_wire() {
        let empty = Md5Digest(crate::text::lower_hex_16("d41d8cd98f00b204e9800998ecf8427e").unwrap());
        assert_eq!(empty.to_base64(), "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(multipart_etag_text(empty, 3), "d41d8cd98f00b204e9800998ecf8427e-3");
    }

    proptest! {
        #[test]
        fn crc_round_trips(crc in any::<u64>(), text in any::<String>()) {
            prop_assert_eq!(Crc64Nvme::parse_base64(&Crc64Nvme(crc).to_base64()), Some(Crc64Nvme(crc)));
            let _ = Crc64Nvme::parse_base64(&text);
        }
    }
}
