//! Checksums as S3 writes them, and the names of the headers in which they travel. The hashing itself is the
//! caller's: it happens where the bytes are.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Carries a CRC64NVME of the whole object or of one part.
pub const X_AMZ_CHECKSUM_CRC64NVME: &str = "x-amz-checksum-crc64nvme";
/// Names the algorithm of a multipart upload when it is created.
pub const X_AMZ_CHECKSUM_ALGORITHM: &str = "x-amz-checksum-algorithm";
/// `FULL_OBJECT` or `COMPOSITE`.
pub const X_AMZ_CHECKSUM_TYPE: &str = "x-amz-checksum-type";
/// Asks GET and HEAD to show the stored checksum.
pub const X_AMZ_CHECKSUM_MODE: &str = "x-amz-checksum-mode";
/// The MD5 of a body in base64; the service refuses a body that differs.
pub const CONTENT_MD5: &str = "content-md5";

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
