//! Objects in a directory: an index in SQLite, bodies in files beside it, small ones in the index itself.
//!
//! Every acknowledged write is one transaction of the index, committed after its bodies are in place. A process that is
//! killed therefore leaves, besides what it acknowledged, at most files that the index does not know, which the next
//! start removes. The index is written ahead (WAL) and synced at checkpoints only: a power cut may cost the last
//! seconds, a kill costs nothing.

use super::files::Files;
use super::{Body, Bucket, Entry, Object, Part, Piece, Record, Sink, StoreError, Upload, VersionNumbers};
use crate::serve::ServeError;
use crate::serve::conditions::Guard;
use crate::serve::listing::{self, Page, Query};
use crate::serve::now_secs;
use crate::serve::versions::{self, Deleted, History, Version, Versioning};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// `user_version` of the index; another number belongs to another version of Ropeway.
const SCHEMA_VERSION: i32 = 2;

/// What makes an index of each version out of the one before, beginning with an empty one.
const STEPS: [&str; SCHEMA_VERSION as usize] = [include_str!("schema.sql"), include_str!("schema_2.sql")];

/// More than there are statements below, so that each is compiled once.
const STATEMENTS_MAX: usize = 64;

/// A directory of objects, held by one server at a time.
pub(in crate::serve) struct Directory {
    files: Arc<Files>,
    index: Mutex<Connection>,
    /// The bucket table, read at every request. Changed only while the index is held.
    buckets: RwLock<BTreeMap<String, BucketRow>>,
    numbers: VersionNumbers,
    /// Holds the directory's lock for as long as it is open.
    _lock: File,
}

#[derive(Clone, Copy)]
struct BucketRow {
    id: i64,
    created_secs: i64,
    versioning: Versioning,
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
        Ok(Self {
            files,
            index: Mutex::new(index),
            buckets: RwLock::new(buckets),
            numbers: VersionNumbers::default(),
            _lock: lock,
        })
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
        let row = BucketRow { id: index.last_insert_rowid(), created_secs, versioning: Versioning::Never };
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
            let mut any = change.prepare(
                "SELECT 1 FROM object WHERE bucket = ?1 UNION ALL SELECT 1 FROM version WHERE bucket = ?1 LIMIT 1",
            )?;
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

    pub(super) fn versioning(&self, bucket: &str) -> Versioning {
        self.row(bucket).map_or(Versioning::Never, |row| row.versioning)
    }

    pub(super) fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), StoreError> {
        let index = self.index();
        let id = self.bucket(bucket)?;
        let number = match versioning {
            Versioning::Never => 0,
            Versioning::Enabled => 1,
            Versioning::Suspended => 2,
        };
        index.prepare_cached("UPDATE bucket SET versioning = ?2 WHERE id = ?1")?.execute([id, number])?;
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = buckets.get_mut(bucket) {
            row.versioning = versioning;
        }
        Ok(())
    }

    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        mut object: Object,
        guard: &Guard,
    ) -> Result<Option<String>, StoreError> {
        self.change(|change| change.put(self.row(bucket)?, key, &mut object, guard, &self.numbers))
    }

    pub(super) fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Arc<Object>, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        let mut find = index.prepare_cached("SELECT record, body FROM object WHERE bucket = ?1 AND key = ?2")?;
        let found: Option<(String, i64)> =
            find.query_row(params![bucket, key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((record, body)) = found {
            let record: Record = serde_json::from_str(&record)?;
            if version.is_none_or(|version| version == record.version_id()) {
                return Ok(Arc::new(Object { record, body: self.body(&index, body)? }));
            }
        }
        let mut find = index.prepare_cached(
            "SELECT id, record, body FROM version WHERE bucket = ?1 AND key = ?2 AND (?3 IS NULL OR id = ?3)
             ORDER BY number DESC LIMIT 1",
        )?;
        type Row = (String, Option<String>, Option<i64>);
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Row> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let found: Option<Row> = find.query_row(params![bucket, key.as_bytes(), version], read).optional()?;
        match (found, version) {
            (Some((_, Some(record), Some(body))), Some(_)) => {
                Ok(Arc::new(Object { record: serde_json::from_str(&record)?, body: self.body(&index, body)? }))
            }
            (Some((id, ..)), version) => Err(StoreError::Marker { id, is_latest: version.is_none() }),
            (None, Some(_)) => Err(StoreError::NoSuchVersion),
            (None, None) => Err(StoreError::NoSuchKey),
        }
    }

    pub(super) fn delete(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        guard: &Guard,
    ) -> Result<Deleted, StoreError> {
        self.change(|change| {
            let bucket = self.row(bucket)?;
            let current = change.current(bucket.id, key)?;
            guard.judge(current.as_ref().map(|current| current.etag.as_str()))?;
            match version {
                Some(version) => change.remove_version(bucket.id, key, current, version),
                None => change.delete(bucket, key, current, &self.numbers),
            }
        })
    }

    pub(super) fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        let mut record = self.find(bucket, key, version)?.record.clone();
        let etag = record.etag.clone();
        record.attributes.tags = tags;
        let (id, record) = (record.version_id().to_owned(), serde_json::to_string(&record)?);
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        // Only on the object that was read: if another was put meanwhile, its tags are its own.
        index
            .prepare_cached(
                "UPDATE object SET record = ?4 WHERE bucket = ?1 AND key = ?2 AND etag = ?3
                 AND coalesce(record ->> 'version', 'null') = ?5",
            )?
            .execute(params![bucket, key.as_bytes(), etag, record, id])?;
        index
            .prepare_cached(
                "UPDATE version SET record = ?4 WHERE bucket = ?1 AND key = ?2 AND record ->> 'etag' = ?3 AND id = ?5",
            )?
            .execute(params![bucket, key.as_bytes(), etag, record, id])?;
        Ok(())
    }

    pub(super) fn list_versions(
        &self,
        bucket: &str,
        query: &Query,
        after_id: Option<&str>,
    ) -> Result<versions::Page, StoreError> {
        let bucket = self.bucket(bucket)?;
        let index = self.index();
        versions::page(query, after_id, |from, limit| {
            let (comparison, from) = match from {
                Bound::Included(from) => (">=", from),
                Bound::Excluded(from) => (">", from),
                Bound::Unbounded => (">=", &[][..]),
            };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut keys: BTreeSet<Vec<u8>> = BTreeSet::new();
            for table in ["object", "version"] {
                let mut select = index.prepare_cached(&format!(
                    "SELECT DISTINCT key FROM {table} WHERE bucket = ?1 AND key {comparison} ?2 ORDER BY key LIMIT ?3"
                ))?;
                let mut rows = select.query(params![bucket, from, limit])?;
                while let Some(row) = rows.next()? {
                    keys.insert(row.get(0)?);
                }
            }
            keys.into_iter().take(limit as usize).map(|key| history(&index, bucket, key)).collect()
        })
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
        mut object: Object,
        guard: &Guard,
    ) -> Result<Option<String>, StoreError> {
        self.change(|change| {
            let bucket = self.row(bucket)?;
            change.check_upload(bucket.id, key, id)?;
            let version = change.put(bucket, key, &mut object, guard, &self.numbers)?;
            change.forget_upload(bucket.id, key, id)?;
            Ok(version)
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
        self.row(name).map(|row| row.id)
    }

    fn row(&self, name: &str) -> Result<BucketRow, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).copied().ok_or(StoreError::NoSuchBucket)
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

/// What a key means now, as far as a change has to know.
struct Current {
    etag: String,
    body: i64,
    version: String,
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

    /// What is at the key now.
    fn current(&self, bucket: i64, key: &str) -> Result<Option<Current>, StoreError> {
        let mut find = self.prepare(
            "SELECT etag, body, coalesce(record ->> 'version', 'null') FROM object WHERE bucket = ?1 AND key = ?2",
        )?;
        let read = |row: &Row<'_>| Ok(Current { etag: row.get(0)?, body: row.get(1)?, version: row.get(2)? });
        Ok(find.query_row(params![bucket, key.as_bytes()], read).optional()?)
    }

    /// The object holds the files of its body until these are kept, so it must outlive the change.
    fn put(
        &mut self,
        bucket: BucketRow,
        key: &str,
        object: &mut Object,
        guard: &Guard,
        numbers: &VersionNumbers,
    ) -> Result<Option<String>, StoreError> {
        let current = self.current(bucket.id, key)?;
        guard.judge(current.as_ref().map(|current| current.etag.as_str()))?;
        object.record.version = self.make_way(bucket, key, current, numbers)?;
        let body = self.add_body(&object.body)?;
        self.write(bucket.id, key, &object.record, body)?;
        Ok((bucket.versioning != Versioning::Never).then(|| object.record.version_id().to_owned()))
    }

    /// Writes what a key means now.
    fn write(&self, bucket: i64, key: &str, record: &Record, body: i64) -> Result<(), StoreError> {
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

    /// Makes a past of what the key means now, as far as the bucket keeps it, and gives the id of what comes in its place.
    /// The row of the key itself is left for that to replace.
    fn make_way(
        &mut self,
        bucket: BucketRow,
        key: &str,
        current: Option<Current>,
        numbers: &VersionNumbers,
    ) -> Result<Option<String>, StoreError> {
        let keeps = match bucket.versioning {
            Versioning::Never => false,
            Versioning::Enabled => true,
            Versioning::Suspended => {
                self.drop_past(bucket.id, key, versions::NULL)?;
                current.as_ref().is_some_and(|current| current.version != versions::NULL)
            }
        };
        match current {
            Some(current) if keeps => {
                let mut keep = self.prepare(
                    "INSERT INTO version (bucket, key, number, id, modified, record, body)
                     SELECT bucket, key, ?3, ?4, modified, record, body FROM object WHERE bucket = ?1 AND key = ?2",
                )?;
                let number = numbers.next().cast_signed();
                keep.execute(params![bucket.id, key.as_bytes(), number, current.version])?;
            }
            Some(current) => self.drop_body(current.body)?,
            None => {}
        }
        Ok((bucket.versioning == Versioning::Enabled).then(|| versions::new_id(numbers.next())))
    }

    fn delete(
        &mut self,
        bucket: BucketRow,
        key: &str,
        current: Option<Current>,
        numbers: &VersionNumbers,
    ) -> Result<Deleted, StoreError> {
        let id = self.make_way(bucket, key, current, numbers)?;
        self.forget(bucket.id, key)?;
        if bucket.versioning == Versioning::Never {
            return Ok(Deleted::default());
        }
        let id = id.unwrap_or_else(|| versions::NULL.to_owned());
        let mut mark = self.prepare(
            "INSERT INTO version (bucket, key, number, id, modified, record, body) VALUES (?1, ?2, ?3, ?4, ?5, NULL, NULL)",
        )?;
        mark.execute(params![bucket.id, key.as_bytes(), numbers.next().cast_signed(), id, now_secs()])?;
        Ok(Deleted { id: Some(id), is_marker: true })
    }

    fn remove_version(
        &mut self,
        bucket: i64,
        key: &str,
        current: Option<Current>,
        version: &str,
    ) -> Result<Deleted, StoreError> {
        let mut is_marker = false;
        let is_current = match current {
            Some(current) if current.version == version => {
                self.drop_body(current.body)?;
                self.forget(bucket, key)?;
                true
            }
            current => {
                is_marker = self.drop_past(bucket, key, version)?;
                current.is_none()
            }
        };
        if is_current {
            self.promote(bucket, key)?;
        }
        Ok(Deleted { id: Some(version.to_owned()), is_marker })
    }

    /// The key means what it meant last, unless that is that it is deleted.
    fn promote(&mut self, bucket: i64, key: &str) -> Result<(), StoreError> {
        let mut last = self.prepare(
            "SELECT number, record, body FROM version WHERE bucket = ?1 AND key = ?2 ORDER BY number DESC LIMIT 1",
        )?;
        type Last = (i64, Option<String>, Option<i64>);
        let read = |row: &Row<'_>| -> rusqlite::Result<Last> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let found = last.query_row(params![bucket, key.as_bytes()], read).optional()?;
        drop(last);
        if let Some((number, Some(record), Some(body))) = found {
            self.write(bucket, key, &serde_json::from_str(&record)?, body)?;
            let mut remove = self.prepare("DELETE FROM version WHERE bucket = ?1 AND key = ?2 AND number = ?3")?;
            remove.execute(params![bucket, key.as_bytes(), number])?;
        }
        Ok(())
    }

    /// Removes a version that its key does not mean, and says whether it was a delete marker.
    fn drop_past(&mut self, bucket: i64, key: &str, version: &str) -> Result<bool, StoreError> {
        let mut remove =
            self.prepare("DELETE FROM version WHERE bucket = ?1 AND key = ?2 AND id = ?3 RETURNING body")?;
        let read = |row: &Row<'_>| row.get::<_, Option<i64>>(0);
        let body = remove.query_row(params![bucket, key.as_bytes(), version], read).optional()?;
        drop(remove);
        match body {
            Some(Some(body)) => self.drop_body(body).map(|()| false),
            Some(None) => Ok(true),
            None => Ok(false),
        }
    }

    /// Removes the row of what a key means now.
    fn forget(&self, bucket: i64, key: &str) -> Result<(), StoreError> {
        let mut delete = self.prepare("DELETE FROM object WHERE bucket = ?1 AND key = ?2")?;
        delete.execute(params![bucket, key.as_bytes()])?;
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
    let done = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()).ok_or(StoreError::Version(version))?;
    if done < STEPS.len() {
        let steps = STEPS[done..].concat();
        // In one transaction, so that a kill in the middle leaves an index that is what it was.
        index.execute_batch(&format!("BEGIN IMMEDIATE;\n{steps}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"))?;
    }
    Ok(index)
}

fn read_buckets(index: &Connection) -> Result<BTreeMap<String, BucketRow>, StoreError> {
    let mut list = index.prepare("SELECT name, id, created, versioning FROM bucket")?;
    let rows = list.query_map([], |row| {
        let versioning = match row.get(3)? {
            0 => Versioning::Never,
            1 => Versioning::Enabled,
            _ => Versioning::Suspended,
        };
        Ok((row.get(0)?, BucketRow { id: row.get(1)?, created_secs: row.get(2)?, versioning }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn remove_orphans(index: &Connection, files: &Files) -> Result<(), StoreError> {
    let mut known = index.prepare("SELECT 1 FROM piece WHERE file = ?1 LIMIT 1")?;
    files.remove_orphans(|file| Ok(known.exists([file.cast_signed()])?))
}

/// All versions of a key, the newest first.
fn history(index: &Connection, bucket: i64, key: Vec<u8>) -> Result<History, StoreError> {
    let mut current = index.prepare_cached("SELECT record FROM object WHERE bucket = ?1 AND key = ?2")?;
    let record: Option<String> = current.query_row(params![bucket, key], |row| row.get(0)).optional()?;
    let read = |record: &str| Ok::<_, StoreError>(serde_json::from_str::<Record>(record)?.as_version());
    let mut versions: Vec<Version> = record.as_deref().map(read).transpose()?.into_iter().collect();
    let mut past = index.prepare_cached(
        "SELECT id, modified, record FROM version WHERE bucket = ?1 AND key = ?2 ORDER BY number DESC",
    )?;
    let mut rows = past.query(params![bucket, key])?;
    while let Some(row) = rows.next()? {
        versions.push(match row.get::<_, Option<String>>(2)? {
            Some(record) => read(&record)?,
            None => Version { id: row.get(0)?, modified_secs: row.get(1)?, object: None },
        });
    }
    Ok(History { key: String::from_utf8(key).map_err(|_| StoreError::KeyNotText)?, versions })
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
