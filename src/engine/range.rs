//! One key range: both sides listed, merged, compared, and the actions queued.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::JoinHandle;

use super::shard::{Shard, Token, Told};
use crate::client;
use crate::entry::{Action, Entry, EntryRef, KeyRange, Page, Reason, SideName};
use crate::listing::{self, Listing, Problem, split};
use crate::plan::compare::{Verdict, compare};
use crate::plan::merge::{Merge, Step};
use crate::report::Event;
use crate::report::tally::add;
use crate::transfer::{Ending, Side};

/// How the two sides are listed.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    /// The one entry that is synced, if the person named a single file or object.
    pub(super) single: Option<Entry>,
    /// The target does not exist yet, which a dry run must not change.
    pub(super) target_absent: bool,
    /// What the keys of our own journals begin with, if those lie within the source: they change while they are read.
    pub(super) own_state: Option<Vec<u8>>,
}

/// Lists one range after the other until the run ends.
pub(super) async fn list_ranges(shard: Rc<Shard>) {
    while let Some((range, token)) = shard.next_range().await {
        shard.set_listing(true);
        let token = Rc::new(token);
        let stop = shard.kit.stop.clone();
        let synced = tokio::select! {
            synced = sync_range(&shard, range, &token) => synced,
            // A page that is on its way changes nothing, so nobody waits for it.
            () = stop.reached(Ending::Draining) => Ok(()),
        };
        if let Err((side, error)) = synced {
            let told = match super::preflight::fatal_listing(side, &error) {
                Some((text, code)) => Told::Fatal { text, code, objects: 0 },
                None => Told::RangeFailed(format!("listing the {side} failed: {error}")),
            };
            shard.tell(told).await;
        }
        shard.set_listing(false);
    }
}

/// The whole story of a range.
async fn sync_range(
    shard: &Rc<Shard>,
    mut range: KeyRange,
    token: &Rc<Token>,
) -> Result<(), (SideName, listing::Error)> {
    let (mut source, mut target) = open_listings(shard, &range)?;
    let mut merge = Merge::default();
    let mut cutting: Option<Cutting> = None;
    let mut problems = Vec::new();
    loop {
        match merge.step() {
            Step::Need(SideName::Source) => {
                let page = source.next(&mut problems).await.map_err(|error| (SideName::Source, error))?;
                // Behind the range they are another shard's to report.
                problems.retain(|problem| !range.is_past(problem.key.as_bytes()));
                report_problems(shard, &mut problems).await;
                if let Some(page) = &page {
                    give_tail(shard, &mut range, &mut cutting, &mut source, &mut target, page);
                }
                feed(&mut merge, SideName::Source, page);
            }
            Step::Need(SideName::Target) => {
                let page = target.next(&mut problems).await.map_err(|error| (SideName::Target, error))?;
                // What is wrong with a file at the target concerns only a key that is to be written there; a directory that
                // cannot be read would make all beneath it look absent, and be overwritten.
                if let Some(hidden) = problems.drain(..).find(|problem| problem.hides_entries) {
                    let text = format!("`{}`: {}", hidden.key, hidden.reason);
                    return Err((SideName::Target, listing::Error::Protocol(text)));
                }
                feed(&mut merge, SideName::Target, page);
            }
            Step::SourceOnly(entry) => {
                if range.is_past(entry.key) {
                    return Ok(());
                }
                add(&shard.tally.source_listed, 1);
                decide(shard, token, entry, None).await;
            }
            Step::Both(entry, existing) => {
                if range.is_past(entry.key) {
                    return Ok(());
                }
                add(&shard.tally.source_listed, 1);
                add(&shard.tally.target_listed, 1);
                decide(shard, token, entry, Some(existing)).await;
            }
            Step::TargetOnly(entry) => {
                if range.is_past(entry.key) {
                    return Ok(());
                }
                add(&shard.tally.target_listed, 1);
            }
            Step::Disorder(side, key) => {
                let key = String::from_utf8_lossy(key);
                let text =
                    format!("`{key}` is listed after a key that sorts as high or higher; such a listing is not safe");
                return Err((side, listing::Error::Protocol(text)));
            }
            Step::Done => return Ok(()),
        }
    }
}

fn open_listings(shard: &Shard, range: &KeyRange) -> Result<(Listing, Listing), (SideName, listing::Error)> {
    let open = |name, side: &Side, range: &KeyRange| match side {
        Side::Local(side) => Listing::local(name, &side.root, range).map_err(|error| (name, error)),
        Side::Bucket(side) => Ok(Listing::bucket(side.client.clone(), side.prefix.clone(), range)),
    };
    let (source, target_range) = match &shard.sides.single {
        Some(entry) => (Listing::One(Some(page_of(entry))), single_key(&entry.key)),
        None => (open(SideName::Source, &shard.kit.source, range)?, range.clone()),
    };
    let target = match shard.sides.target_absent {
        true => Listing::One(None),
        false => open(SideName::Target, &shard.kit.target, &target_range)?,
    };
    Ok((source, target))
}

fn page_of(entry: &Entry) -> Page {
    let key = 0..entry.key.len() as u32;
    let row = crate::entry::Row {
        key,
        size_bytes: entry.size_bytes,
        modified_ns: entry.modified_ns,
        etag: entry.etag.clone(),
    };
    Page { text: entry.key.as_bytes().to_vec(), rows: vec![row] }
}

/// A range with little more than one key in it: listings start behind a key, so it starts behind the largest text that can
/// be had below this one.
fn single_key(key: &str) -> KeyRange {
    let mut below = key.to_owned();
    if let Some(last) = below.pop().filter(|last| ('!'..='~').contains(last)) {
        below.push((last as u8 - 1) as char);
        below.push(char::MAX);
    }
    let after = (!below.is_empty()).then(|| below.into_bytes().into_boxed_slice());
    KeyRange { after, through: Some(key.as_bytes().into()) }
}

fn feed(merge: &mut Merge, side: SideName, page: Option<Page>) {
    match page {
        Some(page) => merge.feed(side, page),
        None => merge.finish(side),
    }
}

/// Compares one key of the source and queues what follows.
async fn decide(shard: &Rc<Shard>, token: &Rc<Token>, source: EntryRef<'_>, target: Option<EntryRef<'_>>) {
    if shard.sides.own_state.as_ref().is_some_and(|own| source.key.starts_with(own)) {
        return;
    }
    let reason = match compare(shard.orders.direction, source, target) {
        Verdict::Skip => {
            add(&shard.tally.skipped_objects, 1);
            if shard.orders.events.skipped {
                let key = String::from_utf8_lossy(source.key).into_owned();
                shard.event(Event::Skipped { key, size_bytes: source.size_bytes }).await;
            }
            return;
        }
        Verdict::Copy(reason) => reason,
        Verdict::AskStoredTime(file_ns) => Reason::UnlessStoredTimeIs(file_ns),
    };
    let Ok(key) = std::str::from_utf8(source.key) else {
        add(&shard.tally.failed_objects, 1);
        let key = String::from_utf8_lossy(source.key).into_owned();
        let error = "its name is not UTF-8, which S3 keys must be; rename it".to_owned();
        return shard.event(Event::Failed { key, error }).await;
    };
    add(&shard.tally.planned_objects, 1);
    add(&shard.tally.planned_bytes, source.size_bytes);
    let entry = Entry {
        key: key.into(),
        size_bytes: source.size_bytes,
        modified_ns: source.modified_ns,
        etag: source.etag.cloned(),
    };
    shard.enqueue(Action { entry, reason }, token).await;
}

async fn report_problems(shard: &Shard, problems: &mut Vec<Problem>) {
    for Problem { key, reason, by_rule, hides_entries: _ } in problems.drain(..) {
        if by_rule {
            add(&shard.tally.warnings, 1);
            shard.event(Event::Warned { key, reason: format!("left out: {reason}") }).await;
        } else {
            add(&shard.tally.failed_objects, 1);
            shard.event(Event::Failed { key, error: reason }).await;
        }
    }
}

/// A cut being looked for in a bucket.
struct Cutting {
    found: Rc<RefCell<Option<Box<[u8]>>>>,
    task: JoinHandle<()>,
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Between two pages: if someone has asked for work, cuts off the tail of the range and offers it. A directory is cut at once; in
/// a bucket the cut is looked for while listing goes on, and used if the listing has not come so far.
fn give_tail(
    shard: &Rc<Shard>,
    range: &mut KeyRange,
    cutting: &mut Option<Cutting>,
    source: &mut Listing,
    target: &mut Listing,
    page: &Page,
) {
    let Some(last) = page.last_key().filter(|last| !range.is_past(last)) else { return };
    let cut = match (&*source, &shard.kit.source) {
        (Listing::Local(listing), _) => {
            if shard.wants_cut() {
                listing.split_key().map(Vec::into_boxed_slice)
            } else {
                None
            }
        }
        (Listing::Bucket(_), Side::Bucket(side)) => match cutting {
            Some(found) if found.task.is_finished() => {
                let cut = found.found.take();
                *cutting = None;
                cut
            }
            Some(_) => None,
            None => {
                if shard.wants_cut() {
                    let left = KeyRange { after: Some(last.into()), through: range.through.clone() };
                    *cutting = Some(look_for_cut(side.client.clone(), side.prefix.clone(), left));
                }
                None
            }
        },
        _ => None,
    };
    let Some(cut) = cut.filter(|cut| **cut > *last && !range.is_past(cut)) else { return };
    for listing in [source, target] {
        if let Listing::Bucket(listing) = listing {
            listing.end_at(&cut);
        }
    }
    let tail = KeyRange { after: Some(cut.clone()), through: range.through.replace(cut) };
    shard.offer_range(tail);
}

fn look_for_cut(client: Rc<client::Client>, prefix: Rc<str>, left: KeyRange) -> Cutting {
    let found = Rc::new(RefCell::new(None));
    let result = found.clone();
    let task = tokio::task::spawn_local(async move {
        match split::cut(&client, &prefix, &left).await {
            Ok(cut) => *result.borrow_mut() = cut,
            Err(error) => tracing::debug!(%error, "no cut was found; the range stays whole"),
        }
    });
    Cutting { found, task }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_single_key_holds_it_and_starts_below_it() {
        for key in ["a", "file.txt", "dir/ü", "z ", "日本"] {
            let range = single_key(key);
            assert!(!range.is_past(key.as_bytes()));
            assert!(range.after.as_deref().is_none_or(|after| after < key.as_bytes()), "{key}");
            assert!(range.is_past(format!("{key}a").as_bytes()));
        }
    }
}
