//! Two listings walked in lockstep: source alone, target alone, or both. What follows from that is `compare`'s choice.
//!
//! The walk asks for pages and never fetches them, so the same few lines serve every pair of sides and every test. It
//! holds one page a side, whatever the number of keys. The order of the keys is checked, not trusted: a listing whose
//! next key does not rise is reported as [`Step::Disorder`] (reliability.md K17, K19).

use crate::entry::{EntryRef, Page, SideName};

/// What the walk says next.
#[derive(Debug)]
pub enum Step<'a> {
    /// The named side's page is used up: give the next with [`Merge::feed`], or say [`Merge::finish`].
    Need(SideName),
    /// The key exists at the source alone.
    SourceOnly(EntryRef<'a>),
    /// The key exists at the target alone.
    TargetOnly(EntryRef<'a>),
    /// The key exists on both sides.
    Both(EntryRef<'a>, EntryRef<'a>),
    /// The named side listed this key although it had already listed one that sorts as high or higher.
    Disorder(SideName, &'a [u8]),
    /// Both listings have ended.
    Done,
}

/// The walk over two listings.
#[derive(Debug, Default)]
pub struct Merge {
    source: Cursor,
    target: Cursor,
}

/// One listing's page and the place in it.
#[derive(Debug, Default)]
struct Cursor {
    page: Page,
    next: usize,
    ended: bool,
    /// The last key of the page before, to check the order across pages.
    previous: Vec<u8>,
    started: bool,
}

impl Merge {
    /// A walk over what is behind a key: a listing that shows it, or one before it, is out of order.
    pub fn behind(after: Option<&[u8]>) -> Merge {
        let cursor =
            || Cursor { previous: after.unwrap_or_default().to_vec(), started: after.is_some(), ..Cursor::default() };
        Merge { source: cursor(), target: cursor() }
    }

    /// Gives the next page of a side.
    pub fn feed(&mut self, side: SideName, page: Page) {
        self.cursor(side).feed(page);
    }

    /// Says that a side has no more pages.
    pub fn finish(&mut self, side: SideName) {
        self.cursor(side).ended = true;
    }

    /// Advances by one key and says what stands there.
    pub fn step(&mut self) -> Step<'_> {
        for side in [SideName::Source, SideName::Target] {
            let cursor = self.cursor(side);
            if cursor.is_empty() && !cursor.ended {
                return Step::Need(side);
            }
        }
        if self.source.disordered() {
            return Step::Disorder(SideName::Source, self.source.take().key);
        }
        if self.target.disordered() {
            return Step::Disorder(SideName::Target, self.target.take().key);
        }
        match (self.source.peek(), self.target.peek()) {
            (None, None) => Step::Done,
            (Some(_), None) => Step::SourceOnly(self.source.take()),
            (None, Some(_)) => Step::TargetOnly(self.target.take()),
            (Some(source), Some(target)) => match source.cmp(target) {
                std::cmp::Ordering::Less => Step::SourceOnly(self.source.take()),
                std::cmp::Ordering::Greater => Step::TargetOnly(self.target.take()),
                std::cmp::Ordering::Equal => Step::Both(self.source.take(), self.target.take()),
            },
        }
    }

    fn cursor(&mut self, side: SideName) -> &mut Cursor {
        match side {
            SideName::Source => &mut self.source,
            SideName::Target => &mut self.target,
        }
    }
}

impl Cursor {
    fn feed(&mut self, page: Page) {
        if let Some(last) = self.page.last_key() {
            self.previous.clear();
            self.previous.extend_from_slice(last);
            self.started = true;
        }
        self.page = page;
        self.next = 0;
    }

    fn is_empty(&self) -> bool {
        self.next == self.page.rows.len()
    }

    fn peek(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.page.entry(self.next).key)
    }

    fn take(&mut self) -> EntryRef<'_> {
        let index = self.next;
        self.next += 1;
        self.page.entry(index)
    }

    /// Whether the next key fails to rise above the one before it.
    fn disordered(&self) -> bool {
        let Some(next) = self.peek() else { return false };
        match self.next.checked_sub(1) {
            Some(before) => self.page.entry(before).key >= next,
            None => self.started && self.previous.as_slice() >= next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::entry::Row;

    fn page(keys: &[&[u8]]) -> Page {
        let mut page = Page::default();
        for key in keys {
            let start = page.text.len() as u32;
            page.text.extend_from_slice(key);
            let key = start..page.text.len() as u32;
            page.rows.push(Row { key, size_bytes: 1, modified_ns: 0, etag: None });
        }
        page
    }

    /// Runs a whole merge of listings cut into pages of `page_rows`, and writes what it says.
    fn walk(source: &[Vec<u8>], target: &[Vec<u8>], page_rows: usize) -> Vec<(char, Vec<u8>)> {
        let cut = |keys: &[Vec<u8>]| -> Vec<Page> {
            let pages = keys.chunks(page_rows);
            pages.map(|keys| page(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>())).collect()
        };
        let mut pages = [cut(source).into_iter(), cut(target).into_iter()];
        let mut merge = Merge::default();
        let mut said = Vec::new();
        loop {
            match merge.step() {
                Step::Need(side) => match pages[side as usize].next() {
                    Some(page) => merge.feed(side, page),
                    None => merge.finish(side),
                },
                Step::SourceOnly(entry) => said.push(('s', entry.key.to_vec())),
                Step::TargetOnly(entry) => said.push(('t', entry.key.to_vec())),
                Step::Both(source, target) => {
                    assert_eq!(source.key, target.key);
                    said.push(('b', source.key.to_vec()));
                }
                Step::Disorder(_, key) => said.push(('!', key.to_vec())),
                Step::Done => return said,
            }
        }
    }

    proptest! {
        #[test]
        fn says_of_every_key_where_it_stands(
            source in proptest::collection::btree_set(proptest::collection::vec(0u8..4, 1..4), 0..30),
            target in proptest::collection::btree_set(proptest::collection::vec(0u8..4, 1..4), 0..30),
            page_rows in 1usize..9,
        ) {
            let list = |set: &BTreeSet<Vec<u8>>| set.iter().cloned().collect::<Vec<_>>();
            let expected: Vec<_> = source.union(&target).map(|key| {
                let mark = match (source.contains(key), target.contains(key)) {
                    (true, true) => 'b',
                    (true, false) => 's',
                    _ => 't',
                };
                (mark, key.clone())
            }).collect();
            prop_assert_eq!(walk(&list(&source), &list(&target), page_rows), expected);
        }
    }

    #[test]
    fn an_inversion_or_a_repeat_is_reported_within_and_across_pages() {
        let keys = |keys: &[&str]| keys.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>();
        for page_rows in [1, 2, 8] {
            for bad in [&["b", "a"][..], &["a", "a"]] {
                let said = walk(&keys(bad), &[], page_rows);
                assert_eq!(said.last().unwrap().0, '!', "{bad:?} in pages of {page_rows}");
                let said = walk(&[], &keys(bad), page_rows);
                assert_eq!(said.last().unwrap().0, '!', "{bad:?} at the target");
            }
        }
    }

    #[test]
    fn a_key_from_before_the_start_is_out_of_order() {
        for (key, in_order) in [(&b"a"[..], false), (b"b", false), (b"c", true)] {
            let mut merge = Merge::behind(Some(b"b"));
            merge.feed(SideName::Source, page(&[key]));
            merge.finish(SideName::Target);
            assert_eq!(matches!(merge.step(), Step::SourceOnly(_)), in_order);
        }
    }
}
