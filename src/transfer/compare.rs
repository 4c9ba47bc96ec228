//! Whether the content of an object is the same on both sides, without changing anything: by what the services say of it
//! where that can be compared, else by its bytes, if these may be read.

use std::io;
use std::path::Path;

use ropeway_io::file::File;
use ropeway_io::hash::{combine, crc64};
use ropeway_io::path::{FileKind, Follow, key_to_relative};
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ByteRange, ETag, ETagClass, Key};

use super::side::{BucketSide, Side};
use super::verify::{Expected, ExpectedETag, Unproven, finished};
use super::{Error, Kit, PartDone, metadata, part};
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
    let target = Entry {
        key: entry.key.clone(),
        size_bytes: existing.size_bytes,
        modified_ns: existing.modified_ns,
        etag: existing.etag.clone(),
        version: None,
    };
    match (&kit.source, &kit.target) {
        (Side::Bucket(source), Side::Bucket(target)) if !bytes => {
            let source = About::ask(source, SideName::Source, &entry.key).await?;
            let target = About::ask(target, SideName::Target, &entry.key).await?;
            Ok(same_word(&source, &target))
        }
        (Side::Local(_), Side::Bucket(side)) if !bytes => {
            let about = About::ask(side, SideName::Target, &entry.key).await?;
            with_file(kit, SideName::Source, entry, side, &about).await
        }
        (Side::Bucket(side), Side::Local(_)) if !bytes => {
            let about = About::ask(side, SideName::Source, &entry.key).await?;
            with_file(kit, SideName::Target, &target, side, &about).await
        }
        _ => {
            let source = Content::open(kit, SideName::Source, entry)?.crc(kit).await?;
            let target = Content::open(kit, SideName::Target, &target)?.crc(kit).await?;
            Ok(same_crc(source, target))
        }
    }
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

fn same_crc(source: Crc64Nvme, target: Crc64Nvme) -> Likeness {
    if source == target {
        return Likeness::Equal;
    }
    let (source, target) = (source.to_base64(), target.to_base64());
    Likeness::Different(format!("the CRC64NVME is {source} at the source and {target} at the target"))
}

/// What a service says of an object.
struct About {
    head: ObjectHead,
    part_bytes: Option<u64>,
}

impl About {
    async fn ask(side: &BucketSide, name: SideName, key: &str) -> Result<About, Error> {
        let key = side.key(key)?;
        let head = side.client.head(&key).await.map_err(failed(name))?;
        let mut part_bytes = metadata::part_bytes(&head.metadata);
        if part_bytes.is_none() && head.needs_part_size() {
            part_bytes = side.client.first_part_bytes(&key, None).await.map_err(failed(name))?;
        }
        Ok(About { head, part_bytes })
    }

    fn tag(&self) -> Option<ETagClass> {
        self.head.etag.as_ref().filter(|_| self.head.etag_is_md5).map(ETag::class)
    }
}

const UNCOMPARABLE: &str = "the two services say nothing of it that can be compared; --deep reads its bytes";

/// Compares what two services say.
fn same_word(source: &About, target: &About) -> Likeness {
    if source.head.size_bytes != target.head.size_bytes {
        let (source, target) = (source.head.size_bytes, target.head.size_bytes);
        return Likeness::Different(format!("it has {source} bytes at the source and {target} at the target by now"));
    }
    if let (Some(source), Some(target)) = (source.head.checksum_crc64nvme, target.head.checksum_crc64nvme) {
        return same_crc(source, target);
    }
    let comparable = match (source.tag(), target.tag()) {
        (Some(ETagClass::Md5(_)), Some(ETagClass::Md5(_))) => true,
        (Some(ETagClass::Multipart { .. }), Some(ETagClass::Multipart { .. })) => {
            source.part_bytes.is_some() && source.part_bytes == target.part_bytes
        }
        _ => false,
    };
    match (source.tag(), target.tag()) {
        (Some(ETagClass::Opaque) | None, _) => Likeness::Unknown(UNCOMPARABLE.to_owned()),
        // Hashes in the same cut; the same by chance they cannot be.
        (source, target) if source == target => Likeness::Equal,
        _ if comparable => {
            let tag = |about: &About| about.head.etag.as_ref().map(ETag::to_string).unwrap_or_default();
            let (source, target) = (tag(source), tag(target));
            Likeness::Different(format!("the ETag is {source} at the source and {target} at the target"))
        }
        _ => Likeness::Unknown(UNCOMPARABLE.to_owned()),
    }
}

/// Hashes a local file in the way in which the service hashed the object.
async fn with_file(
    kit: &Kit,
    name: SideName,
    entry: &Entry,
    side: &BucketSide,
    about: &About,
) -> Result<Likeness, Error> {
    if about.head.size_bytes != entry.size_bytes {
        let (object, file) = (about.head.size_bytes, entry.size_bytes);
        return Ok(Likeness::Different(format!("the object has {object} bytes by now, and the file {file}")));
    }
    let etags = kit.etags(side);
    // One proof suffices, and the checksum is the cheaper one.
    let expected = match Expected::of(&about.head, about.part_bytes, etags) {
        Expected { crc64: Some(crc), .. } => Expected { crc64: Some(crc), ..Expected::nothing(Unproven::TurnedOff) },
        by_etag => by_etag,
    };
    let content = Content::open(kit, name, entry)?;
    let compared = match expected.etag {
        ExpectedETag::Nothing(reason) if expected.crc64.is_none() => {
            return Ok(Likeness::Unknown(format!("{}; --deep reads its bytes", reason.reason())));
        }
        ExpectedETag::Nothing(_) | ExpectedETag::Md5(_) => {
            let with_md5 = matches!(expected.etag, ExpectedETag::Md5(_));
            let (whole, whole_md5) = content.sum(kit, 0..entry.size_bytes, with_md5).await?;
            expected.check_parts(&[whole], whole_md5, etags)
        }
        ExpectedETag::Md5OfParts { part_bytes, .. } => {
            let mut parts = Vec::new();
            for index in 0..part::count(entry.size_bytes, part_bytes) {
                let range = part::nth(entry.size_bytes, part_bytes, index).range;
                let (part, md5) = content.sum(kit, range, true).await?;
                parts.push(PartDone { md5, ..part });
            }
            expected.check_parts(&parts, None, etags)
        }
    };
    match compared {
        Ok(_) => Ok(Likeness::Equal),
        Err(Error::Mismatch(how)) => Ok(Likeness::Different(how)),
        Err(error) => Err(error),
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
    async fn crc(&self, kit: &Kit) -> Result<Crc64Nvme, Error> {
        let (whole, _) = self.sum(kit, 0..self.size_bytes, false).await?;
        Ok(Crc64Nvme(whole.crc64))
    }

    /// Reads a range through one buffer, and sums it; with MD5 if that is asked for.
    async fn sum(
        &self,
        kit: &Kit,
        range: std::ops::Range<u64>,
        with_md5: bool,
    ) -> Result<(PartDone, Option<[u8; 16]>), Error> {
        let size_bytes = range.end - range.start;
        let mut whole_md5 = with_md5.then(|| kit.lanes.lane());
        let mut crc = crc64(b"");
        for range in part::stretches(range, kit.sizes.buffer_bytes) {
            let wanted = range.end - range.start;
            let mut buffer = kit.arena.lease(wanted as usize).await;
            let piece = match &self.from {
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
            crc = combine(crc, piece, wanted);
            if let Some(lane) = &mut whole_md5 {
                lane.push(buffer.freeze());
                lane.drained().await;
            }
            kit.moved(wanted);
        }
        let done = PartDone { number: 1, size_bytes, crc64: crc, md5: None, acknowledged: None };
        Ok((done, finished(whole_md5).await))
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
