//! What an earlier run left of a large object: found in the journal, checked against what is there now, and used or removed.
//!
//! An upload is continued if the source is still the same and the service still has the upload. Of its parts those count that
//! the service lists with the ETag and CRC in the journal; one that it lists and the journal does not know, because the run
//! was killed between the answer and the entry, is compared with the source's bytes and sent only if it differs. A file is
//! continued if its parts, read again, have the CRCs in the journal. Whatever cannot be continued is aborted or removed
//! before the object is begun anew.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ropeway_io::hash::combine;
use ropeway_io::path::{Partial, key_to_relative};
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, ETagClass, Key, UploadId};
use ropeway_s3proto::op::ListedPart;

use super::large::{Attached, PartDone};
use super::part::{self, Part};
use super::side::{Acknowledged, BucketSide, Content, Opened, acknowledge};
use super::turnstile::Turnstile;
use super::verify::{ETags, Expected, ExpectedETag, Proof, Unproven, finished};
use super::{Error, Kit, Side};
use crate::client::{self, Failure, Uploaded};
use crate::entry::{Entry, SideName};
use crate::journal::{Journal, Saved, SavedPart, SavedPlace, SavedProof, SourceIdentity};

/// Whether a run leaves unfinished objects for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// It does, and continues those of the run before.
    #[default]
    Continue,
    /// It removes them, and those of the run before.
    Afresh,
}

/// What is known of a part before it is carried.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// The service has it, as the journal says; nothing is left to do.
    Proven(PartDone),
    /// The service has a part of this number; whether it is the right one, the source's bytes tell.
    Claimed { etag: ETag, crc64nvme: Option<Crc64Nvme> },
    /// The temporary file has it if its bytes have this CRC.
    Written { crc64: u64 },
}

/// An object that can be continued.
pub(super) struct Found {
    pub(super) ledger: Ledger,
    pub(super) part_bytes: u64,
    pub(super) parts: BTreeMap<u32, Known>,
    pub(super) place: FoundPlace,
}

/// Where it is.
pub(super) enum FoundPlace {
    Upload { upload_id: UploadId, token: String },
    File(Partial),
}

/// One object's page in the journal.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    journal: Journal,
    id: Option<i64>,
    /// Whether anything has been proven that would have to be done again.
    has_parts: Cell<bool>,
}

/// Looks for what an earlier run left of this object. `part_bytes` is the cut that is wanted now; a file may have another, unless
/// an ETag of parts is all that the source says of its content. An upload was opened with the attributes that its object will
/// have, so it is of use only if it bears the same `mark`.
pub(super) async fn find(
    kit: &Kit,
    entry: &Entry,
    source: &Opened,
    part_bytes: u64,
    expected: Expected,
    mark: &str,
) -> Result<Option<Found>, Error> {
    let Some(saved) = kit.journal.recall(&entry.key).await else { return Ok(None) };
    let wants_md5 = matches!(expected.in_parts_of(part_bytes).etag, ExpectedETag::Md5OfParts { .. });
    let fits = saved.part_bytes == part_bytes || saved.part_bytes > 0 && !(wants_md5 && expected.crc64.is_none());
    let same = saved.source == identity(source) && kit.resume == Resume::Continue;
    let found = match (&saved.place, &kit.target) {
        (SavedPlace::File { temporary }, Side::Local(side)) if same && fits => {
            let reopened = side.root.reopen_partial(temporary, &key_to_relative(&entry.key)?);
            // Its length is the object's, whatever became of it meanwhile.
            reopened.ok().filter(|partial| partial.set_len(source.size_bytes).is_ok()).map(FoundPlace::File)
        }
        (SavedPlace::Upload { token, upload_id: Some(id) }, Side::Bucket(_))
            if same
                && is_marked(token, mark)
                && saved.part_bytes == part_bytes
                && source.size_bytes >= kit.sizes.multipart_threshold_bytes =>
        {
            let upload_id = UploadId::parse(id).ok();
            upload_id.map(|upload_id| FoundPlace::Upload { upload_id, token: token.clone() })
        }
        _ => None,
    };
    let parts = match (&found, &kit.target) {
        (Some(FoundPlace::Upload { upload_id, .. }), Side::Bucket(side)) => {
            match side.client.list_parts(&side.key(&entry.key)?, upload_id).await {
                Ok(listed) => Some(join(&saved, &listed, source.size_bytes, wants_md5, kit.etags(side))),
                // Aborted by somebody, completed by the run that was killed, or not ours to look at.
                Err(error) if !time_may_heal(&error) => None,
                Err(error) => return Err(Error::target(error)),
            }
        }
        (Some(FoundPlace::File(_)), _) => {
            Some(saved.parts.iter().map(|part| (part.number, Known::Written { crc64: part.crc64 })).collect())
        }
        _ => None,
    };
    let Some((place, parts)) = found.zip(parts) else {
        forget(kit, &saved).await;
        return Ok(None);
    };
    if let Side::Bucket(side) = &kit.target {
        learn(side, &saved.parts);
    }
    tracing::debug!(key = %entry.key, parts = parts.len(), "continuing what an earlier run began");
    let has_parts = Cell::new(!parts.is_empty());
    let ledger = Ledger { journal: kit.journal.clone(), id: Some(saved.id), has_parts };
    Ok(Some(Found { ledger, part_bytes: saved.part_bytes, parts, place }))
}

/// Whether the token of an upload bears this mark, and no other.
fn is_marked(token: &str, mark: &str) -> bool {
    token.find('-').map_or("", |at| &token[at..]) == mark
}

/// Removes what an earlier run left and cannot be continued.
async fn forget(kit: &Kit, saved: &Saved) {
    match discard(&kit.target, saved).await {
        Ok(()) => kit.journal.forget(saved.id).await,
        Err(error) => kit.left_behind.borrow_mut().push((saved.key.clone(), left_behind(saved, &error.to_string()))),
    }
}

/// The sentence about what could not be removed.
pub fn left_behind(saved: &Saved, reason: &str) -> String {
    match &saved.place {
        SavedPlace::Upload { upload_id: Some(id), .. } => {
            format!("an open upload was left behind, abort it by its id `{id}` or with `ropeway cleanup`: {reason}")
        }
        SavedPlace::Upload { upload_id: None, .. } => {
            format!("an earlier run may have opened an upload, and it is not known whether it did: {reason}")
        }
        SavedPlace::File { temporary } => {
            format!("the temporary file `{}` of an earlier run cannot be removed: {reason}", temporary.display())
        }
    }
}

/// Aborts the upload, or removes the temporary file, of an unfinished object. No error if it is gone.
pub async fn discard(target: &Side, saved: &Saved) -> Result<(), Error> {
    match (&saved.place, target) {
        (SavedPlace::File { temporary }, Side::Local(side)) => match side.root.remove_partial(temporary) {
            Ok(()) => Ok(()),
            // Its directory is gone, or something else has its name: there is nothing of ours.
            Err(ropeway_io::path::PathError::Io(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::writing("remove")(error))
            }
            Err(_) => Ok(()),
        },
        (SavedPlace::Upload { upload_id: Some(id), .. }, Side::Bucket(side)) => {
            let Ok(upload_id) = UploadId::parse(id) else { return Ok(()) };
            abort(side, &side.key(&saved.key)?, &upload_id).await
        }
        (SavedPlace::Upload { upload_id: None, .. }, Side::Bucket(side)) => {
            abort_unheard_of(side, &side.key(&saved.key)?, saved.began_ms).await
        }
        // The journal is of another kind of target: not this job's.
        (SavedPlace::File { .. }, Side::Bucket(_)) | (SavedPlace::Upload { .. }, Side::Local(_)) => Ok(()),
    }
}

/// Aborts an upload. One that is not there any more, such as one that was completed and then not believed, needs nothing.
pub(super) async fn abort(side: &BucketSide, key: &Key, upload_id: &UploadId) -> Result<(), Error> {
    match side.client.abort_upload(key, upload_id).await {
        Err(error) if error.code() != Some("NoSuchUpload") => Err(Error::target(error)),
        _ => Ok(()),
    }
}

/// A run that was killed had asked for an upload of this key and not yet heard its name. The service may have opened it. It
/// is ours if it is of this very key, was opened after we asked, and nothing has been sent to it: nobody loses more by its
/// end than having to ask again.
async fn abort_unheard_of(side: &BucketSide, key: &Key, began_ms: i64) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = match side.client.list_uploads(key.as_str(), after.as_ref()).await {
            Ok(page) => page,
            Err(error) if time_may_heal(&error) => return Err(Error::target(error)),
            // It cannot be looked for here, now or later.
            Err(error) => {
                tracing::debug!(key = key.as_str(), %error, "open uploads cannot be listed");
                return Ok(());
            }
        };
        for upload in page.uploads.iter().filter(|upload| upload.key == key.as_str().as_bytes()) {
            let opened_ms = upload.initiated_ns.map_or(i64::MIN, |ns| ns / 1_000_000);
            if opened_ms < began_ms - CLOCKS_APART_MS {
                continue;
            }
            match side.client.list_parts(key, &upload.upload_id).await {
                Ok(parts) if parts.is_empty() => abort(side, key, &upload.upload_id).await?,
                Ok(_) => {}
                Err(error) if time_may_heal(&error) => return Err(Error::target(error)),
                Err(_) => {}
            }
        }
        match page.next {
            // All uploads of the key stand together, before those of longer keys.
            Some(next) if next.0 == key.as_str() && after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(()),
        }
    }
}

/// S3 refuses requests whose time differs by more than a quarter of an hour, so a service's clock is no further from ours.
const CLOCKS_APART_MS: i64 = 15 * 60 * 1_000;

/// Whether the same may succeed at another time, so that what is unfinished is worth keeping.
fn time_may_heal(error: &client::Error) -> bool {
    match error.class() {
        Class::Retry | Class::Throttle | Class::Auth | Class::ClockSkew => true,
        Class::Denied | Class::Absent | Class::Conflict | Class::WrongRegion | Class::Unsupported | Class::Fatal => {
            false
        }
    }
}

/// How uploads to this service were proven by the run before, if this one has not seen it yet: the whole object's checksum is
/// sent with the completion only where the service is known to heed it.
fn learn(side: &BucketSide, parts: &[SavedPart]) {
    let abilities = side.client.abilities();
    if abilities.upload_proof() == client::UploadProof::Unknown
        && let Some(part) = parts.first()
    {
        match part.proof {
            SavedProof::Checksum | SavedProof::ChecksumAndETag => abilities.learn_checksum_echo(true),
            SavedProof::ETag | SavedProof::None | SavedProof::TurnedOff => abilities.learn_checksum_echo(false),
        }
    }
}

/// What the service lists, with what the journal knows of it.
fn join(
    saved: &Saved,
    listed: &[ListedPart],
    size_bytes: u64,
    wants_md5: bool,
    etags: ETags<'_>,
) -> BTreeMap<u32, Known> {
    let total = part::count(size_bytes, saved.part_bytes);
    let journal: BTreeMap<u32, &SavedPart> = saved.parts.iter().map(|part| (part.number, part)).collect();
    let known = listed.iter().filter_map(|there| {
        let number = there.number.number();
        let wanted = part::nth(size_bytes, saved.part_bytes, u64::from(number) - 1);
        if u64::from(number) > total || there.size != wanted.size_bytes() {
            return None;
        }
        let ours = journal.get(&number).and_then(|part| proven(part, there, wants_md5, etags));
        let claimed = || Known::Claimed { etag: there.etag.clone(), crc64nvme: there.checksum_crc64nvme };
        Some((number, ours.map_or_else(claimed, Known::Proven)))
    });
    known.collect()
}

/// A part that the journal and the service agree on. None if something is to be compared that was not then: the source's ETag
/// with the part's MD5, or the part's own.
fn proven(part: &SavedPart, there: &ListedPart, wants_md5: bool, etags: ETags<'_>) -> Option<PartDone> {
    let same = part.etag.as_deref() == Some(there.etag.to_string().as_str())
        && part.size_bytes == there.size
        && there.checksum_crc64nvme.is_none_or(|crc| crc.0 == part.crc64)
        && (part.md5.is_some() || !wants_md5);
    let proof = match part.proof {
        SavedProof::Checksum => Proof::Checksum,
        SavedProof::ETag => Proof::ETag,
        SavedProof::ChecksumAndETag => Proof::ChecksumAndETag,
        SavedProof::None => Proof::None(Unproven::NoChecksum),
        SavedProof::TurnedOff if etags.want_md5() => return None,
        SavedProof::TurnedOff => Proof::None(Unproven::TurnedOff),
    };
    same.then(|| PartDone {
        number: part.number,
        size_bytes: part.size_bytes,
        crc64: part.crc64,
        md5: part.md5,
        acknowledged: Some(Acknowledged { etag: Some(there.etag.clone()), proof }),
    })
}

/// A part that need not be carried, because an earlier run brought it. None if it has to be.
pub(super) async fn recall_part(kit: &Rc<Kit>, attached: &Attached, part: &Part) -> Result<Option<PartDone>, Error> {
    let turnstile = attached.in_order.as_ref();
    let (number, size_bytes) = (part.number, part.size_bytes());
    let md5_wanted = attached.large.part_md5;
    let done = match attached.large.known.get(&number) {
        None => return Ok(None),
        Some(Known::Proven(done)) if turnstile.is_none() => Some(done.clone()),
        Some(Known::Proven(done)) => {
            let (crc64, _) = hash(kit, attached, part, SideName::Source, turnstile, false).await?;
            (crc64 == done.crc64).then(|| done.clone())
        }
        Some(Known::Claimed { etag, crc64nvme }) => {
            let Side::Bucket(side) = &kit.target else { unreachable!("uploads have a bucket for a target") };
            let (crc64, md5) = hash(kit, attached, part, SideName::Source, turnstile, true).await?;
            let acknowledged = recognize(kit.etags(side), etag, *crc64nvme, Crc64Nvme(crc64), md5);
            let md5 = md5.filter(|_| md5_wanted);
            acknowledged.map(|it| PartDone { number, size_bytes, crc64, md5, acknowledged: Some(it) })
        }
        Some(Known::Written { crc64: written }) => {
            let (crc64, md5) = hash(kit, attached, part, SideName::Target, None, md5_wanted).await?;
            if crc64 == *written && turnstile.is_some() {
                hash(kit, attached, part, SideName::Target, turnstile, false).await?;
            }
            (crc64 == *written).then_some(PartDone { number, size_bytes, crc64, md5, acknowledged: None })
        }
    };
    if let Some(done) = &done {
        kit.resumed_bytes.set(kit.resumed_bytes.get() + done.size_bytes);
    }
    Ok(done)
}

/// What the service says of a part, if that shows it to be one of these bytes: its CRC64NVME, or an ETag that is their MD5.
/// ETags that are not to be compared prove nothing, and yet one that is equal tells what the part holds.
fn recognize(
    etags: ETags<'_>,
    etag: &ETag,
    theirs: Option<Crc64Nvme>,
    ours: Crc64Nvme,
    md5: Option<[u8; 16]>,
) -> Option<Acknowledged> {
    if theirs.is_some_and(|theirs| theirs != ours) {
        return None;
    }
    let answer = Uploaded { etag: Some(etag.clone()), etag_is_md5: true, crc64nvme: theirs };
    let acknowledged = acknowledge(etags, md5, answer).ok()?;
    let is_md5 = matches!((etag.class(), md5), (ETagClass::Md5(theirs), Some(ours)) if theirs == ours);
    (theirs.is_some() || is_md5).then_some(acknowledged)
}

/// The CRC64NVME of a part's bytes, and their MD5 if it is wanted. If there is a turnstile, they pass it. A file that ends
/// within the part has neither right.
async fn hash(
    kit: &Kit,
    attached: &Attached,
    part: &Part,
    from: SideName,
    turnstile: Option<&Turnstile>,
    with_md5: bool,
) -> Result<(u64, Option<[u8; 16]>), Error> {
    let (mut crc64, mut md5) = (0, with_md5.then(|| kit.lanes.lane()));
    for range in part::stretches(part.range.clone(), kit.sizes.buffer_bytes) {
        let wanted = (range.end - range.start) as usize;
        let buffer = kit.arena.lease(wanted).await;
        let (content, crc) = match (from, &attached.file) {
            (SideName::Target, Some(file)) => {
                let (read, buffer) = kit.files.read_summed_at(file, buffer, wanted, range.start).await;
                (buffer.freeze(), read.map_err(Error::writing("read"))?.1)
            }
            (SideName::Source | SideName::Target, _) => {
                let read = attached.source.read(kit, range.clone(), buffer, false).await?;
                let crc = read.crc.0;
                (read.freeze().content, crc)
            }
        };
        crc64 = combine(crc64, crc, content.len() as u64);
        if let Some(lane) = &mut md5 {
            lane.push(content.clone());
        }
        if let Some(turnstile) = turnstile {
            turnstile.pass(range, content).await;
        }
        if let Some(lane) = &mut md5 {
            // The next stretch may be waiting for this one's buffer.
            lane.drained().await;
        }
    }
    Ok((crc64, finished(md5).await))
}

impl Ledger {
    /// Opens a page for an object that is being begun.
    pub(super) async fn begin(kit: &Kit, key: &str, source: &Opened, part_bytes: u64, place: SavedPlace) -> Ledger {
        let id = kit.journal.begin(key, identity(source), part_bytes, place).await;
        Ledger { journal: kit.journal.clone(), id, has_parts: Cell::new(false) }
    }

    /// The service has given the upload its name.
    pub(super) async fn opened(&self, upload_id: &UploadId) {
        if let Some(id) = self.id {
            self.journal.opened(id, upload_id.as_str()).await;
        }
    }

    /// The upload was not opened. Where it may have been all the same, the next run looks for it.
    pub(super) async fn refused(&self, error: &Error) {
        let clearly = match error {
            Error::Client(_, error) => {
                error.attempts <= 1 && matches!(&error.failure, Failure::Service(answer) if !answer.is_ambiguous())
            }
            _ => false,
        };
        if clearly {
            self.forget().await;
        }
    }

    /// Writes down parts that have arrived.
    pub(super) async fn parts(&self, parts: &[PartDone]) {
        let Some(id) = self.id else { return };
        for part in parts {
            self.has_parts.set(true);
            self.journal.part(id, part.saved()).await;
        }
    }

    /// Whether an object that has failed so is left for the next run to continue.
    pub(super) fn keeps(&self, kit: &Kit, error: &Error) -> bool {
        let may_heal = match error {
            Error::Stopped => true,
            Error::Client(_, error) => time_may_heal(error),
            _ => false,
        };
        may_heal && self.id.is_some() && self.has_parts.get() && kit.resume == Resume::Continue
    }

    /// Nothing is left of the object but what is at its place.
    pub(super) async fn forget(&self) {
        if let Some(id) = self.id {
            self.journal.forget(id).await;
        }
    }
}

impl PartDone {
    fn saved(&self) -> SavedPart {
        let (etag, proof) = match &self.acknowledged {
            Some(Acknowledged { etag, proof }) => (etag.as_ref().map(ETag::to_string), *proof),
            None => (None, Proof::None(Unproven::Local)),
        };
        SavedPart {
            number: self.number,
            size_bytes: self.size_bytes,
            crc64: self.crc64,
            md5: self.md5,
            etag,
            proof: match proof {
                Proof::Checksum => SavedProof::Checksum,
                Proof::ETag => SavedProof::ETag,
                Proof::ChecksumAndETag => SavedProof::ChecksumAndETag,
                Proof::None(Unproven::TurnedOff) => SavedProof::TurnedOff,
                Proof::None(Unproven::Local | Unproven::NoChecksum | Unproven::PartSizeUnknown) => SavedProof::None,
            },
        }
    }
}

const SECOND_NS: i64 = 1_000_000_000;

fn identity(source: &Opened) -> SourceIdentity {
    let size_bytes = source.size_bytes;
    match &source.content {
        Content::File { facts, .. } => {
            SourceIdentity { size_bytes, modified_ns: source.modified_ns, inode: facts.inode, etag: None }
        }
        Content::Object { etag, .. } => {
            let modified_ns = source.modified_ns.div_euclid(SECOND_NS) * SECOND_NS;
            SourceIdentity { size_bytes, modified_ns, inode: 0, etag: etag.as_ref().map(ETag::to_string) }
        }
    }
}
