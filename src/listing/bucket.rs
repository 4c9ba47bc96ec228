//! A prefix of a bucket as a listing: ListObjectsV2, one page fetched ahead of the one being compared.

use std::rc::Rc;

use ropeway_s3proto::op::ListPage;
use tokio::task::JoinHandle;

use super::Error;
use crate::client::{self, Client};
use crate::entry::{KeyRange, Page, Row};

/// A page on its way, in a task of its own so that it comes nearer while the one before is compared.
struct Fetch(JoinHandle<Result<ListPage, client::Error>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A prefix's objects within a key range.
pub struct BucketListing {
    client: Rc<Client>,
    prefix: Rc<str>,
    /// The page under way; none when the listing has ended.
    fetch: Option<Fetch>,
    range: KeyRange,
    tokens: Tokens,
    /// Pages without a key since the last one with any.
    empty_pages: u32,
}

/// Notices tokens that go round in a circle, of whatever length, by remembering one of them: each that is remembered is
/// held against twice as many that follow as the one before.
#[derive(Default)]
pub(super) struct Tokens {
    remembered: Option<String>,
    seen_since: u64,
    replaced_after: u64,
}

impl Tokens {
    /// Whether the token has come before.
    pub(super) fn repeats(&mut self, token: &str) -> bool {
        if self.remembered.as_deref() == Some(token) {
            return true;
        }
        if self.seen_since == self.replaced_after {
            self.remembered = Some(token.to_owned());
            self.seen_since = 0;
            self.replaced_after = self.replaced_after * 2 + 1;
        } else {
            self.seen_since += 1;
        }
        false
    }
}

impl BucketListing {
    pub(super) fn new(client: Rc<Client>, prefix: Rc<str>, range: &KeyRange) -> BucketListing {
        let after = range.after.as_deref().map(|key| [prefix.as_bytes(), key].concat());
        let fetch = Some(fetch(&client, &prefix, after, None));
        BucketListing { client, prefix, fetch, range: range.clone(), tokens: Tokens::default(), empty_pages: 0 }
    }

    /// Gives up what is behind `key`: another lister has taken it.
    pub(super) fn end_at(&mut self, key: &[u8]) {
        self.range.through = Some(key.into());
    }

    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(fetch) = &mut self.fetch else { return Ok(None) };
        let page = (&mut fetch.0).await;
        self.fetch = None;
        let mut page = page.expect("the task neither panics nor is aborted while it is awaited")?;
        let next = page.next.take();
        let mut page = self.relative(page)?;
        let past_end = page.last_key().is_some_and(|key| self.range.is_past(key));
        if let Some(token) = next.filter(|_| !past_end) {
            if self.tokens.repeats(&token) {
                return Err(Error::Protocol(format!("the listing repeats itself: two pages ended with `{token}`")));
            }
            self.empty_pages = if page.rows.is_empty() { self.empty_pages + 1 } else { 0 };
            if self.empty_pages == EMPTY_PAGES_MAX {
                return Err(Error::Protocol(format!(
                    "the listing does not end: {EMPTY_PAGES_MAX} pages in a row held no key, and each named a next one"
                )));
            }
            self.fetch = Some(self::fetch(&self.client, &self.prefix, None, Some(token)));
        }
        page.is_last = self.fetch.is_none();
        Ok(Some(page))
    }

    /// The page with keys relative to the prefix, which is cut off where it stands: no key is copied.
    fn relative(&self, page: ListPage) -> Result<Page, Error> {
        let ListPage { text, rows, .. } = page;
        let mut relative = Vec::with_capacity(rows.len());
        for row in rows {
            let full = &text[row.key.start as usize..row.key.end as usize];
            if !full.starts_with(self.prefix.as_bytes()) {
                let key = String::from_utf8_lossy(full);
                return Err(Error::Protocol(format!("the listing of `{}` shows `{key}`", self.prefix)));
            }
            let start = row.key.start + self.prefix.len() as u32;
            // The object whose key is the prefix itself has no relative key; s3sync leaves it out as well.
            if start < row.key.end {
                let key = start..row.key.end;
                let etag = row.etag;
                relative.push(Row { key, size_bytes: row.size, modified_ns: row.last_modified_ns, etag });
            }
        }
        Ok(Page { text, rows: relative, ..Page::default() })
    }
}

fn fetch(client: &Rc<Client>, prefix: &Rc<str>, after: Option<Vec<u8>>, token: Option<String>) -> Fetch {
    let (client, prefix) = (client.clone(), prefix.clone());
    Fetch(tokio::task::spawn_local(async move { client.list_page(&prefix, after.as_deref(), token.as_deref()).await }))
}

/// Services skip over what was deleted in steps of a page or so, and some thousand versions of one key make a few empty
/// pages. With a token that is new each time, nothing else would tell that the listing goes nowhere.
pub(super) const EMPTY_PAGES_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_circle_of_tokens_is_noticed_and_no_straight_line_is(straight in 0usize..200, circle in 1usize..200) {
            let mut tokens = Tokens::default();
            for number in 0..straight + circle {
                prop_assert!(!tokens.repeats(&number.to_string()));
            }
            let round = (0..8 * (straight + circle)).map(|step| straight + step % circle);
            prop_assert!(round.into_iter().any(|number| tokens.repeats(&number.to_string())));
        }
    }
}
