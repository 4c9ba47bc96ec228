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
use std::time::Duration;

use ropeway_io::path::{Partial, key_to_relative};
use ropeway_s3proto::checksum::{Algorithm, Checksum, Crc64Nvme, StoredChecksum};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, ETagClass, Key, UploadId};
use ropeway_s3proto::op::ListedPart;

use super::carry::{Hashes, PartHashes};
use super::large::{Attached, PartDone};
use super::part::{self, Cut, Part};
use super::side::{Acknowledged, BucketSide, Content, Opened, acknowledge};
use super::turnstile::Turnstile;
use super::verify::{ETags, Expected, Proof, Unproven, Wanted};
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
    Claimed { etag: ETag, checksum: Option<Checksum> },
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

/// Looks for what an earlier run left of this object. `cut` is the one that is wanted now; a file may have another, unless what
/// the source says of its content covers such parts alone. An upload was opened with the attributes that its object will have,
/// so it is of use only if it bears the same `mark`. An object that goes in one piece is never continued.
pub(super) async fn find(
    kit: &Kit,
    entry: &Entry,
    source: &Opened,
    cut: &Cut,
    in_one_piece: bool,
    expected: &Expected,
    mark: &str,
) -> Result<Option<Found>, Error> {
    let Some(saved) = kit.journal.recall(&entry.key).await else { return Ok(None) };
    let wanted = expected.clone().in_parts_of(cut, source.size_bytes).wanted_of_parts();
    let same_cut = *cut == Cut::Equal(saved.part_bytes);
    let fits =
        same_cut || saved.part_bytes > 0 && expected.needed_cut().is_none() && kit.integrity.upload_with.is_none();
    let same = saved.source == identity(source) && kit.resume == Resume::Continue;
    let found = match (&saved.place, &kit.target) {
        (SavedPlace::File { temporary }, Side::Local(side)) if same && fits => {
            let reopened = side.root.reopen_partial(temporary, &key_to_relative(&entry.key)?);
            // Its length is the object's, whatever became of it meanwhile.
            reopened.ok().filter(|partial| partial.set_len(source.size_bytes).is_ok()).map(FoundPlace::File)
        }
        (SavedPlace::Upload { token, upload_id: Some(id) }, Side::Bucket(_))
            if same && is_marked(token, mark) && same_cut && !in_one_piece =>
        {
            let upload_id = UploadId::parse(id).ok();
            upload_id.map(|upload_id| FoundPlace::Upload { upload_id, token: token.clone() })
        }
        _ => None,
    };
    let parts = match (&found, &kit.target) {
        (Some(FoundPlace::Upload { upload_id, .. }), Side::Bucket(side)) => {
            match side.client.list_parts(&side.key(&entry.key)?, upload_id).await {
                Ok(listed) if was_opened_otherwise(kit, &listed) => None,
                Ok(listed) => Some(join(&saved, &listed, source.size_bytes, wanted, kit.etags(side))),
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

/// Whether an upload was opened for another checksum than is wanted now, as far as its parts tell; one without parts is not worth
/// finding out.
fn was_opened_otherwise(kit: &Kit, listed: &[ListedPart]) -> bool {
    let wanted = kit.integrity.algorithm();
    let other = |part: &ListedPart| part.checksum.is_some_and(|checksum| checksum.algorithm() != wanted);
    listed.iter().any(other) || listed.is_empty() && kit.integrity.upload_with.is_some()
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

/// Aborts an upload of which parts were under way. A part that the service had whole may land after the abort, and brings the
/// upload back on some (Ceph), as S3's documentation warns; so it is looked for again, and aborted again if it is there.
pub(super) async fn abort_for_good(side: &BucketSide, key: &Key, upload_id: &UploadId) -> Result<(), Error> {
    abort(side, key, upload_id).await?;
    for pause in LATE_PARTS_LAND_WITHIN {
        tokio::time::sleep(pause).await;
        if side.client.list_parts(key, upload_id).await.is_ok() {
            abort(side, key, upload_id).await?;
        }
    }
    Ok(())
}

/// When an aborted upload is looked for again. A run that was stopped waits for this.
const LATE_PARTS_LAND_WITHIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

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
    wanted: Wanted,
    etags: ETags<'_>,
) -> BTreeMap<u32, Known> {
    let total = part::count(size_bytes, saved.part_bytes);
    let journal: BTreeMap<u32, &SavedPart> = saved.parts.iter().map(|part| (part.number, part)).collect();
    let known = listed.iter().filter_map(|there| {
        let number = there.number.number();
        let ours = part::nth(size_bytes, saved.part_bytes, u64::from(number) - 1);
        if u64::from(number) > total || there.size != ours.size_bytes() {
            return None;
        }
        let ours = journal.get(&number).and_then(|part| proven(part, there, wanted, etags));
        let claimed = || Known::Claimed { etag: there.etag.clone(), checksum: there.checksum };
        Some((number, ours.map_or_else(claimed, Known::Proven)))
    });
    known.collect()
}

/// A part that the journal and the service agree on. None if something is to be compared that was not then: the source's ETag
/// or checksum with the part's MD5 or checksum, or the part's own ETag. Its checksum is the one that the service was given
/// with it and has kept since.
fn proven(part: &SavedPart, there: &ListedPart, wanted: Wanted, etags: ETags<'_>) -> Option<PartDone> {
    let crc = there.checksum.and_then(|checksum| checksum.crc64nvme());
    let sum = there.checksum.filter(|there| Some(there.algorithm()) == wanted.sum);
    let same = part.etag.as_deref() == Some(there.etag.to_string().as_str())
        && part.size_bytes == there.size
        && crc.is_none_or(|crc| crc.0 == part.crc64)
        && (part.md5.is_some() || !wanted.md5)
        && (sum.is_some() || wanted.sum.is_none());
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
        sum,
        acknowledged: Some(Acknowledged { etag: Some(there.etag.clone()), proof, checksum: there.checksum }),
    })
}

/// A part that need not be carried, because an earlier run brought it. None if it has to be.
pub(super) async fn recall_part(kit: &Rc<Kit>, attached: &Attached, part: &Part) -> Result<Option<PartDone>, Error> {
    let turnstile = attached.in_order.as_ref();
    let (number, size_bytes) = (part.number, part.size_bytes());
    let wanted = attached.large.wanted;
    let done = match attached.large.known.get(&number) {
        None => return Ok(None),
        Some(Known::Proven(done)) if turnstile.is_none() => Some(done.clone()),
        Some(Known::Proven(done)) => {
            let read = hash(kit, attached, part, SideName::Source, turnstile, Wanted::default()).await?;
            (read.crc64 == done.crc64).then(|| done.clone())
        }
        Some(Known::Claimed { etag, checksum }) => {
            let Side::Bucket(side) = &kit.target else { unreachable!("uploads have a bucket for a target") };
            let uploaded_with = checksum.map(|there| there.algorithm()).filter(|it| *it != Algorithm::Crc64Nvme);
            let with = Wanted { md5: true, sum: wanted.sum.or(uploaded_with) };
            let read = hash(kit, attached, part, SideName::Source, turnstile, with).await?;
            let acknowledged = recognize(kit, kit.etags(side), etag, *checksum, &read);
            let (crc64, md5, sum) =
                (read.crc64, read.md5.filter(|_| wanted.md5), read.sum.filter(|_| wanted.sum.is_some()));
            acknowledged.map(|it| PartDone { number, size_bytes, crc64, md5, sum, acknowledged: Some(it) })
        }
        Some(Known::Written { crc64: written }) => {
            let read = hash(kit, attached, part, SideName::Target, None, wanted).await?;
            if read.crc64 == *written && turnstile.is_some() {
                hash(kit, attached, part, SideName::Target, turnstile, Wanted::default()).await?;
            }
            (read.crc64 == *written).then(|| read.done(part, None))
        }
    };
    if let Some(done) = &done {
        kit.resumed_bytes.set(kit.resumed_bytes.get() + done.size_bytes);
    }
    Ok(done)
}

/// What the service says of a part, if that shows it to be one of these bytes: its checksum, or an ETag that is their MD5.
/// ETags that are not to be compared prove nothing, and yet one that is equal tells what the part holds.
fn recognize(
    kit: &Kit,
    etags: ETags<'_>,
    etag: &ETag,
    theirs: Option<Checksum>,
    read: &PartHashes,
) -> Option<Acknowledged> {
    let ours = theirs.map(|theirs| match theirs.algorithm() {
        Algorithm::Crc64Nvme => Some(Crc64Nvme(read.crc64).into()),
        algorithm => read.sum.filter(|ours| ours.algorithm() == algorithm),
    });
    let ours = ours.flatten();
    if ours.is_some() && ours != theirs {
        return None;
    }
    let checksum = theirs.map(StoredChecksum::of_bytes);
    let answer = Uploaded { etag: Some(etag.clone()), etag_is_md5: true, checksum, version: None };
    let acknowledged = acknowledge(kit, etags, ours, read.md5, answer).ok()?;
    let is_md5 = matches!((etag.class(), read.md5), (ETagClass::Md5(theirs), Some(ours)) if theirs == ours);
    (ours.is_some() || is_md5).then_some(Acknowledged { checksum: theirs, ..acknowledged })
}

/// The hashes of a part's bytes. If there is a turnstile, they pass it. A file that ends within the part has none right.
async fn hash(
    kit: &Kit,
    attached: &Attached,
    part: &Part,
    from: SideName,
    turnstile: Option<&Turnstile>,
    wanted: Wanted,
) -> Result<PartHashes, Error> {
    let mut hashes = Hashes::new(kit, wanted);
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
        hashes.add(&content, crc).await;
        if let Some(turnstile) = turnstile {
            turnstile.pass(range, content).await;
        }
        // The next stretch may be waiting for this one's buffer.
        hashes.drained().await;
    }
    Ok(hashes.finish().await)
}

impl Ledger {
    /// Opens a page for an object that is being begun. One in unequal parts has none, and is begun anew by the next run.
    pub(super) async fn begin(kit: &Kit, key: &str, source: &Opened, cut: &Cut, place: SavedPlace) -> Ledger {
        let Cut::Equal(part_bytes) = *cut else { return Ledger::default() };
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
            Some(Acknowledged { etag, proof, checksum: _ }) => (etag.as_ref().map(ETag::to_string), *proof),
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
