//! A large object: cut into parts that every core may carry, put together at the target only when all are proven. What an
//! earlier run left of it is continued ([`super::resume`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use ropeway_io::file::File;
use ropeway_io::path::{Partial, key_to_relative};
use ropeway_s3proto::checksum::{Algorithm, Checksum, Crc64Nvme, Md5Digest, StoredChecksum};
use ropeway_s3proto::name::{ETag, Key, UploadId};
use ropeway_s3proto::op::ObjectMetadata;

use super::board::{PartsJob, PartsReturned};
use super::carry::{carry_part, read_ahead};
use super::error::MAKE_ROOM;
use super::multipart::{Whole, complete, create_upload};
use super::part::{self, Cut};
use super::parts_of::{PartsOf, parts_of, stored_parts_of};
use super::resume::{self, Found, FoundPlace, Known, Ledger};
use super::side::{Acknowledged, BucketSide, Content, NOT_COMPARED, Opened};
use super::small::{FILE_MODE, proven};
use super::tags::keep_tags;
use super::turnstile::Turnstile;
use super::verify::{self, ETags, Expected, ExpectedETag, Proof, Taken, Unproven, Wanted, combined_crc};
use super::{Ending, Error, Kit, Lacks, Receipt, Side, Version, Way, metadata};
use crate::client::{Checks, TagsGivenTo, UploadProof};
use crate::entry::{Action, Entry};
use crate::journal::SavedPlace;

/// A large object under way: all that a shard needs to know to carry some of its parts.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) id: u64,
    owner: usize,
    entry: Entry,
    pub(super) size_bytes: u64,
    pub(super) cut: Cut,
    /// Which file is read, by device and number, if it is one: its name may come to mean another.
    source_identity: Option<(u64, u64)>,
    /// The hashes of each part with which alone what the source says can be compared.
    pub(super) wanted: Wanted,
    /// Whether the parts are read here, or copied by the target's service.
    pub(super) way: Way,
    pub(super) target: Destination,
    /// Parts that an earlier run brought, by their numbers.
    pub(super) known: BTreeMap<u32, Known>,
}

/// Where parts go.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// Into a file that has its name only when it is whole.
    File { temporary: PathBuf },
    /// Into a multipart upload.
    Upload { key: Key, upload_id: UploadId },
    /// The whole object in one request, streamed: it is below the multipart threshold and larger than a buffer, or it is to be
    /// in one piece because its source is. `existing` is the ETag of what it replaces.
    Put { key: Key, metadata: Box<ObjectMetadata>, checks: Checks, existing: Option<ETag> },
}

/// One part that has arrived.
#[derive(Debug, Clone)]
pub struct PartDone {
    pub(super) number: u32,
    pub(super) size_bytes: u64,
    pub(super) crc64: u64,
    pub(super) md5: Option<[u8; 16]>,
    /// The checksum with which the source's is compared, if that is another than CRC64NVME.
    pub(super) sum: Option<Checksum>,
    /// What the target made of it, where the target is a bucket.
    pub(super) acknowledged: Option<Acknowledged>,
}

/// A large object with this shard's own hold on its two ends.
pub(super) struct Attached {
    pub(super) large: Arc<Large>,
    pub(super) source: Opened,
    pub(super) file: Option<File>,
    pub(super) in_order: Option<Turnstile>,
    /// The owner's; others tell him what they have done.
    pub(super) ledger: Ledger,
}

/// The target's half-made object, as its owner holds it.
enum Unfinished {
    File(Partial),
    Upload { key: Key, upload_id: UploadId, token: String },
    Put,
}

/// What is known of the source before its parts are read.
pub(super) struct About {
    pub(super) expected: Expected,
    /// The cut that is to be kept.
    keeps: Option<Kept>,
    pub(super) has_checksum: bool,
    pub(super) metadata: ObjectMetadata,
    modified_ns: i64,
}

/// How the source was uploaded, where that is to be kept.
enum Kept {
    Whole,
    Parts(Cut),
}

/// How long an abort of an upload may take when the run is ending anyway.
const ABORT_PATIENCE: Duration = Duration::from_secs(3);

/// Moves one object in parts. `sure` believes nothing of its parts that the service does not say.
pub(super) async fn transfer(
    kit: &Rc<Kit>,
    action: &Action,
    mut source: Opened,
    way: Way,
    sure: bool,
) -> Result<Receipt, Error> {
    let mut about = kit.stop.or_abandon(examine(kit, &action.entry, &mut source, sure)).await?;
    let (attached, unfinished) = kit.stop.or_abandon(begin(kit, action, source, &mut about, way)).await?;
    let checked = async { check(kit, &attached, &about, carry(kit, &attached).await?).await };
    match checked.await {
        Ok((parts, read)) => {
            let receipt = finish(kit, action, &attached, &about, unfinished, &parts).await?;
            attached.ledger.forget().await;
            match way {
                Way::Streamed => Ok(Receipt { proof: proven(kit, read, receipt.proof), ..receipt }),
                // Nothing was read here; what the two services say of their objects was compared.
                Way::Copied => Ok(receipt),
            }
        }
        Err(error) => {
            leave(kit, &attached.ledger, unfinished, &error).await;
            Err(error)
        }
    }
}

/// Asks the source what its content should hash to, and how it was cut.
pub(super) async fn examine(kit: &Kit, entry: &Entry, source: &mut Opened, sure: bool) -> Result<About, Error> {
    match (&mut source.content, &kit.source) {
        (Content::File { .. }, _) => Ok(About {
            expected: Expected::nothing(Unproven::Local),
            keeps: None,
            has_checksum: true,
            metadata: metadata::of_file(kit, &entry.key, source.modified_ns),
            modified_ns: source.modified_ns,
        }),
        (Content::Object { key, version, etag }, Side::Bucket(side)) => {
            let mut head = side.client.head_version(key, version.as_ref()).await.map_err(Error::source)?;
            if head.size_bytes != source.size_bytes {
                return Err(Error::Changed(format!(
                    "it had {} bytes and now has {}",
                    source.size_bytes, head.size_bytes
                )));
            }
            let keep = kit.integrity.keep_parts;
            let parts = match sure || keep || kit.integrity.needs_parts(&head) {
                true => parts_of(side, (key, version.as_ref()), &head, sure || keep).await.map_err(Error::source)?,
                false => stored_parts_of(&head),
            };
            let expected = Expected::of(&head, parts.cut(), kit.etags(side), kit.integrity.of_parts);
            let has_checksum = head.checksum.is_some();
            let keeps = match (keep, parts) {
                (false, _) => None,
                (true, PartsOf::Whole) => Some(Kept::Whole),
                (true, PartsOf::Cut(cut)) => Some(Kept::Parts(cut)),
                (true, PartsOf::Untold) => {
                    return Err(Error::Parts("the service does not tell their sizes".to_owned()));
                }
                (true, PartsOf::Contradictory(how)) => return Err(Error::Parts(how)),
            };
            let modified_ns = metadata::modified_ns(&head.metadata, head.last_modified_ns, source.modified_ns);
            let written_ns = head.last_modified_ns.unwrap_or(source.modified_ns);
            let metadata = metadata::of_object(kit, side, (key, version.as_ref()), &mut head, written_ns).await?;
            *etag = head.etag;
            Ok(About { expected, keeps, has_checksum, metadata, modified_ns })
        }
        (Content::Object { .. }, Side::Local(_)) => unreachable!("an object is opened by a bucket's side"),
    }
}

/// Decides the cut and makes a place at the target.
async fn begin(
    kit: &Rc<Kit>,
    action: &Action,
    source: Opened,
    about: &mut About,
    way: Way,
) -> Result<(Attached, Unfinished), Error> {
    let (entry, mark) = (&action.entry, kit.upload_mark(way));
    let size_bytes = source.size_bytes;
    let cut = cut(kit, size_bytes, about).ok_or(Error::TooLarge(size_bytes))?;
    let in_one_piece = match (&about.keeps, &kit.target) {
        (_, Side::Local(_)) => false,
        _ if way == Way::Copied => false,
        (Some(Kept::Whole), _) => size_bytes <= part::PART_BYTES_MAX,
        (Some(Kept::Parts(_)), _) => false,
        (None, _) => size_bytes < kit.sizes.multipart_threshold_bytes,
    };
    // Of parts that the service copies, nothing is hashed here.
    let hashed = match way {
        Way::Streamed => about.expected.clone(),
        Way::Copied => Expected::nothing(Unproven::NoChecksum),
    };
    let found = resume::find(kit, entry, &source, &cut, in_one_piece, &hashed, &mark).await?;
    let (target, file, unfinished, cut, known, ledger) = match (found, &kit.target) {
        (Some(Found { ledger, part_bytes, parts, place }), target) => {
            let (target, file, unfinished) = take_up(kit, entry, target, place, size_bytes).await?;
            (target, file, unfinished, Cut::Equal(part_bytes), parts, ledger)
        }
        (None, Side::Local(side)) => {
            let partial = side.root.create_partial(&key_to_relative(&entry.key)?, FILE_MODE)?;
            kit.files.allocate(partial.file(), size_bytes).await.map_err(Error::writing(MAKE_ROOM))?;
            let place = SavedPlace::File { temporary: partial.temp_path().to_owned() };
            let ledger = Ledger::begin(kit, &entry.key, &source, &cut, place).await;
            let (target, file) = of_partial(&partial);
            (target, file, Unfinished::File(partial), cut, BTreeMap::new(), ledger)
        }
        (None, Side::Bucket(side)) => {
            let key = side.key(&entry.key)?;
            let (target, unfinished, ledger) = if in_one_piece {
                let checks = checks_in_advance(kit, side, &source, &about.expected).await?;
                let (metadata, existing) = (Box::new(about.metadata.clone()), action.existing_etag().cloned());
                (Destination::Put { key, metadata, checks, existing }, Unfinished::Put, Ledger::default())
            } else if !cut.is_uploadable(size_bytes) {
                let how = "it has parts that S3 takes only as the last of an upload, or not at all";
                return Err(Error::Parts(how.to_owned()));
            } else {
                let token = format!("{:016x}{:016x}{mark}", fastrand::u64(..), fastrand::u64(..));
                let place = SavedPlace::Upload { token: token.clone(), upload_id: None };
                let ledger = Ledger::begin(kit, &entry.key, &source, &cut, place).await;
                let upload_id = match create_upload(kit, side, &key, &about.metadata, &token, &cut).await {
                    Ok(upload_id) => upload_id,
                    Err(error) => {
                        ledger.refused(&error).await;
                        return Err(error);
                    }
                };
                ledger.opened(&upload_id).await;
                let target = Destination::Upload { key: key.clone(), upload_id: upload_id.clone() };
                (target, Unfinished::Upload { key, upload_id, token }, ledger)
            };
            (target, None, unfinished, cut, BTreeMap::new(), ledger)
        }
    };
    let cut = if in_one_piece { Cut::Equal(size_bytes.max(1)) } else { cut };
    about.expected =
        std::mem::replace(&mut about.expected, Expected::nothing(Unproven::NoChecksum)).in_parts_of(&cut, size_bytes);
    let hashed = hashed.in_parts_of(&cut, size_bytes);
    let large = Large {
        id: kit.board.new_id(),
        owner: kit.shard,
        entry: Entry { size_bytes, etag: source.etag().cloned(), modified_ns: source.modified_ns, ..entry.clone() },
        size_bytes,
        cut,
        source_identity: source.identity(),
        way,
        wanted: hashed.wanted_of_parts(),
        target,
        known,
    };
    let in_order = Turnstile::new(&kit.lanes, hashed.wanted_in_order());
    Ok((Attached { large: Arc::new(large), source, file, in_order, ledger }, unfinished))
}

/// Takes hold of what an earlier run left at the target.
async fn take_up(
    kit: &Kit,
    entry: &Entry,
    target: &Side,
    place: FoundPlace,
    size_bytes: u64,
) -> Result<(Destination, Option<File>, Unfinished), Error> {
    match (place, target) {
        (FoundPlace::File(partial), _) => {
            kit.files.allocate(partial.file(), size_bytes).await.map_err(Error::writing(MAKE_ROOM))?;
            let (target, file) = of_partial(&partial);
            Ok((target, file, Unfinished::File(partial)))
        }
        (FoundPlace::Upload { upload_id, token }, Side::Bucket(side)) => {
            let key = side.key(&entry.key)?;
            let target = Destination::Upload { key: key.clone(), upload_id: upload_id.clone() };
            Ok((target, None, Unfinished::Upload { key, upload_id, token }))
        }
        (FoundPlace::Upload { .. }, Side::Local(_)) => unreachable!("an upload is found for a bucket"),
    }
}

fn of_partial(partial: &Partial) -> (Destination, Option<File>) {
    (Destination::File { temporary: partial.temp_path().to_owned() }, Some(partial.file().clone()))
}

/// The cut: the source's own where that is to be kept, or where only in that it can be compared, else parts of the size that
/// the target wants. Downloads may be cut at will and take a buffer's length, or more where 10,000 of those do not suffice,
/// which keeps the account of an object's parts small.
fn cut(kit: &Kit, size_bytes: u64, about: &About) -> Option<Cut> {
    let (wished, takes): (_, fn(&Cut, u64) -> bool) = match &kit.target {
        Side::Local(_) => (kit.sizes.buffer_bytes, |_, _| true),
        Side::Bucket(_) => (kit.sizes.part_bytes, Cut::is_uploadable),
    };
    if let Some(Kept::Parts(theirs)) = &about.keeps {
        return Some(theirs.clone());
    }
    match about.expected.needed_cut() {
        Some(theirs) if takes(theirs, size_bytes) => Some(theirs.clone()),
        _ => part::upload_part_bytes(size_bytes, wished).map(Cut::Equal),
    }
}

/// What can be said of a streamed object's content before it is sent, so that the service refuses a wrong one instead of
/// replacing the old object with it. A file is read once for this and once more to be sent; so is an object for whose copy the
/// person wished a checksum that the source does not have.
async fn checks_in_advance(
    kit: &Kit,
    side: &BucketSide,
    source: &Opened,
    expected: &Expected,
) -> Result<Checks, Error> {
    // Until it is known which of the two the service heeds, it is given both.
    let known = side.client.abilities().upload_proof();
    let algorithm = kit.integrity.algorithm();
    let use_sum = known != UploadProof::Md5;
    let use_md5 = known != UploadProof::Checksum && kit.integrity.content_md5;
    let given = expected.of_bytes().filter(|checksum| use_sum && checksum.algorithm() == algorithm);
    let is_file = matches!(source.content, Content::File { .. });
    if !use_sum && !use_md5 {
        return Ok(Checks::default());
    }
    if is_file || use_sum && given.is_none() && kit.integrity.upload_with.is_some() {
        let sum = Some(algorithm).filter(|algorithm| use_sum && *algorithm != Algorithm::Crc64Nvme);
        let ahead = read_ahead(kit, source, 0..source.size_bytes, Wanted { md5: use_md5, sum }).await?;
        let checksum = ahead.sum.or((use_sum && sum.is_none()).then_some(Crc64Nvme(ahead.crc64).into()));
        return Ok(Checks { checksum, content_md5: ahead.md5.map(Md5Digest) });
    }
    let content_md5 = match (given, &expected.etag) {
        (None, ExpectedETag::Md5(md5)) if kit.integrity.content_md5 => Some(Md5Digest(*md5)),
        _ => None,
    };
    Ok(Checks { checksum: given, content_md5 })
}

/// Carries all parts, here and on shards that have time, and returns them in order.
async fn carry(kit: &Rc<Kit>, attached: &Attached) -> Result<Vec<PartDone>, Error> {
    let stays = attached.in_order.is_some() || matches!(attached.large.target, Destination::Put { .. });
    let (offer, mut returned) = kit.board.post(attached.large.clone(), stays);
    let total = offer.posted.total() as usize;
    let mut done: Vec<PartDone> = Vec::with_capacity(total);
    let mut here = FuturesUnordered::new();
    // Parts that must pass the turnstile and need several buffers each would wait for each other's.
    let one_by_one = attached.in_order.is_some()
        && attached.large.cut.largest_bytes(attached.large.size_bytes) > kit.sizes.buffer_bytes;
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
            Some(part) = here.next(), if !here.is_empty() => {
                let part = part?;
                attached.ledger.parts(std::slice::from_ref(&part)).await;
                done.push(part);
            }
            Some(parts) = returned.recv() => {
                let parts = parts?;
                attached.ledger.parts(&parts).await;
                done.extend(parts);
            }
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
            if source.identity() != large.source_identity
                || (source.size_bytes, source.modified_ns) != (large.size_bytes, large.entry.modified_ns)
            {
                return Err(Error::Changed("another shard found other content under its name".into()));
            }
            source
        }
        Side::Bucket(side) => Opened {
            size_bytes: large.size_bytes,
            modified_ns: large.entry.modified_ns,
            content: Content::Object {
                key: side.key(&large.entry.key)?,
                version: large.entry.version.clone(),
                etag: large.entry.etag.clone(),
            },
        },
    };
    let file = match (&large.target, &kit.target) {
        (Destination::File { temporary }, Side::Local(side)) => Some(side.root.open_partial(temporary)?),
        _ => None,
    };
    Ok(Attached { large, source, file, in_order: None, ledger: Ledger::default() })
}

/// Compares what was read with what the source said of it.
async fn check(
    kit: &Kit,
    attached: &Attached,
    about: &About,
    parts: Vec<PartDone>,
) -> Result<(Vec<PartDone>, Proof), Error> {
    attached.source.check_unchanged()?;
    if attached.large.way == Way::Copied {
        let original = about.expected.of_bytes().filter(|checksum| checksum.crc64nvme().is_some());
        if let (Some(original), Some(copy)) = (original, crc_of_copies(&parts)) {
            verify::same_checksum(StoredChecksum::of_bytes(original), StoredChecksum::of_bytes(copy.into()))?;
        }
        return Ok((parts, NOT_COMPARED));
    }
    let carried: u64 = parts.iter().map(|part| part.size_bytes).sum();
    assert_eq!(carried, attached.large.size_bytes, "parts cover the object once");
    let whole = match &attached.in_order {
        Some(turnstile) => turnstile.finish().await,
        None => Taken::default(),
    };
    let etags = match &kit.source {
        Side::Local(_) => ETags::Ignored,
        Side::Bucket(side) => kit.etags(side),
    };
    let proof = about.expected.check_parts(&parts, whole, etags)?;
    Ok((parts, proof))
}

/// The sum of a content that was copied in parts: the service alone knows theirs, and not every service tells.
fn crc_of_copies(parts: &[PartDone]) -> Option<Crc64Nvme> {
    parts.iter().all(PartDone::has_service_crc).then(|| combined_crc(parts))
}

/// Makes the object appear at the target.
async fn finish(
    kit: &Kit,
    action: &Action,
    attached: &Attached,
    about: &About,
    unfinished: Unfinished,
    parts: &[PartDone],
) -> Result<Receipt, Error> {
    let size_bytes = attached.large.size_bytes;
    let crc = match attached.large.way {
        Way::Streamed => Some(combined_crc(parts)),
        Way::Copied => crc_of_copies(parts),
    };
    let (proof, etag, kept) = match (unfinished, &kit.target) {
        (Unfinished::File(partial), _) => {
            partial.publish(Some(about.modified_ns)).map_err(Error::publishing)?;
            (NOT_COMPARED, None, true)
        }
        (Unfinished::Upload { key, upload_id, token }, Side::Bucket(side)) => {
            let whole = Whole { key: &key, upload_id: &upload_id, token: &token, crc, parts };
            let completed = complete(kit, side, whole, kit.condition(action.existing_etag()));
            let judged = async {
                let (answer, acknowledged) = completed.await?;
                keep_tags(side, &key, &about.metadata, TagsGivenTo::Upload).await?;
                let proof = match attached.large.way {
                    Way::Streamed => acknowledged.proof,
                    Way::Copied => about.expected.check_copy(&answer, kit.etags(side))?,
                };
                Ok((proof, acknowledged.etag, acknowledged.checksum.is_some()))
            };
            match kit.stop.or_abandon(judged).await {
                Ok(judged) => judged,
                Err(error) => {
                    leave(kit, &attached.ledger, Unfinished::Upload { key, upload_id, token }, &error).await;
                    return Err(error);
                }
            }
        }
        _ => {
            let only = parts.first().and_then(|part| part.acknowledged.clone());
            only.map(|it| (it.proof, it.etag, it.checksum.is_some()))
                .expect("a streamed object is one acknowledged part")
        }
    };
    let version = Version { modified_ns: attached.large.entry.modified_ns, etag: attached.large.entry.etag.clone() };
    let (crc64nvme, etag) = (crc.map(|crc| crc.0), etag.map(|etag| etag.to_string()));
    let lacks = Lacks::of(kit, about.has_checksum, kept);
    Ok(Receipt { size_bytes, proof, crc64nvme, etag, version, lacks })
}

/// An object that was not finished is kept for the next run, if that can continue it. Else nothing half-made is left behind: the
/// temporary file goes with its handle, the upload is aborted.
async fn leave(kit: &Kit, ledger: &Ledger, unfinished: Unfinished, error: &Error) {
    if ledger.keeps(kit, error) {
        kit.kept_objects.set(kit.kept_objects.get() + 1);
        if let Unfinished::File(partial) = unfinished {
            partial.keep();
        }
        return;
    }
    let (Unfinished::Upload { key, upload_id, .. }, Side::Bucket(side)) = (unfinished, &kit.target) else {
        return ledger.forget().await;
    };
    match tokio::time::timeout(ABORT_PATIENCE, resume::abort_for_good(side, &key, &upload_id)).await {
        Ok(Ok(())) => ledger.forget().await,
        Ok(Err(error)) => kit.leave_behind(&key, &upload_id, &error.to_string()),
        Err(_) => kit.leave_behind(&key, &upload_id, "the service did not answer in time"),
    }
}

impl Opened {
    fn identity(&self) -> Option<(u64, u64)> {
        match &self.content {
            Content::File { facts, .. } => Some((facts.device, facts.inode)),
            Content::Object { .. } => None,
        }
    }

    pub(super) fn etag(&self) -> Option<&ETag> {
        match &self.content {
            Content::File { .. } => None,
            Content::Object { etag, .. } => etag.as_ref(),
        }
    }
}
