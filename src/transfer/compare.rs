//! Whether the content of an object is the same on both sides, without changing anything: by what the services say of it
//! where that can be compared, else by its bytes, if these may be read.

use std::io;
use std::path::Path;

use ropeway_io::file::File;
use ropeway_io::path::{FileKind, Follow, key_to_relative};
use ropeway_s3proto::checksum::{Algorithm, Checksum, Crc64Nvme};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ByteRange, ETag, ETagClass, Key, VersionId};

use super::carry::{Hashes, PartHashes};
use super::parts_of::{PartsOf, parts_of, stored_parts_of};
use super::side::{BucketSide, Side};
use super::verify::{ETags, Expected, ExpectedChecksum, ExpectedETag, Taken, Unproven, Wanted};
use super::{Error, Kit, part};
use crate::client::{self, ObjectHead};
use crate::entry::{Action, Entry, Existing, SideName};

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Likeness {
    /// The contents are the same.
    Equal,
    /// They are not, as this shows.
    Different(String),
    /// Nothing can be said, for this reason.
    Unknown(String),
}

/// Compares the contents of an object that both sides have in the same length. With `bytes` they are read, whatever the
/// services say of them; so are two local files, which nobody says anything of.
pub async fn compare(kit: &Kit, entry: &Entry, existing: &Existing, bytes: bool) -> Result<Likeness, Error> {
    let target = existing.clone().at(&entry.key);
    match (&kit.source, &kit.target) {
        (Side::Bucket(source), Side::Bucket(to)) if !bytes => {
            let source = About::ask(source, SideName::Source, entry, By::Either).await?;
            let target = About::ask(to, SideName::Target, &target, By::Either).await?;
            Ok(same_word(&source, &target))
        }
        (Side::Local(_), Side::Bucket(side)) if !bytes => {
            let about = About::ask(side, SideName::Target, &target, By::Either).await?;
            with_file(kit, SideName::Source, entry, side, about, By::Either).await
        }
        (Side::Bucket(side), Side::Local(_)) if !bytes => {
            let about = About::ask(side, SideName::Source, entry, By::Either).await?;
            with_file(kit, SideName::Target, &target, side, about, By::Either).await
        }
        _ => {
            let source = Content::open(kit, SideName::Source, entry)?.crc(kit).await?;
            let target = Content::open(kit, SideName::Target, &target)?.crc(kit).await?;
            Ok(same_checksum(source, target))
        }
    }
}

/// By what two contents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Their ETags.
    ETag,
    /// Their checksums of this algorithm.
    Checksum(Algorithm),
    /// Whatever there is, the checksum first.
    Either,
}

/// Compares the contents of an object that both sides have in the same length by one thing alone. A file is hashed as its
/// counterpart was.
pub async fn compare_by(kit: &Kit, entry: &Entry, existing: &Existing, by: By) -> Result<Likeness, Error> {
    let at_target = || existing.clone().at(&entry.key);
    match (&kit.source, &kit.target) {
        (Side::Bucket(source), Side::Bucket(target)) => {
            let source = About::ask(source, SideName::Source, entry, by).await?;
            let target = About::ask(target, SideName::Target, &at_target(), by).await?;
            Ok(match by {
                By::ETag => same_etag(&source, &target),
                By::Checksum(algorithm) => same_stored(&source, &target, algorithm),
                By::Either => same_word(&source, &target),
            })
        }
        (Side::Local(_), Side::Bucket(side)) => {
            let about = About::ask(side, SideName::Target, &at_target(), by).await?;
            with_file(kit, SideName::Source, entry, side, about, by).await
        }
        (Side::Bucket(side), Side::Local(_)) => {
            let about = About::ask(side, SideName::Source, entry, by).await?;
            with_file(kit, SideName::Target, &at_target(), side, about, by).await
        }
        (Side::Local(_), Side::Local(_)) => compare(kit, entry, existing, true).await,
    }
}

/// What the target has under a key now, as a HEAD or the file system says.
pub async fn look_at_target(kit: &Kit, key: &str) -> Result<Option<Existing>, Error> {
    Ok(kit.stop.or_abandon(look(kit, SideName::Target, key)).await?.map(|now| now.existing))
}

/// Whether an object that a plan wants copied, and what the target has in its place, still are what the plan says.
pub async fn still_as_planned(kit: &Kit, action: &Action) -> Result<(), Error> {
    let key = &action.entry.key;
    let changed = |how: &str| Err(Error::ChangedSincePlanned(how.to_owned()));
    match kit.stop.or_abandon(look(kit, SideName::Source, key)).await? {
        None => return changed("the source does not have it any more"),
        Some(now) if !now.is(&Existing::from(&action.entry)) => return changed("the source has another version"),
        Some(_) => {}
    }
    match (&action.existing, kit.stop.or_abandon(look(kit, SideName::Target, key)).await?) {
        (None, None) => Ok(()),
        (None, Some(_)) => changed("the target has it by now"),
        (Some(_), None) => changed("the target does not have it any more"),
        (Some(then), Some(now)) if now.is(then) => Ok(()),
        (Some(_), Some(_)) => changed("the target has another version"),
    }
}

/// What a side has now, and how finely it tells times.
struct Now {
    existing: Existing,
    step_ns: i64,
}

impl Now {
    /// Whether this is what was listed then.
    fn is(&self, then: &Existing) -> bool {
        let now = &self.existing;
        let same = match (&then.etag, &now.etag) {
            (Some(then), Some(now)) => then == now,
            _ => then.modified_ns.div_euclid(self.step_ns) == now.modified_ns.div_euclid(self.step_ns),
        };
        same && then.size_bytes == now.size_bytes
    }
}

/// Headers have whole seconds.
const HEADER_STEP_NS: i64 = 1_000_000_000;

async fn look(kit: &Kit, name: SideName, key: &str) -> Result<Option<Now>, Error> {
    let side = match name {
        SideName::Source => &kit.source,
        SideName::Target => &kit.target,
    };
    match side {
        Side::Bucket(side) => match side.client.head(&side.key(key)?).await {
            Ok(head) => {
                let modified_ns = head.last_modified_ns.unwrap_or_default();
                let existing = Existing { size_bytes: head.size_bytes, modified_ns, etag: head.etag };
                Ok(Some(Now { existing, step_ns: HEADER_STEP_NS }))
            }
            Err(error) if error.class() == Class::Absent => Ok(None),
            Err(error) => Err(Error::Client(name, Box::new(error))),
        },
        // A directory that is there already needs nothing, and is no other version of an object.
        Side::Local(_) if key.ends_with('/') => Ok(None),
        Side::Local(side) => {
            let facts = match name {
                SideName::Source => side.root.open_file(Path::new(key), Follow::Links).map(|(_, facts)| facts),
                SideName::Target => side.root.facts(&key_to_relative(key)?),
            };
            match facts {
                Ok(facts) => {
                    let existing =
                        Existing { size_bytes: facts.size_bytes, modified_ns: facts.modified_ns, etag: None };
                    Ok(Some(Now { existing, step_ns: 1 }))
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(error) => Err(unreadable(name, error)),
            }
        }
    }
}

fn same_checksum(source: Checksum, target: Checksum) -> Likeness {
    if source == target {
        return Likeness::Equal;
    }
    let algorithm = source.algorithm();
    let (source, target) = (source.to_base64(), target.to_base64());
    Likeness::Different(format!("the {algorithm} is {source} at the source and {target} at the target"))
}

/// What a service says of an object.
struct About {
    key: Key,
    version: Option<VersionId>,
    head: ObjectHead,
    parts: PartsOf,
}

impl About {
    /// About the version of an entry, if it names one.
    async fn ask(side: &BucketSide, name: SideName, entry: &Entry, by: By) -> Result<About, Error> {
        let (key, version) = (side.key(&entry.key)?, entry.version.clone());
        let head = side.client.head_version(&key, version.as_ref()).await.map_err(failed(name))?;
        let parts = match head.needs_parts() || by == By::ETag {
            true => parts_of(side, (&key, version.as_ref()), &head, false).await.map_err(failed(name))?,
            false => stored_parts_of(&head),
        };
        Ok(About { key, version, head, parts })
    }

    fn tag(&self) -> Option<ETagClass> {
        self.head.etag.as_ref().filter(|_| self.head.etag_is_md5).map(ETag::class)
    }

    fn tag_text(&self) -> String {
        self.head.etag.as_ref().map(ETag::to_string).unwrap_or_default()
    }

    /// The checksum over all bytes.
    fn of_bytes(&self) -> Option<Checksum> {
        self.head.checksum.and_then(|stored| stored.whole())
    }

    fn has_same_parts(&self, other: &About) -> bool {
        match (self.parts.cut(), other.parts.cut()) {
            (Some(one), Some(other)) => one.is_same(other, self.head.size_bytes),
            _ => false,
        }
    }
}

const UNCOMPARABLE: &str = "the two services say nothing of it that can be compared; --deep reads its bytes";

fn same_size(source: &About, target: &About) -> Option<Likeness> {
    let (source, target) = (source.head.size_bytes, target.head.size_bytes);
    (source != target)
        .then(|| Likeness::Different(format!("it has {source} bytes at the source and {target} at the target by now")))
}

/// Compares what two services say.
fn same_word(source: &About, target: &About) -> Likeness {
    if let Some(different) = same_size(source, target) {
        return different;
    }
    match (source.of_bytes(), target.of_bytes()) {
        (Some(source), Some(target)) if source.algorithm() == target.algorithm() => {
            return same_checksum(source, target);
        }
        _ => {}
    }
    // Checksums of the same parts' checksums.
    if let (Some(ours), Some(theirs)) = (source.head.checksum, target.head.checksum)
        && ours == theirs
    {
        return Likeness::Equal;
    }
    let comparable = match (source.tag(), target.tag()) {
        (Some(ETagClass::Md5(_)), Some(ETagClass::Md5(_))) => true,
        (Some(ETagClass::Multipart { .. }), Some(ETagClass::Multipart { .. })) => source.has_same_parts(target),
        _ => false,
    };
    match (source.tag(), target.tag()) {
        (Some(ETagClass::Opaque) | None, _) => Likeness::Unknown(UNCOMPARABLE.to_owned()),
        // Hashes in the same cut; the same by chance they cannot be.
        (source, target) if source == target => Likeness::Equal,
        _ if comparable => different_tags(source, target),
        _ => Likeness::Unknown(UNCOMPARABLE.to_owned()),
    }
}

fn different_tags(source: &About, target: &About) -> Likeness {
    let (source, target) = (source.tag_text(), target.tag_text());
    Likeness::Different(format!("the ETag is {source} at the source and {target} at the target"))
}

/// Compares two ETags, and nothing else: objects that were cut in different ways have different ones.
fn same_etag(source: &About, target: &About) -> Likeness {
    if let Some(different) = same_size(source, target) {
        return different;
    }
    match (source.tag(), target.tag()) {
        (Some(ETagClass::Opaque) | None, _) => Likeness::Unknown(no_md5("source")),
        (_, Some(ETagClass::Opaque) | None) => Likeness::Unknown(no_md5("target")),
        (one, other) if one == other => Likeness::Equal,
        _ => different_tags(source, target),
    }
}

fn no_md5(side: &str) -> String {
    format!("the {side}'s ETag is no MD5, as of objects encrypted with SSE-KMS or SSE-C")
}

/// Compares two stored checksums, and nothing else.
fn same_stored(source: &About, target: &About, algorithm: Algorithm) -> Likeness {
    if let Some(different) = same_size(source, target) {
        return different;
    }
    let of = |about: &About| about.head.checksum.filter(|stored| stored.checksum.algorithm() == algorithm);
    match (of(source), of(target)) {
        (None, _) => Likeness::Unknown(format!("the source has no {algorithm}")),
        (_, None) => Likeness::Unknown(format!("the target has no {algorithm}")),
        (Some(source), Some(target)) if source == target => Likeness::Equal,
        (Some(ours), Some(theirs)) => {
            let text = format!("the {algorithm} is {ours} at the source and {theirs} at the target");
            let comparable = match (ours.parts, theirs.parts) {
                (None, None) => true,
                (Some(_), Some(_)) => source.has_same_parts(target),
                (Some(_), None) | (None, Some(_)) => false,
            };
            match comparable {
                true => Likeness::Different(text),
                false => Likeness::Unknown(format!("{text}, of other parts")),
            }
        }
    }
}

/// Hashes a local file in the way in which the service hashed the object.
async fn with_file(
    kit: &Kit,
    name: SideName,
    entry: &Entry,
    side: &BucketSide,
    mut about: About,
    by: By,
) -> Result<Likeness, Error> {
    if about.head.size_bytes != entry.size_bytes {
        let (object, file) = (about.head.size_bytes, entry.size_bytes);
        return Ok(Likeness::Different(format!("the object has {object} bytes by now, and the file {file}")));
    }
    let content = Content::open(kit, name, entry)?;
    let mut sure = false;
    loop {
        let (etags, expected) = match evidence(kit, side, &about, by) {
            Ok(evidence) => evidence,
            Err(reason) => return Ok(Likeness::Unknown(reason)),
        };
        let compared = content.check(kit, &expected, etags).await?;
        let (Likeness::Different(_), Some(cut)) = (&compared, expected.needed_cut()) else { return Ok(compared) };
        if sure {
            return Ok(compared);
        }
        // It may be only the cut that differs.
        let parts = parts_of(side, (&about.key, about.version.as_ref()), &about.head, true)
            .await
            .map_err(failed(other(name)))?;
        if parts.cut().is_some_and(|parts| parts.is_same(cut, about.head.size_bytes)) {
            return Ok(compared);
        }
        (about.parts, sure) = (parts, true);
    }
}

fn other(name: SideName) -> SideName {
    match name {
        SideName::Source => SideName::Target,
        SideName::Target => SideName::Source,
    }
}

/// What of an object's description is to be compared, or why that is not possible. One proof suffices, and the checksum is the
/// cheaper one.
fn evidence<'a>(kit: &'a Kit, side: &'a BucketSide, about: &About, by: By) -> Result<(ETags<'a>, Expected), String> {
    // The check that the person asks for is not among the comparisons that can be turned off.
    let (etags, of_parts) = match by {
        By::Either => (kit.etags(side), kit.integrity.of_parts),
        By::ETag | By::Checksum(_) => (ETags::Compared(side.client.abilities()), true),
    };
    let all = Expected::of(&about.head, about.parts.cut(), etags, of_parts);
    let nothing = Expected::nothing(Unproven::TurnedOff);
    let by_checksum = match (all.checksum, by) {
        (_, By::ETag) => Err(None),
        (_, By::Checksum(algorithm))
            if about.head.checksum.is_none_or(|stored| stored.checksum.algorithm() != algorithm) =>
        {
            return Err(format!("the object has no {algorithm}"));
        }
        (ExpectedChecksum::Nothing(reason), _) => Err(Some(reason)),
        (checksum, _) => Ok(Expected { checksum, ..nothing.clone() }),
    };
    match (by_checksum, all.etag, by) {
        (Ok(by_checksum), _, _) => Ok((etags, by_checksum)),
        (Err(reason), _, By::Checksum(_)) => Err(reason.map_or("nothing can be compared", Unproven::reason).to_owned()),
        (Err(_), ExpectedETag::Nothing(Unproven::NoChecksum), By::ETag) => {
            Err("the object's ETag is no MD5, as of objects encrypted with SSE-KMS or SSE-C".to_owned())
        }
        (Err(_), ExpectedETag::Nothing(reason), By::ETag) => Err(reason.reason().to_owned()),
        (Err(_), ExpectedETag::Nothing(reason), By::Either) => {
            Err(format!("{}; --deep reads its bytes", reason.reason()))
        }
        (Err(_), etag, By::ETag | By::Either) => Ok((etags, Expected { etag, ..nothing })),
    }
}

/// A content that can be read, on either side.
struct Content<'a> {
    side: SideName,
    size_bytes: u64,
    from: Held<'a>,
}

enum Held<'a> {
    File(File),
    Object { client: &'a client::Client, key: Key, etag: Option<ETag> },
}

impl<'a> Content<'a> {
    /// Opens what a listing showed. Links are followed at the source, and nowhere else.
    fn open(kit: &'a Kit, name: SideName, entry: &Entry) -> Result<Content<'a>, Error> {
        let side = match name {
            SideName::Source => &kit.source,
            SideName::Target => &kit.target,
        };
        let size_bytes = entry.size_bytes;
        let from = match side {
            Side::Bucket(side) => {
                Held::Object { client: &side.client, key: side.key(&entry.key)?, etag: entry.etag.clone() }
            }
            Side::Local(side) => {
                let opened = match name {
                    SideName::Source => side.root.open_file(Path::new(&*entry.key), Follow::Links),
                    SideName::Target => side.root.open_file(&key_to_relative(&entry.key)?, Follow::Never),
                };
                let (file, facts) = opened.map_err(|error| unreadable(name, error))?;
                if facts.kind != FileKind::Regular {
                    return Err(Error::NotRegular);
                }
                if facts.size_bytes != size_bytes {
                    let now = facts.size_bytes;
                    return Err(Error::Changed(format!("it had {size_bytes} bytes and now has {now}")));
                }
                Held::File(file)
            }
        };
        Ok(Content { side: name, size_bytes, from })
    }

    /// The CRC of everything.
    async fn crc(&self, kit: &Kit) -> Result<Checksum, Error> {
        let whole = self.sum(kit, 0..self.size_bytes, Wanted::default()).await?;
        Ok(Crc64Nvme(whole.crc64).into())
    }

    /// Hashes it as is needed for what is expected of it, and compares.
    async fn check(&self, kit: &Kit, expected: &Expected, etags: ETags<'_>) -> Result<Likeness, Error> {
        let (of_parts, in_order) = (expected.wanted_of_parts(), expected.wanted_in_order());
        let compared = match expected.needed_cut() {
            None => {
                let part = part::nth(self.size_bytes, self.size_bytes.max(1), 0);
                let wanted = Wanted { md5: in_order.md5, sum: in_order.sum.or(of_parts.sum) };
                let whole = self.sum(kit, 0..self.size_bytes, wanted).await?;
                let taken = Taken { md5: whole.md5, sum: whole.sum };
                expected.check_parts(&[whole.done(&part, None)], taken, etags)
            }
            Some(cut) => {
                let mut parts = Vec::new();
                for part in cut.parts(self.size_bytes) {
                    parts.push(self.sum(kit, part.range.clone(), of_parts).await?.done(&part, None));
                }
                expected.check_parts(&parts, Taken::default(), etags)
            }
        };
        match compared {
            Ok(_) => Ok(Likeness::Equal),
            Err(Error::Mismatch(how)) => Ok(Likeness::Different(how)),
            Err(error) => Err(error),
        }
    }

    /// Reads a range through one buffer, and hashes it.
    async fn sum(&self, kit: &Kit, range: std::ops::Range<u64>, wanted: Wanted) -> Result<PartHashes, Error> {
        let mut hashes = Hashes::new(kit, wanted);
        for range in part::stretches(range, kit.sizes.buffer_bytes) {
            let wanted = range.end - range.start;
            let mut buffer = kit.arena.lease(wanted as usize).await;
            let crc = match &self.from {
                Held::File(file) => {
                    let (read, filled) = kit.files.read_summed_at(file, buffer, wanted as usize, range.start).await;
                    let (read, piece) = read.map_err(|error| unreadable(self.side, error))?;
                    buffer = filled;
                    if (read as u64) < wanted {
                        return Err(Error::Changed(format!("it ends at byte {}", range.start + read as u64)));
                    }
                    piece
                }
                Held::Object { client, key, etag } => {
                    let range = ByteRange { start: range.start, end: range.end };
                    let got = client.get_range(key, None, range, etag.as_ref(), &mut buffer).await;
                    got.map_err(failed(self.side))?.0
                }
            };
            hashes.add(&buffer.freeze(), crc).await;
            hashes.drained().await;
            kit.moved(wanted);
        }
        Ok(hashes.finish().await)
    }
}

fn failed(side: SideName) -> impl Fn(client::Error) -> Error {
    move |error| match (side, error.class()) {
        (SideName::Source, Class::Absent) if error.code() != Some("NoSuchBucket") => Error::Vanished,
        _ => Error::Client(side, Box::new(error)),
    }
}

fn unreadable(side: SideName, error: io::Error) -> Error {
    Error::Local { side, doing: "read", error }
}
