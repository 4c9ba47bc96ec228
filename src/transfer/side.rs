//! What a source can give and a target can take, and the one way bytes are sent to a bucket with a proof.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use ropeway_io::buf::Lease;
use ropeway_io::file::File;
use ropeway_io::hash::md5;
use ropeway_io::path::{FileFacts, FileKind, Follow, Root, key_to_relative};
use ropeway_s3proto::checksum::{Crc64Nvme, Md5Digest};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ByteRange, ETag, Key};

use super::verify::{self, Proof, Unproven};
use super::{Error, Kit, Receipt};
use crate::client::{self, Checks, Client, UploadProof, Uploaded};
use crate::entry::{Entry, SideName};

/// A place as a shard's transfers see it.
pub enum Side {
    /// A directory.
    Local(LocalSide),
    /// A prefix of a bucket.
    Bucket(BucketSide),
}

/// A directory, and everything beneath it.
pub struct LocalSide {
    /// The directory; nothing outside it is ever written.
    pub root: Root,
}

/// A prefix of a bucket.
pub struct BucketSide {
    /// This shard's connections to the bucket.
    pub client: Rc<Client>,
    /// What stands before every relative key; a literal prefix, so no slash is added.
    pub prefix: Rc<str>,
}

/// A source's content, ready to be read.
pub(super) struct Opened {
    pub(super) size_bytes: u64,
    pub(super) modified_ns: i64,
    pub(super) content: Content,
}

pub(super) enum Content {
    File { file: File, facts: FileFacts },
    Object { key: Key, etag: Option<ETag> },
}

/// What a bucket acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    pub(super) etag: Option<ETag>,
    pub(super) proof: Proof,
}

impl Side {
    /// The connections of a bucket's side.
    pub fn client(&self) -> Option<&Client> {
        match self {
            Side::Local(_) => None,
            Side::Bucket(side) => Some(&side.client),
        }
    }

    /// The source's content as it is now: a file is opened, an object is believed to be what was listed. `fresh` asks
    /// the bucket again, after the listing turned out to be old.
    pub(super) async fn open(&self, entry: &Entry, fresh: bool) -> Result<Opened, Error> {
        match self {
            Side::Local(side) => side.open(&entry.key),
            Side::Bucket(side) => {
                let key = side.key(&entry.key)?;
                let (mut size_bytes, mut modified_ns, mut etag) =
                    (entry.size_bytes, entry.modified_ns, entry.etag.clone());
                if fresh {
                    let head = side.client.head(&key).await.map_err(Error::source)?;
                    size_bytes = head.size_bytes;
                    modified_ns = head.last_modified_ns.unwrap_or(modified_ns);
                    etag = head.etag;
                }
                Ok(Opened { size_bytes, modified_ns, content: Content::Object { key, etag } })
            }
        }
    }
}

impl LocalSide {
    pub(super) fn open(&self, key: &str) -> Result<Opened, Error> {
        let (file, facts) = self.root.open_file(Path::new(key), Follow::Links).map_err(Error::reading("open"))?;
        if facts.kind != FileKind::Regular {
            return Err(Error::NotRegular);
        }
        let (size_bytes, modified_ns) = (facts.size_bytes, facts.modified_ns);
        Ok(Opened { size_bytes, modified_ns, content: Content::File { file, facts } })
    }

    /// A `dir/` object becomes a directory.
    pub(super) fn make_directory(&self, key: &str, size_bytes: u64) -> Result<Receipt, Error> {
        if size_bytes > 0 {
            return Err(Error::MarkerWithContent);
        }
        self.root.create_dir(&key_to_relative(key)?)?;
        Ok(Receipt::empty())
    }

    pub(super) fn has_directory(&self, key: &str) -> Result<bool, Error> {
        Ok(self.root.facts(&key_to_relative(key)?).is_ok_and(|facts| facts.kind == FileKind::Directory))
    }
}

impl BucketSide {
    /// The key in the bucket for a relative key.
    pub(super) fn key(&self, relative: &str) -> Result<Key, Error> {
        let full = [&*self.prefix, relative].concat();
        Key::parse(full.as_bytes()).map_err(|error| Error::Key(error.to_string()))
    }

    /// Sends content so that what was received is compared with what was sent: by the CRC64NVME that the service computes
    /// and echoes, or where it does not, by Content-MD5 and the ETag. Which of the two is learnt from the first answers.
    /// `send` performs the request with the checks it is given.
    pub(super) async fn send_proven(
        &self,
        content: &Bytes,
        crc: Crc64Nvme,
        send: impl AsyncFn(&Client, Checks) -> Result<Uploaded, client::Error>,
    ) -> Result<Acknowledged, Error> {
        let abilities = self.client.abilities();
        let known = abilities.upload_proof();
        if known != UploadProof::Md5 {
            // A service that ignores the CRC would replace the old object with whatever arrives: until it has shown that it
            // heeds it, it is given the MD5 as well.
            let content_md5 = (known == UploadProof::Unknown).then(|| Md5Digest(md5(content)));
            match send(&self.client, Checks { crc64nvme: Some(crc), content_md5 }).await {
                Ok(Uploaded { crc64nvme: Some(theirs), etag }) => {
                    abilities.learn_checksum_echo(true);
                    verify::same_crc(crc, theirs)?;
                    return Ok(Acknowledged { etag, proof: Proof::Checksum });
                }
                Ok(Uploaded { crc64nvme: None, etag }) => {
                    if known == UploadProof::Unknown {
                        abilities.learn_checksum_echo(false);
                    }
                    let proof = verify::same_etag(md5(content), etag.as_ref())?;
                    return Ok(Acknowledged { etag, proof });
                }
                // Whether it was the checksum that was refused shows when the same is sent without it.
                Err(error) if known == UploadProof::Unknown && refuses_checksum(&error) => {}
                Err(error) => return Err(Error::target(error)),
            }
        }
        let digest = md5(content);
        let checks = Checks { crc64nvme: None, content_md5: Some(Md5Digest(digest)) };
        let Uploaded { etag, .. } = send(&self.client, checks).await.map_err(Error::target)?;
        if known == UploadProof::Unknown {
            abilities.learn_checksum_echo(false);
        }
        let proof = verify::same_etag(digest, etag.as_ref())?;
        Ok(Acknowledged { etag, proof })
    }
}

/// Whether a service turned the request down because of the checksum header, so that it is worth asking without
/// (reliability.md P28, P64).
pub(super) fn refuses_checksum(error: &client::Error) -> bool {
    error.class() == Class::Unsupported
        || matches!(error.code(), Some("InvalidRequest" | "InvalidArgument" | "XAmzContentSHA256Mismatch"))
}

impl Opened {
    /// Reads `range` into the buffer, all of it or an error, and sums it on the way.
    pub(super) async fn read(
        &self,
        kit: &Kit,
        range: Range<u64>,
        mut buffer: Lease,
    ) -> Result<(Lease, Crc64Nvme), Error> {
        let wanted = (range.end - range.start) as usize;
        match (&self.content, &kit.source) {
            (Content::File { file, .. }, _) => {
                let (read, buffer) = kit.files.read_summed_at(file, buffer, wanted, range.start).await;
                let (read, crc) = read.map_err(Error::reading("read"))?;
                if read < wanted {
                    let end = range.start + read as u64;
                    return Err(Error::Changed(format!("it ends at byte {end}, before byte {}", range.end)));
                }
                Ok((buffer, Crc64Nvme(crc)))
            }
            (Content::Object { key, etag }, Side::Bucket(side)) => {
                let range = ByteRange { start: range.start, end: range.end };
                let got = side.client.get_range(key, range, etag.as_ref(), &mut buffer).await;
                Ok((buffer, got.map_err(Error::source)?))
            }
            (Content::Object { .. }, Side::Local(_)) => unreachable!("an object is opened by a bucket's side"),
        }
    }

    /// After the last byte was read: a file must still be what it was when it was opened (reliability.md F01).
    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        let Content::File { file, facts } = &self.content else { return Ok(()) };
        let now = file.facts().map_err(Error::reading("examine"))?;
        if (now.size_bytes, now.modified_ns) == (facts.size_bytes, facts.modified_ns) {
            return Ok(());
        }
        Err(Error::Changed(format!("it had {} bytes and now has {}", facts.size_bytes, now.size_bytes)))
    }
}

/// Content of a local source has nothing to be compared with before it is sent.
pub(super) const NOT_COMPARED: Proof = Proof::None(Unproven::Local);

/// A failed local write, unless a path is to blame.
pub(super) fn write_failed(error: io::Error) -> Error {
    Error::Local { side: SideName::Target, doing: "write", error }
}
