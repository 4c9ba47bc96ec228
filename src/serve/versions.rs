//! Versions of objects: what a bucket keeps of them, and one page of a listing of them, cut from keys in byte order with
//! each key's versions, the newest first. Pure, as `listing` is.

use super::checksums::{Algorithm, Coverage};
use super::listing::{self, Keyed, Query};
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// What a bucket keeps of what is replaced or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Versioning {
    /// Nothing, and it never has.
    #[default]
    Never,
    /// Everything.
    Enabled,
    /// What it kept before; of what is written now, only the last.
    Suspended,
}

/// What S3 calls the version that has no id: the one of a bucket that keeps none.
pub(super) const NULL: &str = "null";

/// An id for a new version. The later it is made the less it is, in the order of text; so a page can go on behind an id that
/// is gone meanwhile.
pub(super) fn new_id(number: u64) -> String {
    format!("{:016x}{:08x}", u64::MAX - number, fastrand::u32(..))
}

/// What became of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// The version that is gone, or the marker that was made; `None` where no versions are kept.
    pub(super) id: Option<String>,
    /// Whether that is a delete marker.
    pub(super) is_marker: bool,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) modified_secs: i64,
    /// `None` for a delete marker.
    pub(super) object: Option<Content>,
}

/// What such a line says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    pub(super) checksum: Option<(Algorithm, Coverage)>,
    pub(super) storage_class: Option<String>,
}

/// A key and all its versions, the newest first.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) key: String,
    pub(super) versions: Vec<Version>,
}

impl Keyed for History {
    fn key(&self) -> &str {
        &self.key
    }
}

/// One page. Versions of one key stand together, the first of them is its latest if `starts` says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) versions: Vec<Line>,
    pub(super) prefixes: Vec<String>,
    /// The key, and the version of it, behind which the next page begins; the latter is empty for a common prefix.
    pub(super) next: Option<(String, String)>,
}

/// A version in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) version: Version,
    pub(super) is_latest: bool,
}

/// Histories fetched at a time.
const BATCH: usize = 64;

/// Cuts the page. `query.after` is the key marker, `after_id` the version of that key behind which the page begins. `fetch`
/// gives up to so many histories in byte order of their keys from that bound on, and fewer only at the end.
pub(super) fn page<E>(
    query: &Query,
    after_id: Option<&str>,
    mut fetch: impl FnMut(Bound<&[u8]>, usize) -> Result<Vec<History>, E>,
) -> Result<Page, E> {
    let mut page = Page::default();
    let mut last = (String::new(), String::new());
    let after_id = after_id.filter(|id| !id.is_empty());
    let mut seek = match after_id {
        Some(_) => Bound::Included(query.after.as_bytes().to_vec()),
        None => listing::first_bound(query),
    };
    if query.count_max == 0 {
        return Ok(page);
    }
    loop {
        let batch = fetch(seek.as_ref().map(Vec::as_slice), BATCH)?;
        let exhausted = batch.len() < BATCH;
        let Some(batch_last) = batch.last().map(|history| history.key.as_bytes().to_vec()) else { return Ok(page) };
        for History { key, versions } in batch {
            let Some(rest) = key.strip_prefix(query.prefix.as_str()) else { return Ok(page) };
            let full = |page: &Page| page.versions.len() + page.prefixes.len() == query.count_max;
            if let Some(common) = listing::common_prefix(query, rest) {
                if page.prefixes.last() != Some(&common) {
                    if full(&page) {
                        page.next = Some(last);
                        return Ok(page);
                    }
                    last = (common.clone(), String::new());
                    page.prefixes.push(common);
                }
                continue;
            }
            let shown = if key == query.after { after_id.map_or(0, |id| position_behind(&versions, id)) } else { 0 };
            for (index, version) in versions.into_iter().enumerate().skip(shown) {
                if full(&page) {
                    page.next = Some(last);
                    return Ok(page);
                }
                last = (key.clone(), version.id.clone());
                page.versions.push(Line { key: key.clone(), version, is_latest: index == 0 });
            }
        }
        if exhausted {
            return Ok(page);
        }
        seek = Bound::Excluded(batch_last);
    }
}

/// How many versions of a key have been shown when this was the last of them.
fn position_behind(versions: &[Version], id: &str) -> usize {
    match versions.iter().position(|version| version.id == id) {
        Some(index) => index + 1,
        // It is gone. Ids sort by age.
        None => versions.iter().position(|version| version.id.as_str() > id).unwrap_or(versions.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn version(id: &str) -> Version {
        Version { id: id.to_owned(), modified_secs: 0, object: None }
    }

    fn cut(keys: &BTreeMap<String, Vec<Version>>, query: &Query, after_id: Option<&str>) -> Page {
        let fetch = |from: Bound<&[u8]>, limit: usize| {
            let inside = |key: &str| match from {
                Bound::Included(from) => key.as_bytes() >= from,
                Bound::Excluded(from) => key.as_bytes() > from,
                Bound::Unbounded => true,
            };
            let histories = keys.iter().filter(|(key, _)| inside(key)).take(limit);
            let history =
                |(key, versions): (&String, &Vec<Version>)| History { key: key.clone(), versions: versions.clone() };
            Ok::<_, Infallible>(histories.map(history).collect())
        };
        page(query, after_id, fetch).unwrap()
    }

    fn shown(page: &Page) -> Vec<String> {
        let mark = |line: &Line| if line.is_latest { "*" } else { "" };
        page.versions.iter().map(|line| format!("{}:{}{}", line.key, line.version.id, mark(line))).collect()
    }

    #[test]
    fn pages_of_any_size_together_are_the_whole() {
        let mut keys: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for number in 0..150 {
            let versions = (0..number % 4 + 1).map(|at| version(&format!("v{at}")));
            keys.insert(format!("{}/{number:03}", number / 50), versions.collect());
        }
        for delimiter in ["", "/"] {
            let whole = Query { delimiter: delimiter.into(), count_max: 10_000, ..Query::default() };
            let expected = cut(&keys, &whole, None);
            assert_eq!(expected.next, None);
            for count_max in [1, 2, 3, 7, 100] {
                let (mut lines, mut prefixes) = (Vec::new(), Vec::new());
                let mut query = Query { count_max, ..whole.clone() };
                let mut id = String::new();
                loop {
                    let page = cut(&keys, &query, Some(&id));
                    assert!(page.versions.len() + page.prefixes.len() <= count_max);
                    lines.extend(shown(&page));
                    prefixes.extend(page.prefixes);
                    match page.next {
                        Some((key, version)) => (query.after, id) = (key, version),
                        None => break,
                    }
                }
                assert_eq!((lines, &prefixes), (shown(&expected), &expected.prefixes), "{delimiter:?} {count_max}");
            }
        }
    }

    #[test]
    fn a_key_marker_alone_begins_behind_all_of_its_versions() {
        let keys = [("a", vec![version("2"), version("1")]), ("b", vec![version("3")])];
        let keys = keys.into_iter().map(|(key, versions)| (key.to_owned(), versions)).collect();
        let query = Query { after: "a".into(), count_max: 10, ..Query::default() };
        assert_eq!(shown(&cut(&keys, &query, None)), ["b:3*"]);
        assert_eq!(shown(&cut(&keys, &query, Some("2"))), ["a:1", "b:3*"]);
        assert_eq!(
            shown(&cut(&keys, &query, Some("0"))),
            ["a:2*", "a:1", "b:3*"],
            "one that is gone was newer than these"
        );
    }

    #[test]
    fn newer_ids_sort_before_older_ones() {
        assert!(new_id(2) < new_id(1));
    }
}
