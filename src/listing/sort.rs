//! A listing that does not come in order, put in order on disk: directory buckets and some vendors list so.
//!
//! Where the order is not to be trusted, starting places are not either, so the prefix is listed whole and the range's keys
//! are kept: in a temporary database of SQLite's, which holds a few MiB in memory and the rest in a file that nobody else
//! sees and that is gone with the process. It lies where SQLite puts such files: `$SQLITE_TMPDIR`, `$TMPDIR`, `/var/tmp`.
//!
//! A key that is listed twice is taken once, as it was listed first.

use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

use ropeway_s3proto::name::ETag;
use rusqlite::{Connection, OptionalExtension, params};

use super::{BucketListing, Error};
use crate::client::Client;
use crate::entry::{KeyRange, Page, Row};

/// A prefix of a bucket within a key range, in order whatever order it was listed in.
pub struct SortedListing {
    /// What is to be sorted; none once it is.
    arriving: Option<BucketListing>,
    range: KeyRange,
    table: Option<Table>,
    /// The last key of the page before.
    last: Option<Vec<u8>>,
    seen: Trail,
}

/// The first rows of a listing, as somebody took them: how many, and what their keys were. Two trails are equal if the same
/// keys came in the same order.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    rows: u64,
    keys: DefaultHasher,
}

/// Why a listing could not be put in order.
#[derive(Debug, thiserror::Error)]
#[error(
    "it does not come in order, and could not be sorted on disk: {0}; make room where temporary files are, or name another \
     place with TMPDIR"
)]
pub struct SortError(#[from] rusqlite::Error);

impl Trail {
    /// One more row.
    pub fn add(&mut self, key: &[u8]) {
        self.rows += 1;
        self.keys.write(key);
        self.keys.write_u8(0xff);
    }
}

impl PartialEq for Trail {
    fn eq(&self, other: &Trail) -> bool {
        self.rows == other.rows && self.keys.finish() == other.keys.finish()
    }
}

impl SortedListing {
    pub(super) fn new(
        client: Rc<Client>,
        prefix: Rc<str>,
        range: &KeyRange,
        seen: Trail,
    ) -> Result<SortedListing, SortError> {
        let arriving = Some(BucketListing::new(client, prefix, &KeyRange::default()));
        Ok(SortedListing { arriving, range: range.clone(), table: Some(Table::new()?), last: None, seen })
    }

    /// Whether the row of this key was taken before the listing was found to be out of order. Only once a page was given.
    pub fn was_seen(&self, key: &[u8]) -> Result<bool, SortError> {
        let table = self.table.as_ref().expect("a listing that failed is not asked");
        Ok(table.number(key)?.is_some_and(|number| number < self.seen.rows))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        if let Some(arriving) = self.arriving.take() {
            self.sort(arriving).await?;
        }
        let table = self.table.as_ref().expect("a listing that failed is not asked");
        let page = table.page(self.last.as_deref())?;
        self.last = page.last_key().map(Vec::from);
        Ok(self.last.is_some().then_some(page))
    }

    async fn sort(&mut self, mut arriving: BucketListing) -> Result<(), Error> {
        let mut table = self.table.take().expect("it is made with the listing");
        let mut trail = Trail::default();
        let mut is_same_way = self.seen.rows == 0;
        while let Some(page) = arriving.next().await? {
            for entry in (0..page.rows.len()).map(|row| page.entry(row)) {
                if self.range.after.as_deref().is_some_and(|after| entry.key <= after) || self.range.is_past(entry.key)
                {
                    continue;
                }
                trail.add(entry.key);
                is_same_way |= trail == self.seen;
                let etag = entry.etag.map(ToString::to_string);
                table.add(entry.key, entry.size_bytes, entry.modified_ns, etag.as_deref())?;
            }
        }
        if !is_same_way {
            // The bucket has changed, or is listed otherwise each time: what was taken before is taken again.
            self.seen = Trail::default();
        }
        // Minutes, for many millions of keys: not on the shard's thread.
        let sorted = tokio::task::spawn_blocking(move || table.sort().map(|()| table));
        self.table = Some(sorted.await.expect("sorting neither panics nor is aborted")?);
        Ok(())
    }
}

/// Rows in a temporary database: first as they arrive, then sorted.
struct Table {
    database: Connection,
    arrived: u64,
}

/// Rows that a page of a sorted listing has.
const PAGE_ROWS: u32 = 1_000;

/// SQLite's own memory, for arriving rows as for sorting.
const CACHE: &str = "PRAGMA cache_size = -4096; PRAGMA temp_store = FILE;";

impl Table {
    fn new() -> Result<Table, SortError> {
        // No name: a file of its own, which is deleted when it is closed. Nothing in it outlives the process, so nothing is
        // done for the case that it ends early.
        let database = Connection::open("")?;
        database.execute_batch(CACHE)?;
        database.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             CREATE TABLE arrived (number INTEGER PRIMARY KEY, key BLOB, size_bytes INTEGER, modified_ns INTEGER, etag TEXT);
             BEGIN",
        )?;
        Ok(Table { database, arrived: 0 })
    }

    fn add(&mut self, key: &[u8], size_bytes: u64, modified_ns: i64, etag: Option<&str>) -> Result<(), SortError> {
        let mut insert = self.database.prepare_cached("INSERT INTO arrived VALUES (?, ?, ?, ?, ?)")?;
        insert.execute(params![self.arrived as i64, key, size_bytes as i64, modified_ns, etag])?;
        self.arrived += 1;
        Ok(())
    }

    /// SQLite sorts by merging runs in temporary files, and what comes in order is only appended to the table.
    fn sort(&mut self) -> Result<(), SortError> {
        self.database.execute_batch(
            "CREATE TABLE sorted (key BLOB PRIMARY KEY, number INTEGER, size_bytes INTEGER, modified_ns INTEGER, etag TEXT)
                 WITHOUT ROWID;
             INSERT OR IGNORE INTO sorted
                 SELECT key, number, size_bytes, modified_ns, etag FROM arrived ORDER BY key, number;
             DROP TABLE arrived;
             COMMIT",
        )?;
        Ok(())
    }

    fn page(&self, after: Option<&[u8]>) -> Result<Page, SortError> {
        // No key is empty, so all are behind the empty one.
        let mut select = self.database.prepare_cached(
            "SELECT key, size_bytes, modified_ns, etag FROM sorted WHERE key > ? ORDER BY key LIMIT ?",
        )?;
        let mut rows = select.query(params![after.unwrap_or_default(), PAGE_ROWS])?;
        let mut page = Page::default();
        while let Some(row) = rows.next()? {
            let start = page.text.len() as u32;
            page.text.extend_from_slice(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
            page.rows.push(Row {
                key: start..page.text.len() as u32,
                size_bytes: row.get::<_, i64>(1)? as u64,
                modified_ns: row.get(2)?,
                etag: row
                    .get_ref(3)?
                    .as_str_or_null()
                    .map_err(rusqlite::Error::from)?
                    .and_then(|etag| ETag::parse(etag).ok()),
            });
        }
        Ok(page)
    }

    /// When a key arrived, counted from 0.
    fn number(&self, key: &[u8]) -> Result<Option<u64>, SortError> {
        let mut select = self.database.prepare_cached("SELECT number FROM sorted WHERE key = ?")?;
        Ok(select.query_row([key], |row| row.get::<_, i64>(0)).optional()?.map(|number| number as u64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_disk_sorts_as_memory_does(
            rows in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..5), any::<u64>(), any::<i64>()), 0..3_000),
        ) {
            let mut table = Table::new().unwrap();
            let mut expected = std::collections::BTreeMap::new();
            for (number, (key, size_bytes, modified_ns)) in rows.iter().enumerate() {
                let etag = format!("\"{size_bytes:x}\"");
                table.add(key, *size_bytes, *modified_ns, (size_bytes % 2 == 0).then_some(&*etag)).unwrap();
                expected.entry(key.clone()).or_insert((number as u64, *size_bytes, *modified_ns));
            }
            table.sort().unwrap();
            let (mut found, mut last) = (Vec::new(), None);
            loop {
                let page = table.page(last.as_deref()).unwrap();
                let Some(key) = page.last_key() else { break };
                last = Some(key.to_vec());
                for entry in (0..page.rows.len()).map(|row| page.entry(row)) {
                    prop_assert_eq!(entry.etag.is_some(), entry.size_bytes % 2 == 0);
                    let number = table.number(entry.key).unwrap().unwrap();
                    found.push((entry.key.to_vec(), (number, entry.size_bytes, entry.modified_ns)));
                }
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_trail_tells_keys_and_their_order() {
        let trail = |keys: &[&str]| {
            let mut trail = Trail::default();
            keys.iter().for_each(|key| trail.add(key.as_bytes()));
            trail
        };
        assert!(trail(&["a", "b"]) == trail(&["a", "b"]));
        for other in [&["b", "a"][..], &["ab"], &["a", "b", "b"], &["a"]] {
            assert!(trail(&["a", "b"]) != trail(other), "{other:?}");
        }
    }
}
