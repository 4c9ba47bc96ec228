//! The plain values that listing, plan and transfer hand each other: what a listing shows, and what is to be done.
//!
//! Keys here are *relative*: to the directory of a local side, or to the prefix of a bucket's. Two sides can be compared
//! only in that form. A [`Page`] keeps all its keys in one text, so a listing of a billion keys allocates per page and
//! never per key; an [`Entry`] of its own is made only for what will be moved.

use std::ops::Range;

use ropeway_s3proto::checksum::Algorithm;
use ropeway_s3proto::name::{ETag, VersionId};

/// A stretch of a listing: consecutive entries in raw byte order of their relative keys.
#[derive(Debug, Default)]
pub struct Page {
    /// All keys, back to back.
    pub text: Vec<u8>,
    /// One row for each entry; its key is a range of `text`.
    pub rows: Vec<Row>,
    /// Where versions are listed: those of each row's key, the newest first. Else empty.
    pub versions: Vec<Vec<ObjectVersion>>,
    /// The listing said that none follows. Where it is false, one may follow or not.
    pub is_last: bool,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The service's name for it.
    pub id: VersionId,
    /// Whether it is what the key means now.
    pub is_latest: bool,
    /// When it was written, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// None for a delete marker.
    pub content: Option<VersionContent>,
}

/// What a version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionContent {
    /// Length of the content.
    pub size_bytes: u64,
    /// The ETag, where the side has one.
    pub etag: Option<ETag>,
}

/// One entry of a [`Page`].
#[derive(Debug, Clone)]
pub struct Row {
    /// Where in the page's text the relative key stands.
    pub key: Range<u32>,
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The ETag, where the side has one.
    pub etag: Option<ETag>,
}

impl Page {
    /// The entry in row `index`.
    pub fn entry(&self, index: usize) -> EntryRef<'_> {
        let row = &self.rows[index];
        EntryRef {
            key: &self.text[row.key.start as usize..row.key.end as usize],
            size_bytes: row.size_bytes,
            modified_ns: row.modified_ns,
            etag: row.etag.as_ref(),
            versions: self.versions.get(index).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// The last key of the page, if it has any.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.rows.last().map(|row| &self.text[row.key.start as usize..row.key.end as usize])
    }
}

/// One object or file as a listing shows it, borrowed from its page.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Relative key.
    pub key: &'a [u8],
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The ETag, where the side has one.
    pub etag: Option<&'a ETag>,
    /// Where versions are listed: all of this key, the newest first, which the rest is about.
    pub versions: &'a [ObjectVersion],
}

/// One object or file that a transfer will read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Relative key.
    pub key: Box<str>,
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The ETag, where the side has one.
    pub etag: Option<ETag>,
    /// This version of the object, and not what its key means now.
    pub version: Option<VersionId>,
}

/// Which of the two sides something concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideName {
    /// Where data is read.
    Source,
    /// Where data is written.
    Target,
}

impl SideName {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            SideName::Source => "source",
            SideName::Target => "target",
        }
    }
}

impl std::fmt::Display for SideName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// What the plan wants done about one key.
#[derive(Debug, Clone)]
pub struct Action {
    /// What is read.
    pub entry: Entry,
    /// Why it is copied, or looked at.
    pub reason: Reason,
    /// What the target has under that key.
    pub existing: Option<Existing>,
    /// Where all versions are carried: those of both sides.
    pub history: Option<Box<History>>,
}

/// The versions of one key on both sides, the newest first.
#[derive(Debug, Clone)]
pub struct History {
    /// Those of the source that count.
    pub source: Vec<ObjectVersion>,
    /// Those of the target.
    pub target: Vec<ObjectVersion>,
}

impl Action {
    /// The ETag of what the target has under that key.
    pub fn existing_etag(&self) -> Option<&ETag> {
        self.existing.as_ref()?.etag.as_ref()
    }
}

/// What a listing of the target shows of an object or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The ETag, where the side has one.
    pub etag: Option<ETag>,
}

impl From<&Entry> for Existing {
    fn from(entry: &Entry) -> Existing {
        Existing { size_bytes: entry.size_bytes, modified_ns: entry.modified_ns, etag: entry.etag.clone() }
    }
}

impl From<EntryRef<'_>> for Existing {
    fn from(entry: EntryRef<'_>) -> Existing {
        Existing { size_bytes: entry.size_bytes, modified_ns: entry.modified_ns, etag: entry.etag.cloned() }
    }
}

impl EntryRef<'_> {
    /// An entry of its own, under this key, which is the text of ours: what the key means now.
    pub fn to_entry(self, key: &str) -> Entry {
        Existing::from(self).at(key)
    }
}

impl Existing {
    /// The entry that has this under `key`: what the key means now.
    pub fn at(self, key: &str) -> Entry {
        let Existing { size_bytes, modified_ns, etag } = self;
        Entry { key: key.into(), size_bytes, modified_ns, etag, version: None }
    }
}

/// Why an entry is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The target has no such key.
    Absent,
    /// The target's size differs.
    Size,
    /// The source was modified later than the target.
    Newer,
    /// The times of the listings cannot tell; the modification time stored with the object decides. It is compared with
    /// this one, of the local file, in nanoseconds since 1970.
    UnlessStoredTimeIs(i64),
    /// The sizes agree; whether the contents do is to be found out.
    Content,
    /// It needs no copying; whether the tags agree is to be found out.
    Tags,
    /// It is the version of a moment, or one of all versions.
    Version,
    /// The same, by this alone; what cannot be compared is copied.
    UnlessSame(ContentBy),
    /// The ETags differ.
    ETag,
    /// The checksums differ.
    Checksum,
    /// What the target has is not looked at.
    Unconditional,
}

/// By what contents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentBy {
    /// Their ETags.
    ETag,
    /// Their checksums of this algorithm.
    Checksum(Algorithm),
}

impl Reason {
    /// The word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Absent => "absent",
            Reason::Size => "size",
            Reason::Newer | Reason::UnlessStoredTimeIs(_) => "newer",
            Reason::Content => "content",
            Reason::ETag | Reason::UnlessSame(ContentBy::ETag) => "etag",
            Reason::Checksum | Reason::UnlessSame(ContentBy::Checksum(_)) => "checksum",
            Reason::Unconditional => "unconditional",
            Reason::Tags => "tags",
            Reason::Version => "version",
        }
    }
}

/// The part of the key space that one shard owns, in relative keys: those behind `after`, up to and with `through`. Cut so
/// because a listing can be told after which key to start, but not at which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The last key that does not belong to the range; it begins with the very first if none.
    pub after: Option<Box<[u8]>>,
    /// The last key that does; it ends with the very last if none.
    pub through: Option<Box<[u8]>>,
}

impl KeyRange {
    /// Whether `key`, which is not before the range, is behind it.
    pub fn is_past(&self, key: &[u8]) -> bool {
        self.through.as_deref().is_some_and(|through| key > through)
    }
}
