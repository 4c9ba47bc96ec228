//! What a source can give and a target can take, and the one way bytes are sent to a bucket with a proof.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use ropeway_io::buf::Lease;
use ropeway_io::file::File;
use ropeway_io::hash::Md5Lane;
use ropeway_io::path::{FileFacts, FileKind, Follow, Root, key_to_relative};
use ropeway_s3proto::checksum::{Checksum, Crc64Nvme, Md5Digest, StoredChecksum};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ByteRange, ETag, Key, VersionId};

use super::error::Made;
use super::verify::{self, Compared, ETags, Hashed, Proof, Unproven};
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
    Object { key: Key, version: Option<VersionId>, etag: Option<ETag> },
}

/// A stretch of the source's content in a buffer.
pub(super) struct ReadStretch {
    pub(super) buffer: Lease,
    pub(super) crc: Crc64Nvme,
    /// Announced if an MD5 is wanted; the bytes come into it when they are [frozen](ReadStretch::freeze).
    lane: Option<Md5Lane>,
}

impl ReadStretch {
    /// The bytes, to be sent or held, and on their way to an MD5 if one is wanted.
    pub(super) fn freeze(self) -> Hashed {
        Hashed::new(self.buffer.freeze(), self.crc, self.lane)
    }
}

/// What a bucket acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    pub(super) etag: Option<ETag>,
    pub(super) proof: Proof,
    /// The checksum of what was sent, if the service was given it and keeps it. Of an object in parts, not their
    /// checksums'.
    pub(super) checksum: Option<Checksum>,
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
                    let head = side.client.head_version(&key, entry.version.as_ref()).await.map_err(Error::source)?;
                    size_bytes = head.size_bytes;
                    modified_ns = head.last_modified_ns.unwrap_or(modified_ns);
                    etag = head.etag;
                }
                let version = entry.version.clone();
                Ok(Opened { size_bytes, modified_ns, content: Content::Object { key, version, etag } })
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

    /// Sends content so that what was received is compared with what was sent: by the checksum that the service computes
    /// and echoes, or where it does not, by Content-MD5; and by the ETag. Which of the two is learnt from the first answers.
    /// `send` performs the request with the checks it is given. Once the checksum is known to be heeded, the MD5 is needed only
    /// when the answer has come, and is taken meanwhile.
    pub(super) async fn send_proven(
        &self,
        kit: &Kit,
        hashed: &mut Hashed,
        send: impl AsyncFn(&Client, Checks) -> Result<Uploaded, client::Error>,
    ) -> Result<Acknowledged, Error> {
        let abilities = self.client.abilities();
        let known = abilities.upload_proof();
        if known != UploadProof::Md5 {
            // A service that ignores the checksum would replace the old object with whatever arrives: until it has shown that
            // it heeds it, it is given the MD5 as well.
            let content_md5 = match known {
                UploadProof::Unknown => self.content_md5(kit, hashed).await,
                UploadProof::Checksum | UploadProof::Md5 => None,
            };
            let checksum = Some(hashed.checksum(kit.integrity.algorithm()).await);
            match send(&self.client, Checks { checksum, content_md5 }).await {
                Ok(answer) => {
                    if answer.checksum.is_some() || known == UploadProof::Unknown {
                        abilities.learn_checksum_echo(answer.checksum.is_some());
                    }
                    return self.judge(kit, hashed, answer).await;
                }
                // Whether it was the checksum that was refused shows when the same is sent without it.
                Err(error) if known == UploadProof::Unknown && refuses_checksum(&error) => {}
                Err(error) => return Err(Error::target(error)),
            }
        }
        let content_md5 = self.content_md5(kit, hashed).await;
        let answer = send(&self.client, Checks { checksum: None, content_md5 }).await.map_err(Error::target)?;
        if known == UploadProof::Unknown {
            abilities.learn_checksum_echo(false);
        }
        self.judge(kit, hashed, answer).await
    }

    async fn content_md5(&self, kit: &Kit, hashed: &mut Hashed) -> Option<Md5Digest> {
        match kit.integrity.content_md5 {
            true => Some(Md5Digest(hashed.md5(&kit.lanes).await)),
            false => None,
        }
    }

    /// Compares what the service made of a content with the content.
    pub(super) async fn judge(&self, kit: &Kit, hashed: &mut Hashed, answer: Uploaded) -> Result<Acknowledged, Error> {
        // The checksum first: whether an ETag that differs is a mistake depends on it.
        let ours = match answer.checksum {
            Some(theirs) => Some(hashed.checksum(theirs.checksum.algorithm()).await),
            None => None,
        };
        let etags = kit.etags(self);
        let md5 = match etags.need_md5_for(&answer) {
            true => Some(hashed.md5(&kit.lanes).await),
            false => None,
        };
        acknowledge(kit, etags, ours, md5, answer)
    }
}

/// What an answer proves. `ours` is the checksum, of the answer's algorithm, of what was sent. What differs is
/// [`Error::Spoilt`]; of a part, [`Error::of_a_part`].
pub(super) fn acknowledge(
    kit: &Kit,
    etags: ETags<'_>,
    ours: Option<Checksum>,
    md5: Option<[u8; 16]>,
    answer: Uploaded,
) -> Result<Acknowledged, Error> {
    let made = Made::of(&answer);
    compare_answer(kit, etags, ours, md5, answer).map_err(|error| error.of_what_was_made(made))
}

fn compare_answer(
    kit: &Kit,
    etags: ETags<'_>,
    ours: Option<Checksum>,
    md5: Option<[u8; 16]>,
    answer: Uploaded,
) -> Result<Acknowledged, Error> {
    let agrees = match (ours, answer.checksum) {
        (Some(ours), Some(theirs)) if kit.integrity.uploaded_checksums => {
            verify::same_checksum(StoredChecksum::of_bytes(ours), theirs)?
        }
        _ => false,
    };
    let compared = match etags.same_uploaded(md5, &answer, agrees)? {
        // There would have been something.
        Compared::Not(Unproven::NoChecksum) if answer.checksum.is_some() && !kit.integrity.uploaded_checksums => {
            Compared::Not(Unproven::TurnedOff)
        }
        compared => compared,
    };
    let proof = if agrees { Proof::by_checksum(compared) } else { Proof::by_etag(compared) };
    let checksum = ours.filter(|ours| ours.algorithm() == kit.integrity.algorithm());
    Ok(Acknowledged { etag: answer.etag, proof, checksum })
}

/// Whether a service turned the request down because of the checksum header, so that it is worth asking without
/// (reliability.md P28, P64).
pub(super) fn refuses_checksum(error: &client::Error) -> bool {
    error.class() == Class::Unsupported
        || matches!(error.code(), Some("InvalidRequest" | "InvalidArgument" | "XAmzContentSHA256Mismatch"))
}

impl Opened {
    /// Reads `range` into the buffer, all of it or an error, and sums it on the way. `md5` announces that an MD5 of it will
    /// be wanted.
    pub(super) async fn read(
        &self,
        kit: &Kit,
        range: Range<u64>,
        mut buffer: Lease,
        md5: bool,
    ) -> Result<ReadStretch, Error> {
        let wanted = (range.end - range.start) as usize;
        kit.limited.bytes.take(wanted as u64).await;
        let lane = md5.then(|| kit.lanes.lane());
        match (&self.content, &kit.source) {
            (Content::File { file, .. }, _) => {
                let (read, buffer) = kit.files.read_summed_at(file, buffer, wanted, range.start).await;
                let (read, crc) = read.map_err(Error::reading("read"))?;
                if read < wanted {
                    let end = range.start + read as u64;
                    return Err(Error::Changed(format!("it ends at byte {end}, before byte {}", range.end)));
                }
                Ok(ReadStretch { buffer, crc: Crc64Nvme(crc), lane })
            }
            (Content::Object { key, version, etag }, Side::Bucket(side)) => {
                let range = ByteRange { start: range.start, end: range.end };
                let got = side.client.get_range(key, version.as_ref(), range, etag.as_ref(), &mut buffer).await;
                Ok(ReadStretch { buffer, crc: got.map_err(Error::source)?, lane })
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
