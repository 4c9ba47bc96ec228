//! One object from the source to the target, whatever the two sides are: read, hashed, written, proven.
//!
//! A small object is one buffer: read whole, checked against what the source says of it, written whole, checked against
//! what the target says. A large one is cut into parts; each is read, hashed and written on its own, by whichever shard has
//! time ([`board`]), and at the end the parts' hashes are combined and compared with both sides' word before the object
//! appears at the target. Either way the bytes are hashed where they lie between the two sides, and never read again.
//!
//! `side` is what a source or a target can do; `small` and `large` are the two ways; `carry` moves one part, `multipart` opens
//! and completes an upload; `resume` continues what an earlier run began; `verify` knows what proves an object, `sums` takes
//! checksums and `parts_of` asks in what cut; `part` is the arithmetic; `attributes` and `metadata` know what travels beside the
//! content, `tags` of what travels apart. `copy` has the target's service copy by itself. `delete` takes objects away, `undo`
//! those that came out wrong, `compare` only looks at them.

mod attributes;
pub mod board;
mod carry;
pub mod compare;
mod copy;
pub mod delete;
mod error;
mod large;
mod metadata;
mod multipart;
pub mod part;
mod parts_of;
mod rate;
mod resume;
mod side;
mod small;
mod stop;
mod sums;
mod tags;
mod turnstile;
mod undo;
mod verify;
mod versions;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ropeway_io::buf::Arena;
use ropeway_io::file::Files;
use ropeway_io::hash::Md5Lanes;
use ropeway_s3proto::checksum::Algorithm;
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, ETagClass, Key, UploadId};
use ropeway_s3proto::op::{Condition, ObjectMetadata, Tags};

use crate::entry::{Action, ContentBy, Entry, Existing, Reason, SideName};
use crate::journal::Journal;

use compare::Likeness;

pub use attributes::{Attributes, Overwrite};
pub use board::{Board, PartsJob, PartsReturned};
pub use error::{Error, LeftAlone};
pub use large::{PartDone, help};
pub use metadata::stored_modified_ns;
pub use rate::Limited;
pub use resume::{Resume, discard, left_behind};
pub use side::{BucketSide, LocalSide, Side};
pub use stop::{Ending, Stop};
pub use tags::{metadata_of_both, sync_tags, tags_differ, tags_of_both};
use verify::ETags;
pub use verify::{Integrity, Proof, Unproven};
pub use versions::{mark_deleted, origins};

/// What one shard's transfers work with.
pub struct Kit {
    /// This shard's number, by which others know whose part they carry.
    pub shard: usize,
    /// Files of this core.
    pub files: Files,
    /// Buffers of this core; waiting for one is all the backpressure there is.
    pub arena: Arena,
    /// MD5s of this core, taken together.
    pub lanes: Md5Lanes,
    /// What is compared, and what uploads are given.
    pub integrity: Integrity,
    /// All versions are carried, and each is given the name of the one that it is a copy of.
    pub marks_origins: bool,
    /// What objects are given beside their content, if the person wants anything of them.
    pub attributes: Option<Arc<Attributes>>,
    /// Where data is read.
    pub source: Side,
    /// Where data is written.
    pub target: Side,
    /// From the settings and the memory.
    pub sizes: Sizes,
    /// How fast all shards together may go.
    pub limited: Limited,
    /// How often an object is started over when a side could not be reached.
    pub restarts: Restarts,
    /// Parts of large objects under way here, and those that other shards may take.
    pub board: Board,
    /// Bytes that have arrived at the target, parts of unfinished objects included.
    pub moved_bytes: Cell<u64>,
    /// What is written down for the next run.
    pub journal: Journal,
    /// Whether unfinished objects are left for it.
    pub resume: Resume,
    /// Bytes that an earlier run had brought, and this one need not.
    pub resumed_bytes: Cell<u64>,
    /// Unfinished objects that are left for the next run.
    pub kept_objects: Cell<u64>,
    /// Open uploads that could not be aborted: the key, and what the person should know.
    pub left_behind: RefCell<Vec<(String, String)>>,
    /// Whether the run is ending.
    pub stop: Stop,
}

/// Sizes that decide how an object travels.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Objects of this size and more go in parts.
    pub multipart_threshold_bytes: u64,
    /// The wished size of a part.
    pub part_bytes: u64,
    /// The size of a large buffer. A part larger than this is streamed through several.
    pub buffer_bytes: u64,
}

/// Starting objects over when no try of a request got through.
#[derive(Debug, Clone, Copy)]
pub struct Restarts {
    /// How often, for each object.
    pub max: u32,
    /// The wait before each.
    pub pause: Duration,
}

/// Evidence of a transfer: the object is at the target, acknowledged and compared.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Bytes of content.
    pub size_bytes: u64,
    /// What proves it.
    pub proof: Proof,
    /// CRC64NVME of the content as it passed, if computed.
    pub crc64nvme: Option<u64>,
    /// The ETag that the target gave it.
    pub etag: Option<String>,
    /// Which version of the source was read.
    pub version: Version,
    /// What the person asked for and one of the sides does not have.
    pub lacks: Lacks,
}

/// Checksums that the person asked for, and that are not there although the object was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacks {
    /// The source has no checksum to compare with.
    pub at_source: bool,
    /// The target was given this one and does not keep it.
    pub at_target: Option<Algorithm>,
}

impl Lacks {
    fn of(kit: &Kit, source_has_checksum: bool, target_keeps_checksum: bool) -> Lacks {
        Lacks {
            at_source: kit.integrity.source_checksum_expected && !source_has_checksum,
            at_target: kit.integrity.upload_with.filter(|_| !target_keeps_checksum),
        }
    }
}

/// By what a version of a source is known again, beside its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// When it was modified, in nanoseconds since 1970; of an object, what the service says, and no finer than that.
    pub modified_ns: i64,
    /// Its ETag, if it is an object that has one.
    pub etag: Option<ETag>,
}

impl Receipt {
    fn empty() -> Receipt {
        let proof = Proof::None(Unproven::Local);
        Receipt {
            size_bytes: 0,
            proof,
            crc64nvme: None,
            etag: None,
            version: Version::default(),
            lacks: Lacks::default(),
        }
    }
}

impl Kit {
    /// How the ETags of a side are compared.
    fn etags<'a>(&self, side: &'a BucketSide) -> ETags<'a> {
        let abilities = side.client.abilities();
        match self.integrity {
            Integrity { etags: false, .. } => ETags::Ignored,
            Integrity { of_parts: true, .. } => ETags::Compared(abilities),
            Integrity { of_parts: false, .. } => ETags::OfContents(abilities),
        }
    }

    /// When an object may be written in whose place the target listed this one.
    fn condition<'a>(&self, listed: Option<&'a ETag>) -> Condition<'a> {
        self.attributes.as_ref().map_or(Condition::Always, |attributes| attributes.condition(listed))
    }

    /// Stands in the tokens of uploads behind their first `-`, and tells those apart that were opened to take other attributes,
    /// or parts that came another way.
    fn upload_mark(&self, way: Way) -> String {
        let fingerprint = self.attributes.as_ref().and_then(|attributes| attributes.fingerprint);
        match (fingerprint, way) {
            (None, Way::Streamed) => String::new(),
            (Some(fingerprint), Way::Streamed) => format!("-{fingerprint:016x}"),
            (fingerprint, Way::Copied) => format!("-c{:016x}", fingerprint.unwrap_or(0)),
        }
    }

    /// Whether what is sent to the target will have its ETag compared, so that its MD5 is wanted.
    fn target_wants_md5(&self) -> bool {
        match &self.target {
            Side::Local(_) => false,
            Side::Bucket(side) => self.etags(side).want_md5(),
        }
    }

    fn leave_behind(&self, key: &Key, upload_id: &UploadId, reason: &str) {
        let text = format!("an open upload was left behind, abort it by its id `{}`: {reason}", upload_id.as_str());
        self.left_behind.borrow_mut().push((key.as_str().to_owned(), text));
    }

    fn moved(&self, bytes: u64) {
        self.moved_bytes.set(self.moved_bytes.get() + bytes);
    }
}

/// How often an object is started over when the source changed under it or a comparison failed. A source that changes
/// each time is reported as such.
const STARTS_MAX: u32 = 3;

/// Whether there is nothing to do after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// There is nothing.
    Yes,
    /// It is to be done.
    No,
    /// It cannot be told, for this reason, and so is to be done.
    Undecided(String),
}

/// Whether there is nothing to do after all, which the listings alone could not tell: the time stored with the object is the
/// file's, the contents are the same, or the directory that a `dir/` object stands for exists. Changes nothing.
pub async fn settled(kit: &Kit, action: &Action) -> Result<Settled, Error> {
    let entry = &action.entry;
    let nothing_to_do = |yes| if yes { Settled::Yes } else { Settled::No };
    match action.reason {
        Reason::UnlessStoredTimeIs(file_ns) => {
            return Ok(nothing_to_do(kit.stop.or_abandon(stored_time(kit, entry)).await? == Some(file_ns)));
        }
        Reason::UnlessSame(by) => {
            let Some(existing) = &action.existing else { return Ok(Settled::No) };
            return same_content(kit, entry, existing, by).await;
        }
        Reason::Absent
        | Reason::Size
        | Reason::Newer
        | Reason::Content
        | Reason::ETag
        | Reason::Checksum
        | Reason::Tags
        | Reason::Version
        | Reason::Unconditional => {}
    }
    match (&kit.target, entry.key.strip_suffix('/')) {
        (Side::Local(target), Some(directory)) if entry.size_bytes == 0 => {
            target.has_directory(directory).map(nothing_to_do)
        }
        _ => Ok(Settled::No),
    }
}

/// Compares the contents. What is not there any more, or is being changed, is to be copied: then it shows.
async fn same_content(kit: &Kit, entry: &Entry, existing: &Existing, by: ContentBy) -> Result<Settled, Error> {
    let by = match by {
        ContentBy::ETag => compare::By::ETag,
        ContentBy::Checksum(algorithm) => compare::By::Checksum(algorithm),
    };
    match kit.stop.or_abandon(compare::compare_by(kit, entry, existing, by)).await {
        Ok(Likeness::Equal) => Ok(Settled::Yes),
        Ok(Likeness::Different(_)) => Ok(Settled::No),
        Ok(Likeness::Unknown(reason)) => Ok(Settled::Undecided(reason)),
        Err(Error::Changed(_) | Error::NotRegular | Error::Local { side: SideName::Target, .. }) => Ok(Settled::No),
        Err(Error::Client(SideName::Target, error)) if error.class() == Class::Absent => Ok(Settled::No),
        Err(error) => Err(error),
    }
}

/// Carries out one action. An object that was made of other bytes than those that were sent does not stay, if the run made it.
pub async fn transfer(kit: &Rc<Kit>, action: &Action) -> Result<Receipt, Error> {
    let entry = &action.entry;
    if let (Side::Local(target), Some(directory)) = (&kit.target, entry.key.strip_suffix('/')) {
        return target.make_directory(directory, entry.size_bytes);
    }
    if kit.limited.objects.is_set() {
        kit.stop.unless_asked(kit.limited.objects.take(1)).await?;
    }
    let (mut starts, mut reached_in_vain) = (1, 0);
    let mut spoilt = None;
    let error = loop {
        let error = match start(kit, action, starts > 1).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => error,
        };
        if error.is_unreachable() && reached_in_vain < kit.restarts.max && !kit.stop.asked() {
            reached_in_vain += 1;
            tracing::debug!(key = %entry.key, %error, reached_in_vain, "starting the object over in a while");
            if let Err(stopped) = kit.stop.unless_asked(tokio::time::sleep(kit.restarts.pause)).await {
                break stopped;
            }
            continue;
        }
        let over = !error.restart_may_help() || starts == STARTS_MAX || kit.stop.asked();
        match error {
            Error::Spoilt { how, made, .. } if over => return Err(undo::take_back(kit, action, how, made).await),
            error if over => break error.after_restarts(),
            error => {
                tracing::debug!(key = %entry.key, %error, starts, "starting the object over");
                starts += 1;
                if let Error::Spoilt { how, made, .. } = error {
                    // The next try makes another version, so this one has to go now.
                    if made.version.is_some() {
                        spoilt = Some(undo::take_back(kit, action, how, made).await);
                        continue;
                    }
                    spoilt = Some(Error::Spoilt { how, made, became: String::new() });
                }
            }
        }
    };
    Err(match spoilt {
        None => error,
        Some(Error::Spoilt { how, made, became }) => {
            let how = format!("{how}; sending it again failed: {error}");
            match became.is_empty() {
                true => undo::take_back(kit, action, how, made).await,
                false => Error::Spoilt { how, made, became },
            }
        }
        Some(other) => other,
    })
}

/// Looks at the source as it is now and chooses the way.
async fn start(kit: &Rc<Kit>, action: &Action, fresh: bool) -> Result<Receipt, Error> {
    let entry = &action.entry;
    if copy::wanted(kit) {
        let mut source = kit.stop.or_abandon(kit.source.open(entry, fresh)).await?;
        let in_one_piece = source.size_bytes < kit.sizes.multipart_threshold_bytes
            || kit.integrity.keep_parts && source.size_bytes <= part::PART_BYTES_MAX;
        let copied = if in_one_piece && !keeps_parts(kit, &source) {
            kit.stop
                .or_abandon(async {
                    let about = large::examine(kit, entry, &mut source, fresh).await?;
                    copy::whole(kit, action, &source, &about).await
                })
                .await
        } else {
            large::transfer(kit, action, source, Way::Copied, fresh).await
        };
        match copied {
            Err(error) if copy::refused(kit, &error) => {}
            result => return result,
        }
    }
    let source = kit.stop.or_abandon(kit.source.open(entry, fresh)).await?;
    let size_bytes = source.size_bytes;
    let one_buffer = size_bytes < kit.sizes.multipart_threshold_bytes && size_bytes <= kit.sizes.buffer_bytes;
    if one_buffer && !keeps_parts(kit, &source) {
        kit.stop.or_abandon(small::transfer(kit, action, source, fresh)).await
    } else {
        large::transfer(kit, action, source, Way::Streamed, fresh).await
    }
}

/// Whether an object is sent in the parts that it has, however small it is.
fn keeps_parts(kit: &Kit, source: &side::Opened) -> bool {
    let in_parts = || matches!(source.etag().map(ETag::class), Some(ETagClass::Multipart { .. }));
    kit.integrity.keep_parts && matches!(kit.target, Side::Bucket(_)) && in_parts()
}

/// What the source says of an object beside its bytes.
pub struct Said {
    /// What travels with it.
    pub metadata: ObjectMetadata,
    /// Its tags, if they were asked for.
    pub tags: Tags,
}

/// Asks the source about an object, and about its tags if it has any. Of a file, its name tells.
pub async fn source_says(kit: &Kit, entry: &Entry, with_tags: bool) -> Result<Said, Error> {
    match &kit.source {
        Side::Local(_) => {
            let mut metadata = metadata::told_by_file(&entry.key, entry.modified_ns);
            if kit.attributes.as_ref().is_some_and(|attributes| attributes.no_guessed_type) {
                metadata.content_type = None;
            }
            Ok(Said { metadata, tags: Tags::default() })
        }
        Side::Bucket(side) => {
            let (key, version) = (side.key(&entry.key)?, entry.version.as_ref());
            let asked = async {
                let head = side.client.head_version(&key, version).await.map_err(Error::source)?;
                let tags = match with_tags && head.tag_count > 0 {
                    true => side.client.tags(&key, version).await.map_err(Error::source)?,
                    false => Tags::default(),
                };
                Ok(Said { metadata: head.metadata, tags })
            };
            kit.stop.or_abandon(asked).await
        }
    }
}

/// Which way an object's bytes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through this machine.
    Streamed,
    /// Within the target's service.
    Copied,
}

/// The modification time stored with the object on whichever side is a bucket.
async fn stored_time(kit: &Kit, entry: &Entry) -> Result<Option<i64>, Error> {
    let (bucket, wrap): (_, fn(crate::client::Error) -> Error) = match (&kit.source, &kit.target) {
        (Side::Bucket(source), _) => (source, Error::source),
        (_, Side::Bucket(target)) => (target, Error::target),
        (Side::Local(_), Side::Local(_)) => return Ok(None),
    };
    let head = bucket.client.head(&bucket.key(&entry.key)?).await.map_err(wrap)?;
    Ok(stored_modified_ns(&head.metadata))
}
