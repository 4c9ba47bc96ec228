//! Objects in memory: a sorted map for each bucket, gone when the server stops.
//!
//! This is also what Ropeway is measured against, so a request takes one shared lock for one look-up and copies no body.

use super::{Attributes, Bucket, Entry, Object, Part, Sink, StoreError, Upload, VersionNumbers};
use crate::serve::conditions::Guard;
use crate::serve::listing::{self, Page, Query};
use crate::serve::now_secs;
use crate::serve::versions::{self, Deleted, History, Version, Versioning};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// All buckets.
#[derive(Default)]
pub(in crate::serve) struct Memory {
    buckets: RwLock<BTreeMap<String, Arc<Contents>>>,
    numbers: VersionNumbers,
}

/// One bucket. Keys are kept as bytes, the order in which they are listed.
struct Contents {
    created_secs: i64,
    objects: RwLock<Objects>,
    uploads: Mutex<Uploads>,
}

/// What a bucket holds.
#[derive(Default)]
struct Objects {
    versioning: Versioning,
    /// What each key means now.
    current: BTreeMap<Vec<u8>, Arc<Object>>,
    /// What keys have meant before, the newest last. Of a key that means nothing now, the newest is a delete marker.
    past: BTreeMap<Vec<u8>, Vec<Past>>,
}

/// A version that is not what its key means.
enum Past {
    Object(Arc<Object>),
    Marker {
        /// `None` is the version called `null`.
        id: Option<String>,
        modified_secs: i64,
    },
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
        let contents =
            Contents { created_secs: now_secs(), objects: RwLock::default(), uploads: Mutex::new(BTreeMap::new()) };
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
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        if !objects.current.is_empty() || !objects.past.is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        drop(objects);
        buckets.remove(name);
        Ok(())
    }

    pub(super) fn sink(&self) -> Sink {
        Sink::to_memory()
    }

    pub(super) fn versioning(&self, bucket: &str) -> Versioning {
        let Ok(contents) = self.contents(bucket) else { return Versioning::Never };
        contents.objects.read().unwrap_or_else(PoisonError::into_inner).versioning
    }

    pub(super) fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        contents.objects.write().unwrap_or_else(PoisonError::into_inner).versioning = versioning;
        Ok(())
    }

    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        guard: &Guard,
    ) -> Result<Option<String>, StoreError> {
        self.contents(bucket)?.put(key, object, guard, &self.numbers)
    }

    pub(super) fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Arc<Object>, StoreError> {
        let contents = self.contents(bucket)?;
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.find(key, version).cloned()
    }

    pub(super) fn delete(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        guard: &Guard,
    ) -> Result<Deleted, StoreError> {
        let contents = self.contents(bucket)?;
        let mut objects = contents.objects.write().unwrap_or_else(PoisonError::into_inner);
        guard.judge(objects.current.get(key.as_bytes()).map(|object| object.record.etag.as_str()))?;
        Ok(match version {
            Some(version) => objects.remove_version(key, version),
            None => objects.delete(key, &self.numbers),
        })
    }

    pub(super) fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        let contents = self.contents(bucket)?;
        let mut objects = contents.objects.write().unwrap_or_else(PoisonError::into_inner);
        let found = objects.find(key, version)?;
        let mut record = found.record.clone();
        record.attributes = Attributes { tags, ..record.attributes };
        let changed = Arc::new(Object { record, body: found.body.clone() });
        objects.replace(key, changed);
        Ok(())
    }

    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Page<Entry>, StoreError> {
        let contents = self.contents(bucket)?;
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        listing::page(query, |from, limit| {
            let range = objects.current.range::<[u8], _>((from, Bound::Unbounded));
            Ok(range.take(limit).map(|(key, object)| entry(key, object)).collect())
        })
    }

    pub(super) fn list_versions(
        &self,
        bucket: &str,
        query: &Query,
        after_id: Option<&str>,
    ) -> Result<versions::Page, StoreError> {
        let contents = self.contents(bucket)?;
        let objects = contents.objects.read().unwrap_or_else(PoisonError::into_inner);
        versions::page(query, after_id, |from, limit| {
            let from = (from, Bound::Unbounded);
            let mut keys: BTreeSet<&Vec<u8>> =
                objects.current.range::<[u8], _>(from).take(limit).map(|(key, _)| key).collect();
            keys.extend(objects.past.range::<[u8], _>(from).take(limit).map(|(key, _)| key));
            Ok(keys.into_iter().take(limit).map(|key| objects.history(key)).collect())
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
    ) -> Result<Option<String>, StoreError> {
        let contents = self.contents(bucket)?;
        let mut uploads = contents.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key.to_owned(), id.to_owned());
        if !uploads.contains_key(&place) {
            return Err(StoreError::NoSuchUpload);
        }
        let version = contents.put(key, object, guard, &self.numbers)?;
        uploads.remove(&place);
        Ok(version)
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
    fn put(
        &self,
        key: &str,
        mut object: Object,
        guard: &Guard,
        numbers: &VersionNumbers,
    ) -> Result<Option<String>, StoreError> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        guard.judge(objects.current.get(key.as_bytes()).map(|object| object.record.etag.as_str()))?;
        if objects.versioning != Versioning::Never {
            object.record.version = objects.make_way(key, numbers);
        }
        let id = (objects.versioning != Versioning::Never).then(|| object.record.version_id().to_owned());
        objects.current.insert(key.as_bytes().to_vec(), Arc::new(object));
        Ok(id)
    }
}

impl Objects {
    /// Makes a past of what the key means now, as far as the bucket keeps it, and gives the id of what comes in its place.
    fn make_way(&mut self, key: &str, numbers: &VersionNumbers) -> Option<String> {
        let key = key.as_bytes();
        let suspended = self.versioning == Versioning::Suspended;
        if suspended && let Some(past) = self.past.get_mut(key) {
            past.retain(|version| version.id().is_some());
        }
        if let Some(current) = self.current.remove(key)
            && (!suspended || current.record.version.is_some())
        {
            self.past.entry(key.to_vec()).or_default().push(Past::Object(current));
        }
        self.forget_if_empty(key);
        (!suspended).then(|| versions::new_id(numbers.next()))
    }

    fn delete(&mut self, key: &str, numbers: &VersionNumbers) -> Deleted {
        if self.versioning == Versioning::Never {
            self.current.remove(key.as_bytes());
            return Deleted::default();
        }
        let id = self.make_way(key, numbers);
        let name = id.clone().unwrap_or_else(|| versions::NULL.to_owned());
        let marker = Past::Marker { id, modified_secs: now_secs() };
        self.past.entry(key.as_bytes().to_vec()).or_default().push(marker);
        Deleted { id: Some(name), is_marker: true }
    }

    fn remove_version(&mut self, key: &str, version: &str) -> Deleted {
        let gone = |is_marker| Deleted { id: Some(version.to_owned()), is_marker };
        let key = key.as_bytes();
        if self.current.get(key).is_some_and(|current| current.record.version_id() == version) {
            self.current.remove(key);
            self.promote(key);
            return gone(false);
        }
        let Some(past) = self.past.get_mut(key) else { return gone(false) };
        let Some(index) = past.iter().position(|past| past.name() == version) else { return gone(false) };
        let is_marker = matches!(past.remove(index), Past::Marker { .. });
        if !self.current.contains_key(key) {
            self.promote(key);
        }
        self.forget_if_empty(key);
        gone(is_marker)
    }

    /// The key means what it meant last, unless that is that it is deleted.
    fn promote(&mut self, key: &[u8]) {
        if let Some(past) = self.past.get_mut(key)
            && let Some(Past::Object(_)) = past.last()
            && let Some(Past::Object(object)) = past.pop()
        {
            self.current.insert(key.to_vec(), object);
        }
        self.forget_if_empty(key);
    }

    fn forget_if_empty(&mut self, key: &[u8]) {
        if self.past.get(key).is_some_and(Vec::is_empty) {
            self.past.remove(key);
        }
    }

    fn find(&self, key: &str, version: Option<&str>) -> Result<&Arc<Object>, StoreError> {
        let current = self.current.get(key.as_bytes());
        let past = self.past.get(key.as_bytes()).map(Vec::as_slice).unwrap_or_default();
        let marker = |past: &Past, is_latest| StoreError::Marker { id: past.name().to_owned(), is_latest };
        let Some(version) = version else {
            return current.ok_or_else(|| past.last().map_or(StoreError::NoSuchKey, |past| marker(past, true)));
        };
        if let Some(current) = current.filter(|current| current.record.version_id() == version) {
            return Ok(current);
        }
        match past.iter().find(|past| past.name() == version) {
            Some(Past::Object(object)) => Ok(object),
            Some(past) => Err(marker(past, false)),
            None => Err(StoreError::NoSuchVersion),
        }
    }

    /// Puts an object in the place of the one of the same version.
    fn replace(&mut self, key: &str, object: Arc<Object>) {
        let key = key.as_bytes();
        match self.current.get_mut(key) {
            Some(current) if current.record.version == object.record.version => *current = object,
            Some(_) | None => {
                let mut past = self.past.get_mut(key).into_iter().flatten();
                if let Some(past) = past.find(|past| past.name() == object.record.version_id()) {
                    *past = Past::Object(object);
                }
            }
        }
    }

    fn history(&self, key: &[u8]) -> History {
        let current = self.current.get(key).map(|object| object.record.as_version());
        let past = self.past.get(key).into_iter().flatten().rev().map(Past::as_version);
        let key = String::from_utf8(key.to_vec()).expect("keys arrive as text");
        History { key, versions: current.into_iter().chain(past).collect() }
    }
}

impl Past {
    fn id(&self) -> Option<&str> {
        match self {
            Past::Object(object) => object.record.version.as_deref(),
            Past::Marker { id, .. } => id.as_deref(),
        }
    }

    fn name(&self) -> &str {
        self.id().unwrap_or(versions::NULL)
    }

    fn as_version(&self) -> Version {
        match self {
            Past::Object(object) => object.record.as_version(),
            Past::Marker { modified_secs, .. } => {
                Version { id: self.name().to_owned(), modified_secs: *modified_secs, object: None }
            }
        }
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
