//! The last phase of a run: deletes, and the conditions under which there are any.
//!
//! While the sides are merged, what is to go is only written down ([`Recorder`]). When all shards have ended and all is
//! counted, [`permit`] decides about the whole; it is one table. Only then is the first object deleted, in batches, by the
//! control thread. A dry run goes the same way and stops before the first batch.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use ropeway_s3proto::name::ETag;

use super::preflight::{self, Paces};
use super::record::Record;
use super::run::StopHandle;
use crate::entry::{Entry, EntryRef, Existing, SideName};
use crate::error::ExitCode;
use crate::plan::filter;
use crate::report::{Counts, Event, Listed, Note, Observer, Phase, Progress};
use crate::settings::{Copied, Deletes, DeletesMax, Extras, Filters};
use crate::transfer::delete::{BATCH_MAX, Eraser, Fate, LookUp};
use crate::transfer::{Limited, Proof, Receipt, Side, Unproven};

/// Batches under way at the same time: enough that the service is never idle, few enough that little is in doubt when
/// the run is stopped.
const BATCHES_MAX: usize = 4;

/// What one shard writes down for the last phase.
pub(super) struct Recorder {
    rules: Deletes,
    /// What of the target's own is kept for its name.
    kept: Option<Filters>,
    lists: RefCell<Recorded>,
}

/// What is to go, as one shard found it.
#[derive(Default)]
pub(super) struct Recorded {
    /// What the target has and the source does not.
    extras: Record,
    /// What was copied and proven.
    copied: Record,
    doubt: Option<Doubt>,
}

/// Why the lists cannot be relied upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A side lists keys that are not what it stores, so that an object may look absent.
    Lossy(SideName, String),
    /// A side does not list in key order, so that an object may have looked absent where it was listed later.
    Disorder(SideName),
    /// The lists are incomplete.
    Incomplete(String),
}

impl Recorder {
    pub(super) fn new(rules: Deletes, filters: &Filters) -> Recorder {
        let kept = match rules.extras {
            Extras::Delete => filters.key.exclude.is_some().then(|| filters.clone()),
            Extras::Keep | Extras::DeleteExcluded => None,
        };
        Recorder { rules, kept, lists: RefCell::default() }
    }

    /// A side lists this key, which is hardly the one it stores.
    pub(super) fn lossy(&self, side: SideName, key: &[u8]) {
        self.doubt(Doubt::Lossy(side, String::from_utf8_lossy(key).into_owned()));
    }

    /// A side that was believed to list in key order does not.
    pub(super) fn disorder(&self, side: SideName) {
        self.doubt(Doubt::Disorder(side));
    }

    /// A key that only the target lists.
    pub(super) fn extra(&self, source: &Side, entry: EntryRef<'_>) {
        match self.rules.extras {
            Extras::Keep => return,
            Extras::Delete | Extras::DeleteExcluded => {}
        }
        let Ok(key) = std::str::from_utf8(entry.key) else { return self.lossy(SideName::Target, entry.key) };
        match self.kept.as_ref().map(|filters| filter::shields_extra(filters, entry.key)) {
            Some(Ok(true)) => return,
            Some(Err(undecided)) => return self.doubt(Doubt::Incomplete(format!("`{key}`: {undecided}"))),
            Some(Ok(false)) | None => {}
        }
        // A directory also has what it does not list: pipes, sockets, links that lead nowhere.
        if let Side::Local(side) = source {
            match side.holds(key) {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return self.doubt(Doubt::Incomplete(format!("`{key}`: {error}"))),
            }
        }
        self.write(&entry.to_entry(key), |lists| &mut lists.extras);
    }

    /// An object that is at the target now.
    pub(super) fn copied(&self, entry: &Entry, receipt: &Receipt, both_local: bool) {
        let proven = match receipt.proof {
            Proof::Checksum | Proof::ETag | Proof::ChecksumAndETag => true,
            Proof::None(Unproven::Local) => both_local,
            Proof::None(_) => false,
        };
        if self.rules.copied == Copied::Delete && proven {
            let (size_bytes, version) = (receipt.size_bytes, receipt.version.clone());
            let key = entry.key.clone();
            let entry = Entry { key, size_bytes, modified_ns: version.modified_ns, etag: version.etag, version: None };
            self.write(&entry, |lists| &mut lists.copied);
        }
    }

    /// An object that a dry run would copy.
    pub(super) fn would_be_copied(&self, entry: &Entry) {
        if self.rules.copied == Copied::Delete {
            self.write(entry, |lists| &mut lists.copied);
        }
    }

    /// What was written down.
    pub(super) fn take(&self) -> Recorded {
        self.lists.take()
    }

    fn write(&self, entry: &Entry, list: impl Fn(&mut Recorded) -> &mut Record) {
        let written = list(&mut self.lists.borrow_mut()).push(entry);
        if let Err(error) = written {
            let place = std::env::temp_dir();
            self.doubt(Doubt::Incomplete(format!("a temporary file in `{}`: {error}", place.display())));
        }
    }

    fn doubt(&self, doubt: Doubt) {
        self.lists.borrow_mut().doubt.get_or_insert(doubt);
    }
}

/// What the run knows when nothing is left but to delete.
#[derive(Debug, Clone, Default)]
struct Found {
    extras: u64,
    copied: u64,
    source_listed: u64,
    target_listed: u64,
    /// A part of the key space was not listed to its end.
    listing_failed: bool,
    failed_objects: u64,
    doubt: Option<Doubt>,
}

/// Why nothing is deleted although something was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Withheld {
    Listing,
    Failures(u64),
    EmptySource,
    Doubt(Doubt),
    TooMany { objects: u64, listed: Option<u64>, max: DeletesMax },
}

impl Withheld {
    /// Whether the run did all it could, and refuses the rest: what failed has its own exit code.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Withheld::Listing | Withheld::Failures(_) => false,
            Withheld::EmptySource | Withheld::Doubt(_) | Withheld::TooMany { .. } => true,
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Withheld::Listing => f.write_str(
                "nothing was deleted, since a side was not listed to its end; run the same command again when it can be",
            ),
            Withheld::Failures(objects) => write!(
                f,
                "nothing was deleted from the target, since {objects} objects failed; see to these and run the same \
                 command again"
            ),
            Withheld::EmptySource => f.write_str(
                "nothing was deleted: the source lists no objects at all, so that the target would be emptied; check the \
                 source, or give --allow-empty-source if that is right",
            ),
            Withheld::Doubt(Doubt::Lossy(side, key)) => write!(
                f,
                "nothing was deleted: the {side} lists the key `{key}`, which is hardly the one it stores, so that objects \
                 may look absent that are not; rename it, or sync without --delete"
            ),
            Withheld::Doubt(Doubt::Disorder(side)) => write!(
                f,
                "nothing was deleted: the {side} does not list in key order, so that an object may have looked absent that was \
                 listed later; sync without --delete"
            ),
            Withheld::Doubt(Doubt::Incomplete(what)) => {
                write!(f, "nothing was deleted: the list of what is to go could not be made: {what}")
            }
            Withheld::TooMany { objects, listed, max } => {
                write!(f, "nothing was deleted: {objects} objects would be")?;
                if let Some(listed) = listed {
                    write!(f, ", of {listed}")?;
                }
                match max {
                    DeletesMax::Objects(max) => {
                        write!(f, ", and --max-delete allows {max}; give --max-delete {objects} if that is right")
                    }
                    DeletesMax::Percent(max) => {
                        write!(f, ", and --max-delete allows {max}%; give a higher --max-delete if that is right")
                    }
                }
            }
        }
    }
}

/// Whether what the target has alone may be deleted. Decided before the first object is, about all of them.
fn permit(found: &Found, rules: &Deletes) -> Result<(), Withheld> {
    permit_copied(found, rules)?;
    if found.failed_objects > 0 {
        return Err(Withheld::Failures(found.failed_objects));
    }
    if found.source_listed == 0 && !rules.allow_empty_source {
        return Err(Withheld::EmptySource);
    }
    Ok(())
}

/// Whether what was copied may be deleted at the source. Each of these was proven by itself, so that others that failed do
/// not matter.
fn permit_copied(found: &Found, rules: &Deletes) -> Result<(), Withheld> {
    if found.listing_failed {
        return Err(Withheld::Listing);
    }
    if let Some(doubt) = &found.doubt {
        return Err(Withheld::Doubt(doubt.clone()));
    }
    let too_many = |objects, listed, max| Err(Withheld::TooMany { objects, listed, max });
    match rules.max {
        None => Ok(()),
        Some(max @ DeletesMax::Objects(allowed)) => {
            let objects = found.extras + found.copied;
            if objects > allowed { too_many(objects, None, max) } else { Ok(()) }
        }
        Some(max @ DeletesMax::Percent(allowed)) => {
            let sides = [(found.extras, found.target_listed), (found.copied, found.source_listed)];
            let over = sides
                .into_iter()
                .find(|(objects, listed)| u128::from(*objects) * 100 > u128::from(allowed) * u128::from(*listed));
            over.map_or(Ok(()), |(objects, listed)| too_many(objects, Some(listed), max))
        }
    }
}

/// The phase, prepared before the run begins: the sides are opened then, so that a file system that is unmounted
/// meanwhile is not taken for an empty directory.
pub(super) struct LastPhase {
    pub(super) rules: Deletes,
    /// None in a dry run.
    pub(super) eraser: Option<Eraser>,
    /// Since when listings have been made.
    pub(super) started: Instant,
    /// What is to go comes from a plan, which is old, and not from this run's listings.
    pub(super) planned: bool,
    pub(super) progress_interval: Duration,
    pub(super) paces: Paces,
    pub(super) limited: Limited,
}

/// How the phase ended.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) withheld: Option<Withheld>,
    pub(super) signal: Option<i32>,
    pub(super) fatal: Option<(String, ExitCode)>,
}

impl LastPhase {
    /// Deletes what may be deleted, and counts it.
    pub(super) async fn run(
        &self,
        recorded: Vec<Recorded>,
        counts: &mut Counts,
        listing_failed: bool,
        stop: &StopHandle,
        observer: &mut dyn Observer,
    ) -> Ended {
        let sum = |list: fn(&Recorded) -> u64| recorded.iter().map(list).sum::<u64>();
        let mut found = Found {
            extras: sum(|lists| lists.extras.len()),
            copied: sum(|lists| lists.copied.len()),
            source_listed: counts.source_listed,
            target_listed: counts.target_listed,
            listing_failed,
            failed_objects: counts.failed_objects,
            doubt: recorded.iter().find_map(|lists| lists.doubt.clone()),
        };
        if found.extras + found.copied == 0 && !matches!(found.doubt, Some(Doubt::Incomplete(_))) {
            return Ended::default();
        }
        counts.planned_deletes = found.extras + found.copied;
        let withheld = permit(&found, &self.rules).err();
        // With no extras to think of, what was copied is judged alone.
        let withheld_copied = permit_copied(&found, &self.rules).err();
        let withheld = if found.extras == 0 { withheld_copied.clone() } else { withheld };
        if withheld.is_some() {
            found.extras = 0;
        }
        if withheld_copied.is_some() {
            found.copied = 0;
        }
        let mut batches = Batches::default();
        for lists in recorded {
            if found.extras > 0 {
                batches.lists.push((SideName::Target, lists.extras));
            }
            if found.copied > 0 {
                batches.lists.push((SideName::Source, lists.copied));
            }
        }
        let ended = match &self.eraser {
            Some(eraser) => self.erase(eraser, batches, counts, stop, observer).await,
            None => foretell(batches, stop, observer),
        };
        Ended { withheld, ..ended }
    }

    async fn erase(
        &self,
        eraser: &Eraser,
        mut batches: Batches,
        counts: &mut Counts,
        stop: &StopHandle,
        observer: &mut dyn Observer,
    ) -> Ended {
        let mut progress = tokio::time::interval(self.progress_interval);
        let mut under_way = FuturesUnordered::new();
        let mut in_doubt = 0;
        let mut ended = Ended::default();
        loop {
            while under_way.len() < BATCHES_MAX && ended.fatal.is_none() {
                match batches.next() {
                    Ok(Some((side, batch))) => {
                        in_doubt += batch.len();
                        under_way.push(self.batch(eraser, side, batch));
                    }
                    Ok(None) => break,
                    Err(error) => ended.fatal = Some(unreadable(&error)),
                }
            }
            if under_way.is_empty() {
                break;
            }
            tokio::select! {
                Some((side, fates)) = under_way.next() => {
                    in_doubt -= fates.len();
                    for (entry, fate) in fates {
                        tell(side, entry, fate, counts, observer, &mut ended);
                    }
                }
                signal = stop.asked() => {
                    ended.signal = Some(signal);
                    break;
                }
                _ = progress.tick() => {
                    observer.progress(&Progress {
                        counts: *counts,
                        elapsed: self.started.elapsed(),
                        stopping: false,
                        phase: Phase::Deleting,
                        concurrency: self.paces.now(),
                    });
                }
            }
        }
        drop(under_way);
        if ended.signal.is_some() {
            let text = format!(
                "stopped while deleting: {} of {} objects were deleted, and up to {in_doubt} more, whose deletion was under \
                 way",
                counts.deleted_objects, counts.planned_deletes,
            );
            observer.note(Note::Warning, &text);
        }
        for client in eraser.sides().into_iter().filter_map(Side::client) {
            counts.requests += client.requests.get();
            counts.retries += client.retries.get();
        }
        ended
    }

    async fn batch(&self, eraser: &Eraser, side: SideName, batch: Vec<Entry>) -> (SideName, Vec<(Entry, Fate)>) {
        self.limited.objects.take(batch.len() as u64).await;
        let fates = match side {
            SideName::Target => {
                let look_up = match self.started.elapsed() < self.rules.look_up_after {
                    _ if self.planned => LookUp::BothSides,
                    true => LookUp::Nothing,
                    false => LookUp::Source,
                };
                eraser.extras(batch, look_up).await
            }
            SideName::Source => eraser.copied(batch).await,
        };
        (side, fates)
    }
}

/// An entry as events show it.
pub(super) fn listed(entry: &Existing) -> Listed {
    let etag = entry.etag.as_ref().map(ETag::to_string);
    Listed { size_bytes: entry.size_bytes, modified_ns: entry.modified_ns, etag }
}

/// Says what would be deleted.
fn foretell(mut batches: Batches, stop: &StopHandle, observer: &mut dyn Observer) -> Ended {
    loop {
        let signal = stop.signal();
        if signal.is_some() {
            return Ended { signal, ..Ended::default() };
        }
        match batches.next() {
            Ok(Some((side, batch))) => batch.into_iter().for_each(|entry| {
                let listed = listed(&Existing::from(&entry));
                let (key, size_bytes) = (entry.key.into(), entry.size_bytes);
                observer.event(&Event::PlannedDelete { key, size_bytes, side: side.word(), listed });
            }),
            Ok(None) => return Ended::default(),
            Err(error) => return Ended { fatal: Some(unreadable(&error)), ..Ended::default() },
        }
    }
}

fn unreadable(error: &io::Error) -> (String, ExitCode) {
    (format!("the list of what is to be deleted cannot be read: {error}"), ExitCode::SomeFailed)
}

/// Counts what became of an object, and says so.
fn tell(side: SideName, entry: Entry, fate: Fate, counts: &mut Counts, observer: &mut dyn Observer, ended: &mut Ended) {
    let (key, size_bytes) = (String::from(entry.key), entry.size_bytes);
    let error = match fate {
        Fate::Deleted => {
            counts.deleted_objects += 1;
            return observer.event(&Event::Deleted { key, size_bytes, side: side.word() });
        }
        Fate::Kept(reason) => {
            counts.warnings += 1;
            return observer.event(&Event::Warned { key, reason: format!("not deleted from the {side}: {reason}") });
        }
        Fate::Failed(error) => error,
        Fate::Hopeless(error) => {
            let text = format!("deleting `{key}` from the {side} failed: {error}");
            ended.fatal.get_or_insert((text, preflight::exit_code_of(&error)));
            error.to_string()
        }
    };
    counts.failed_objects += 1;
    counts.failed_deletes += 1;
    observer.event(&Event::Failed { key, error: format!("deleting it from the {side} failed: {error}") });
}

/// The lists of all shards, a batch at a time.
#[derive(Default)]
struct Batches {
    lists: Vec<(SideName, Record)>,
    open: Option<(SideName, Entries)>,
}

type Entries = Box<dyn Iterator<Item = io::Result<Entry>>>;

impl Batches {
    fn next(&mut self) -> io::Result<Option<(SideName, Vec<Entry>)>> {
        loop {
            let (side, entries) = match &mut self.open {
                Some(open) => open,
                None => match self.lists.pop() {
                    Some((side, list)) => self.open.insert((side, Box::new(list.entries()?))),
                    None => return Ok(None),
                },
            };
            let batch = entries.take(BATCH_MAX).collect::<io::Result<Vec<_>>>()?;
            if !batch.is_empty() {
                return Ok(Some((*side, batch)));
            }
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_the_whole_table_of_conditions() {
        let rules = Deletes { extras: Extras::Delete, ..Deletes::default() };
        let fine = Found { extras: 5, source_listed: 5, target_listed: 10, ..Found::default() };
        let lossy = Doubt::Lossy(SideName::Source, "\u{FFFD}".to_owned());
        let incomplete = Doubt::Incomplete("disk full".to_owned());
        let max = |max| Deletes { max: Some(max), ..rules };
        let too_many = |objects, listed, max| Err(Withheld::TooMany { objects, listed, max });
        use DeletesMax::{Objects, Percent};
        let moved = Found { extras: 2, copied: 3, ..fine.clone() };
        // (what was found, the rules, about extras, about what was copied)
        let table = [
            (fine.clone(), rules, Ok(()), Ok(())),
            (Found { listing_failed: true, ..fine.clone() }, rules, Err(Withheld::Listing), Err(Withheld::Listing)),
            (Found { failed_objects: 1, ..fine.clone() }, rules, Err(Withheld::Failures(1)), Ok(())),
            (Found { source_listed: 0, ..fine.clone() }, rules, Err(Withheld::EmptySource), Ok(())),
            (Found { source_listed: 0, ..fine.clone() }, Deletes { allow_empty_source: true, ..rules }, Ok(()), Ok(())),
            (
                Found { doubt: Some(lossy.clone()), ..fine.clone() },
                rules,
                Err(Withheld::Doubt(lossy.clone())),
                Err(Withheld::Doubt(lossy)),
            ),
            (
                Found { doubt: Some(incomplete.clone()), ..fine.clone() },
                rules,
                Err(Withheld::Doubt(incomplete.clone())),
                Err(Withheld::Doubt(incomplete)),
            ),
            (fine.clone(), max(Objects(5)), Ok(()), Ok(())),
            (fine.clone(), max(Objects(4)), too_many(5, None, Objects(4)), too_many(5, None, Objects(4))),
            (fine.clone(), max(Objects(0)), too_many(5, None, Objects(0)), too_many(5, None, Objects(0))),
            (fine.clone(), max(Percent(50)), Ok(()), Ok(())),
            (fine.clone(), max(Percent(49)), too_many(5, Some(10), Percent(49)), too_many(5, Some(10), Percent(49))),
            (fine, max(Percent(100)), Ok(()), Ok(())),
            (moved.clone(), max(Objects(5)), Ok(()), Ok(())),
            (moved.clone(), max(Objects(4)), too_many(5, None, Objects(4)), too_many(5, None, Objects(4))),
            (moved.clone(), max(Percent(60)), Ok(()), Ok(())),
            (moved, max(Percent(59)), too_many(3, Some(5), Percent(59)), too_many(3, Some(5), Percent(59))),
        ];
        for (found, rules, extras, copied) in table {
            assert_eq!(permit(&found, &rules), extras, "{found:?} {rules:?}");
            assert_eq!(permit_copied(&found, &rules), copied, "{found:?} {rules:?}");
        }
    }
}
