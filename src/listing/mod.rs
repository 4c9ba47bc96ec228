//! Streams of entries in raw byte order of their relative keys, page by page, from a directory or a bucket. Memory does not
//! grow with the number of entries: a listing holds the page it is making and no more. One that is known not to come in
//! order is put in order on disk first.

mod bucket;
mod local;
pub mod sort;
pub mod split;
mod versions;

use std::rc::Rc;

use ropeway_io::path::{Follow, Root};

use crate::client::{self, Client};
use crate::entry::{KeyRange, Page};

pub use bucket::BucketListing;
pub use local::LocalListing;
pub use sort::{SortedListing, Trail};
pub use versions::VersionsListing;

/// One side's listing of a key range.
pub enum Listing {
    /// A directory.
    Local(LocalListing),
    /// A prefix of a bucket.
    Bucket(BucketListing),
    /// A prefix of a bucket whose service does not list in order.
    Sorted(Box<SortedListing>),
    /// A prefix of a bucket, with all versions.
    Versions(VersionsListing),
    /// A single entry, named by the person.
    One(Option<Page>),
}

/// Why a listing ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A page did not come.
    #[error("{0}")]
    Client(Box<client::Error>),
    /// The directory itself cannot be read.
    #[error("cannot read the directory: {0}")]
    Local(#[from] std::io::Error),
    /// A page contradicts the one before it.
    #[error("{0}")]
    Protocol(String),
    /// What came out of order could not be put in order.
    #[error("{0}")]
    Sort(#[from] sort::SortError),
}

/// An entry that cannot be transferred, found while listing; the listing goes on.
#[derive(Debug)]
pub struct Problem {
    /// Its relative key, as far as it can be written.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// Whether entries beneath it could not be listed.
    pub hides_entries: bool,
    /// Whether the entry is left out by rule (a socket, a device) rather than by failure.
    pub by_rule: bool,
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Error {
        Error::Client(Box::new(error))
    }
}

impl Listing {
    /// The listing of a directory. Links that are not followed are not listed either.
    pub fn local(links: Follow, root: &Root, range: &KeyRange) -> Result<Listing, Error> {
        Ok(Listing::Local(LocalListing::new(links, root, range)?))
    }

    /// The listing of a prefix.
    pub fn bucket(client: Rc<Client>, prefix: Rc<str>, range: &KeyRange) -> Listing {
        Listing::Bucket(BucketListing::new(client, prefix, range))
    }

    /// The listing of a prefix whose service does not list in order. `seen` is what was taken of it before that was found
    /// out.
    pub fn sorted(client: Rc<Client>, prefix: Rc<str>, range: &KeyRange, seen: Trail) -> Result<Listing, Error> {
        Ok(Listing::Sorted(Box::new(SortedListing::new(client, prefix, range, seen)?)))
    }

    /// The listing of a prefix with all versions of its objects.
    pub fn versions(client: Rc<Client>, prefix: Rc<str>, range: &KeyRange) -> Result<Listing, Error> {
        Ok(Listing::Versions(VersionsListing::new(client, prefix, range)?))
    }

    /// The next page, or None at the end. A page may be empty. Problems are added to `problems`.
    pub async fn next(&mut self, problems: &mut Vec<Problem>) -> Result<Option<Page>, Error> {
        match self {
            Listing::Local(listing) => {
                // A directory is read without waiting for anything; the core's other tasks get their turn between pages.
                tokio::task::yield_now().await;
                Ok(listing.next(problems))
            }
            Listing::Bucket(listing) => listing.next().await,
            Listing::Sorted(listing) => listing.next().await,
            Listing::Versions(listing) => listing.next().await,
            Listing::One(page) => Ok(page.take()),
        }
    }

    /// Gives up what is behind `key`, which has not been listed yet: another lister has taken it.
    pub fn end_at(&mut self, key: &[u8]) {
        match self {
            Listing::Local(listing) => listing.end_at(key),
            Listing::Bucket(listing) => listing.end_at(key),
            Listing::Versions(listing) => listing.end_at(key),
            // These are never cut: where they end is known from the start.
            Listing::Sorted(_) | Listing::One(_) => {}
        }
    }

    /// A key that cuts what is left of a directory about in half, if it is worth cutting.
    pub fn split_key(&mut self) -> Option<Vec<u8>> {
        match self {
            Listing::Local(listing) => listing.split_key(),
            Listing::Bucket(_) | Listing::Sorted(_) | Listing::Versions(_) | Listing::One(_) => None,
        }
    }
}

/// The first key of a page that holds U+FFFD, which services put where they could not decode a name. Two names may have
/// become one, and neither can be asked for.
pub fn lossy_key(page: &Page) -> Option<&[u8]> {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    // The byte is rare, and looking for it costs next to nothing.
    let somewhere = page.text.contains(&REPLACEMENT[0]);
    let holds = |key: &&[u8]| key.windows(REPLACEMENT.len()).any(|window| window == REPLACEMENT);
    somewhere.then(|| (0..page.rows.len()).map(|row| page.entry(row).key).find(holds)).flatten()
}
