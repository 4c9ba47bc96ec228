//! Objects in a directory: an index in SQLite, bodies in files beside it, small ones in the index itself.
//!
//! Every acknowledged write is one transaction of the index, committed after its bodies are in place. A process that is
//! killed therefore leaves, besides what it acknowledged, at most files that the index does not know, which the next
//! start removes. The index is written ahead (WAL) and synced at checkpoints only: a power cut may cost the last
//! seconds, a kill costs nothing.

use super::files::Files;
use super::{Body, Bucket, Entry, Object, Part, Piece, Sink, StoreError, Upload};
use crate::serve::ServeError;
use crate::serve::conditions::Guard;
use crate::serve::listing::{self, Page, Query};
use crate::serve::now_secs;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// `user_version` of the index; another number belongs to another version of Ropeway.
const SCHEMA_VERSION: i32 = 1;

/// More than there are statements below, so that each is compiled once.
const STATEMENTS_MAX: usize = 64;

/// A directory of objects, held by one server at a time.
pub(in crate::serve) struct Directory {
    files: Arc<Files>,
    index: Mutex<Connection>,
    /// The bucket table, read at every request. Changed only while the index is held.
    buckets: RwLock<BTreeMap<String, BucketRow>>,
    /// Holds the directory's lock for as long as it is open.
    _lock: File,
}

#[derive(Clone, Copy)]
struct BucketRow {
    id: i64,
    created_secs: i64,
}

impl Directory {
    /// Opens the directory, creating it if need be, and clears away what a killed server left.
    pub(in crate::serve) fn open(path: &Path) -> Result<Self, ServeError> {
        let create = |source| ServeError::Directory { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(create)?;
        let lock = File::create(path.join("lock")).map_err(create)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServeError::DirectoryLocked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(create(source)),
        }
        let files = Files::open(path).map_err(create)?;
        let opened = open_index(&path.join("index.sqlite")).and_then(|index| {
            let buckets = read_buckets(&index)?;
            remove_orphans(&index, &files)?;
            Ok((index, buckets))
        });
        let (index, buckets) =
            opened.map_err(|error| ServeError::Index { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { files, index: Mutex::new(index), buckets: RwLock::new(buckets), _lock: lock })
    }

    pub(super) fn create_bucket(&self, name: &str) -> Result<bool, StoreError> {
        let index = self.index();
        if self.has_bucket(name) {
            return Ok(false);
        }
        let created_secs = now_secs();
        index
            .prepare_cached("INSERT INTO bucket (name, created) VALUES (?1, ?2)")?
            .execute(params![name, created_secs])?;
        let row = BucketRow { id: index.last_insert_rowid(), created_secs };
        self.buckets.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), row);
        Ok(true)
    }

    pub(super) fn has_bucket(&self, name: &str) -> bool {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.iter().map(|(name, row)| Bucket { name: name.clone(), created_secs: row.created_secs }).collect()
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let bucket = self.bucket(name)?;
        self.change(|change| {
            let mut any = change.prepare("SELECT 1 FROM object WHERE bucket = ?1 LIMIT 1")?;
            if any.exists([bucket])? {
                return Err(StoreError::BucketNotEmpty);
            }
            drop(any);
            let mut uploads = change.prepare("SELECT id FROM upload WHERE bucket = ?1")?;
            let ids = uploads.query_map([bucket], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            drop(uploads);
            for id in ids {
                change.drop_parts(&id)?;
            }
            change.prepare("DELETE FROM upload WHERE bucket = ?1")?.execute([bucket])?;
            change.prepare("DELETE FROM bucket WHERE id = ?1")?.execute([bucket])?;
            self.buckets.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            Ok(())
        })
    }

    pub(super) fn sink(&self) -> Sink {
        Sink::to_files(self.files.clone())
    }

    pub(super) fn put(&self, bucket: &str, key: &str, object: Object, guard: &Guard) -> Result<(), StoreError> {
        self.change(|change| change.put(self.bucket(bucket)?, key, &object, guard))
    }

    pub(super) fn find(&self, bucket: &str, key: &str) -> Result<Arc<Object>, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        let mut find = index.prepare_cached("SELECT record, body FROM object WHERE bucket = ?1 AND key = ?2")?;
        let found = find
            .query_row(params![bucket, key.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let (record, body) = found.ok_or(StoreError::NoSuchKey)?;
        let body = self.body(&index, body)?;
        Ok(Arc::new(Object { record: serde_json::from_str(&record)?, body }))
    }

    pub(super) fn delete(&self, bucket: &str, key: &str, guard: &Guard) -> Result<(), StoreError> {
        self.change(|change| {
            let bucket = self.bucket(bucket)?;
            let current = change.current(bucket, key)?;
            guard.judge(current.as_ref().map(|(etag, _)| etag.as_str()))?;
            if let Some((_, body)) = current {
                let mut delete = change.prepare("DELETE FROM object WHERE bucket = ?1 AND key = ?2")?;
                delete.execute(params![bucket, key.as_bytes()])?;
                drop(delete);
                change.drop_body(body)?;
            }
            Ok(())
        })
    }

    pub(super) fn set_tags(&self, bucket: &str, key: &str, tags: Vec<(String, String)>) -> Result<(), StoreError> {
        let mut record = self.find(bucket, key)?.record.clone();
        let etag = record.etag.clone();
        record.attributes.tags = tags;
        let record = serde_json::to_string(&record)?;
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        // Only on the object that was read: if another was put meanwhile, its tags are its own.
        index
            .prepare_cached("UPDATE object SET record = ?4 WHERE bucket = ?1 AND key = ?2 AND etag = ?3")?
            .execute(params![bucket, key.as_bytes(), etag, record])?;
        Ok(())
    }

    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Page<Entry>, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        let mut inclusive = index.prepare_cached(
            "SELECT key, etag, size, modified, checksum, storage_class FROM object
             WHERE bucket = ?1 AND key >= ?2 ORDER BY key LIMIT ?3",
        )?;
        let mut exclusive = index.prepare_cached(
            "SELECT key, etag, size, modified, checksum, storage_class FROM object
             WHERE bucket = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        )?;
        listing::page(query, |from, limit| {
            let (select, from) = match from {
                Bound::Included(from) => (&mut inclusive, from),
                Bound::Excluded(from) => (&mut exclusive, from),
                Bound::Unbounded => (&mut inclusive, &[][..]),
            };
            let mut rows = select.query(params![bucket, from, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let mut entries = Vec::with_capacity(limit);
            while let Some(row) = rows.next()? {
                entries.push(entry(row)?);
            }
            Ok(entries)
        })
    }

    pub(super) fn create_upload(&self, bucket: &str, upload: Upload) -> Result<(), StoreError> {
        let record = serde_json::to_string(&upload)?;
        let index = self.index();
        index
            .prepare_cached("INSERT INTO upload (bucket, key, id, record) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.bucket(bucket)?, upload.key.as_bytes(), upload.id, record])?;
        Ok(())
    }

    pub(super) fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        let mut find = index.prepare_cached("SELECT record FROM upload WHERE bucket = ?1 AND key = ?2 AND id = ?3")?;
        let record: Option<String> =
            find.query_row(params![bucket, key.as_bytes(), id], |row| row.get(0)).optional()?;
        Ok(serde_json::from_str(&record.ok_or(StoreError::NoSuchUpload)?)?)
    }

    pub(super) fn uploads(&self, bucket: &str) -> Result<Vec<Upload>, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        let mut list = index.prepare_cached("SELECT record FROM upload WHERE bucket = ?1 ORDER BY key, id")?;
        let records = list.query_map([bucket], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        records.iter().map(|record| Ok(serde_json::from_str(record)?)).collect()
    }

    pub(super) fn put_part(&self, bucket: &str, key: &str, id: &str, part: Part) -> Result<(), StoreError> {
        let checksum = serde_json::to_string(&part.checksum)?;
        self.change(|change| {
            change.check_upload(self.bucket(bucket)?, key, id)?;
            let mut find = change.prepare("SELECT body FROM part WHERE upload = ?1 AND number = ?2")?;
            let replaced: Option<i64> = find.query_row(params![id, part.number], |row| row.get(0)).optional()?;
            drop(find);
            if let Some(body) = replaced {
                change.drop_body(body)?;
            }
            let body = change.add_body(&part.body)?;
            let mut insert = change.prepare(
                "INSERT OR REPLACE INTO part (upload, number, etag, modified, checksum, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            insert.execute(params![id, part.number, part.etag, part.modified_secs, checksum, body])?;
            Ok(())
        })
    }

    pub(super) fn parts(&self, bucket: &str, key: &str, id: &str) -> Result<Vec<Part>, StoreError> {
        self.upload(bucket, key, id)?;
        let index = self.index();
        let mut list = index.prepare_cached(
            "SELECT number, etag, modified, checksum, body FROM part WHERE upload = ?1 ORDER BY number",
        )?;
        let mut rows = list.query([id])?;
        let mut parts = Vec::new();
        while let Some(row) = rows.next()? {
            parts.push(Part {
                number: row.get(0)?,
                etag: row.get(1)?,
                modified_secs: row.get(2)?,
                checksum: serde_json::from_str(&row.get::<_, String>(3)?)?,
                body: self.body(&index, row.get(4)?)?,
            });
        }
        Ok(parts)
    }

    pub(super) fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        object: Object,
        guard: &Guard,
    ) -> Result<(), StoreError> {
        self.change(|change| {
            let bucket = self.bucket(bucket)?;
            change.check_upload(bucket, key, id)?;
            change.put(bucket, key, &object, guard)?;
            change.forget_upload(bucket, key, id)
        })
    }

    pub(super) fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<(), StoreError> {
        self.change(|change| {
            let bucket = self.bucket(bucket)?;
            change.check_upload(bucket, key, id)?;
            change.forget_upload(bucket, key, id)
        })
    }

    fn bucket(&self, name: &str) -> Result<i64, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).map(|row| row.id).ok_or(StoreError::NoSuchBucket)
    }

    /// A body with leases on its files. The index is held, so that they are there still.
    fn body(&self, index: &Connection, id: i64) -> Result<Body, StoreError> {
        let mut select =
            index.prepare_cached("SELECT bytes, file, start, size FROM piece WHERE body = ?1 ORDER BY ordinal")?;
        let mut rows = select.query([id])?;
        let mut pieces = Vec::new();
        while let Some(row) = rows.next()? {
            pieces.push(match row.get::<_, Option<i64>>(1)? {
                None => Piece::Memory(Bytes::from(row.get::<_, Vec<u8>>(0)?)),
                Some(file) => Piece::File {
                    lease: Arc::new(self.files.lease(file.cast_unsigned())),
                    start: row.get::<_, i64>(2)?.cast_unsigned(),
                    size_bytes: row.get::<_, i64>(3)?.cast_unsigned(),
                },
            });
        }
        Ok(Body::new(pieces))
    }

    /// Runs one transaction, and afterwards lets go of the files that it left without a body.
    fn change<T>(&self, run: impl FnOnce(&mut Change<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut index = self.index();
        let transaction = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut change = Change { transaction, referred: Vec::new(), released: Vec::new() };
        let outcome = run(&mut change)?;
        let Change { transaction, referred, released } = change;
        let mut orphans = Vec::new();
        for file in released {
            let mut known = transaction.prepare_cached("SELECT 1 FROM piece WHERE file = ?1 LIMIT 1")?;
            if !known.exists([file])? {
                orphans.push(file);
            }
        }
        transaction.commit()?;
        // While the index is still held: whoever looks a body up after this finds its files there or does not find it.
        for file in referred {
            self.files.keep(file);
        }
        for file in orphans {
            self.files.doom(file.cast_unsigned());
        }
        Ok(outcome)
    }

    /// The index, for the length of one question. After a panic SQLite has rolled back, so poisoning is passed over.
    fn index(&self) -> MutexGuard<'_, Connection> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One transaction and what it did to files.
struct Change<'a> {
    transaction: Transaction<'a>,
    /// Files that new bodies refer to.
    referred: Vec<u64>,
    /// Files that dropped bodies referred to.
    released: Vec<i64>,
}

impl Change<'_> {
    fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        Ok(self.transaction.prepare_cached(sql)?)
    }

    /// The ETag and the body of what is at the key now.
    fn current(&self, bucket: i64, key: &str) -> Result<Option<(String, i64)>, StoreError> {
        let mut find = self.prepare("SELECT etag, body FROM object WHERE bucket = ?1 AND key = ?2")?;
        Ok(find.query_row(params![bucket, key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    fn put(&mut self, bucket: i64, key: &str, object: &Object, guard: &Guard) -> Result<(), StoreError> {
        let current = self.current(bucket, key)?;
        guard.judge(current.as_ref().map(|(etag, _)| etag.as_str()))?;
        if let Some((_, body)) = current {
            self.drop_body(body)?;
        }
        let body = self.add_body(&object.body)?;
        let record = &object.record;
        let checksum = record.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.coverage));
        let checksum = checksum.map(|checksum| serde_json::to_string(&checksum)).transpose()?;
        let mut insert = self.prepare(
            "INSERT OR REPLACE INTO object
                 (bucket, key, etag, size, modified, checksum, storage_class, record, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        insert.execute(params![
            bucket,
            key.as_bytes(),
            record.etag,
            record.size_bytes.cast_signed(),
            record.modified_secs,
            checksum,
            record.attributes.storage_class,
            serde_json::to_string(record)?,
            body,
        ])?;
        Ok(())
    }

    /// Writes down the pieces of a body under a new number.
    fn add_body(&mut self, body: &Body) -> Result<i64, StoreError> {
        let id = fastrand::i64(..);
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO piece (body, ordinal, bytes, file, start, size) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for (ordinal, piece) in (0_i64..).zip(&body.pieces) {
            match piece {
                Piece::Memory(bytes) => {
                    insert.execute(params![id, ordinal, &bytes[..], None::<i64>, None::<i64>, None::<i64>])?;
                }
                Piece::File { lease, start, size_bytes } => {
                    let file = lease.id().cast_signed();
                    let (start, size) = (start.cast_signed(), size_bytes.cast_signed());
                    insert.execute(params![id, ordinal, None::<&[u8]>, file, start, size])?;
                    self.referred.push(lease.id());
                }
            }
        }
        Ok(id)
    }

    fn drop_body(&mut self, body: i64) -> Result<(), StoreError> {
        let mut delete = self.transaction.prepare_cached("DELETE FROM piece WHERE body = ?1 RETURNING file")?;
        let files = delete.query_map([body], |row| row.get::<_, Option<i64>>(0))?;
        for file in files {
            self.released.extend(file?);
        }
        Ok(())
    }

    fn check_upload(&self, bucket: i64, key: &str, id: &str) -> Result<(), StoreError> {
        let mut find = self.prepare("SELECT 1 FROM upload WHERE bucket = ?1 AND key = ?2 AND id = ?3")?;
        if find.exists(params![bucket, key.as_bytes(), id])? { Ok(()) } else { Err(StoreError::NoSuchUpload) }
    }

    fn forget_upload(&mut self, bucket: i64, key: &str, id: &str) -> Result<(), StoreError> {
        self.drop_parts(id)?;
        let mut delete = self.prepare("DELETE FROM upload WHERE bucket = ?1 AND key = ?2 AND id = ?3")?;
        delete.execute(params![bucket, key.as_bytes(), id])?;
        Ok(())
    }

    fn drop_parts(&mut self, upload: &str) -> Result<(), StoreError> {
        let mut delete = self.prepare("DELETE FROM part WHERE upload = ?1 RETURNING body")?;
        let bodies = delete.query_map([upload], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        drop(delete);
        for body in bodies {
            self.drop_body(body)?;
        }
        Ok(())
    }
}

fn open_index(path: &Path) -> Result<Connection, StoreError> {
    let index = Connection::open(path)?;
    index.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    index.pragma_update(None, "journal_mode", "WAL")?;
    index.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i32 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        SCHEMA_VERSION => {}
        // In one transaction, so that a kill in the middle leaves an index that is still empty.
        0 => index.execute_batch(&format!(
            "BEGIN IMMEDIATE;\n{}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;",
            include_str!("schema.sql")
        ))?,
        other => return Err(StoreError::Version(other)),
    }
    Ok(index)
}

fn read_buckets(index: &Connection) -> Result<BTreeMap<String, BucketRow>, StoreError> {
    let mut list = index.prepare("SELECT name, id, created FROM bucket")?;
    let rows = list.query_map([], |row| Ok((row.get(0)?, BucketRow { id: row.get(1)?, created_secs: row.get(2)? })))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn remove_orphans(index: &Connection, files: &Files) -> Result<(), StoreError> {
    let mut known = index.prepare("SELECT 1 FROM piece WHERE file = ?1 LIMIT 1")?;
    files.remove_orphans(|file| Ok(known.exists([file.cast_signed()])?))
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let checksum: Option<String> = row.get(4)?;
    Ok(Entry {
        key: String::from_utf8(row.get(0)?).map_err(|_| StoreError::KeyNotText)?,
        etag: row.get(1)?,
        size_bytes: row.get::<_, i64>(2)?.cast_unsigned(),
        modified_secs: row.get(3)?,
        checksum: checksum.map(|checksum| serde_json::from_str(&checksum)).transpose()?,
        storage_class: row.get(5)?,
    })
}
