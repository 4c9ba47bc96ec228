//! Versions of objects instead of what their keys mean now: those of one moment, or all of them.
//!
//! Where all are carried, both sides are listed with their versions and merged like any listings, and each key of the source
//! is one action, with all its versions. A worker carries these one after the other, the oldest first, so that they come to
//! stand at the target in the order in which they came into being; keys go side by side. What the target has of them is
//! known by the metadata that it was given, for which each of its versions is asked.

use std::collections::HashSet;
use std::rc::Rc;

use super::filters;
use super::shard::{Shard, Token};
use crate::entry::{Action, Entry, EntryRef, Existing, History, ObjectVersion, Reason};
use crate::plan::compare::{Rule, Verdict, compare};
use crate::plan::versions::{self, Step};
use crate::report::tally::add;
use crate::report::{Event, Listed};
use crate::settings::Versions;
use crate::transfer;

/// Decides about a key whose versions were listed, and queues what follows.
pub(super) async fn decide(shard: &Rc<Shard>, token: &Rc<Token>, source: EntryRef<'_>, target: Option<EntryRef<'_>>) {
    // A single object is listed with what lies just before it.
    if shard.sides.single.as_ref().is_some_and(|single| single.key.as_bytes() != source.key) {
        return;
    }
    let Ok(key) = std::str::from_utf8(source.key) else {
        add(&shard.tally.failed_objects, 1);
        let key = String::from_utf8_lossy(source.key).into_owned();
        return shard.event(Event::Failed { key, error: "its key is not UTF-8".to_owned() }).await;
    };
    match shard.orders.versions {
        Versions::At(time_ns) => {
            let Some(version) = versions::at(source.versions, time_ns) else { return };
            if !filters::leave_out_version(shard, key, version).await {
                let mut action = of_version(key, version);
                action.existing = target.map(Existing::from);
                match reason(shard, &action.entry, target) {
                    Some(reason) => action.reason = reason,
                    None => return skip(shard, key, action.entry.size_bytes).await,
                }
                add(&shard.tally.planned_objects, 1);
                add(&shard.tally.planned_bytes, action.entry.size_bytes);
                shard.enqueue(action, token).await;
            }
        }
        Versions::All => {
            let mut counting = Vec::new();
            for version in source.versions {
                if !filters::leave_out_version(shard, key, version).await {
                    counting.push(version.clone());
                }
            }
            let Some(newest) = counting.first() else { return };
            let contents = counting.iter().filter_map(|version| version.content.as_ref());
            add(&shard.tally.planned_objects, contents.clone().count() as u64);
            add(&shard.tally.planned_bytes, contents.map(|content| content.size_bytes).sum());
            let mut action = of_version(key, newest);
            let target = target.map(|target| target.versions.to_vec()).unwrap_or_default();
            action.history = Some(Box::new(History { source: counting, target }));
            shard.enqueue(action, token).await;
        }
        Versions::Latest => unreachable!("then no versions are listed"),
    }
}

/// Why the version of a moment is copied: whatever the target has, unless it is to be compared by its checksum. None if it is
/// not.
fn reason(shard: &Shard, source: &Entry, target: Option<EntryRef<'_>>) -> Option<Reason> {
    if shard.orders.rule == Rule::Newer {
        return Some(Reason::Version);
    }
    let source = EntryRef {
        key: source.key.as_bytes(),
        size_bytes: source.size_bytes,
        modified_ns: source.modified_ns,
        etag: source.etag.as_ref(),
        versions: &[],
    };
    match compare(shard.orders.rule, shard.orders.direction, source, target) {
        Verdict::Skip => None,
        Verdict::Copy(reason) => Some(reason),
        Verdict::AskStoredTime(file_ns) => Some(Reason::UnlessStoredTimeIs(file_ns)),
        Verdict::AskContent(by) => Some(Reason::UnlessSame(by)),
    }
}

async fn skip(shard: &Shard, key: &str, size_bytes: u64) {
    add(&shard.tally.skipped_objects, 1);
    if shard.orders.events.skipped {
        shard.event(Event::Skipped { key: key.to_owned(), size_bytes }).await;
    }
}

/// Carries all versions of a key that the target does not have.
pub(super) async fn carry_out(shard: &Shard, action: &Action, history: &History) {
    let key = &*action.entry.key;
    let steps_left = |steps: &[Step<'_>]| steps.iter().filter(|step| !matches!(step, Step::Delete(_))).count() as u64;
    let origins = match transfer::origins(&shard.kit, key, &history.target).await {
        Ok(origins) => origins,
        Err(error) => {
            let all = versions::steps(&history.source, |_| false, true);
            return failed(shard, action, error, steps_left(&all)).await;
        }
    };
    let origins: HashSet<&str> = origins.iter().map(String::as_str).collect();
    let is_deleted = history.target.first().is_none_or(|newest| newest.content.is_none());
    let steps = versions::steps(&history.source, |id| origins.contains(id.as_str()), is_deleted);
    for (index, step) in steps.iter().enumerate() {
        let done = match step {
            Step::Skip(version) => {
                shard.settled(&of_version(key, version)).await;
                Ok(())
            }
            Step::Carry(version) => carry(shard, &of_version(key, version)).await,
            Step::Delete(marker) => delete(shard, key, marker).await,
        };
        if let Err(error) = done {
            // Those that follow would come to stand before it the next time.
            return failed(shard, action, error, steps_left(&steps[index..])).await;
        }
    }
}

async fn carry(shard: &Shard, action: &Action) -> Result<(), transfer::Error> {
    if shard.kit.stop.asked() {
        return Err(transfer::Error::Stopped);
    }
    if shard.filters.asks() && filters::leave_out_asked(shard, action).await? {
        return Ok(());
    }
    if shard.orders.dry_run {
        shard.planned(action).await;
        return Ok(());
    }
    let receipt = shard.transfer(action).await?;
    shard.transferred(action, receipt).await;
    Ok(())
}

/// Deletes the key at the target, which leaves a delete marker there.
async fn delete(shard: &Shard, key: &str, marker: &ObjectVersion) -> Result<(), transfer::Error> {
    let (key, side, size_bytes) = (key.to_owned(), "target", 0);
    add(&shard.tally.planned_deletes, 1);
    if shard.orders.dry_run {
        let listed = Listed { size_bytes, modified_ns: marker.modified_ns, etag: None };
        shard.event(Event::PlannedDelete { key, size_bytes, side, listed }).await;
        return Ok(());
    }
    transfer::mark_deleted(&shard.kit, &key).await?;
    add(&shard.tally.deleted_objects, 1);
    if shard.orders.events.transferred {
        shard.event(Event::Deleted { key, size_bytes, side }).await;
    }
    Ok(())
}

/// What was to be done about a key ended with so many versions to go, that at which it ended included.
async fn failed(shard: &Shard, action: &Action, error: transfer::Error, left: u64) {
    let stopped = matches!(error, transfer::Error::Stopped);
    let left_alone = error.left_alone().is_some();
    shard.failed(action, error).await;
    let waiting = left.saturating_sub(1);
    if waiting > 0 && !stopped {
        add(&shard.tally.failed_objects, waiting);
        let error = match left_alone {
            true => "later versions of it were not carried, since one before them could not be".to_owned(),
            false => format!(
                "{waiting} later versions of it were not carried, since they must come after the one that failed"
            ),
        };
        shard.event(Event::Failed { key: action.entry.key.to_string(), error }).await;
    }
}

/// The action about one version.
fn of_version(key: &str, version: &ObjectVersion) -> Action {
    let content = version.content.as_ref();
    let entry = Entry {
        key: key.into(),
        size_bytes: content.map_or(0, |content| content.size_bytes),
        modified_ns: version.modified_ns,
        etag: content.and_then(|content| content.etag.clone()),
        version: Some(version.id.clone()),
    };
    Action { entry, reason: Reason::Version, existing: None, history: None }
}
