//! A directory as a listing. The walk itself is `ropeway_io::dir`'s.

use ropeway_io::dir::{Walk, WalkOptions, WalkPage, WalkProblem};
use ropeway_io::path::{Follow, Root};

use super::Problem;
use crate::entry::{KeyRange, Page, Row};

/// Entries examined at a time, before other tasks of the core get their turn.
const PAGE_ENTRIES: usize = 1_000;

/// A directory's files within a key range.
pub struct LocalListing {
    walk: Walk,
    ended: bool,
}

impl LocalListing {
    pub(super) fn new(links: Follow, root: &Root, range: &KeyRange) -> std::io::Result<LocalListing> {
        let mut walk = Walk::new(root, range.after.as_deref(), WalkOptions { follow_links: links == Follow::Links })?;
        if let Some(through) = &range.through {
            walk.end_at(through);
        }
        Ok(LocalListing { walk, ended: false })
    }

    /// Gives up what is behind `key`: another lister has taken it.
    pub(super) fn end_at(&mut self, key: &[u8]) {
        self.walk.end_at(key);
    }

    /// A key that cuts what is left about in half, if it is worth cutting.
    pub(super) fn split_key(&mut self) -> Option<Vec<u8>> {
        if self.ended { None } else { self.walk.split_key() }
    }

    pub(super) fn next(&mut self, problems: &mut Vec<Problem>) -> Option<Page> {
        if self.ended {
            return None;
        }
        let mut found = WalkPage::default();
        self.ended = !self.walk.next_batch(PAGE_ENTRIES, &mut found);
        problems.extend(found.problems.into_iter().map(|problem| Problem {
            key: String::from_utf8_lossy(&problem.key).into_owned(),
            hides_entries: matches!(problem.reason, WalkProblem::UnreadableDirectory(_)),
            by_rule: matches!(problem.reason, WalkProblem::Special),
            reason: problem.reason.to_string(),
        }));
        let rows = found.rows.into_iter().map(|row| Row {
            key: row.key,
            size_bytes: row.size_bytes,
            modified_ns: row.modified_ns,
            etag: None,
        });
        Some(Page { rows: rows.collect(), text: found.text, ..Page::default() })
    }
}
