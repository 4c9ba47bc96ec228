//! Objects in memory: a sorted map for each bucket, gone when the server stops.
//!
//! This is also what Ropeway is measured against, so a request takes one shared lock for one look-up and copies no body.

use super::{Attributes, Bucket, Entry, Object, Part, Sink, StoreError, Upload};
use crate::serve::conditions::Guard;
use crate::serve::listing::{self, Page, Query};
use crate::serve::now_secs;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// All buckets.
#[derive(Default)]
pub(in crate::serve) struct Memory {
    buckets: RwLock<BTreeMap<String, Arc<Contents>>>,
}

/// One bucket. Keys are kept as bytes, the order in which they are listed.
struct Contents {
    created_secs: i64,
    objects: RwLock<BTreeMap<Vec<u8>, Arc<Object>>>,
    uploads: Mutex<Uploads>,
}

/// By key and id: the order in which uploads are listed.
type Uploads = BTreeMap<(String, String), (Upload, BTreeMap<u16, Part>)>;

// A panic while a lock is held leaves nothing half done behind: every critical section below is one change of a map.
// Poisoning is therefore passed over.

impl Memory {
    pub(super) fn create_bucket(&self, name: &str) -> Result<bool, StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let contents = Contents {
            created_secs: now_secs(),
            objects: RwLock::new(BTreeMap::new()),
            uploads: Mutex::new(BTreeMap::new()),
        };
        buckets.insert(name.to_owned(), Arc::new(contents));
        Ok(true)
    }

    pub(super) fn has_bucket(&self, name: &str) -> bool {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let bucket = |(name, contents): (&String, &Arc<Contents>)| Bucket {
            name: name.clone(),
            created_secs: contents.created_secs,
        };
        buckets.iter().map(bucket).collect()
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let contents = buckets.get(name).ok_or(StoreError::NoSuchBucket)?;
        if !contents.objects.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        buckets.remove(name);
        Ok(())
    }

    pub(super) fn sink(&self) -> Sink {
        Sink::to_memory()
    }

    pub(super) fn put(&self, bucket: &str, key: &str, object: Object, guard: &Guard) -> Result<(), StoreError> {
        self.contents(bucket)?.put(key, object, guard)
    }

    pub(super) fn find(&self, bucket: &str, key: &str) -> Result<Arc<Object>, StoreError> {
        let contents = self.contents(bucket)?;
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(key.as_bytes()).cloned().ok_or(StoreError::NoSuchKey)
    }

    pub(super) fn delete(&self, bucket: &str, key: &str, guard: &Guard) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut objects = contents.objects.write().unwrap_or_else(PoisonError::into_inner);
        guard.judge(objects.get(key.as_bytes()).map(|object| object.record.etag.as_str()))?;
        objects.remove(key.as_bytes());
        Ok(())
    }

    pub(super) fn set_tags(&self, bucket: &str, key: &str, tags: Vec<(String, String)>) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut objects = contents.objects.write().unwrap_or_else(PoisonError::into_inner);
        let object = objects.get_mut(key.as_bytes()).ok_or(StoreError::NoSuchKey)?;
        let mut record = object.record.clone();
        record.attributes = Attributes { tags, ..record.attributes };
        *object = Arc::new(Object { record, body: object.body.clone() });
        Ok(())
    }

    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Page<Entry>, StoreError> {
        let contents = self.contents(bucket)?;
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        listing::page(query, |from, limit| {
            let range = objects.range::<[u8], _>((from, Bound::Unbounded));
            Ok(range.take(limit).map(|(key, object)| entry(key, object)).collect())
        })
    }

    pub(super) fn create_upload(&self, bucket: &str, upload: Upload) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.insert((upload.key.clone(), upload.id.clone()), (upload, BTreeMap::new()));
        Ok(())
    }

    pub(super) fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
        self.with_upload(bucket, key, id, |(upload, _)| upload.clone())
    }

    pub(super) fn uploads(&self, bucket: &str) -> Result<Vec<Upload>, StoreError> {
        let contents = self.contents(bucket)?;
        let uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(uploads.values().map(|(upload, _)| upload.clone()).collect())
    }

    pub(super) fn put_part(&self, bucket: &str, key: &str, id: &str, part: Part) -> Result<(), StoreError> {
        self.with_upload(bucket, key, id, |(_, parts)| {
            parts.insert(part.number, part);
        })
    }

    pub(super) fn parts(&self, bucket: &str, key: &str, id: &str) -> Result<Vec<Part>, StoreError> {
        self.with_upload(bucket, key, id, |(_, parts)| parts.values().cloned().collect())
    }

    pub(super) fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        object: Object,
        guard: &Guard,
    ) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key.to_owned(), id.to_owned());
        if !uploads.contains_key(&place) {
            return Err(StoreError::NoSuchUpload);
        }
        contents.put(key, object, guard)?;
        uploads.remove(&place);
        Ok(())
    }

    pub(super) fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.remove(&(key.to_owned(), id.to_owned())).map(drop).ok_or(StoreError::NoSuchUpload)
    }

    fn contents(&self, bucket: &str) -> Result<Arc<Contents>, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(bucket).cloned().ok_or(StoreError::NoSuchBucket)
    }

    fn with_upload<T>(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        look: impl FnOnce(&mut (Upload, BTreeMap<u16, Part>)) -> T,
    ) -> Result<T, StoreError> {
        let contents = self.contents(bucket)?;
        let mut uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.get_mut(&(key.to_owned(), id.to_owned())).map(look).ok_or(StoreError::NoSuchUpload)
    }
}

impl Contents {
    fn put(&self, key: &str, object: Object, guard: &Guard) -> Result<(), StoreError> {
        let object = Arc::new(object);
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        guard.judge(objects.get(key.as_bytes()).map(|object| object.record.etag.as_str()))?;
        objects.insert(key.as_bytes().to_vec(), object);
        Ok(())
    }
}

fn entry(key: &[u8], object: &Object) -> Entry {
    let record = &object.record;
    Entry {
        key: String::from_utf8(key.to_vec()).expect("keys arrive as text"),
        etag: record.etag.clone(),
        size_bytes: record.size_bytes,
        modified_secs: record.modified_secs,
        checksum: record.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.coverage)),
        storage_class: record.attributes.storage_class.clone(),
    }
}
