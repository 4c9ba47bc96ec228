//! One key range: both sides listed, merged, compared, and the actions queued.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use ropeway_io::path::Follow;

use super::live::{Live, Piece};
use super::shard::{Shard, Token, Told};
use super::{filters, plan_file, report, verify, versions};
use crate::entry::{Action, Entry, EntryRef, Existing, KeyRange, Page, Reason, SideName};
use crate::listing::{self, Listing, Problem, Trail};
use crate::plan::compare::{Verdict, compare};
use crate::plan::merge::{Merge, Step};
use crate::report::Event;
use crate::report::tally::add;
use crate::settings::{Task, Versions};
use crate::transfer::{Ending, Resume, Side};

/// How the two sides are listed.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    /// The one entry that is synced, if the person named a single file or object.
    pub(super) single: Option<Entry>,
    /// Whether the target is listed: not if it does not exist yet, which a dry run must not change, or is not looked at.
    pub(super) lists_target: bool,
    /// Nothing is listed: what is to be done is in this file.
    pub(super) plan: Option<Arc<Path>>,
    /// What the keys of our own journals begin with, if those lie within the source: they change while they are read.
    pub(super) own_state: Option<Vec<u8>>,
}

/// Why a range could not be listed to its end: the side, and what happened there.
type Failure = (SideName, listing::Error);

/// Lists one range after the other until the run ends.
pub(super) async fn list_ranges(shard: Rc<Shard>) {
    while let Some((live, token)) = shard.next_range().await {
        let token = Rc::new(token);
        let stop = shard.kit.stop.clone();
        if let Some(plan) = &shard.sides.plan {
            // The plan is one; another shard would do it again.
            live.keep_whole();
            if let Err(told) = plan_file::feed(&shard, plan, &token).await {
                shard.tell(told).await;
            }
            shard.ended(&live);
            continue;
        }
        let synced = tokio::select! {
            synced = sync_range(&shard, &live, &token) => synced,
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
        let [source_rows, target_rows] = live.rows();
        tracing::debug!(shard = shard.id, source_rows, target_rows, "listed a range");
        shard.ended(&live);
    }
}

/// The whole story of a range: it is walked from its start to its end, and if a side turns out not to list in order, once
/// more, with that side sorted. What was decided before stands.
async fn sync_range(shard: &Rc<Shard>, live: &Live, token: &Rc<Token>) -> Result<(), Failure> {
    let mut decided = Decided::default();
    loop {
        let mut walk = Walk::open(shard, live, decided)?;
        match walk.run(token).await? {
            Walked::Whole => {
                // One that is given up at the end of a run was not gone through.
                if !shard.kit.stop.asked() && shard.kit.resume == Resume::Continue {
                    shard.kit.journal.done(live.keys()).await;
                }
                return Ok(());
            }
            Walked::OutOfOrder => decided = walk.set_back(),
        }
    }
}

/// The keys of the source that earlier walks have dealt with.
#[derive(Default)]
struct Decided {
    /// All up to this one, in key order.
    up_to: Vec<u8>,
    /// The first rows of the listing, in the order in which it came, which was not key order.
    rows: Trail,
}

/// One walk through a range.
struct Walk<'a> {
    shard: &'a Rc<Shard>,
    live: &'a Live,
    source: Listing,
    target: Listing,
    decided: Decided,
    /// What has been taken of the source's listing.
    trail: Trail,
    last: Vec<u8>,
    /// Entries counted, by side.
    listed: [u64; 2],
    /// Sides that are listed in the order in which they come.
    as_it_comes: [bool; 2],
}

/// How a walk ended.
enum Walked {
    /// All of the range has been decided.
    Whole,
    /// A side is not in order.
    OutOfOrder,
}

impl<'a> Walk<'a> {
    fn open(shard: &'a Rc<Shard>, live: &'a Live, decided: Decided) -> Result<Walk<'a>, Failure> {
        let as_it_comes = [SideName::Source, SideName::Target].map(|side| shard.trust.is_ordered(side));
        if as_it_comes != [true; 2] || shard.sides.single.is_some() {
            live.keep_whole();
        }
        let open = |name, range: &KeyRange, seen: Trail| match shard.side(name) {
            Side::Local(side) => {
                let links = if name == SideName::Source { shard.filters.links() } else { Follow::Never };
                Listing::local(links, &side.root, range)
            }
            // Of the target, where it is listed at all, a moment is compared with what is there now.
            Side::Bucket(side) if shard.orders.lists_versions(name) => {
                Listing::versions(side.client.clone(), side.prefix.clone(), range)
            }
            Side::Bucket(side) if as_it_comes[name as usize] => {
                Ok(Listing::bucket(side.client.clone(), side.prefix.clone(), range))
            }
            Side::Bucket(side) => Listing::sorted(side.client.clone(), side.prefix.clone(), range, seen),
        };
        let open = |name, range: &KeyRange, seen| open(name, range, seen).map_err(|error| (name, error));
        let range = live.keys();
        let (source, target_range) = match &shard.sides.single {
            Some(entry) if shard.orders.versions != Versions::Latest => {
                let range = single_key(&entry.key);
                (open(SideName::Source, &range, Trail::default())?, range)
            }
            Some(entry) => (Listing::One(Some(page_of(entry))), single_key(&entry.key)),
            None => (open(SideName::Source, &range, decided.rows.clone())?, range),
        };
        let target = match shard.sides.lists_target {
            false => Listing::One(None),
            true => open(SideName::Target, &target_range, Trail::default())?,
        };
        let (trail, last, listed) = (Trail::default(), Vec::new(), [0; 2]);
        Ok(Walk { shard, live, source, target, decided, trail, last, listed, as_it_comes })
    }

    async fn run(&mut self, token: &Rc<Token>) -> Result<Walked, Failure> {
        let mut merge = Merge::behind(self.live.keys().after.as_deref());
        loop {
            match merge.step() {
                Step::Need(side) => match self.next_page(side).await? {
                    Some(page) => merge.feed(side, page),
                    None => merge.finish(side),
                },
                Step::SourceOnly(entry) => {
                    if self.live.is_past(entry.key) {
                        return Ok(self.end());
                    }
                    self.decide(token, entry, None).await?;
                }
                Step::Both(entry, existing) => {
                    if self.live.is_past(entry.key) {
                        return Ok(self.end());
                    }
                    self.count(SideName::Target);
                    self.decide(token, entry, Some(existing)).await?;
                }
                Step::TargetOnly(entry) => {
                    if self.live.is_past(entry.key) {
                        return Ok(self.end());
                    }
                    self.count(SideName::Target);
                    extra(self.shard, entry).await;
                }
                Step::Disorder(side, key) => {
                    self.live.keep_whole();
                    // What looked absent before this may have come later.
                    self.shard.recorder.disorder(side);
                    if !matches!(self.shard.orders.task, Task::Sync) || self.shard.orders.versions != Versions::Latest {
                        let key = String::from_utf8_lossy(key);
                        let text = format!(
                            "`{key}` is listed twice, or after a key that sorts as high or higher, so what was said to be \
                             missing may be there"
                        );
                        return Err((side, listing::Error::Protocol(text)));
                    }
                    if self.shard.trust.found_unordered(side) {
                        let reason = format!(
                            "the {side} does not list in key order: this key comes twice, or after one that sorts as high or \
                             higher; the listing is sorted on disk"
                        );
                        self.shard.warn(key, reason).await;
                    }
                    return Ok(Walked::OutOfOrder);
                }
                Step::Done => return Ok(self.end()),
            }
        }
    }

    /// A side's next page, or None at its end.
    async fn next_page(&mut self, side: SideName) -> Result<Option<Page>, Failure> {
        let listing = match side {
            SideName::Source => &mut self.source,
            SideName::Target => &mut self.target,
        };
        if let Some(through) = self.live.keys().through {
            listing.end_at(&through);
        }
        let mut problems = Vec::new();
        let page = listing.next(&mut problems).await.map_err(|error| (side, error))?;
        let cut = if self.shard.pieces_wanted() > 0 { listing.split_key() } else { None };
        match side {
            SideName::Source => {
                // Behind the range they are another lister's to report.
                problems.retain(|problem| !self.live.is_past(problem.key.as_bytes()));
                report_problems(self.shard, problems).await;
            }
            SideName::Target => {
                // What is wrong with a file at the target concerns only a key that is to be written there; a directory that
                // cannot be read would make all beneath it look absent, and be overwritten.
                if let Some(hidden) = problems.into_iter().find(|problem| problem.hides_entries) {
                    let text = format!("`{}`: {}", hidden.key, hidden.reason);
                    return Err((side, listing::Error::Protocol(text)));
                }
            }
        }
        self.live.fed(side, page.as_ref());
        if let Some(key) = page.as_ref().and_then(listing::lossy_key) {
            self.shard.recorder.lossy(side, key);
            if self.shard.trust.found_lossy(side) {
                let reason = format!(
                    "the {side} lists names that it could not decode: this key holds U+FFFD, so it may stand for another name, \
                     and no extra object can be told from one that is there"
                );
                self.shard.warn(key, reason).await;
            }
        }
        // A directory is cut where its entries are; a bucket has to be asked, which the shard's cutters do.
        let is_local = |side| matches!(self.shard.side(side), Side::Local(_));
        match cut.filter(|_| self.live.busier(is_local) == Some(side)) {
            Some(cut) => {
                self.shard.offer_ranges(self.live.cut(&[cut.into()]).into_iter().map(Piece::new));
            }
            None => self.shard.range_has_news(),
        }
        Ok(page)
    }

    fn count(&mut self, side: SideName) {
        self.listed[side as usize] += 1;
        add(listed(self.shard, side), 1);
    }

    async fn decide(
        &mut self,
        token: &Rc<Token>,
        source: EntryRef<'_>,
        target: Option<EntryRef<'_>>,
    ) -> Result<(), Failure> {
        self.count(SideName::Source);
        let seen = match &self.source {
            Listing::Sorted(sorted) => sorted.was_seen(source.key).map_err(|error| (SideName::Source, error.into()))?,
            Listing::Local(_) | Listing::Bucket(_) | Listing::Versions(_) | Listing::One(_) => false,
        };
        if !seen && source.key > self.decided.up_to.as_slice() {
            decide(self.shard, token, source, target).await;
        }
        self.trail.add(source.key);
        self.last.clear();
        self.last.extend_from_slice(source.key);
        Ok(())
    }

    /// The range has been walked to its end, in order. If that was not the order of a side after all, as another range has
    /// shown meanwhile, keys of this one may have been listed with others.
    fn end(&self) -> Walked {
        let KeyRange { after, through } = self.live.keys();
        if after.is_none() && through.is_none() {
            return Walked::Whole;
        }
        self.live.keep_whole();
        for side in [SideName::Source, SideName::Target].into_iter().filter(|side| self.as_it_comes[*side as usize]) {
            if !self.shard.trust.is_ordered(side) {
                return Walked::OutOfOrder;
            }
            self.shard.trust.finished_cut_range(side);
        }
        Walked::Whole
    }

    /// The walk has to be made once more: takes back what it counted, and says what it decided.
    fn set_back(self) -> Decided {
        for side in [SideName::Source, SideName::Target] {
            let counter = listed(self.shard, side);
            counter.set(counter.get() - self.listed[side as usize]);
        }
        let source_came = self.as_it_comes[SideName::Source as usize];
        match (source_came, self.shard.trust.is_ordered(SideName::Source)) {
            // In key order, so far as anybody knows.
            (true, true) => Decided { up_to: self.last, rows: Trail::default() },
            (true, false) => Decided { up_to: Vec::new(), rows: self.trail },
            // It was sorted.
            (false, _) => Decided { up_to: self.last, rows: self.decided.rows },
        }
    }
}

fn listed(shard: &Shard, side: SideName) -> &Cell<u64> {
    match side {
        SideName::Source => &shard.tally.source_listed,
        SideName::Target => &shard.tally.target_listed,
    }
}

fn page_of(entry: &Entry) -> Page {
    let key = 0..entry.key.len() as u32;
    let row = crate::entry::Row {
        key,
        size_bytes: entry.size_bytes,
        modified_ns: entry.modified_ns,
        etag: entry.etag.clone(),
    };
    Page { text: entry.key.as_bytes().to_vec(), rows: vec![row], ..Page::default() }
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

/// A key that only the target has.
async fn extra(shard: &Shard, entry: EntryRef<'_>) {
    // Beside a single object, the little that was listed is not looked for at the source.
    if shard.sides.single.is_none() {
        shard.recorder.extra(&shard.kit.source, entry);
        if let Task::Verify(_) = shard.orders.task
            && shard.filters.takes_key(entry.key)
        {
            verify::extra(shard, entry).await;
        }
    }
}

/// Compares one key of the source and queues what follows.
async fn decide(shard: &Rc<Shard>, token: &Rc<Token>, source: EntryRef<'_>, target: Option<EntryRef<'_>>) {
    if shard.sides.own_state.as_ref().is_some_and(|own| source.key.starts_with(own)) {
        return;
    }
    if shard.orders.versions != Versions::Latest {
        return versions::decide(shard, token, source, target).await;
    }
    if filters::leave_out_listed(shard, source).await {
        return;
    }
    match shard.orders.task {
        Task::Sync => {}
        Task::Verify(depth) => return verify::listed(shard, token, depth, source, target).await,
        Task::Report(_) => return report::listed(shard, token, source, target).await,
    }
    let verdict = match shard.orders.ignores_target {
        true => Verdict::Copy(Reason::Unconditional),
        false => compare(shard.orders.rule, shard.orders.direction, source, target),
    };
    let reason = match verdict {
        Verdict::Skip if shard.orders.sync_tags => Reason::Tags,
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
        Verdict::AskContent(by) => Reason::UnlessSame(by),
    };
    let Ok(key) = std::str::from_utf8(source.key) else {
        add(&shard.tally.failed_objects, 1);
        let key = String::from_utf8_lossy(source.key).into_owned();
        let error = "its name is not UTF-8, which S3 keys must be; rename it".to_owned();
        return shard.event(Event::Failed { key, error }).await;
    };
    add(&shard.tally.planned_objects, 1);
    add(&shard.tally.planned_bytes, source.size_bytes);
    let entry = source.to_entry(key);
    let existing = target.map(Existing::from);
    shard.enqueue(Action { entry, reason, existing, history: None }, token).await;
}

async fn report_problems(shard: &Shard, problems: Vec<Problem>) {
    for Problem { key, reason, by_rule, hides_entries: _ } in problems {
        if let Task::Verify(_) = shard.orders.task {
            verify::unverifiable(shard, key, reason).await;
        } else if by_rule {
            add(&shard.tally.warnings, 1);
            shard.event(Event::Warned { key, reason: format!("left out: {reason}") }).await;
        } else {
            add(&shard.tally.failed_objects, 1);
            shard.event(Event::Failed { key, error: reason }).await;
        }
    }
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
