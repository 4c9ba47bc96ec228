//! The names of S3, each valid once built: whoever holds a [`Key`] or a [`PartNumber`] need not check it again.
//!
//! The rules are as lenient as the widest server we talk to. A bucket name that only one vendor accepts must pass,
//! because the server is the judge; what is refused here is what would break a request line, a header or a document.

use std::fmt;

use thiserror::Error;

/// The longest key that S3 stores, in bytes of its UTF-8 form.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest bucket name that any server accepts (AWS stops at 63; old regions and vendors allow 255).
pub const BUCKET_BYTES_MAX: usize = 255;
/// The highest part number of a multipart upload.
pub const PART_NUMBER_MAX: u32 = 10_000;
/// Longer entity tags and upload identifiers are refused: none of a real server comes near, and they are echoed in
/// request lines and headers.
const TOKEN_BYTES_MAX: usize = 4096;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no bytes where it needs at least one.
    #[error("{what} is empty")]
    Empty {
        /// What was being named.
        what: &'static str,
    },
    /// The name is longer than the protocol carries.
    #[error("{what} has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// What was being named.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The bytes are not UTF-8, so no request can name them.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What was being named.
        what: &'static str,
    },
    /// A character that this kind of name cannot hold.
    #[error("{what} holds the character {character:?}")]
    Character {
        /// What was being named.
        what: &'static str,
        /// The first offending character.
        character: char,
    },
    /// A part number outside 1..=10,000.
    #[error("part number {number} is not between 1 and {PART_NUMBER_MAX}")]
    PartNumber {
        /// The number as given.
        number: u32,
    },
}

fn check_length(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), NameError> {
    if bytes == 0 {
        return Err(NameError::Empty { what });
    }
    if bytes > bytes_max {
        return Err(NameError::TooLong { what, bytes, bytes_max });
    }
    Ok(())
}

/// A bucket's name: 1 to 255 bytes, no `/`, no control character. Where AWS takes one, the ARN of an access point is a name
/// too, in the spelling without a slash (`arn:aws:s3:REGION:ACCOUNT:accesspoint:NAME`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(Box<str>);

impl Bucket {
    /// Accepts what some server may accept.
    ///
    /// # Errors
    /// [`NameError`] when the name is empty, longer than 255 bytes, or holds `/` or a control character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_length("bucket name", text.len(), BUCKET_BYTES_MAX)?;
        match text.chars().find(|&character| character == '/' || character.is_control()) {
            Some(character) => Err(NameError::Character { what: "bucket name", character }),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name can stand as one label of a host name under a wildcard certificate: 3 to 63 lower-case letters,
    /// digits and hyphens, no dot, a letter or digit at both ends.
    #[must_use]
    pub fn is_dns_label(&self) -> bool {
        let bytes = self.0.as_bytes();
        let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (3..=63).contains(&bytes.len())
            && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
            && edge(bytes[0])
            && edge(bytes[bytes.len() - 1])
    }
}

/// What AWS knows a bucket by besides its name; each kind has endpoints of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind<'a> {
    /// A general purpose bucket.
    General,
    /// A directory bucket (S3 Express One Zone), which lives in one zone.
    Directory {
        /// The zone's identifier, `usw2-az1` for instance.
        zone: &'a str,
    },
    /// An access point, which has an ARN.
    AccessPoint {
        /// The access point's name.
        name: &'a str,
        /// The account it belongs to.
        account: &'a str,
        /// The region it lives in.
        region: &'a str,
    },
}

impl Bucket {
    /// What kind of bucket it is at AWS, which its name tells.
    #[must_use]
    pub fn kind(&self) -> BucketKind<'_> {
        if let Some(point) = access_point(&self.0) {
            return point;
        }
        let zone = self.0.strip_suffix("--x-s3").and_then(|rest| rest.rsplit_once("--"));
        match zone {
            Some((base, zone)) if !base.is_empty() && !zone.is_empty() && self.is_dns_label() => {
                BucketKind::Directory { zone }
            }
            Some(_) | None => BucketKind::General,
        }
    }

    /// What precedes a key where a copy says what it copies, percent-encoded. An access point is followed by the word
    /// `object`, in AWS's own spelling of its ARN.
    #[must_use]
    pub fn copy_source_root(&self) -> String {
        let mut root = String::new();
        match (self.kind(), self.0.rsplit_once(':')) {
            (BucketKind::AccessPoint { name, .. }, Some((head, _))) => {
                crate::text::push_path(&mut root, head.as_bytes());
                root.push('/');
                root.push_str(name);
                root.push_str("/object/");
            }
            _ => {
                root.push('/');
                crate::text::push_path(&mut root, self.0.as_bytes());
                root.push('/');
            }
        }
        root
    }

    /// Whether it is a directory bucket.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind(), BucketKind::Directory { .. })
    }
}

/// `arn:PARTITION:s3:REGION:ACCOUNT:accesspoint:NAME`.
fn access_point(text: &str) -> Option<BucketKind<'_>> {
    let mut fields = text.strip_prefix("arn:")?.splitn(6, ':');
    let (_partition, service, region, account) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (resource, name) = (fields.next()?, fields.next()?);
    let label = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let fits = service == "s3" && resource == "accesspoint" && label(region) && label(account) && label(name);
    fits.then_some(BucketKind::AccessPoint { name, account, region })
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's key: 1 to 1,024 bytes of UTF-8, any character, ordered by its raw bytes as every S3 listing is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// Takes a key from the bytes of a listing or of a file's path.
    ///
    /// # Errors
    /// [`NameError`] when there are no bytes, more than 1,024, or they are not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        check_length("key", bytes.len(), KEY_BYTES_MAX)?;
        let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8 { what: "key" })?;
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as the bytes by which listings are ordered.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_length("key", text.len(), KEY_BYTES_MAX)?;
        Ok(Self(text.into_boxed_str()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A literal prefix of keys, compared byte by byte and never as a directory; empty means every key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Accepts any text that some key could begin with.
    ///
    /// # Errors
    /// [`NameError::TooLong`] when no key is long enough to begin with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > KEY_BYTES_MAX {
            return Err(NameError::TooLong { what: "prefix", bytes: text.len(), bytes_max: KEY_BYTES_MAX });
        }
        Ok(Self(text.into()))
    }

    /// The prefix as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entity tag: what the service calls one version of an object's bytes.
///
/// A listing brings one per object, so the two usual forms are kept as their 16 bytes and need no heap. Any other text
/// is kept as it came, since `If-Match` has to repeat it exactly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Md5([u8; 16]),
    Multipart { digest: [u8; 16], parts: u32 },
    Opaque(Box<str>),
}

/// What an entity tag may prove. The form says what the tag looks like, not that the server keeps to the formula:
/// encrypted objects and some vendors use the same look for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ETagClass {
    /// 32 hexadecimal digits: the MD5 of the bytes, on most servers.
    Md5([u8; 16]),
    /// 32 hexadecimal digits, a hyphen and a count: the MD5 of the parts' MD5s.
    Multipart {
        /// The MD5 of the parts' binary MD5s back to back.
        digest: [u8; 16],
        /// How many parts there were.
        parts: u32,
    },
    /// Anything else: equal tags mean equal versions, and no more.
    Opaque,
}

impl ETag {
    /// Reads a tag as a header or a document shows it, with or without its quotes.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, far too long, or could not be repeated in a header.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        check_length("ETag", bare.len(), TOKEN_BYTES_MAX)?;
        if !bare.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && let Some(character) = bare.chars().find(|character| !matches!(character, ' '..='~'))
        {
            return Err(NameError::Character { what: "ETag", character });
        }
        Ok(Self(Self::compact(bare).unwrap_or_else(|| Form::Opaque(bare.into()))))
    }

    /// The tag of an object that was put in one piece, on a server that keeps to the formula.
    #[must_use]
    pub fn from_md5(digest: [u8; 16]) -> Self {
        Self(Form::Md5(digest))
    }

    /// The tag of an object made of `parts` parts, on a server that keeps to the formula.
    #[must_use]
    pub fn from_multipart(digest: [u8; 16], parts: u32) -> Self {
        Self(Form::Multipart { digest, parts })
    }

    /// What the tag looks like. Upper-case digits count as digits here, though the text keeps them.
    #[must_use]
    pub fn class(&self) -> ETagClass {
        let lower;
        let form = match &self.0 {
            Form::Opaque(text) => {
                lower = Self::compact(&text.to_ascii_lowercase());
                match &lower {
                    Some(form) => form,
                    None => return ETagClass::Opaque,
                }
            }
            compact @ (Form::Md5(_) | Form::Multipart { .. }) => compact,
        };
        match *form {
            Form::Md5(digest) => ETagClass::Md5(digest),
            Form::Multipart { digest, parts } => ETagClass::Multipart { digest, parts },
            Form::Opaque(_) => ETagClass::Opaque,
        }
    }

    /// The tag between quotes, as `If-Match` wants it. A weak tag already carries its own.
    #[must_use]
    pub fn quoted(&self) -> String {
        match &self.0 {
            Form::Opaque(text) if text.starts_with("W/\"") => text.to_string(),
            Form::Opaque(_) | Form::Md5(_) | Form::Multipart { .. } => format!("\"{self}\""),
        }
    }

    /// The compact form, only if writing it out again gives the same text.
    fn compact(bare: &str) -> Option<Form> {
        let (hex, parts) = match bare.split_once('-') {
            Some((hex, parts)) => (hex, Some(parts)),
            None => (bare, None),
        };
        let digest = crate::text::lower_hex_16(hex)?;
        let Some(parts) = parts else { return Some(Form::Md5(digest)) };
        if parts.starts_with(['0', '+']) {
            return None;
        }
        Some(Form::Multipart { digest, parts: parts.parse().ok()? })
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, digest: &[u8; 16]| f.write_str(crate::text::hex(digest, &mut [0; 32]));
        match &self.0 {
            Form::Md5(digest) => hex(f, digest),
            Form::Multipart { digest, parts } => {
                hex(f, digest)?;
                write!(f, "-{parts}")
            }
            Form::Opaque(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({self})")
    }
}

/// The service's name for one multipart upload under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Takes the identifier from an answer or from the journal.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, far too long or holds a control character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_length("upload identifier", text.len(), TOKEN_BYTES_MAX)?;
        match text.chars().find(|character| character.is_control()) {
            Some(character) => Err(NameError::Character { what: "upload identifier", character }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The identifier as the service gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The service's name for one version of an object; `null` for what was written where no versions were kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionId(Box<str>);

impl VersionId {
    /// Takes the identifier from an answer.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, far too long or holds a control character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_length("version identifier", text.len(), TOKEN_BYTES_MAX)?;
        match text.chars().find(|character| character.is_control()) {
            Some(character) => Err(NameError::Character { what: "version identifier", character }),
            None => Ok(Self(text.into())),
        }
    }

    /// The identifier as the service gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place of a part within its object, from 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartNumber(u16);

impl PartNumber {
    /// # Errors
    /// [`NameError::PartNumber`] outside 1..=10,000.
    pub fn new(number: u32) -> Result<Self, NameError> {
        match u16::try_from(number) {
            Ok(small) if (1..=PART_NUMBER_MAX).contains(&number) => Ok(Self(small)),
            Ok(_) | Err(_) => Err(NameError::PartNumber { number }),
        }
    }

    /// The number itself.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self.0)
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes `start..end` of an object, half open, never empty when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset just past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes the range covers.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range covers no byte; such a range has no form in a request.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The value of a `Range` header, whose second number is the last byte and not the one after it.
    ///
    /// # Panics
    /// If the range is empty: the protocol cannot ask for nothing, so asking is our mistake.
    #[must_use]
    pub fn header_value(self) -> String {
        assert!(!self.is_empty(), "a range request for {}..{} covers no byte", self.start, self.end);
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_tells_the_kind_of_bucket() {
        let kind = |name: &str| format!("{:?}", Bucket::parse(name).unwrap().kind());
        for (name, expected) in [
            ("plain", "General"),
            ("base--usw2-az1--x-s3", "Directory { zone: \"usw2-az1\" }"),
            ("a--b--use1-az4--x-s3", "Directory { zone: \"use1-az4\" }"),
            ("--use1-az4--x-s3", "General"),
            ("base----x-s3", "General"),
            ("base--x-s3", "General"),
            (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint:mine",
                "AccessPoint { name: \"mine\", account: \"123456789012\", region: \"eu-west-1\" }",
            ),
            ("arn:aws:s3::123456789012:accesspoint:mine.mrap", "General"),
            ("arn:aws:s3:eu-west-1:123456789012:accesspoint:evil.com#", "General"),
            ("arn:aws:s3-outposts:eu-west-1:123456789012:outpost:x", "General"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn bucket_names() {
        for good in ["a", "my-bucket", "Under_Score", "dotted.name", "ünï", &"x".repeat(255)] {
            assert_eq!(Bucket::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "line\nbreak", "nul\0", &"x".repeat(256)] {
            assert!(Bucket::parse(bad).is_err(), "{bad:?}");
        }
        for (name, label) in [("abc", true), ("ab", false), ("a.b.c", false), ("-ab", false), ("ABC", false)] {
            assert_eq!(Bucket::parse(name).unwrap().is_dns_label(), label, "{name}");
        }
    }

    #[test]
    fn keys() {
        for good in ["a", "/", "//", "../x", "\u{1}", "a\r\n", "\u{1F4A1}"] {
            assert_eq!(Key::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        assert_eq!(Key::parse(b""), Err(NameError::Empty { what: "key" }));
        assert_eq!(Key::parse(b"\xff"), Err(NameError::NotUtf8 { what: "key" }));
        assert!(Key::parse(&[b'k'; 1024]).is_ok());
        assert!(Key::parse(&[b'k'; 1025]).is_err());
        assert!(Key::try_from(String::new()).is_err());
    }

    #[test]
    fn etag_forms() {
        const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
        let md5 = ETag::parse(&format!("\"{MD5}\"")).unwrap();
        assert_eq!(md5.to_string(), MD5);
        assert_eq!(md5.quoted(), format!("\"{MD5}\""));
        assert!(matches!(md5.class(), ETagClass::Md5([0xd4, 0x1d, ..])));
        assert_eq!(md5, ETag::parse(MD5).unwrap());
        let parts = ETag::parse(&format!("{MD5}-42")).unwrap();
        assert!(matches!(parts.class(), ETagClass::Multipart { parts: 42, .. }));
        assert_eq!(parts.to_string(), format!("{MD5}-42"));
        let upper = ETag::parse(&MD5.to_uppercase()).unwrap();
        assert_eq!(upper.to_string(), MD5.to_uppercase());
        assert_eq!(upper.class(), md5.class());
        for opaque in ["x", "W/\"1\"", &format!("{MD5}-"), &format!("{MD5}-0"), &format!("{MD5}-007"), &MD5[1..]] {
            let tag = ETag::parse(opaque).unwrap();
            assert_eq!((tag.class(), tag.to_string()), (ETagClass::Opaque, opaque.to_string()));
        }
        assert_eq!(ETag::parse("W/\"1\"").unwrap().quoted(), "W/\"1\"");
        for bad in ["", "\"\"", "a\r\nb", "ü"] {
            assert!(ETag::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_etag_of_a_listing_needs_no_more_than_three_words() {
        assert!(std::mem::size_of::<Option<ETag>>() <= 24);
    }

    #[test]
    fn part_numbers_and_ranges() {
        assert!(PartNumber::new(0).is_err() && PartNumber::new(10_001).is_err() && PartNumber::new(65_537).is_err());
        assert_eq!(PartNumber::new(10_000).unwrap().number(), 10_000);
        assert_eq!(ByteRange { start: 0, end: 10 }.header_value(), "bytes=0-9");
        assert_eq!(ByteRange { start: 3, end: 10 }.len(), 7);
    }

    proptest! {
        #[test]
        fn names_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (Key::parse(&bytes), Bucket::parse(&text), UploadId::parse(&text));
            if let Ok(tag) = ETag::parse(&text) {
                let again = ETag::parse(&tag.quoted()).unwrap();
                prop_assert_eq!((again.class(), again), (tag.class(), tag));
            }
        }

        #[test]
        fn hexadecimal_tags_round_trip(digest in any::<[u8; 16]>(), parts in 1u32..=10_000) {
            let single = ETag::from_md5(digest);
            let several = ETag::from_multipart(digest, parts);
            prop_assert_eq!(ETag::parse(&single.quoted()).unwrap(), single);
            prop_assert_eq!(ETag::parse(&several.to_string()).unwrap(), several);
        }

        #[test]
        fn keys_order_by_raw_bytes(a in "\\PC{1,8}", b in "\\PC{1,8}") {
            let (left, right) = (Key::parse(a.as_bytes()).unwrap(), Key::parse(b.as_bytes()).unwrap());
            prop_assert_eq!(left.cmp(&right), a.as_bytes().cmp(b.as_bytes()));
        }
    }
}
