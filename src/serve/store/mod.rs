//! What the server keeps and the questions it asks of it, whichever storage answers.
//!
//! A body is a list of pieces: bytes in memory, or ranges of files. Completing a multipart upload and copying an object
//! therefore only write new lists. No call here waits for a client; a lock is held for the length of one look-up or
//! one index transaction, never while a body is received or sent.

mod directory;
mod files;
mod memory;

use super::checksums::{Algorithm, Checksum, Coverage};
use super::conditions::{Guard, Refusal};
use super::listing::{Keyed, Page, Query};
use super::versions::{self, Content, Deleted, Version, Versioning};
use super::{ServeError, Storage};
use bytes::{Bytes, BytesMut};
use directory::Directory;
use files::{Files, Incoming, Lease};
use memory::Memory;
use s3s::stream::{ByteStream, RemainingLength};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything about an object but its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Without quotes.
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    /// Unix time; whole seconds, as S3 keeps them.
    pub(super) modified_secs: i64,
    pub(super) attributes: Attributes,
    pub(super) checksum: Option<Checksum>,
    /// In order; empty for an object that was put whole.
    pub(super) parts: Vec<PartRecord>,
    /// Given by the storage; `None` is the version called `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
}

impl Record {
    /// What the version is called.
    pub(super) fn version_id(&self) -> &str {
        self.version.as_deref().unwrap_or(versions::NULL)
    }

    /// A line of a listing of versions.
    fn as_version(&self) -> Version {
        let object = Content {
            etag: self.etag.clone(),
            size_bytes: self.size_bytes,
            checksum: self.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.coverage)),
            storage_class: self.attributes.storage_class.clone(),
        };
        Version { id: self.version_id().to_owned(), modified_secs: self.modified_secs, object: Some(object) }
    }
}

/// What the uploader says about an object, given back word for word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) cache_control: Option<String>,
    /// Unix time.
    pub(super) expires_secs: Option<i64>,
    pub(super) website_redirect: Option<String>,
    /// `None` is `STANDARD`.
    pub(super) storage_class: Option<String>,
    /// `x-amz-meta-*`, names without that prefix.
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<(String, String)>,
    /// Absent where nothing was asked for, and in what was written before this was kept.
    #[serde(default)]
    pub(super) encryption: Option<Encryption>,
}

/// How an object's uploader asked for it to be encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub(super) kind: Option<String>,
    pub(super) kms_key_id: Option<String>,
    /// In base64: whoever wants to read the object must show the key that has it. The key itself is not kept.
    pub(super) customer_key_md5: Option<String>,
}

/// What a complete multipart object remembers of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) number: u16,
    pub(super) size_bytes: u64,
    /// In the algorithm of the object's checksum.
    pub(super) checksum: Option<String>,
}

/// An object as it is read: it stays whole for its reader, whatever happens to the key meanwhile.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) record: Record,
    pub(super) body: Body,
}

/// One line of an object listing.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    pub(super) modified_secs: i64,
    pub(super) checksum: Option<(Algorithm, Coverage)>,
    pub(super) storage_class: Option<String>,
}

impl Keyed for Entry {
    fn key(&self) -> &str {
        &self.key
    }
}

/// A multipart upload under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) initiated_secs: i64,
    pub(super) attributes: Attributes,
    /// What its creator asked for; with `None`, CRC64NVME is kept without being asked.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) coverage: Coverage,
}

/// One uploaded part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: u16,
    /// Without quotes.
    pub(super) etag: String,
    pub(super) modified_secs: i64,
    pub(super) checksum: Checksum,
    pub(super) body: Body,
}

/// A bucket's name and the second it was created in.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) created_secs: i64,
}

/// Why the storage could not do as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("no such key")]
    NoSuchKey,
    #[error("no such version")]
    NoSuchVersion,
    /// What is there, under this id, is a delete marker; the key's latest, or one that was asked for.
    #[error("a delete marker")]
    Marker { id: String, is_latest: bool },
    #[error("no such upload")]
    NoSuchUpload,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("a condition of the write does not hold")]
    PreconditionFailed,
    #[error("file: {0}")]
    Io(#[from] io::Error),
    #[error("index: {0}")]
    Index(#[from] rusqlite::Error),
    #[error("a record of the index cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    #[error("a key of the index is not UTF-8")]
    KeyNotText,
    #[error("the index has format {0}, which this version does not know")]
    Version(i32),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Self::NoSuchKey,
            Refusal::Mismatch => Self::PreconditionFailed,
        }
    }
}

/// Numbers for versions that rise, also over restarts as far as clocks do.
#[derive(Default)]
struct VersionNumbers(AtomicU64);

impl VersionNumbers {
    fn next(&self) -> u64 {
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let rise = |last: u64| Some(now_ns.max(last + 1));
        let last = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, rise).expect("every number can rise");
        now_ns.max(last + 1)
    }
}

/// The two storages behind one set of questions.
pub(super) enum Store {
    Memory(Memory),
    Directory(Box<Directory>),
}

/// Forwards a question to the storage there is.
macro_rules! ask {
    ($store:expr, $question:ident($($argument:expr),*)) => {
        match $store {
            Store::Memory(memory) => memory.$question($($argument),*),
            Store::Directory(directory) => directory.$question($($argument),*),
        }
    };
}

impl Store {
    pub(super) fn open(storage: &Storage) -> Result<Self, ServeError> {
        match storage {
            Storage::Memory => Ok(Self::Memory(Memory::default())),
            Storage::Directory(path) => Ok(Self::Directory(Box::new(Directory::open(path)?))),
        }
    }

    /// Whether the bucket was created just now.
    pub(super) fn create_bucket(&self, name: &str) -> Result<bool, StoreError> {
        ask!(self, create_bucket(name))
    }

    pub(super) fn has_bucket(&self, name: &str) -> bool {
        ask!(self, has_bucket(name))
    }

    /// In byte order of their names.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        ask!(self, buckets())
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        ask!(self, delete_bucket(name))
    }

    /// What takes the bytes of one body as they come.
    pub(super) fn sink(&self) -> Sink {
        ask!(self, sink())
    }

    /// What the bucket keeps of what is replaced; nothing if there is no such bucket.
    pub(super) fn versioning(&self, bucket: &str) -> Versioning {
        ask!(self, versioning(bucket))
    }

    pub(super) fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), StoreError> {
        ask!(self, set_versioning(bucket, versioning))
    }

    /// The id of the version that the object became, where versions are kept.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        guard: &Guard,
    ) -> Result<Option<String>, StoreError> {
        ask!(self, put(bucket, key, object, guard))
    }

    /// A version of an object, or the latest.
    pub(super) fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Arc<Object>, StoreError> {
        ask!(self, find(bucket, key, version))
    }

    /// Deletes a version for good, or the latest in the way of the bucket. Deleting what is not there succeeds, unless the
    /// guard asks for it.
    pub(super) fn delete(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        guard: &Guard,
    ) -> Result<Deleted, StoreError> {
        ask!(self, delete(bucket, key, version, guard))
    }

    pub(super) fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        ask!(self, set_tags(bucket, key, version, tags))
    }

    /// A page of the versions of all keys.
    pub(super) fn list_versions(
        &self,
        bucket: &str,
        query: &Query,
        after_id: Option<&str>,
    ) -> Result<versions::Page, StoreError> {
        ask!(self, list_versions(bucket, query, after_id))
    }

    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Page<Entry>, StoreError> {
        ask!(self, list(bucket, query))
    }

    pub(super) fn create_upload(&self, bucket: &str, upload: Upload) -> Result<(), StoreError> {
        ask!(self, create_upload(bucket, upload))
    }

    pub(super) fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
        ask!(self, upload(bucket, key, id))
    }

    /// In byte order of their keys, then of their ids.
    pub(super) fn uploads(&self, bucket: &str) -> Result<Vec<Upload>, StoreError> {
        ask!(self, uploads(bucket))
    }

    /// A part of the same number is replaced.
    pub(super) fn put_part(&self, bucket: &str, key: &str, id: &str, part: Part) -> Result<(), StoreError> {
        ask!(self, put_part(bucket, key, id, part))
    }

    /// In order of their numbers.
    pub(super) fn parts(&self, bucket: &str, key: &str, id: &str) -> Result<Vec<Part>, StoreError> {
        ask!(self, parts(bucket, key, id))
    }

    /// Puts the object and forgets the upload, both or neither.
    pub(super) fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        object: Object,
        guard: &Guard,
    ) -> Result<Option<String>, StoreError> {
        ask!(self, complete(bucket, key, id, object, guard))
    }

    pub(super) fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<(), StoreError> {
        ask!(self, abort(bucket, key, id))
    }
}

/// The bytes of an object or a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pieces: Vec<Piece>,
    size_bytes: u64,
}

/// Consecutive bytes of a body.
#[derive(Clone, Debug)]
enum Piece {
    Memory(Bytes),
    /// `size_bytes` bytes of a file from `start` on.
    File {
        lease: Arc<Lease>,
        start: u64,
        size_bytes: u64,
    },
}

impl Piece {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// The range is relative to the piece and lies inside it.
    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => {
                let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).expect("inside the piece"));
                Self::Memory(bytes.slice(start..end))
            }
            Self::File { lease, start, .. } => {
                Self::File { lease: lease.clone(), start: start + range.start, size_bytes: range.end - range.start }
            }
        }
    }
}

impl Body {
    fn new(pieces: Vec<Piece>) -> Self {
        let size_bytes = pieces.iter().map(Piece::size_bytes).sum();
        Self { pieces, size_bytes }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bodies one after the other, without their bytes being touched.
    pub(super) fn concat<'a>(bodies: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::new(bodies.into_iter().flat_map(|body| body.pieces.iter().cloned()).collect())
    }

    /// The bytes of a range that lies inside the body, without their being touched.
    pub(super) fn slice(&self, range: Range<u64>) -> Self {
        assert!(range.start <= range.end && range.end <= self.size_bytes, "the range was checked against the size");
        let mut pieces = Vec::new();
        let mut start = 0;
        for piece in &self.pieces {
            let end = start + piece.size_bytes();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                pieces.push(piece.slice(from - start..to - start));
            }
            start = end;
        }
        Self::new(pieces)
    }

    /// The bytes as a stream whose length is known.
    pub(super) fn reader(self) -> Reader {
        Reader { pieces: self.pieces.into_iter(), file: None, remaining_bytes: self.size_bytes }
    }
}

/// Streams a body. Pieces in memory are handed on whole, for hyper to write without a copy. Files are read right here:
/// they come from the page cache as a rule, and another thread would cost more than the read.
pub(super) struct Reader {
    pieces: std::vec::IntoIter<Piece>,
    file: Option<OpenFile>,
    remaining_bytes: u64,
}

/// The file being read, and how much of it is still to come.
struct OpenFile {
    file: File,
    remaining_bytes: u64,
    /// Keeps the file from being removed before it is read to its end on systems that insist.
    _lease: Arc<Lease>,
}

/// How much of a file is read at once: large enough that the system call does not count, small enough that some
/// hundred slow readers do not either.
const READ_BYTES: u64 = 256 * 1024;

impl Reader {
    fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(open) = self.file.as_mut().filter(|open| open.remaining_bytes > 0) {
                return open.next_chunk().map(Some);
            }
            self.file = match self.pieces.next() {
                None => return Ok(None),
                Some(Piece::Memory(bytes)) => return Ok(Some(bytes)),
                Some(Piece::File { lease, start, size_bytes }) => {
                    let mut file = lease.open()?;
                    file.seek(io::SeekFrom::Start(start))?;
                    Some(OpenFile { file, remaining_bytes: size_bytes, _lease: lease })
                }
            };
        }
    }
}

impl OpenFile {
    fn next_chunk(&mut self) -> io::Result<Bytes> {
        let wanted = self.remaining_bytes.min(READ_BYTES);
        let mut buffer = Vec::with_capacity(usize::try_from(wanted).expect("a few pages"));
        let read = (&self.file).take(wanted).read_to_end(&mut buffer)? as u64;
        if read < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining_bytes -= read;
        Ok(buffer.into())
    }
}

impl futures_util::Stream for Reader {
    type Item = Result<Bytes, s3s::StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = self.next_chunk();
        if let Ok(Some(bytes)) = &chunk {
            self.remaining_bytes -= bytes.len() as u64;
        }
        Poll::Ready(chunk.map_err(Into::into).transpose())
    }
}

impl ByteStream for Reader {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.remaining_bytes).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

/// Up to here a body in memory is gathered into one buffer of its own: a copy of so little is cheaper than keeping the
/// connection's whole read buffer alive for it.
const GATHER_BYTES_MAX: usize = 64 * 1024;

/// Up to here a body lives in the index: a file of its own costs more than the bytes.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Receives one body.
pub(super) enum Sink {
    /// Chunks as they came, to stay in memory.
    Memory(Gathered),
    /// Chunks that may yet turn out to be few enough for the index.
    Undecided(Gathered, Arc<Files>),
    File(Incoming, u64),
}

/// Chunks and their sum.
#[derive(Default)]
pub(super) struct Gathered {
    chunks: Vec<Bytes>,
    size_bytes: usize,
}

impl Sink {
    fn to_memory() -> Self {
        Self::Memory(Gathered::default())
    }

    fn to_files(files: Arc<Files>) -> Self {
        Self::Undecided(Gathered::default(), files)
    }

    pub(super) fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        match self {
            Self::Memory(gathered) => gathered.push(chunk),
            Self::Undecided(gathered, files) => {
                gathered.push(chunk);
                if gathered.size_bytes > INLINE_BYTES_MAX {
                    let mut incoming = files.incoming()?;
                    for chunk in &gathered.chunks {
                        incoming.write(chunk)?;
                    }
                    *self = Self::File(incoming, gathered.size_bytes as u64);
                }
            }
            Self::File(incoming, size_bytes) => {
                incoming.write(&chunk)?;
                *size_bytes += chunk.len() as u64;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<Body> {
        let pieces = match self {
            Self::Memory(gathered) if gathered.size_bytes > GATHER_BYTES_MAX => {
                gathered.chunks.into_iter().map(Piece::Memory).collect()
            }
            Self::Memory(gathered) | Self::Undecided(gathered, _) => vec![Piece::Memory(gathered.into_one())],
            Self::File(incoming, size_bytes) => {
                vec![Piece::File { lease: Arc::new(incoming.publish()?), start: 0, size_bytes }]
            }
        };
        Ok(Body::new(pieces))
    }
}

impl Gathered {
    fn push(&mut self, chunk: Bytes) {
        self.size_bytes += chunk.len();
        self.chunks.push(chunk);
    }

    fn into_one(self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.size_bytes);
        for chunk in &self.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.freeze()
    }
}
