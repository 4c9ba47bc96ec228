//! A large object: cut into parts that every core may carry, put together at the target only when all are proven.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ropeway_io::file::File;
use ropeway_io::hash::{Crc64, Md5, md5};
use ropeway_io::path::{Partial, key_to_relative};
use ropeway_s3proto::checksum::{Crc64Nvme, Md5Digest};
use ropeway_s3proto::name::{ETag, ETagClass, Key, PartNumber, UploadId};
use ropeway_s3proto::op::ObjectMetadata;
use tokio::sync::{Notify, mpsc};

use super::board::{PartsJob, PartsReturned};
use super::part::{self, Part};
use super::side::{Acknowledged, BucketSide, Content, NOT_COMPARED, Opened, crc_of, refuses_checksum, write_failed};
use super::small::{FILE_MODE, proven};
use super::verify::{self, Expected, Proof, Unproven, combined_crc};
use super::{Ending, Error, Kit, Receipt, Side, metadata};
use crate::client::{self, Checks, CompletedPart, Failure, RequestBody, UploadProof, Uploaded};
use crate::entry::Entry;

/// A large object under way: all that a shard needs to know to carry some of its parts.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) id: u64,
    owner: usize,
    entry: Entry,
    pub(super) size_bytes: u64,
    pub(super) part_bytes: u64,
    /// The source's ETag can be compared only with the MD5 of each part.
    part_md5: bool,
    target: Destination,
}

/// Where parts go.
#[derive(Debug, Clone)]
enum Destination {
    /// Into a file that has its name only when it is whole.
    File { temporary: PathBuf },
    /// Into a multipart upload.
    Upload { key: Key, upload_id: UploadId },
    /// The whole object in one request, streamed: it is below the multipart threshold and larger than a buffer.
    Put { key: Key, metadata: Box<ObjectMetadata>, checks: Checks },
}

/// One part that has arrived.
#[derive(Debug, Clone)]
pub struct PartDone {
    pub(super) number: u32,
    pub(super) size_bytes: u64,
    pub(super) crc64: u64,
    pub(super) md5: Option<[u8; 16]>,
    /// What the target made of it, where the target is a bucket.
    acknowledged: Option<Acknowledged>,
}

/// A large object with this shard's own hold on its two ends.
struct Attached {
    large: Arc<Large>,
    source: Opened,
    file: Option<File>,
    in_order: Option<Turnstile>,
}

/// The target's half-made object, as its owner holds it.
enum Unfinished {
    File(Partial),
    Upload { key: Key, upload_id: UploadId, token: String },
    Put,
}

/// What is known of the source before its parts are read.
struct About {
    expected: Expected,
    metadata: ObjectMetadata,
    modified_ns: i64,
}

/// How long an abort of an upload may take when the run is ending anyway.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// Moves one object in parts.
pub(super) async fn transfer(kit: &Rc<Kit>, entry: &Entry, mut source: Opened) -> Result<Receipt, Error> {
    let about = kit.stop.or_abandon(examine(kit, entry, &mut source)).await?;
    let (attached, unfinished) = kit.stop.or_abandon(begin(kit, entry, source, &about)).await?;
    match carry(kit, &attached).await.and_then(|parts| check(&attached, &about, parts)) {
        Ok((parts, read)) => {
            let receipt = finish(kit, &attached, &about, unfinished, &parts).await?;
            Ok(Receipt { proof: proven(kit, read, receipt.proof), ..receipt })
        }
        Err(error) => {
            give_up(kit, unfinished).await;
            Err(error)
        }
    }
}

/// Asks the source what its content should hash to, and how it was cut.
async fn examine(kit: &Kit, entry: &Entry, source: &mut Opened) -> Result<About, Error> {
    match (&mut source.content, &kit.source) {
        (Content::File { .. }, _) => Ok(About {
            expected: Expected::Nothing(Unproven::Local),
            metadata: metadata::of_file(&entry.key, source.modified_ns),
            modified_ns: source.modified_ns,
        }),
        (Content::Object { key, etag }, Side::Bucket(side)) => {
            let head = side.client.head(key).await.map_err(Error::source)?;
            let mut part_bytes = metadata::part_bytes(&head.metadata);
            if part_bytes.is_none() && head.needs_part_size() {
                part_bytes = side.client.first_part_bytes(key).await.map_err(Error::source)?;
            }
            source.size_bytes = head.size_bytes;
            let expected = Expected::of(&head, part_bytes);
            let modified_ns = metadata::modified_ns(&head.metadata, head.last_modified_ns, source.modified_ns);
            *etag = head.etag;
            let mut metadata = head.metadata;
            metadata::forget_upload(&mut metadata);
            Ok(About { expected, metadata, modified_ns })
        }
        (Content::Object { .. }, Side::Local(_)) => unreachable!("an object is opened by a bucket's side"),
    }
}

/// Decides the cut and makes a place at the target.
async fn begin(kit: &Rc<Kit>, entry: &Entry, source: Opened, about: &About) -> Result<(Attached, Unfinished), Error> {
    let size_bytes = source.size_bytes;
    let part_bytes = cut(kit, size_bytes, about.expected).ok_or(Error::TooLarge(size_bytes))?;
    let (target, file, unfinished) = match &kit.target {
        Side::Local(side) => {
            let partial = side.root.create_partial(&key_to_relative(&entry.key)?, FILE_MODE)?;
            kit.files.allocate(partial.file(), size_bytes).await.map_err(Error::writing("make room for"))?;
            let temporary = partial.temp_path().to_owned();
            (Destination::File { temporary }, Some(partial.file().clone()), Unfinished::File(partial))
        }
        Side::Bucket(side) => {
            let key = side.key(&entry.key)?;
            if size_bytes < kit.sizes.multipart_threshold_bytes {
                let checks = checks_in_advance(kit, side, &source, about.expected).await?;
                let metadata = Box::new(about.metadata.clone());
                (Destination::Put { key, metadata, checks }, None, Unfinished::Put)
            } else {
                let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
                let upload_id = create_upload(side, &key, about, &token, part_bytes).await?;
                let target = Destination::Upload { key: key.clone(), upload_id: upload_id.clone() };
                (target, None, Unfinished::Upload { key, upload_id, token })
            }
        }
    };
    let part_bytes = if matches!(target, Destination::Put { .. }) { size_bytes } else { part_bytes };
    let large = Large {
        id: kit.board.new_id(),
        owner: kit.shard,
        entry: Entry { size_bytes, etag: source.etag().cloned(), modified_ns: source.modified_ns, ..entry.clone() },
        size_bytes,
        part_bytes,
        part_md5: matches!(about.expected, Expected::Md5OfParts { .. }),
        target,
    };
    let in_order = matches!(about.expected, Expected::Md5(_)).then(Turnstile::default);
    Ok((Attached { large: Arc::new(large), source, file, in_order }, unfinished))
}

/// The part size: the source's own where only that lets its ETag be compared, else what the target wants. Downloads may be
/// cut at will and take a buffer's length, or more where 10,000 of those do not suffice, which keeps the account of an
/// object's parts small.
fn cut(kit: &Kit, size_bytes: u64, expected: Expected) -> Option<u64> {
    let wished = match &kit.target {
        Side::Local(_) => kit.sizes.buffer_bytes,
        Side::Bucket(_) => kit.sizes.part_bytes,
    };
    let ours = part::upload_part_bytes(size_bytes, wished)?;
    match (expected, &kit.target) {
        (Expected::Md5OfParts { part_bytes, .. }, Side::Local(_)) => Some(part_bytes),
        (Expected::Md5OfParts { part_bytes, .. }, Side::Bucket(_)) if part_bytes >= part::PART_BYTES_MIN => {
            Some(part_bytes)
        }
        _ => Some(ours),
    }
}

async fn create_upload(
    side: &BucketSide,
    key: &Key,
    about: &About,
    token: &str,
    part_bytes: u64,
) -> Result<UploadId, Error> {
    let mut metadata = about.metadata.clone();
    metadata::set_upload(&mut metadata, token, part_bytes);
    let abilities = side.client.abilities();
    let known = abilities.upload_proof();
    match side.client.create_upload(key, &metadata, known != UploadProof::Md5).await {
        Err(error) if known == UploadProof::Unknown && refuses_checksum(&error) => {
            abilities.learn_checksum_echo(false);
            side.client.create_upload(key, &metadata, false).await
        }
        result => result,
    }
    .map_err(Error::target)
}

/// What can be said of a streamed object's content before it is sent, so that the service refuses a wrong one instead of
/// replacing the old object with it. A file is read once for this and once more to be sent.
async fn checks_in_advance(kit: &Kit, side: &BucketSide, source: &Opened, expected: Expected) -> Result<Checks, Error> {
    // Until it is known which of the two the service heeds, it is given both.
    let known = side.client.abilities().upload_proof();
    let (use_crc, use_md5) = (known != UploadProof::Md5, known != UploadProof::Checksum);
    match (expected, &source.content) {
        (Expected::Crc64(crc), _) if !use_md5 => Ok(Checks { crc64nvme: Some(crc), content_md5: None }),
        (Expected::Md5(md5), _) => Ok(Checks { crc64nvme: None, content_md5: Some(Md5Digest(md5)) }),
        (_, Content::File { .. }) => {
            let (mut crc, mut md5) = (Crc64::new(), Md5::new());
            for range in part::stretches(0..source.size_bytes, kit.sizes.buffer_bytes) {
                let buffer = kit.arena.lease((range.end - range.start) as usize).await;
                let buffer = source.read(kit, range, buffer).await?;
                if use_crc {
                    crc.update(buffer.filled());
                }
                if use_md5 {
                    md5.update(buffer.filled());
                }
            }
            let crc64nvme = use_crc.then(|| Crc64Nvme(crc.finish()));
            Ok(Checks { crc64nvme, content_md5: use_md5.then(|| Md5Digest(md5.finish())) })
        }
        (Expected::Crc64(crc), _) if use_crc => Ok(Checks { crc64nvme: Some(crc), content_md5: None }),
        _ => Ok(Checks::default()),
    }
}

/// Carries all parts, here and on shards that have time, and returns them in order.
async fn carry(kit: &Rc<Kit>, attached: &Attached) -> Result<Vec<PartDone>, Error> {
    let stays = attached.in_order.is_some() || matches!(attached.large.target, Destination::Put { .. });
    let (offer, mut returned) = kit.board.post(attached.large.clone(), stays);
    let total = offer.posted.total() as usize;
    let mut done: Vec<PartDone> = Vec::with_capacity(total);
    let mut here = FuturesUnordered::new();
    // Parts that must pass the turnstile and need several buffers each would wait for each other's.
    let one_by_one = attached.in_order.is_some() && attached.large.part_bytes > kit.sizes.buffer_bytes;
    let here_max = if one_by_one { 1 } else { kit.board.slots_max() };
    while done.len() < total {
        while !kit.stop.asked() && here.len() < here_max {
            let Some(part) = offer.posted.take() else { break };
            here.push(carry_part(kit, attached, part));
        }
        if kit.stop.asked() && here.is_empty() {
            return Err(Error::Stopped);
        }
        tokio::select! {
            Some(part) = here.next(), if !here.is_empty() => done.push(part?),
            Some(parts) = returned.recv() => done.extend(parts?),
            () = kit.stop.reached(Ending::Draining), if !kit.stop.asked() => {}
            () = kit.stop.reached(Ending::Abandoned) => return Err(Error::Stopped),
        }
    }
    done.sort_unstable_by_key(|part| part.number);
    Ok(done)
}

/// Carries parts that another shard owns.
pub async fn help(kit: &Rc<Kit>, job: PartsJob) -> PartsReturned {
    let PartsJob { large, parts } = job;
    let (owner, id) = (large.owner, large.id);
    let carried = async {
        let attached = attach(kit, large)?;
        let carried = parts.into_iter().map(|part| carry_part(kit, &attached, part));
        let mut carried: FuturesUnordered<_> = carried.collect();
        let mut done = Vec::with_capacity(carried.len());
        while let Some(part) = carried.next().await {
            done.push(part?);
        }
        Ok(done)
    };
    PartsReturned { owner, id, outcome: kit.stop.or_abandon(carried).await }
}

/// Takes hold of both ends of an object that another shard began, and makes sure that they are the same.
fn attach(kit: &Kit, large: Arc<Large>) -> Result<Attached, Error> {
    let source = match &kit.source {
        Side::Local(side) => {
            let source = side.open(&large.entry.key)?;
            if (source.size_bytes, source.modified_ns) != (large.size_bytes, large.entry.modified_ns) {
                return Err(Error::Changed("another shard found other content under its name".into()));
            }
            source
        }
        Side::Bucket(side) => Opened {
            size_bytes: large.size_bytes,
            modified_ns: large.entry.modified_ns,
            content: Content::Object { key: side.key(&large.entry.key)?, etag: large.entry.etag.clone() },
        },
    };
    let file = match (&large.target, &kit.target) {
        (Destination::File { temporary }, Side::Local(side)) => Some(side.root.open_partial(temporary)?),
        _ => None,
    };
    Ok(Attached { large, source, file, in_order: None })
}

/// One part: read, hashed, written, proven.
async fn carry_part(kit: &Rc<Kit>, attached: &Attached, part: Part) -> Result<PartDone, Error> {
    let _slot = kit.board.slot().await;
    let done = if part.size_bytes() > kit.sizes.buffer_bytes {
        match &attached.large.target {
            Destination::File { .. } => write_stretches(kit, attached, &part).await,
            Destination::Upload { .. } | Destination::Put { .. } => send_stretches(kit, attached, &part).await,
        }
    } else {
        carry_whole(kit, attached, &part).await
    }?;
    kit.moved(done.size_bytes);
    Ok(done)
}

/// A part that fits one buffer.
async fn carry_whole(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let buffer = kit.arena.lease(part.size_bytes() as usize).await;
    let buffer = attached.source.read(kit, part.range.clone(), buffer).await?;
    let crc = crc_of(buffer.filled());
    let md5 = attached.large.part_md5.then(|| md5(buffer.filled()));
    if let Some(turnstile) = &attached.in_order {
        turnstile.pass(part.range.clone(), buffer.filled()).await;
    }
    let acknowledged = match (&attached.large.target, &kit.target) {
        (Destination::Upload { key, upload_id }, Side::Bucket(side)) => {
            let content = buffer.freeze();
            let sent = side.send_proven(&content, crc, async |client, checks| {
                client.upload_part(key, upload_id, part.number, checks, content.clone()).await
            });
            Some(sent.await?)
        }
        _ => {
            let file = attached.file.as_ref().expect("a local target has its file");
            let (written, _buffer) = kit.files.write_at(file, buffer, part.range.start).await;
            written.map_err(write_failed)?;
            None
        }
    };
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64: crc.0, md5, acknowledged })
}

/// A part larger than a buffer, into a file.
async fn write_stretches(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let file = attached.file.as_ref().expect("a local target has its file");
    let (mut crc, mut md5) = (Crc64::new(), attached.large.part_md5.then(Md5::new));
    for range in part::stretches(part.range.clone(), kit.sizes.buffer_bytes) {
        let buffer = kit.arena.lease((range.end - range.start) as usize).await;
        let buffer = attached.source.read(kit, range.clone(), buffer).await?;
        crc.update(buffer.filled());
        if let Some(md5) = &mut md5 {
            md5.update(buffer.filled());
        }
        if let Some(turnstile) = &attached.in_order {
            turnstile.pass(range.clone(), buffer.filled()).await;
        }
        let (written, _buffer) = kit.files.write_at(file, buffer, range.start).await;
        written.map_err(write_failed)?;
    }
    let md5 = md5.map(Md5::finish);
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64: crc.finish(), md5, acknowledged: None })
}

/// A part larger than a buffer, into a bucket: sent while it is read. Its checksum is known only afterwards, so it is
/// compared with what the service computed, before the upload is completed.
async fn send_stretches(kit: &Rc<Kit>, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let Side::Bucket(side) = &kit.target else { unreachable!("uploads have a bucket for a target") };
    let stretches = Stretches::new();
    let body = || stretches.start(kit, attached, part);
    let (sent, ()) = tokio::join!(
        async {
            let sent = match &attached.large.target {
                Destination::Upload { key, upload_id } => {
                    side.client
                        .upload_part_stream(key, upload_id, part.number, Checks::default(), part.size_bytes(), body)
                        .await
                }
                Destination::Put { key, metadata, checks } => {
                    side.client.put_stream(key, metadata, *checks, part.size_bytes(), body).await
                }
                Destination::File { .. } => unreachable!("files are written, not sent"),
            };
            stretches.end();
            sent
        },
        stretches.read_all(kit, attached)
    );
    if let Some(error) = stretches.source_error.take() {
        return Err(error);
    }
    let Uploaded { etag, crc64nvme } = sent.map_err(Error::target)?;
    let (crc64, md5) = stretches.hashes.take().expect("a body that was sent whole was hashed whole");
    let proof = match crc64nvme {
        Some(theirs) => {
            verify::same_crc(Crc64Nvme(crc64), theirs)?;
            Proof::Checksum
        }
        None => verify::same_etag(md5, etag.as_ref())?,
    };
    let acknowledged = Some(Acknowledged { etag, proof });
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64, md5: Some(md5), acknowledged })
}

/// The reading half of a part that is sent while it is read. Each try of the request starts it anew.
struct Stretches {
    /// Where the present try's slices go, and what it is to read.
    try_now: RefCell<Option<(mpsc::Sender<Bytes>, Range<u64>)>>,
    started: Notify,
    ended: Cell<bool>,
    source_error: RefCell<Option<Error>>,
    hashes: RefCell<Option<(u64, [u8; 16])>>,
}

impl Stretches {
    fn new() -> Stretches {
        Stretches {
            try_now: RefCell::default(),
            started: Notify::new(),
            ended: Cell::new(false),
            source_error: RefCell::default(),
            hashes: RefCell::default(),
        }
    }

    /// Begins a try: the returned body is fed by [`Stretches::read_all`].
    fn start(&self, kit: &Kit, attached: &Attached, part: &Part) -> Result<RequestBody, Failure> {
        if let Some(error) = &*self.source_error.borrow() {
            return Err(Failure::Request(format!("the source failed: {error}")));
        }
        debug_assert!(part.size_bytes() > kit.sizes.buffer_bytes && attached.large.size_bytes >= part.range.end);
        // One slice waits while another is sent, so a part takes two buffers at most.
        let (sender, slices) = mpsc::channel(1);
        *self.try_now.borrow_mut() = Some((sender, part.range.clone()));
        self.started.notify_one();
        Ok(RequestBody::Stream { slices, left_bytes: part.size_bytes() })
    }

    /// No further try will come.
    fn end(&self) {
        self.ended.set(true);
        self.started.notify_one();
    }

    /// Reads for one try after the other.
    async fn read_all(&self, kit: &Kit, attached: &Attached) {
        while !self.ended.get() {
            let try_now = self.try_now.borrow_mut().take();
            match try_now {
                None => self.started.notified().await,
                Some((slices, range)) => match self.read_once(kit, attached, range, &slices).await {
                    Ok(hashes) => *self.hashes.borrow_mut() = hashes,
                    Err(error) => *self.source_error.borrow_mut() = Some(error),
                },
            }
        }
    }

    /// Reads a part once. None if the request ended before it had taken everything.
    async fn read_once(
        &self,
        kit: &Kit,
        attached: &Attached,
        range: Range<u64>,
        slices: &mpsc::Sender<Bytes>,
    ) -> Result<Option<(u64, [u8; 16])>, Error> {
        let (mut crc, mut md5) = (Crc64::new(), Md5::new());
        for range in part::stretches(range, kit.sizes.buffer_bytes) {
            let buffer = tokio::select! {
                buffer = kit.arena.lease((range.end - range.start) as usize) => buffer,
                () = slices.closed() => return Ok(None),
            };
            let buffer = attached.source.read(kit, range.clone(), buffer).await?;
            crc.update(buffer.filled());
            md5.update(buffer.filled());
            if let Some(turnstile) = &attached.in_order {
                turnstile.pass(range, buffer.filled()).await;
            }
            if slices.send(buffer.freeze()).await.is_err() {
                return Ok(None);
            }
        }
        Ok(Some((crc.finish(), md5.finish())))
    }
}

/// Compares what was read with what the source said of it.
fn check(attached: &Attached, about: &About, parts: Vec<PartDone>) -> Result<(Vec<PartDone>, Proof), Error> {
    attached.source.check_unchanged()?;
    let carried: u64 = parts.iter().map(|part| part.size_bytes).sum();
    assert_eq!(carried, attached.large.size_bytes, "parts cover the object once");
    let whole_md5 = attached.in_order.as_ref().map(Turnstile::finish);
    let proof = about.expected.check_parts(&parts, whole_md5)?;
    Ok((parts, proof))
}

/// Makes the object appear at the target.
async fn finish(
    kit: &Kit,
    attached: &Attached,
    about: &About,
    unfinished: Unfinished,
    parts: &[PartDone],
) -> Result<Receipt, Error> {
    let size_bytes = attached.large.size_bytes;
    let crc = combined_crc(parts);
    let (proof, etag) = match (unfinished, &kit.target) {
        (Unfinished::File(partial), _) => {
            partial.publish(Some(about.modified_ns)).map_err(Error::writing("put in place"))?;
            (NOT_COMPARED, None)
        }
        (Unfinished::Upload { key, upload_id, token }, Side::Bucket(side)) => {
            let completed = complete(side, &key, &upload_id, &token, size_bytes, crc, parts);
            match kit.stop.or_abandon(completed).await {
                Ok(acknowledged) => (acknowledged.proof, acknowledged.etag),
                Err(error) => {
                    give_up(kit, Unfinished::Upload { key, upload_id, token }).await;
                    return Err(error);
                }
            }
        }
        _ => {
            let only = parts.first().and_then(|part| part.acknowledged.clone());
            only.map(|it| (it.proof, it.etag)).expect("a streamed object is one acknowledged part")
        }
    };
    Ok(Receipt { size_bytes, proof, crc64nvme: Some(crc.0), etag: etag.map(|etag| etag.to_string()) })
}

/// Completes an upload, and compares the object that it made with its parts.
async fn complete(
    side: &BucketSide,
    key: &Key,
    upload_id: &UploadId,
    token: &str,
    size_bytes: u64,
    crc: Crc64Nvme,
    parts: &[PartDone],
) -> Result<Acknowledged, Error> {
    let whole = (side.client.abilities().upload_proof() == UploadProof::Checksum).then_some(crc);
    let list: Result<Vec<CompletedPart>, Error> = parts.iter().map(|part| part.completed(whole.is_some())).collect();
    let list = list?;
    let Uploaded { etag, crc64nvme } = match side.client.complete_upload(key, upload_id, &list, whole, size_bytes).await
    {
        Ok(completed) => completed,
        Err(error) => reconcile(side, key, token, size_bytes, error).await?,
    };
    // Ceph's answer has an empty ETag; the object itself has one.
    let (etag, crc64nvme) = match (etag, crc64nvme) {
        (None, None) => {
            let head = side.client.head(key).await.map_err(Error::target)?;
            (head.etag, head.checksum_crc64nvme)
        }
        told => told,
    };
    let proof = match (crc64nvme, multipart_digest(&list), etag.as_ref().map(ETag::class)) {
        (Some(theirs), _, _) => {
            verify::same_crc(crc, theirs)?;
            Proof::Checksum
        }
        (None, Some(ours), Some(ETagClass::Multipart { digest, .. })) => {
            if ours != digest {
                let theirs = etag.map(|etag| etag.to_string()).unwrap_or_default();
                return Err(Error::Mismatch(format!("the object's ETag {theirs} is not that of the parts sent")));
            }
            Proof::ETag
        }
        // The object is the list of parts that was sent, and each of those was proven.
        _ => parts.iter().map(PartDone::proof).reduce(Proof::weaker).unwrap_or(NOT_COMPARED),
    };
    Ok(Acknowledged { etag, proof })
}

/// The answer to a completion was lost, or says that there is no such upload, as it does when an earlier try got through.
/// The object that stands there now is ours if it carries our token and has our length (reliability.md P07); it is never
/// assumed to be.
async fn reconcile(
    side: &BucketSide,
    key: &Key,
    token: &str,
    size_bytes: u64,
    error: client::Error,
) -> Result<Uploaded, Error> {
    let lost = error.code() == Some("NoSuchUpload") || !matches!(error.failure, Failure::Service(_));
    if !lost {
        return Err(Error::target(error));
    }
    match side.client.head(key).await {
        Ok(head) if metadata::token(&head.metadata) == Some(token) && head.size_bytes == size_bytes => {
            tracing::debug!(key = key.as_str(), "the answer to the completion was lost; the object is there");
            Ok(Uploaded { etag: head.etag, crc64nvme: head.checksum_crc64nvme })
        }
        _ => Err(Error::target(error)),
    }
}

/// Leaves nothing half-made behind: the temporary file goes with its handle, the upload is aborted.
async fn give_up(kit: &Kit, unfinished: Unfinished) {
    let (Unfinished::Upload { key, upload_id, .. }, Side::Bucket(side)) = (unfinished, &kit.target) else { return };
    let abort = side.client.abort_upload(&key, &upload_id);
    match tokio::time::timeout(ABORT_PATIENCE, abort).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, upload_id = upload_id.as_str(), "an open upload was left behind"),
        Err(_) => tracing::warn!(
            key = key.as_str(),
            upload_id = upload_id.as_str(),
            "an open upload was left behind: the service did not answer in time"
        ),
    }
}

/// The digest of the ETag that these parts must give.
fn multipart_digest(parts: &[CompletedPart]) -> Option<[u8; 16]> {
    let digests: Option<Vec<[u8; 16]>> = parts
        .iter()
        .map(|part| match part.etag.class() {
            ETagClass::Md5(digest) => Some(digest),
            ETagClass::Multipart { .. } | ETagClass::Opaque => None,
        })
        .collect();
    digests.map(|digests| verify::md5_of_md5s(digests.into_iter()))
}

impl PartDone {
    /// The part as the completion names it.
    fn completed(&self, with_checksum: bool) -> Result<CompletedPart, Error> {
        let etag = self.acknowledged.as_ref().and_then(|it| it.etag.clone());
        let etag = etag.ok_or_else(|| Error::Mismatch(format!("the service gave part {} no ETag", self.number)))?;
        let number = PartNumber::new(self.number).expect("an upload is cut into 10,000 parts at most");
        let checksum_crc64nvme = with_checksum.then_some(Crc64Nvme(self.crc64));
        Ok(CompletedPart { number, etag, checksum_crc64nvme })
    }

    fn proof(&self) -> Proof {
        self.acknowledged.as_ref().map_or(NOT_COMPARED, |it| it.proof)
    }
}

impl Opened {
    fn etag(&self) -> Option<&ETag> {
        match &self.content {
            Content::File { .. } => None,
            Content::Object { etag, .. } => etag.as_ref(),
        }
    }
}

/// Bytes pass it in order, whoever comes first, so that one MD5 can be taken of an object whose parts are read at once.
///
/// A part that waits here holds a buffer. That cannot lock up: parts get their slots and buffers in the order of their
/// numbers, so the one whose turn it is always has its own.
#[derive(Default)]
struct Turnstile {
    md5: RefCell<Md5>,
    next: Cell<u64>,
    moved: Notify,
}

impl Turnstile {
    async fn pass(&self, range: Range<u64>, content: &[u8]) {
        if range.end <= self.next.get() {
            // A second try of a part that has passed before.
            return;
        }
        while self.next.get() != range.start {
            self.moved.notified().await;
        }
        self.md5.borrow_mut().update(content);
        self.next.set(range.end);
        self.moved.notify_waiters();
    }

    fn finish(&self) -> [u8; 16] {
        self.md5.take().finish()
    }
}
