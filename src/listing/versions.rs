//! All versions of the objects of a prefix: ListObjectVersions, one page fetched ahead. A page has one entry for each key,
//! with all versions of that key beside it; so the versions of a key are in memory together, and no more than those of a
//! page's keys.

use std::collections::VecDeque;
use std::rc::Rc;

use ropeway_s3proto::op::{ListedVersion, VersionsPage};
use tokio::task::JoinHandle;

use super::Error;
use super::bucket::{EMPTY_PAGES_MAX, Tokens};
use crate::client::{self, Client};
use crate::entry::{KeyRange, ObjectVersion, Page, Row, VersionContent};

/// A page on its way, in a task of its own so that it comes nearer while the one before is compared.
struct Fetch(JoinHandle<Result<VersionsPage, client::Error>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a page begins: behind a key, or behind a version of it.
type Marker = (String, Option<String>);

/// A prefix's objects within a key range, with their versions.
pub struct VersionsListing {
    client: Rc<Client>,
    prefix: Rc<str>,
    /// The page under way; none when the listing has ended.
    fetch: Option<Fetch>,
    range: KeyRange,
    tokens: Tokens,
    empty_pages: u32,
    /// Versions of the last key so far, which may have more on the next page.
    held: Vec<ListedVersion>,
}

impl VersionsListing {
    pub(super) fn new(client: Rc<Client>, prefix: Rc<str>, range: &KeyRange) -> Result<VersionsListing, Error> {
        let after = match &range.after {
            Some(key) => {
                let key = String::from_utf8([prefix.as_bytes(), key].concat());
                let key = key.map_err(|_| Error::Protocol("a key range begins with no UTF-8".to_owned()))?;
                Some((key, None))
            }
            None => None,
        };
        let fetch = Some(fetch(&client, &prefix, after));
        let (tokens, held) = (Tokens::default(), Vec::new());
        Ok(VersionsListing { client, prefix, fetch, range: range.clone(), tokens, empty_pages: 0, held })
    }

    /// Gives up what is behind `key`: another lister has taken it.
    pub(super) fn end_at(&mut self, key: &[u8]) {
        self.range.through = Some(key.into());
    }

    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(fetch) = &mut self.fetch else { return Ok(None) };
        let page = (&mut fetch.0).await;
        self.fetch = None;
        let VersionsPage { versions, next } =
            page.expect("the task neither panics nor is aborted while it is awaited")?;
        self.empty_pages = if versions.is_empty() { self.empty_pages + 1 } else { 0 };
        let mut versions: Vec<ListedVersion> = self.held.drain(..).chain(versions).collect();
        // Some services have the delete markers of a page apart. Between pages the order is checked by whoever merges them.
        versions.sort_by(|one, other| one.key.cmp(&other.key));
        let past_end = versions.last().is_some_and(|last| {
            last.key.strip_prefix(self.prefix.as_bytes()).is_some_and(|key| self.range.is_past(key))
        });
        if let Some(next) = next.filter(|_| !past_end) {
            let token = format!("{}\0{}", next.0, next.1.as_deref().unwrap_or_default());
            if self.tokens.repeats(&token) {
                return Err(Error::Protocol(format!("the listing repeats itself: two pages ended with `{}`", next.0)));
            }
            if self.empty_pages == EMPTY_PAGES_MAX {
                return Err(Error::Protocol(format!(
                    "the listing does not end: {EMPTY_PAGES_MAX} pages in a row held no version, and each named a next one"
                )));
            }
            let last = versions.last().map(|last| last.key.clone());
            let whole = versions.iter().position(|version| Some(&version.key) == last.as_ref());
            self.held = versions.split_off(whole.unwrap_or(versions.len()));
            self.fetch = Some(self::fetch(&self.client, &self.prefix, Some(next)));
        }
        self.page(versions).map(Some)
    }

    /// One entry for each key, with keys relative to the prefix.
    fn page(&self, versions: Vec<ListedVersion>) -> Result<Page, Error> {
        let mut page = Page::default();
        let mut versions = versions.into_iter().peekable();
        while let Some(first) = versions.next() {
            let key = first.key.clone();
            let mut group = vec![first];
            while let Some(version) = versions.next_if(|version| version.key == key) {
                group.push(version);
            }
            let Some(relative) = key.strip_prefix(self.prefix.as_bytes()) else {
                let key = String::from_utf8_lossy(&key);
                return Err(Error::Protocol(format!("the listing of `{}` shows `{key}`", self.prefix)));
            };
            // The object whose key is the prefix itself has no relative key.
            if relative.is_empty() {
                continue;
            }
            let start = page.text.len() as u32;
            page.text.extend_from_slice(relative);
            let group = newest_first(group);
            let newest = group.first().expect("a group begins with one");
            let content = newest.content.as_ref();
            page.rows.push(Row {
                key: start..page.text.len() as u32,
                size_bytes: content.map_or(0, |content| content.size_bytes),
                modified_ns: newest.modified_ns,
                etag: content.and_then(|content| content.etag.clone()),
            });
            page.versions.push(group);
        }
        Ok(page)
    }
}

/// The versions of a key in the order of their ages. Services list them so, but some list the delete markers apart from the
/// others; where the two meet, the times decide. A version's own time is that of its beginning where it was uploaded in parts,
/// so among versions of a kind the order of the listing is the better witness.
fn newest_first(listed: Vec<ListedVersion>) -> Vec<ObjectVersion> {
    let (markers, contents): (Vec<_>, Vec<_>) =
        listed.into_iter().enumerate().partition(|(_, version)| version.content.is_none());
    let (mut markers, mut contents) = (VecDeque::from(markers), VecDeque::from(contents));
    let mut merged = Vec::with_capacity(markers.len() + contents.len());
    loop {
        let marker_is_newer = match (markers.front(), contents.front()) {
            (None, None) => return merged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((marker_at, marker)), Some((content_at, content))) => {
                let by_time = marker.last_modified_ns.cmp(&content.last_modified_ns);
                let by_latest = marker.is_latest.cmp(&content.is_latest);
                by_latest.then(by_time).then(content_at.cmp(marker_at)).is_gt()
            }
        };
        let next = if marker_is_newer { markers.pop_front() } else { contents.pop_front() };
        let (_, ListedVersion { id, is_latest, last_modified_ns, content, key: _ }) =
            next.expect("one of them has a front");
        let content = content.map(|content| VersionContent { size_bytes: content.size, etag: content.etag });
        merged.push(ObjectVersion { id, is_latest, modified_ns: last_modified_ns, content });
    }
}

fn fetch(client: &Rc<Client>, prefix: &Rc<str>, after: Option<Marker>) -> Fetch {
    let (client, prefix) = (client.clone(), prefix.clone());
    Fetch(tokio::task::spawn_local(async move {
        let after = after.as_ref().map(|(key, version)| (key.as_str(), version.as_deref()));
        client.list_versions(&prefix, after).await
    }))
}

#[cfg(test)]
mod tests {
    use ropeway_s3proto::name::VersionId;
    use ropeway_s3proto::op::ListedContent;

    use super::*;

    fn listed(id: &str, last_modified_ns: i64, is_latest: bool, has_content: bool) -> ListedVersion {
        let content = has_content.then_some(ListedContent { size: 1, etag: None });
        ListedVersion { key: b"k".to_vec(), id: VersionId::parse(id).unwrap(), is_latest, last_modified_ns, content }
    }

    fn order(versions: Vec<ListedVersion>) -> Vec<String> {
        newest_first(versions).iter().map(|version| version.id.to_string()).collect()
    }

    #[test]
    fn markers_that_are_listed_apart_find_their_place() {
        let (a, b, c) = (listed("a", 1, false, true), listed("b", 3, false, true), listed("c", 5, false, true));
        let (early, late) = (listed("early", 2, false, false), listed("late", 6, true, false));
        let expected = ["late", "c", "b", "early", "a"];
        for versions in [
            vec![late.clone(), early.clone(), c.clone(), b.clone(), a.clone()],
            vec![c.clone(), b.clone(), a.clone(), late.clone(), early.clone()],
            vec![late.clone(), c.clone(), b.clone(), early.clone(), a.clone()],
        ] {
            assert_eq!(order(versions), expected);
        }
    }

    #[test]
    fn of_one_second_the_latest_is_the_newest_and_else_the_listing_says() {
        let (version, marker) = (listed("v", 1, true, true), listed("m", 1, false, false));
        assert_eq!(order(vec![marker.clone(), version.clone()]), ["v", "m"]);
        let (version, marker) = (listed("v", 1, false, true), listed("m", 1, true, false));
        assert_eq!(order(vec![version.clone(), marker.clone()]), ["m", "v"]);
        let marker = listed("m", 1, false, false);
        assert_eq!(order(vec![version.clone(), marker.clone()]), ["v", "m"]);
        assert_eq!(order(vec![marker, version]), ["m", "v"]);
    }

    #[test]
    fn one_that_was_begun_earlier_and_completed_later_stays_the_later() {
        assert_eq!(order(vec![listed("parts", 1, true, true), listed("whole", 2, false, true)]), ["parts", "whole"]);
    }
}
