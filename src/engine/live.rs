//! The ranges under way in a shard, and how the busiest of them is cut when a lister has nothing to do, here or elsewhere.
//!
//! A lister writes down how far it is with each page ([`Live::fed`]). The shard's cutters look for the range with the most
//! keys left, ask its busier side for keys to cut at (`listing::split`), and take the tails away ([`Live::cut`]): the lister
//! finds its range ending earlier, on both sides at the same key. A cut that the lister has passed meanwhile is left out, and
//! the others stand.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::shard::Shard;
use crate::client;
use crate::entry::{KeyRange, Page, SideName};
use crate::listing::split::{self, Alphabet, Known};
use crate::transfer::Side;

/// A range that nobody lists yet, and what is known of its end.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) keys: KeyRange,
    /// Nothing was found behind it, when it was last asked.
    pub(super) ceiling: Option<Box<[u8]>>,
    /// An earlier run has been through it.
    pub(super) is_done: bool,
    /// Whether the range that it was cut off had most of its keys near.
    near: bool,
    /// Where that range learns whether the piece was worth cutting off; the two may be listed by different shards.
    origin: Option<Arc<AtomicBool>>,
}

impl Piece {
    /// A piece whose end is well known.
    pub(super) fn new(keys: KeyRange) -> Piece {
        Piece { keys, ..Piece::default() }
    }

    /// A piece that an earlier run has been through.
    pub(super) fn done(keys: KeyRange) -> Piece {
        Piece { is_done: true, ..Piece::new(keys) }
    }
}

/// A range that is being listed.
#[derive(Debug)]
pub(super) struct Live {
    keys: RefCell<KeyRange>,
    sides: RefCell<[Progress; 2]>,
    /// Nothing was found behind it, when it was last asked.
    ceiling: RefCell<Option<Box<[u8]>>>,
    /// It must stay as it is: a single key, or a side that is not in order.
    whole: Cell<bool>,
    /// It was not cut off another one, so that nothing is known of how much it holds.
    is_first: bool,
    /// Somebody is looking for a cut.
    being_cut: Cell<bool>,
    /// Pages fed when no cut was found; there is no use in looking again before the next.
    uncut_at: Cell<Option<u64>>,
    pages: Cell<u64>,
    pieces: Cell<u64>,
    /// The last piece that was cut off was not worth it: most keys are nearer.
    near: Arc<AtomicBool>,
    /// The same of the range that this one was cut off.
    origin: RefCell<Option<Arc<AtomicBool>>>,
}

/// How far one side is.
#[derive(Debug, Default)]
struct Progress {
    rows: u64,
    ended: bool,
    page_rows: u64,
    page_first: Vec<u8>,
    /// The last key fed; empty before the first.
    last: Vec<u8>,
    alphabet: Alphabet,
}

/// A range with fewer keys left is done before a share of it could be.
const ROWS_SHARED_MIN: f64 = 2_000.0;

/// Before so many keys of a range that was not cut off another one have come, it is too early to ask how many there may be: most prefixes hold no more than a page or
/// two, and a search costs dozens of questions.
const ROWS_FIRST_MIN: u64 = 2_000;

/// A piece with fewer keys was not worth cutting off.
const ROWS_WORTH_MIN: u64 = 4_000;

/// Keys of a page that are looked at for what keys are made of.
const ROWS_LOOKED_AT: usize = 16;

/// Longest text that can be asked for, prefix included.
const TEXT_BYTES_MAX: usize = ropeway_s3proto::name::KEY_BYTES_MAX;

impl Live {
    pub(super) fn new(piece: Piece) -> Live {
        let Piece { keys, ceiling, is_done: _, near, origin } = piece;
        Live {
            is_first: origin.is_none(),
            keys: RefCell::new(keys),
            sides: RefCell::default(),
            ceiling: RefCell::new(ceiling),
            whole: Cell::new(false),
            being_cut: Cell::new(false),
            uncut_at: Cell::new(None),
            pages: Cell::new(0),
            pieces: Cell::new(0),
            near: Arc::new(AtomicBool::new(near)),
            origin: RefCell::new(origin),
        }
    }

    /// The range as it is now.
    pub(super) fn keys(&self) -> KeyRange {
        self.keys.borrow().clone()
    }

    /// Keys listed so far, by side.
    pub(super) fn rows(&self) -> [u64; 2] {
        let [source, target] = &*self.sides.borrow();
        [source.rows, target.rows]
    }

    /// Whether `key`, which is not before the range, is behind it.
    pub(super) fn is_past(&self, key: &[u8]) -> bool {
        self.keys.borrow().is_past(key)
    }

    /// From now on nobody cuts it.
    pub(super) fn keep_whole(&self) {
        self.whole.set(true);
    }

    /// A side's next page, or its end.
    pub(super) fn fed(&self, side: SideName, page: Option<&Page>) {
        self.pages.set(self.pages.get() + 1);
        let progress = &mut self.sides.borrow_mut()[side as usize];
        let Some(page) = page else {
            progress.ended = true;
            return;
        };
        // What is left of it is at hand, and there is nothing to cut off.
        progress.ended = page.is_last;
        let rows = page.rows.len();
        progress.rows += rows as u64;
        if progress.rows > ROWS_WORTH_MIN
            && let Some(origin) = self.origin.take()
        {
            origin.store(false, Ordering::Relaxed);
        }
        progress.page_rows = rows as u64;
        if rows > 0 {
            let (first, last) = (page.entry(0).key, page.entry(rows - 1).key);
            progress.page_first.clear();
            progress.page_first.extend_from_slice(first);
            progress.last.clear();
            progress.last.extend_from_slice(last);
            let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            for row in (0..rows).step_by(rows.div_ceil(ROWS_LOOKED_AT)) {
                progress.alphabet.add(page.entry(row).key.get(shared..).unwrap_or_default());
            }
        }
    }

    /// It has been listed to its end.
    pub(super) fn ended(&self) {
        if self.pieces.get() == 0
            && let Some(origin) = self.origin.take()
        {
            origin.store(true, Ordering::Relaxed);
        }
    }

    /// The side with the most keys so far, of those that go on. A directory wins a tie: cutting it costs nothing.
    pub(super) fn busier(&self, is_local: impl Fn(SideName) -> bool) -> Option<SideName> {
        let sides = self.sides.borrow();
        let going_on = |side: &SideName| !sides[*side as usize].ended && sides[*side as usize].page_rows > 0;
        let both = [SideName::Source, SideName::Target].into_iter().filter(going_on);
        both.max_by_key(|side| (sides[*side as usize].rows, is_local(*side)))
    }

    /// Takes away what is behind each of `keys`, which rise, and gives the pieces. Those that the lister has passed are
    /// left out.
    pub(super) fn cut(&self, keys: &[Box<[u8]>]) -> Vec<KeyRange> {
        // All that is decided is at most the last key fed on every side that goes on; behind it nothing is.
        let sides = self.sides.borrow();
        let mut frontier = sides.iter().filter(|side| !side.ended).map(|side| side.last.as_slice()).min();
        if self.whole.get() {
            frontier = None;
        }
        let Some(frontier) = frontier else { return Vec::new() };
        let mut range = self.keys.borrow_mut();
        let mut tails = Vec::new();
        for key in keys.iter().rev() {
            let inside = range.through.as_ref().is_none_or(|through| key < through);
            if **key > *frontier && range.after.as_ref().is_none_or(|after| key > after) && inside {
                tails.push(KeyRange { after: Some(key.clone()), through: range.through.replace(key.clone()) });
            }
        }
        self.pieces.set(self.pieces.get() + tails.len() as u64);
        tails
    }

    /// What is known of the side's progress, if a cut may be looked for.
    fn known(&self, side: SideName, prefix_bytes: usize) -> Option<Known> {
        let sides = self.sides.borrow();
        let progress = &sides[side as usize];
        let is_early = self.is_first && progress.rows < ROWS_FIRST_MIN;
        let free =
            !is_early && !self.whole.get() && !self.being_cut.get() && self.uncut_at.get() != Some(self.pages.get());
        (free && !progress.ended && progress.page_rows > 0).then(|| Known {
            position: progress.last.as_slice().into(),
            through: self.keys.borrow().through.clone(),
            ceiling: self.ceiling.borrow().clone(),
            page_first: progress.page_first.as_slice().into(),
            page_rows: progress.page_rows,
            alphabet: progress.alphabet,
            near: self.near.load(Ordering::Relaxed),
            text_bytes_max: TEXT_BYTES_MAX.saturating_sub(prefix_bytes),
        })
    }
}

/// A cut being looked for.
pub(super) struct Search {
    live: Rc<Live>,
    known: Known,
    side: SideName,
    wanted: usize,
}

/// The range of a shard with the most keys left, with so many pieces wanted of it. None if there is nothing to gain.
pub(super) fn choose(shard: &Shard, wanted: usize) -> Option<Search> {
    let mut candidates: Vec<_> = shard.live().iter().filter_map(|live| candidate(shard, live)).collect();
    candidates.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    // Of several ranges each gives its share, the busiest the most.
    let wanted = if candidates.len() > 1 { wanted.div_ceil(2) } else { wanted };
    let (_, live, side, known) = candidates.into_iter().next()?;
    live.being_cut.set(true);
    Some(Search { live, known, side, wanted })
}

fn candidate(shard: &Shard, live: &Rc<Live>) -> Option<(f64, Rc<Live>, SideName, Known)> {
    let side = live.busier(|side| matches!(shard.side(side), Side::Local(_)))?;
    let Side::Bucket(bucket) = shard.side(side) else { return None };
    let known = live.known(side, bucket.prefix.len())?;
    let rows_left = known.rows_left();
    (rows_left >= ROWS_SHARED_MIN).then(|| (rows_left, live.clone(), side, known))
}

impl Search {
    /// How many pieces are on their way.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Asks the side, cuts, and gives the pieces.
    pub(super) async fn cut(self, shard: &Shard) -> Vec<Piece> {
        let Search { live, known, side, wanted } = self;
        let Side::Bucket(bucket) = shard.side(side) else { return Vec::new() };
        let first_behind = async |text: &[u8]| -> Result<Option<Box<[u8]>>, client::Error> {
            let after = [bucket.prefix.as_bytes(), text].concat();
            let page = bucket.client.list(&bucket.prefix, Some(&after), None, 1).await?;
            let relative = |key: &[u8]| key.strip_prefix(bucket.prefix.as_bytes()).map(Box::from);
            Ok(page.rows.first().and_then(|row| relative(page.key(row))))
        };
        let found = split::cuts(&known, wanted, &first_behind).await;
        live.being_cut.set(false);
        let cuts = match found {
            Ok(cuts) => cuts,
            Err(error) => {
                tracing::debug!(%error, "no cut was found; the range stays whole");
                live.uncut_at.set(Some(live.pages.get()));
                return Vec::new();
            }
        };
        if cuts.ceiling.is_some() {
            *live.ceiling.borrow_mut() = cuts.ceiling.clone();
        }
        // Both sides are told where to start, and a name that is no UTF-8 cannot be told.
        let keys: Vec<_> = cuts.keys.into_iter().filter(|key| std::str::from_utf8(key).is_ok()).collect();
        let tails = live.cut(&keys);
        if tails.is_empty() {
            live.uncut_at.set(Some(live.pages.get()));
        }
        tracing::debug!(shard = shard.id, wanted, cut = tails.len(), left = known.rows_left(), "cut a range");
        let piece = |keys| Piece {
            ceiling: cuts.ceiling.clone(),
            near: known.near,
            origin: Some(live.near.clone()),
            ..Piece::new(keys)
        };
        tails.into_iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::Row;

    fn page(keys: &[Vec<u8>]) -> Page {
        let mut page = Page::default();
        for key in keys {
            let start = page.text.len() as u32;
            page.text.extend_from_slice(key);
            page.rows.push(Row { key: start..page.text.len() as u32, size_bytes: 1, modified_ns: 0, etag: None });
        }
        page
    }

    /// Lists a range of both sides as `range.rs` does, cut wherever and whenever `cut` says, and writes down what each piece
    /// decides.
    fn list(
        keys: KeyRange,
        sides: [&[Vec<u8>]; 2],
        page_rows: usize,
        cut: &mut impl FnMut() -> Option<Vec<u8>>,
        decided: &mut Vec<(char, Vec<u8>)>,
    ) {
        use crate::plan::merge::{Merge, Step};
        let live = Live::new(Piece::new(keys.clone()));
        let inside = |key: &&Vec<u8>| keys.after.as_deref().is_none_or(|after| key.as_slice() > after);
        let mut pages = sides.map(|side| {
            let keys: Vec<_> = side.iter().filter(inside).cloned().collect();
            keys.chunks(page_rows).map(page).collect::<Vec<_>>().into_iter()
        });
        let (mut merge, mut tails) = (Merge::default(), Vec::new());
        loop {
            let (mark, key) = match merge.step() {
                Step::Need(side) => {
                    let page = pages[side as usize].next();
                    live.fed(side, page.as_ref());
                    match page {
                        Some(page) => merge.feed(side, page),
                        None => merge.finish(side),
                    }
                    while let Some(key) = cut() {
                        tails.extend(live.cut(&[key.into_boxed_slice()]));
                    }
                    continue;
                }
                Step::SourceOnly(entry) => ('s', entry.key.to_vec()),
                Step::TargetOnly(entry) => ('t', entry.key.to_vec()),
                Step::Both(entry, _) => ('b', entry.key.to_vec()),
                Step::Disorder(..) => unreachable!("the model is in order"),
                Step::Done => break,
            };
            if live.is_past(&key) {
                break;
            }
            decided.push((mark, key));
        }
        for tail in tails {
            list(tail, sides, page_rows, cut, decided);
        }
    }

    proptest! {
        #[test]
        fn however_a_range_is_cut_every_key_is_decided_once_and_rightly(
            source in prop::collection::btree_set(prop::collection::vec(0u8..4, 1..4), 0..40),
            target in prop::collection::btree_set(prop::collection::vec(0u8..4, 1..4), 0..40),
            cuts in prop::collection::vec(prop::option::of(prop::collection::vec(0u8..4, 1..4)), 0..60),
            page_rows in 1usize..9,
        ) {
            let mut cuts = cuts.into_iter();
            let mut cut = || cuts.next().flatten();
            let [from, to] = [&source, &target].map(|set| set.iter().cloned().collect::<Vec<_>>());
            let mut decided = Vec::new();
            list(KeyRange::default(), [&from, &to], page_rows, &mut cut, &mut decided);
            decided.sort_by(|a, b| a.1.cmp(&b.1));
            let expected: Vec<_> = source.union(&target).map(|key| match (source.contains(key), target.contains(key)) {
                (true, true) => ('b', key.clone()),
                (true, false) => ('s', key.clone()),
                _ => ('t', key.clone()),
            }).collect();
            prop_assert_eq!(decided, expected);
        }
    }

    #[test]
    fn the_busier_side_is_the_one_that_goes_on_with_the_most_keys() {
        let live = Live::new(Piece::default());
        let keys = |count: u8| page(&(0..count).map(|key| vec![key]).collect::<Vec<_>>());
        assert_eq!(live.busier(|_| false), None);
        live.fed(SideName::Source, Some(&keys(3)));
        live.fed(SideName::Target, Some(&keys(9)));
        assert_eq!(live.busier(|_| false), Some(SideName::Target));
        live.fed(SideName::Target, None);
        assert_eq!(live.busier(|_| false), Some(SideName::Source));
        live.fed(SideName::Source, None);
        assert_eq!(live.busier(|_| false), None);
    }

    #[test]
    fn what_is_at_hand_to_its_end_is_not_cut() {
        let keys = |count: u16| page(&(0..count).map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
        let live = Live::new(Piece::default());
        live.fed(SideName::Source, Some(&keys(1_000)));
        assert!(live.known(SideName::Source, 0).is_none(), "too early");
        live.fed(SideName::Source, Some(&keys(1_000)));
        assert!(live.known(SideName::Source, 0).is_some());
        live.fed(SideName::Source, Some(&Page { is_last: true, ..keys(1_000) }));
        assert!(live.known(SideName::Source, 0).is_none() && live.busier(|_| false).is_none());
    }
}
