//! One page of a listing, cut from keys in byte order. Pure: where the keys come from is the caller's business.
//!
//! With a delimiter, all keys that share their text up to it count as one common prefix; the page then seeks past the
//! last of them instead of reading them all, so that a page costs what it shows and not what it hides.

use std::ops::Bound;

/// What a page is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    /// Empty means none.
    pub(super) delimiter: String,
    /// Only keys, and common prefixes, greater than this.
    pub(super) after: String,
    /// Entries and common prefixes together.
    pub(super) count_max: usize,
}

/// What has a place in a listing.
pub(super) trait Keyed {
    fn key(&self) -> &str;
}

/// One page, its entries and its common prefixes each in byte order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    pub(super) prefixes: Vec<String>,
    /// The `after` of the next page; `None` if this is the last.
    pub(super) next: Option<String>,
}

/// How many keys are fetched at once where a common prefix may make the rest of them worthless.
const DELIMITED_BATCH: usize = 32;

/// Cuts the page. `fetch` gives up to so many entries in byte order from that bound on, and fewer only at the end.
pub(super) fn page<T: Keyed, E>(
    query: &Query,
    mut fetch: impl FnMut(Bound<&[u8]>, usize) -> Result<Vec<T>, E>,
) -> Result<Page<T>, E> {
    let mut page = Page { entries: Vec::new(), prefixes: Vec::new(), next: None };
    if query.count_max == 0 {
        return Ok(page);
    }
    let mut last = String::new();
    let mut seek = first_bound(query);
    loop {
        let shown = page.entries.len() + page.prefixes.len();
        // One more than fits tells whether another page follows.
        let wanted = query.count_max - shown + 1;
        let limit = if query.delimiter.is_empty() { wanted } else { wanted.min(DELIMITED_BATCH) };
        let batch = fetch(seek.as_ref().map(Vec::as_slice), limit)?;
        let exhausted = batch.len() < limit;
        let mut past: Option<Vec<u8>> = None;
        let mut batch_last = Vec::new();
        for entry in batch {
            batch_last.clear();
            batch_last.extend_from_slice(entry.key().as_bytes());
            if past.as_deref().is_some_and(|past| entry.key().as_bytes() < past) {
                continue;
            }
            let Some(rest) = entry.key().strip_prefix(query.prefix.as_str()) else {
                return Ok(page);
            };
            if page.entries.len() + page.prefixes.len() == query.count_max {
                page.next = Some(last);
                return Ok(page);
            }
            match common_prefix(query, rest) {
                Some(common) => {
                    past = Some(successor(common.as_bytes()));
                    last.clone_from(&common);
                    page.prefixes.push(common);
                }
                None => {
                    last.clear();
                    last.push_str(entry.key());
                    page.entries.push(entry);
                }
            }
        }
        if exhausted {
            return Ok(page);
        }
        seek = match past {
            Some(past) if past > batch_last => Bound::Included(past),
            Some(_) | None => Bound::Excluded(batch_last),
        };
    }
}

/// Where the first key of the page can be.
pub(super) fn first_bound(query: &Query) -> Bound<Vec<u8>> {
    if query.after < query.prefix || query.after.is_empty() {
        return Bound::Included(query.prefix.as_bytes().to_vec());
    }
    // A marker that is itself a common prefix, or lies inside one, has shown all of it: the page goes on behind it.
    match query.after.strip_prefix(query.prefix.as_str()).and_then(|rest| common_prefix(query, rest)) {
        Some(common) => Bound::Included(successor(common.as_bytes())),
        None => Bound::Excluded(query.after.as_bytes().to_vec()),
    }
}

pub(super) fn common_prefix(query: &Query, rest: &str) -> Option<String> {
    if query.delimiter.is_empty() {
        return None;
    }
    let end = rest.find(query.delimiter.as_str())? + query.delimiter.len();
    Some(format!("{}{}", query.prefix, &rest[..end]))
}

/// The smallest bytes greater than all that begin with these.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    let last = bytes.last_mut().expect("a common prefix ends with a delimiter");
    // No byte of UTF-8 is 0xFF, so this never overflows.
    *last += 1;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    impl Keyed for String {
        fn key(&self) -> &str {
            self
        }
    }

    fn cut(keys: &BTreeSet<Vec<u8>>, query: &Query) -> Page<String> {
        let fetch = |from: Bound<&[u8]>, limit: usize| {
            let range = keys.range::<[u8], _>((from, Bound::Unbounded));
            Ok::<_, Infallible>(range.take(limit).map(|key| String::from_utf8(key.clone()).unwrap()).collect())
        };
        page(query, fetch).unwrap()
    }

    fn set(keys: &[&str]) -> BTreeSet<Vec<u8>> {
        keys.iter().map(|key| key.as_bytes().to_vec()).collect()
    }

    #[test]
    fn pages_follow_the_table() {
        let keys = set(&["a", "a/b", "a/b/c", "a/d", "a0", "b/", "b/x", "é/ü", "z"]);
        // prefix, delimiter, after, max -> entries, prefixes, next
        type Case = (
            &'static str,
            &'static str,
            &'static str,
            usize,
            &'static [&'static str],
            &'static [&'static str],
            Option<&'static str>,
        );
        let cases: &[Case] = &[
            ("", "", "", 100, &["a", "a/b", "a/b/c", "a/d", "a0", "b/", "b/x", "z", "é/ü"], &[], None),
            ("", "", "", 2, &["a", "a/b"], &[], Some("a/b")),
            ("", "", "a/b", 2, &["a/b/c", "a/d"], &[], Some("a/d")),
            ("", "", "z", 1, &["é/ü"], &[], None),
            ("", "/", "", 100, &["a", "a0", "z"], &["a/", "b/", "é/"], None),
            ("", "/", "", 2, &["a"], &["a/"], Some("a/")),
            ("", "/", "a/", 2, &["a0"], &["b/"], Some("b/")),
            ("", "/", "a/b", 100, &["a0", "z"], &["b/", "é/"], None),
            ("a/", "/", "", 100, &["a/b", "a/d"], &["a/b/"], None),
            ("a/", "", "", 1, &["a/b"], &[], Some("a/b")),
            ("b/", "/", "", 100, &["b/", "b/x"], &[], None),
            ("é", "/", "", 100, &[], &["é/"], None),
            ("x", "", "", 100, &[], &[], None),
            ("", "", "", 0, &[], &[], None),
            ("a/", "", "a", 100, &["a/b", "a/b/c", "a/d"], &[], None),
            ("a/", "", "zz", 100, &[], &[], None),
        ];
        for &(prefix, delimiter, after, count_max, entries, prefixes, next) in cases {
            let query = Query { prefix: prefix.into(), delimiter: delimiter.into(), after: after.into(), count_max };
            let page = cut(&keys, &query);
            assert_eq!(page.entries, entries, "{query:?}");
            assert_eq!(page.prefixes, prefixes, "{query:?}");
            assert_eq!(page.next.as_deref(), next, "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole(
            keys in prop::collection::btree_set("[a-c/]{1,6}", 0..120),
            prefix in "[a-c/]{0,2}",
            delimiter in prop::sample::select(vec!["", "/", "b", "ab"]),
            count_max in 1_usize..50,
        ) {
            let keys: BTreeSet<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
            let (mut entries, mut prefixes) = (Vec::new(), BTreeSet::new());
            for key in &keys {
                let key = std::str::from_utf8(key).unwrap();
                let Some(rest) = key.strip_prefix(prefix.as_str()) else { continue };
                match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
                    Some(at) => drop(prefixes.insert(format!("{prefix}{}{delimiter}", &rest[..at]))),
                    None => entries.push(key.to_owned()),
                }
            }
            let mut query = Query { prefix, delimiter: delimiter.into(), after: String::new(), count_max };
            let (mut seen_entries, mut seen_prefixes) = (Vec::new(), Vec::new());
            loop {
                let page = cut(&keys, &query);
                prop_assert!(page.entries.len() + page.prefixes.len() <= count_max);
                seen_entries.extend(page.entries);
                seen_prefixes.extend(page.prefixes);
                match page.next {
                    Some(next) => query.after = next,
                    None => break,
                }
            }
            prop_assert_eq!(seen_entries, entries);
            prop_assert_eq!(seen_prefixes, prefixes.into_iter().collect::<Vec<_>>());
        }
    }
}
