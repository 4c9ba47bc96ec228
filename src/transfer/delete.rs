//! Taking away what is at the target alone, and what was copied from the source. Whether that may happen at all is
//! `engine`'s to say, before the first call; here each object is looked at once more and then deleted, or kept.
//!
//! From a bucket, extras go by the thousand, with the service's word about each key read. What a batch cannot carry, or a
//! service does not take in batches, goes alone. From a directory, a file goes if it still is the one that was listed, and
//! then the directories above it that hold nothing any more.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt};
use ropeway_io::path::{FileKind, Removal, key_to_relative};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::Key;
use ropeway_s3proto::op::DeleteObjectsOutput;

use super::Error;
use super::side::{BucketSide, LocalSide, Side};
use crate::entry::Entry;

/// Objects in a batch; as many as a service takes.
pub const BATCH_MAX: usize = ropeway_s3proto::op::KEYS_MAX;

/// Requests about single objects under way at the same time, within a batch.
const SINGLE_MAX: usize = 16;

/// What is asked again before an extra is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUp {
    /// Nothing: the listings are fresh.
    Nothing,
    /// Whether the source really does not have it.
    Source,
    /// That, and whether the target's object is the one that was meant.
    BothSides,
}

/// What became of an object that was to be deleted.
#[derive(Debug)]
pub enum Fate {
    /// It is gone.
    Deleted,
    /// It is no longer what was to be deleted, for this reason.
    Kept(&'static str),
    /// It may still be there.
    Failed(String),
    /// It may still be there, and nothing else will fare better.
    Hopeless(Error),
}

/// Deletes, and remembers what the services cannot do.
pub struct Eraser {
    source: Side,
    target: Side,
    /// The target's service does not know batches.
    no_batches: Cell<bool>,
    /// The source's service does not know conditions on deletes.
    no_conditions: Cell<bool>,
    /// Of the target's objects only those go that are still what was listed, as its service sees to.
    only_unchanged: bool,
}

impl Eraser {
    /// Of a run with these sides.
    pub fn new(source: Side, target: Side) -> Eraser {
        Eraser { source, target, no_batches: Cell::new(false), no_conditions: Cell::new(false), only_unchanged: false }
    }

    /// Whether the target's service is told which object is meant, so that it deletes no other of that key.
    pub fn only_unchanged(self, only_unchanged: bool) -> Eraser {
        Eraser { only_unchanged, ..self }
    }

    /// The two sides, whose connections count their requests.
    pub fn sides(&self) -> [&Side; 2] {
        [&self.source, &self.target]
    }

    /// Deletes up to [`BATCH_MAX`] of the target's objects that the source does not have.
    pub async fn extras(&self, batch: Vec<Entry>, look_up: LookUp) -> Vec<(Entry, Fate)> {
        let mut fates = Vec::with_capacity(batch.len());
        let mut left = batch;
        // A directory costs nothing to ask.
        if look_up != LookUp::Nothing || matches!(self.source, Side::Local(_)) {
            left = self.without(left, &mut fates, async |entry| self.reappeared(entry).await).await;
            if let Some(error) = self.silent_source().await {
                fates.extend(left.drain(..).map(|entry| (entry, Fate::Failed(error.clone()))));
            }
        }
        match &self.target {
            Side::Bucket(side) => {
                if look_up == LookUp::BothSides {
                    left = self.without(left, &mut fates, async |entry| changed(side, entry).await).await;
                }
                self.objects(side, left, &mut fates).await;
            }
            Side::Local(side) => self.files(side, left, &mut fates).await,
        }
        fates
    }

    /// Deletes objects or files of the source that were copied, each only if it still is what was copied.
    pub async fn copied(&self, batch: Vec<Entry>) -> Vec<(Entry, Fate)> {
        let fates = batch.into_iter().map(|entry| async move {
            let fate = match &self.source {
                Side::Local(side) => remove_file(side, &entry),
                Side::Bucket(side) => self.copied_object(side, &entry).await,
            };
            (entry, fate)
        });
        stream::iter(fates).buffer_unordered(SINGLE_MAX).collect().await
    }

    async fn copied_object(&self, side: &BucketSide, entry: &Entry) -> Fate {
        if let Some(fate) = changed(side, entry).await {
            return fate;
        }
        let key = match side.key(&entry.key) {
            Ok(key) => key,
            Err(error) => return Fate::Failed(error.to_string()),
        };
        let condition = entry.etag.as_ref().filter(|_| !self.no_conditions.get());
        match side.client.delete(&key, condition).await {
            Ok(()) => Fate::Deleted,
            Err(error) if condition.is_some() && error.class() == Class::Conflict => Fate::Kept(REPLACED),
            // It was looked at a moment ago, which is all that can be done here.
            Err(error) if condition.is_some() && error.class() == Class::Unsupported => {
                self.no_conditions.set(true);
                fate_of(side.client.delete(&key, None).await.map_err(Error::source))
            }
            Err(error) => fate_of(Err(Error::source(error))),
        }
    }

    /// Takes out of the batch what `look` says should not be deleted, and asks about several at the same time.
    async fn without(
        &self,
        batch: Vec<Entry>,
        fates: &mut Vec<(Entry, Fate)>,
        look: impl AsyncFn(&Entry) -> Option<Fate>,
    ) -> Vec<Entry> {
        let look = &look;
        let looked = batch.into_iter().map(|entry| async move {
            let fate = look(&entry).await;
            (entry, fate)
        });
        let mut looked = stream::iter(looked).buffered(SINGLE_MAX);
        let mut left = Vec::new();
        while let Some((entry, fate)) = looked.next().await {
            match fate {
                Some(fate) => fates.push((entry, fate)),
                None => left.push(entry),
            }
        }
        left
    }

    /// Why an extra may not be deleted: the source has it, or does not say.
    async fn reappeared(&self, entry: &Entry) -> Option<Fate> {
        match self.source.holds(&entry.key).await {
            Ok(false) => None,
            Ok(true) => Some(Fate::Kept("the source has it by now")),
            Err(error) => Some(fate_of(Err(error))),
        }
    }

    /// A HEAD is answered alike for an object that is absent and in a bucket that is; so once a batch the bucket is asked
    /// for a listing, which tells the two apart. Says why the source's word counts for nothing, if so.
    async fn silent_source(&self) -> Option<String> {
        let Side::Bucket(side) = &self.source else { return None };
        let listed = side.client.list(&side.prefix, None, None, 1).await;
        listed.err().map(|error| format!("the source cannot be asked any more: {error}"))
    }

    async fn objects(&self, side: &BucketSide, batch: Vec<Entry>, fates: &mut Vec<(Entry, Fate)>) {
        let mut together: HashMap<Key, Entry> = HashMap::new();
        let mut alone: Vec<(Key, Entry)> = Vec::new();
        for entry in batch {
            match side.key(&entry.key) {
                Ok(key) if self.no_batches.get() || self.only_unchanged || has_control(key.as_str()) => {
                    alone.push((key, entry))
                }
                Ok(key) => drop(together.insert(key, entry)),
                Err(error) => fates.push((entry, Fate::Failed(error.to_string()))),
            }
        }
        if !together.is_empty() {
            let keys: Vec<Key> = together.keys().cloned().collect();
            match side.client.delete_batch(&keys).await {
                Ok(answer) => read_answer(answer, together, fates, &mut alone),
                // One key that the service cannot read spoils the batch, and none of it was deleted.
                Err(error) if error.code() == Some("MalformedXML") => alone.extend(together),
                Err(error) if error.class() == Class::Unsupported => {
                    self.no_batches.set(true);
                    alone.extend(together);
                }
                Err(error) => {
                    let error = Error::target(error);
                    let text = error.to_string();
                    let mut entries = together.into_values();
                    if error.ends_the_run()
                        && let Some(first) = entries.next()
                    {
                        fates.push((first, Fate::Hopeless(error)));
                    }
                    fates.extend(entries.map(|entry| (entry, Fate::Failed(text.clone()))));
                }
            }
        }
        let deletes = alone.into_iter().map(|(key, entry)| async move {
            let condition = entry.etag.as_ref().filter(|_| self.only_unchanged);
            let fate = match side.client.delete(&key, condition).await {
                Err(error) if condition.is_some() && error.class() == Class::Conflict => Fate::Kept(REPLACED),
                deleted => fate_of(deleted.map_err(Error::target)),
            };
            (entry, fate)
        });
        let mut deletes = stream::iter(deletes).buffer_unordered(SINGLE_MAX);
        while let Some(fate) = deletes.next().await {
            fates.push(fate);
        }
    }

    async fn files(&self, side: &LocalSide, batch: Vec<Entry>, fates: &mut Vec<(Entry, Fate)>) {
        let mut emptied = BTreeSet::new();
        for entry in batch {
            let fate = remove_file(side, &entry);
            if matches!(fate, Fate::Deleted)
                && let Some(parent) = Path::new(&*entry.key).parent().filter(|parent| !parent.as_os_str().is_empty())
            {
                emptied.insert(parent.to_owned());
            }
            fates.push((entry, fate));
        }
        self.directories(side, emptied).await;
    }

    /// Removes those of the directories that are empty now, and those above them that thereby become so. One that the
    /// source has as well stays.
    async fn directories(&self, side: &LocalSide, mut emptied: BTreeSet<PathBuf>) {
        // Deeper ones sort behind those above them.
        while let Some(directory) = emptied.pop_last() {
            let kept_by_source = match directory.to_str() {
                Some(key) => self.source.holds(&format!("{key}/")).await.unwrap_or(true),
                None => true,
            };
            if kept_by_source {
                continue;
            }
            match side.root.remove_empty_dir(&directory) {
                Ok(true) => {
                    let above = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
                    emptied.extend(above.map(Path::to_owned));
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(directory = %directory.display(), %error, "an empty directory stays"),
            }
        }
    }
}

impl Side {
    /// Whether there is an object or file of this relative key now. A key that ends in `/` is also a directory's.
    pub async fn holds(&self, key: &str) -> Result<bool, Error> {
        match self {
            Side::Local(side) => side.holds(key),
            Side::Bucket(side) => {
                // What is no key is not there.
                let Ok(key) = side.key(key) else { return Ok(false) };
                match side.client.head(&key).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.class() == Class::Absent => Ok(false),
                    Err(error) => Err(Error::source(error)),
                }
            }
        }
    }
}

impl LocalSide {
    /// As [`Side::holds`]; a link, a pipe or a device holds its key as a file does.
    pub fn holds(&self, key: &str) -> Result<bool, Error> {
        let (name, is_directory) = match key.strip_suffix('/') {
            Some(name) => (name, true),
            None => (key, false),
        };
        // What no file can be called is not here.
        let Ok(relative) = key_to_relative(name) else { return Ok(false) };
        let found = self.root.find(&relative).map_err(Error::reading("look for"))?;
        Ok(found.is_some_and(|facts| {
            facts.kind == FileKind::Symlink || (facts.kind == FileKind::Directory) == is_directory
        }))
    }
}

const REPLACED: &str = "it was replaced since its deletion was decided";
const ANOTHER: &str = "what has its name now is another file, or a link";

/// Why an object may not be deleted: it is not the one that was meant. None if it is.
async fn changed(side: &BucketSide, entry: &Entry) -> Option<Fate> {
    let key = match side.key(&entry.key) {
        Ok(key) => key,
        Err(error) => return Some(Fate::Failed(error.to_string())),
    };
    let head = match side.client.head(&key).await {
        Ok(head) => head,
        Err(error) if error.class() == Class::Absent => return Some(Fate::Kept("it is gone already")),
        Err(error) => return Some(Fate::Failed(error.to_string())),
    };
    let same = match (&entry.etag, &head.etag) {
        (Some(then), Some(now)) => then == now,
        // Headers have whole seconds.
        _ => head
            .last_modified_ns
            .is_some_and(|now| now.div_euclid(SECOND_NS) == entry.modified_ns.div_euclid(SECOND_NS)),
    };
    (!same || head.size_bytes != entry.size_bytes).then_some(Fate::Kept(REPLACED))
}

const SECOND_NS: i64 = 1_000_000_000;

/// Removes a file if it is the one that was listed or copied.
fn remove_file(side: &LocalSide, entry: &Entry) -> Fate {
    let meant = (entry.size_bytes, entry.modified_ns);
    let removed = key_to_relative(&entry.key)
        .and_then(|relative| side.root.remove_file(&relative, |facts| (facts.size_bytes, facts.modified_ns) == meant));
    match removed {
        // Somebody else was faster; it was to be gone, and is.
        Ok(Removal::Done | Removal::Absent) => Fate::Deleted,
        Ok(Removal::Another) => Fate::Kept(ANOTHER),
        Err(error) => Fate::Failed(format!("the file cannot be removed: {error}")),
    }
}

/// Sorts a batch by what the service said of each key. What may succeed at a second try goes alone, where trying again is
/// the client's business.
fn read_answer(
    answer: DeleteObjectsOutput,
    mut together: HashMap<Key, Entry>,
    fates: &mut Vec<(Entry, Fate)>,
    alone: &mut Vec<(Key, Entry)>,
) {
    let mut take = |key: &str| Key::parse(key.as_bytes()).ok().and_then(|key| together.remove_entry(&key));
    for failure in answer.failed {
        let Some((key, entry)) = take(&failure.key) else { continue };
        match failure.class() {
            Class::Retry | Class::Throttle => alone.push((key, entry)),
            Class::Absent => fates.push((entry, Fate::Deleted)),
            Class::Auth
            | Class::Denied
            | Class::Conflict
            | Class::WrongRegion
            | Class::ClockSkew
            | Class::Unsupported
            | Class::Fatal => {
                let text = format!("the service answered {}: {}", failure.code, failure.message);
                fates.push((entry, Fate::Failed(text)));
            }
        }
    }
    for key in answer.deleted {
        fates.extend(take(&key).map(|(_, entry)| (entry, Fate::Deleted)));
    }
    let silent = "the service's answer does not say what became of it";
    fates.extend(together.into_values().map(|entry| (entry, Fate::Failed(silent.to_owned()))));
}

fn fate_of(deleted: Result<(), Error>) -> Fate {
    match deleted {
        Ok(()) => Fate::Deleted,
        Err(error) if error.ends_the_run() => Fate::Hopeless(error),
        Err(error) => Fate::Failed(error.to_string()),
    }
}

/// Control characters do not survive XML, or not every service's.
fn has_control(key: &str) -> bool {
    key.chars().any(|character| character.is_control() || matches!(character, '\u{FFFE}' | '\u{FFFF}'))
}
