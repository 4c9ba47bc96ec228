//! S3's operations in terms of the storage: translation, and the checks that are the protocol's own.
//!
//! What is not listed here answers `NotImplemented`, which is what s3s does by itself.

use super::checksums::{Algorithm, Checksum, Coverage, encode};
use super::conditions::{Guard, ReadConditions, Verdict};
use super::encryption::{
    self, CustomerHeaders, check_key, check_part_key, copy_source_customer_headers, customer_headers, etag_of,
    hides_md5, state_encryption,
};
use super::listing::Query;
use super::multipart::{self, Expected, Named};
use super::now_secs;
use super::receive::{Claims, Received, receive, rehash};
use super::spelling::{check_tags, decode_token, fits_xml, parse_tagging, spell, without_transfer_coding};
use super::store::{Attributes, Entry, Object, Part, PartRecord, Record, Store, StoreError, Upload};
use super::versions::{Line, Versioning};
use super::view::View;
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::ops::Range as ByteRange;
use std::sync::Arc;

/// The S3 service over one storage.
pub(super) struct Service {
    store: Arc<Store>,
    create_buckets: bool,
    checksums_unasked: bool,
}

/// The most entries of any listing page; AWS's own limit.
const PAGE_ENTRIES_MAX: i32 = 1000;

/// The highest part number; AWS's own limit.
const PART_NUMBER_MAX: i32 = 10_000;

/// What AWS says an object is whose uploader did not say.
const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

/// Takes the checksums a client states out of an input: s3s repeats the five fields in every structure.
macro_rules! claimed {
    ($input:expr) => {
        [
            (Algorithm::Crc32, $input.checksum_crc32.take()),
            (Algorithm::Crc32c, $input.checksum_crc32c.take()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.take()),
            (Algorithm::Sha1, $input.checksum_sha1.take()),
            (Algorithm::Sha256, $input.checksum_sha256.take()),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| Some((algorithm, value?)))
        .collect::<Vec<_>>()
    };
}

/// Puts a value into the field of its algorithm.
macro_rules! state_value {
    ($output:expr, $algorithm:expr, $value:expr) => {
        match $algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = Some($value),
            Algorithm::Crc32c => $output.checksum_crc32c = Some($value),
            Algorithm::Crc64Nvme => $output.checksum_crc64nvme = Some($value),
            Algorithm::Sha1 => $output.checksum_sha1 = Some($value),
            Algorithm::Sha256 => $output.checksum_sha256 = Some($value),
        }
    };
}

/// Puts a checksum and what it covers into an output.
macro_rules! state_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let checksum: &Checksum = checksum;
            state_value!($output, checksum.algorithm, checksum.value.clone());
            $output.checksum_type = Some(checksum_type(checksum.coverage));
        }
    };
}

/// Takes what the uploader says about an object out of an input.
macro_rules! attributes_of {
    ($input:expr) => {
        Attributes {
            content_type: $input.content_type.take().filter(|value| !value.is_empty()),
            content_encoding: $input.content_encoding.take().and_then(without_transfer_coding),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            expires_secs: $input.expires.take().map(|expires| time::OffsetDateTime::from(expires).unix_timestamp()),
            website_redirect: $input.website_redirect_location.take(),
            storage_class: storage_class($input.storage_class.take()),
            metadata: $input.metadata.take().unwrap_or_default().into_iter().collect(),
            tags: parse_tagging($input.tagging.take().as_deref())?,
            encryption: encryption::asked(
                $input.server_side_encryption.take().map(|kind| kind.as_str().to_owned()),
                $input.ssekms_key_id.take(),
                customer_headers!($input),
            )?,
        }
    };
}

/// Fills the fields that GetObject and HeadObject share.
macro_rules! describe {
    ($output:ident, $object:expr, $view:expr) => {
        $output {
            accept_ranges: Some("bytes".into()),
            cache_control: $object.record.attributes.cache_control.clone(),
            content_disposition: $object.record.attributes.content_disposition.clone(),
            content_encoding: $object.record.attributes.content_encoding.clone(),
            content_language: $object.record.attributes.content_language.clone(),
            content_length: Some(size_i64($view.range.end - $view.range.start)),
            content_range: $view.content_range($object.record.size_bytes),
            content_type: Some(
                $object.record.attributes.content_type.clone().unwrap_or_else(|| CONTENT_TYPE_DEFAULT.into()),
            ),
            e_tag: Some(ETag::Strong($object.record.etag.clone())),
            expires: $object.record.attributes.expires_secs.map(timestamp),
            last_modified: Some(timestamp($object.record.modified_secs)),
            metadata: metadata(&$object.record),
            parts_count: $view.parts_count,
            storage_class: $object.record.attributes.storage_class.clone().map(StorageClass::from),
            website_redirect_location: $object.record.attributes.website_redirect.clone(),
            ..$output::default()
        }
    };
}

impl Service {
    /// With `create_buckets`, a bucket exists from its first use on; with `checksums_unasked`, every object has a checksum.
    pub(super) fn new(store: Arc<Store>, create_buckets: bool, checksums_unasked: bool) -> Self {
        Self { store, create_buckets, checksums_unasked }
    }

    /// Makes sure that a bucket about to be written or listed exists.
    fn open_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.store.has_bucket(bucket) {
            Ok(())
        } else if self.create_buckets {
            self.store.create_bucket(bucket).map(drop).map_err(refuse)
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    /// A version of an object, or the object as it is now. A bucket that would be created on first use is merely empty.
    fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Arc<Object>> {
        self.store.find(bucket, key, version_wanted(version)).map_err(|error| match error {
            StoreError::NoSuchBucket if self.create_buckets => s3_error!(NoSuchKey),
            other => refuse(other),
        })
    }

    /// How answers name the version of an object, if at all: a bucket that never kept versions does not speak of them.
    fn version_id(&self, bucket: &str, record: &Record) -> Option<String> {
        match (&record.version, self.store.versioning(bucket)) {
            (None, Versioning::Never) => None,
            (Some(_), _) | (None, Versioning::Enabled | Versioning::Suspended) => Some(record.version_id().to_owned()),
        }
    }

    fn find_source(
        &self,
        source: &CopySource,
        conditions: &ReadConditions,
        shown: CustomerHeaders,
    ) -> S3Result<Arc<Object>> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "Only buckets can be copied from."));
        };
        let object = self.find(bucket, key, version_id.as_deref())?;
        check_key(object.record.attributes.encryption.as_ref(), shown)?;
        match conditions.judge(&object.record.etag, &timestamp(object.record.modified_secs)) {
            Verdict::Proceed if is_archived(&object.record) => Err(not_in_active_tier()),
            Verdict::Proceed => Ok(object),
            Verdict::NotModified | Verdict::PreconditionFailed => Err(s3_error!(PreconditionFailed)),
        }
    }

    fn source_version_id(&self, source: &CopySource, record: &Record) -> Option<String> {
        match source {
            CopySource::Bucket { bucket, .. } => self.version_id(bucket, record),
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => None,
        }
    }

    fn list(&self, bucket: &str, query: &Query, encoding: Option<&EncodingType>) -> S3Result<ListedPage> {
        self.open_bucket(bucket)?;
        let page = self.store.list(bucket, query).map_err(refuse)?;
        let mut names = page.entries.iter().map(|entry| &entry.key).chain(&page.prefixes);
        if encoding.is_none() && !names.all(|name| fits_xml(name)) {
            return Err(s3_error!(NotImplemented, "A key here has no place in XML; ask for encoding-type=url."));
        }
        let prefixes = page.prefixes.iter();
        Ok(ListedPage {
            contents: page.entries.into_iter().map(|entry| listed(entry, encoding)).collect(),
            common_prefixes: prefixes.map(|prefix| CommonPrefix { prefix: Some(spell(prefix, encoding)) }).collect(),
            next: page.next,
        })
    }

    async fn store_part(&self, upload: Upload, bucket: &str, number: i32, received: Received) -> S3Result<Part> {
        let number = part_number(number)?;
        let part = Part {
            number,
            etag: etag_of(received.etag, upload.attributes.encryption.as_ref()),
            modified_secs: now_secs(),
            checksum: received.checksum,
            body: received.body,
        };
        self.store.put_part(bucket, &upload.key, &upload.id, part.clone()).map_err(refuse)?;
        Ok(part)
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket;
        if !self.store.create_bucket(&bucket).map_err(refuse)? && !self.create_buckets {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.open_bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.store.delete_bucket(&req.input.bucket).map_err(refuse)?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let bucket = |bucket: super::store::Bucket| Bucket {
            name: Some(bucket.name),
            creation_date: Some(timestamp(bucket.created_secs)),
            ..Bucket::default()
        };
        let buckets = self.store.buckets().into_iter().map(bucket).collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.open_bucket(&req.input.bucket)?;
        // No constraint means us-east-1, the region every client takes for granted.
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.open_bucket(&req.input.bucket)?;
        let status = match self.store.versioning(&req.input.bucket) {
            // No status is how S3 says that versions were never kept.
            Versioning::Never => None,
            Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
            Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
        };
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        self.open_bucket(&req.input.bucket)?;
        let versioning = match req.input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            Some(_) | None => return Err(s3_error!(IllegalVersioningConfigurationException)),
        };
        self.store.set_versioning(&req.input.bucket, versioning).map_err(refuse)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        let encoding = encoding(input.encoding_type)?;
        self.open_bucket(&input.bucket)?;
        let query = Query {
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.key_marker.clone().unwrap_or_default(),
            count_max: page_size(input.max_keys)?,
        };
        if input.version_id_marker.is_some() && query.after.is_empty() {
            return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
        }
        let page =
            self.store.list_versions(&input.bucket, &query, input.version_id_marker.as_deref()).map_err(refuse)?;
        let mut names = page.versions.iter().map(|line| &line.key).chain(&page.prefixes);
        if encoding.is_none() && !names.all(|name| fits_xml(name)) {
            return Err(s3_error!(NotImplemented, "A key here has no place in XML; ask for encoding-type=url."));
        }
        let (mut versions, mut delete_markers) = (Vec::new(), Vec::new());
        for line in page.versions {
            match line.version.object {
                Some(_) => versions.push(listed_version(line, encoding.as_ref())),
                None => delete_markers.push(DeleteMarkerEntry {
                    is_latest: Some(line.is_latest),
                    key: Some(spell(&line.key, encoding.as_ref())),
                    last_modified: Some(timestamp(line.version.modified_secs)),
                    version_id: Some(line.version.id),
                    ..DeleteMarkerEntry::default()
                }),
            }
        }
        let common_prefix = |prefix: &String| CommonPrefix { prefix: Some(spell(prefix, encoding.as_ref())) };
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(spell(&query.prefix, encoding.as_ref())),
            delimiter: input.delimiter.map(|delimiter| spell(&delimiter, encoding.as_ref())),
            key_marker: Some(spell(&query.after, encoding.as_ref())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            max_keys: Some(count_i32(query.count_max)),
            is_truncated: Some(page.next.is_some()),
            next_key_marker: page.next.as_ref().map(|(key, _)| spell(key, encoding.as_ref())),
            next_version_id_marker: page.next.map(|(_, id)| id).filter(|id| !id.is_empty()),
            common_prefixes: Some(page.prefixes.iter().map(common_prefix).collect()),
            versions: Some(versions),
            delete_markers: Some(delete_markers),
            encoding_type: encoding,
            ..ListObjectVersionsOutput::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        self.open_bucket(&input.bucket)?;
        if input.write_offset_bytes.is_some() {
            return Err(s3_error!(NotImplemented, "Appending is not supported."));
        }
        let guard = guard(input.if_match.take(), input.if_none_match.take())?;
        let attributes = attributes_of!(input);
        let claims = Claims {
            length_bytes: input.content_length,
            content_md5: input.content_md5.take(),
            checksums: claimed!(input),
            algorithm: algorithm(input.checksum_algorithm.as_ref())?,
            trailers: req.trailing_headers,
            kept: None,
        };
        let received = receive(input.body.take(), claims, self.store.sink()).await?;
        let checksum = Some(received.checksum.clone()).filter(|_| received.stated.is_some() || self.checksums_unasked);
        let etag = etag_of(received.etag, attributes.encryption.as_ref());
        let encryption = attributes.encryption.clone();
        let record = Record {
            etag: etag.clone(),
            size_bytes: received.body.size_bytes(),
            modified_secs: now_secs(),
            attributes,
            checksum: checksum.clone(),
            parts: Vec::new(),
            version: None,
        };
        let object = Object { record, body: received.body };
        let version_id = self.store.put(&input.bucket, &input.key, object, &guard).map_err(refuse)?;
        let mut output = PutObjectOutput { e_tag: Some(ETag::Strong(etag)), version_id, ..PutObjectOutput::default() };
        state_encryption!(output, encryption.as_ref());
        state_checksum!(output, checksum.as_ref());
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let mut input = req.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        check_key(object.record.attributes.encryption.as_ref(), customer_headers!(input))?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        check_conditions(&conditions, &object.record)?;
        if is_archived(&object.record) {
            return Err(s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class"));
        }
        let view = View::of(&object.record, input.range, input.part_number)?;
        let mut output = describe!(GetObjectOutput, object, view);
        output.version_id = self.version_id(&input.bucket, &object.record);
        state_encryption!(output, object.record.attributes.encryption.as_ref());
        if input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED) {
            state_checksum!(output, view.checksum.as_ref());
        }
        if !object.record.attributes.tags.is_empty() {
            output.tag_count = Some(count_i32(object.record.attributes.tags.len()));
        }
        let body = if view.content_range(object.record.size_bytes).is_none() {
            object.body.clone()
        } else {
            object.body.slice(view.range)
        };
        output.body = Some(StreamingBlob::new(body.reader()));
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let mut input = req.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        check_key(object.record.attributes.encryption.as_ref(), customer_headers!(input))?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        check_conditions(&conditions, &object.record)?;
        let view = View::of(&object.record, input.range, input.part_number)?;
        let mut output = describe!(HeadObjectOutput, object, view);
        output.version_id = self.version_id(&input.bucket, &object.record);
        state_encryption!(output, object.record.attributes.encryption.as_ref());
        if input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED) {
            state_checksum!(output, view.checksum.as_ref());
        }
        let status =
            if output.content_range.is_some() { http::StatusCode::PARTIAL_CONTENT } else { http::StatusCode::OK };
        let mut response = S3Response::with_status(output, status);
        // S3 says it here as it does for GET; s3s has no field for it.
        if !object.record.attributes.tags.is_empty() {
            response.headers.insert("x-amz-tagging-count", object.record.attributes.tags.len().into());
        }
        Ok(response)
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let mut input = req.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let record = &object.record;
        check_key(record.attributes.encryption.as_ref(), customer_headers!(input))?;
        if input.object_attributes.is_empty() {
            return Err(s3_error!(
                InvalidArgument,
                "The x-amz-object-attributes header specifying the attributes is missing."
            ));
        }
        // Clients name them in one header or in several; s3s leaves the former in one piece.
        let named = input.object_attributes.iter().flat_map(|named| named.as_str().split(',')).map(str::trim);
        let wanted = |name: &str| named.clone().any(|named| named == name);
        let checksum = record.checksum.as_ref().filter(|_| wanted(ObjectAttributes::CHECKSUM)).map(|checksum| {
            let mut output = s3s::dto::Checksum::default();
            state_checksum!(output, Some(checksum));
            output
        });
        let object_parts = match wanted(ObjectAttributes::OBJECT_PARTS) && !record.parts.is_empty() {
            true => Some(attributes_of_parts(record, input.max_parts, input.part_number_marker)?),
            false => None,
        };
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum,
            e_tag: Some(ETag::Strong(record.etag.clone())).filter(|_| wanted(ObjectAttributes::ETAG)),
            last_modified: Some(timestamp(record.modified_secs)),
            object_parts,
            version_id: self.version_id(&input.bucket, record),
            object_size: Some(size_i64(record.size_bytes)).filter(|_| wanted(ObjectAttributes::OBJECT_SIZE)),
            storage_class: Some(
                record
                    .attributes
                    .storage_class
                    .clone()
                    .map_or_else(|| StorageClass::from_static(StorageClass::STANDARD), StorageClass::from),
            )
            .filter(|_| wanted(ObjectAttributes::STORAGE_CLASS)),
            ..GetObjectAttributesOutput::default()
        }))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let mut input = req.input;
        self.open_bucket(&input.bucket)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.take(),
            if_none_match: input.copy_source_if_none_match.take(),
            if_modified_since: input.copy_source_if_modified_since.take(),
            if_unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        let source = self.find_source(&input.copy_source, &conditions, copy_source_customer_headers!(input))?;
        let guard = copy_guard(&req.headers)?;
        let replaces = |directive: Option<&str>| directive == Some("REPLACE");
        let replace_metadata = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str));
        let replace_tags = replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str));
        let encrypts = input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some();
        let changes = replace_metadata || replace_tags || input.storage_class.is_some() || encrypts;
        if !changes && copies_itself(&input) {
            return Err(s3_error!(InvalidRequest, "An object cannot be copied to itself without changing anything."));
        }
        let given = attributes_of!(input);
        let mut attributes = if replace_metadata {
            given.clone()
        } else {
            let (storage_class, encryption) = (given.storage_class.clone(), given.encryption.clone());
            Attributes { storage_class, encryption, ..source.record.attributes.clone() }
        };
        attributes.tags = if replace_tags { given.tags } else { source.record.attributes.tags.clone() };
        let record = copied(&source, algorithm(input.checksum_algorithm.as_ref())?, attributes).await?;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(record.etag.clone())),
            last_modified: Some(timestamp(record.modified_secs)),
            ..CopyObjectResult::default()
        };
        state_checksum!(result, record.checksum.as_ref());
        let mut output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
        state_encryption!(output, record.attributes.encryption.as_ref());
        let object = Object { record, body: source.body.clone() };
        output.version_id = self.store.put(&input.bucket, &input.key, object, &guard).map_err(refuse)?;
        output.copy_source_version_id = self.source_version_id(&input.copy_source, &source.record);
        Ok(S3Response::new(output))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        self.open_bucket(&input.bucket)?;
        let guard = guard(input.if_match, None)?;
        let version = version_wanted(input.version_id.as_deref());
        let deleted = self.store.delete(&input.bucket, &input.key, version, &guard).map_err(refuse)?;
        let version_id = deleted.id.filter(|_| self.store.versioning(&input.bucket) != Versioning::Never);
        let delete_marker = deleted.is_marker.then_some(true);
        let output = DeleteObjectOutput { version_id, delete_marker, ..DeleteObjectOutput::default() };
        Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = req.input;
        self.open_bucket(&input.bucket)?;
        if input.delete.objects.len() > PAGE_ENTRIES_MAX as usize {
            return Err(s3_error!(MalformedXML, "At most 1000 keys can be deleted at once."));
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let guard = object.e_tag.map_or(Guard::Anything, |etag| Guard::Etag(etag.into_value()));
            let version = version_wanted(object.version_id.as_deref());
            match self.store.delete(&input.bucket, &object.key, version, &guard) {
                // A key that has no place in XML cannot be named in the answer, and must not spoil it.
                Ok(_) if quiet || !fits_xml(&object.key) => {}
                Ok(gone) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    delete_marker: gone.is_marker.then_some(true),
                    delete_marker_version_id: gone.id.filter(|_| gone.is_marker),
                    version_id: object.version_id,
                }),
                Err(error) => {
                    let error = refuse(error);
                    errors.push(Error {
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        key: Some(object.key),
                        version_id: object.version_id,
                    });
                }
            }
        }
        let output =
            DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..DeleteObjectsOutput::default() };
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let encoding = encoding(input.encoding_type)?;
        let after = match &input.continuation_token {
            Some(token) => decode_token(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let query = Query {
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after,
            count_max: page_size(input.max_keys)?,
        };
        let page = self.list(&input.bucket, &query, encoding.as_ref())?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spell(&query.prefix, encoding.as_ref())),
            delimiter: input.delimiter.map(|delimiter| spell(&delimiter, encoding.as_ref())),
            start_after: input.start_after.map(|after| spell(&after, encoding.as_ref())),
            continuation_token: input.continuation_token,
            max_keys: Some(count_i32(query.count_max)),
            key_count: Some(count_i32(page.contents.len() + page.common_prefixes.len())),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|next| encode(next.as_bytes())),
            contents: Some(page.contents),
            common_prefixes: Some(page.common_prefixes),
            encoding_type: encoding,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let encoding = encoding(input.encoding_type)?;
        let query = Query {
            prefix: input.prefix.unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.marker.clone().unwrap_or_default(),
            count_max: page_size(input.max_keys)?,
        };
        let page = self.list(&input.bucket, &query, encoding.as_ref())?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(spell(&query.prefix, encoding.as_ref())),
            marker: Some(spell(&query.after, encoding.as_ref())),
            max_keys: Some(count_i32(query.count_max)),
            is_truncated: Some(page.next.is_some()),
            // Without a delimiter the last key is the next marker, and S3 leaves it out.
            next_marker: page.next.filter(|_| !query.delimiter.is_empty()).map(|next| spell(&next, encoding.as_ref())),
            delimiter: input.delimiter.map(|delimiter| spell(&delimiter, encoding.as_ref())),
            contents: Some(page.contents),
            common_prefixes: Some(page.common_prefixes),
            encoding_type: encoding,
            ..ListObjectsOutput::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut input = req.input;
        self.open_bucket(&input.bucket)?;
        let algorithm = algorithm(input.checksum_algorithm.as_ref())?;
        let effective = algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let coverage = coverage(input.checksum_type.as_ref())?.unwrap_or_else(|| effective.coverage_default());
        if !effective.allows(coverage) {
            return Err(s3_error!(InvalidRequest, "This checksum algorithm cannot have this checksum type."));
        }
        let attributes = attributes_of!(input);
        let upload = Upload {
            key: input.key.clone(),
            id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            initiated_secs: now_secs(),
            attributes,
            algorithm,
            coverage,
        };
        let mut output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key).filter(|key| fits_xml(key)),
            upload_id: Some(upload.id.clone()),
            checksum_algorithm: algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: algorithm.map(|_| checksum_type(coverage)),
            ..CreateMultipartUploadOutput::default()
        };
        state_encryption!(output, upload.attributes.encryption.as_ref());
        self.store.create_upload(&input.bucket, upload).map_err(refuse)?;
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = req.input;
        part_number(input.part_number)?;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let encryption = upload.attributes.encryption.clone();
        check_part_key(encryption.as_ref(), customer_headers!(input))?;
        let claims = Claims {
            length_bytes: input.content_length,
            content_md5: input.content_md5.take(),
            checksums: claimed!(input),
            algorithm: algorithm(input.checksum_algorithm.as_ref())?,
            trailers: req.trailing_headers,
            kept: Some(upload.algorithm.unwrap_or(Algorithm::Crc64Nvme)),
        };
        let claims = part_claims(&upload, claims)?;
        let received = receive(input.body.take(), claims, self.store.sink()).await?;
        let stated = received.stated.clone();
        let part = self.store_part(upload, &input.bucket, input.part_number, received).await?;
        let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(part.etag)), ..UploadPartOutput::default() };
        state_encryption!(output, encryption.as_ref());
        if let Some((algorithm, value)) = stated {
            state_value!(output, algorithm, value);
        }
        Ok(S3Response::new(output))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let mut input = req.input;
        part_number(input.part_number)?;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let encryption = upload.attributes.encryption.clone();
        check_part_key(encryption.as_ref(), customer_headers!(input))?;
        let shown = copy_source_customer_headers!(input);
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.find_source(&input.copy_source, &conditions, shown)?;
        let body = match &input.copy_source_range {
            None => source.body.clone(),
            Some(range) => source.body.slice(copy_range(range, source.record.size_bytes)?),
        };
        let received = rehash(body, upload.algorithm.unwrap_or(Algorithm::Crc64Nvme)).await?;
        let part = self.store_part(upload, &input.bucket, input.part_number, received).await?;
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(timestamp(part.modified_secs)),
            ..CopyPartResult::default()
        };
        state_value!(result, part.checksum.algorithm, part.checksum.value);
        let mut output = UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() };
        state_encryption!(output, encryption.as_ref());
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let mut input = req.input;
        let guard = guard(input.if_match.take(), input.if_none_match.take())?;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let parts = self.store.parts(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let named = input.multipart_upload.take().and_then(|list| list.parts).unwrap_or_default();
        let name = |mut part: CompletedPart| Named {
            number: part.part_number.unwrap_or_default(),
            etag: part.e_tag.take().map(ETag::into_value),
            checksums: claimed!(part),
        };
        let named: Vec<Named> = named.into_iter().map(name).collect();
        let expected = Expected {
            size_bytes: input.mpu_object_size,
            coverage: coverage(input.checksum_type.as_ref())?,
            checksums: claimed!(input),
        };
        let mut object = multipart::assemble(&upload, parts, &named, &expected)?;
        if upload.algorithm.is_none() && !self.checksums_unasked {
            object.record.checksum = None;
        }
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()).filter(|key| fits_xml(key)),
            location: Some(format!("/{}/{}", input.bucket, input.key)).filter(|location| fits_xml(location)),
            e_tag: Some(ETag::Strong(object.record.etag.clone())),
            ..CompleteMultipartUploadOutput::default()
        };
        state_checksum!(output, object.record.checksum.as_ref());
        if let Some(encryption) = &object.record.attributes.encryption {
            output.server_side_encryption = encryption.kind.clone().map(ServerSideEncryption::from);
            output.ssekms_key_id = encryption.kms_key_id.clone();
        }
        output.version_id =
            self.store.complete(&input.bucket, &input.key, &input.upload_id, object, &guard).map_err(refuse)?;
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        self.store.abort(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let parts = self.store.parts(&input.bucket, &input.key, &input.upload_id).map_err(refuse)?;
        let count_max = page_size(input.max_parts)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let mut rest = parts.into_iter().filter(|part| i32::from(part.number) > marker);
        let parts: Vec<s3s::dto::Part> =
            rest.by_ref().take(count_max).map(|part| listed_part(part, upload.algorithm.is_some())).collect();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key).filter(|key| fits_xml(key)),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(marker),
            max_parts: Some(count_i32(count_max)),
            is_truncated: Some(rest.next().is_some()),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            parts: Some(parts),
            checksum_algorithm: upload.algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: upload.algorithm.map(|_| checksum_type(upload.coverage)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let encoding = encoding(input.encoding_type)?;
        self.open_bucket(&input.bucket)?;
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let count_max = page_size(input.max_uploads)?;
        let key_marker = input.key_marker.unwrap_or_default();
        let id_marker = input.upload_id_marker.unwrap_or_default();
        let behind_marker = |upload: &Upload| {
            upload.key > key_marker || (upload.key == key_marker && !id_marker.is_empty() && upload.id > id_marker)
        };
        let (mut uploads, mut prefixes) = (Vec::new(), Vec::<String>::new());
        let mut truncated = false;
        // Uploads under way are few, so the page is cut from all of them.
        for upload in self.store.uploads(&input.bucket).map_err(refuse)? {
            let Some(rest) = upload.key.strip_prefix(&prefix).filter(|_| behind_marker(&upload)) else { continue };
            let common = rest
                .find(&delimiter)
                .filter(|_| !delimiter.is_empty())
                .map(|at| upload.key[..prefix.len() + at + delimiter.len()].to_owned());
            if common.is_some() && common.as_ref() == prefixes.last() {
                continue;
            }
            if uploads.len() + prefixes.len() == count_max {
                truncated = true;
                break;
            }
            match common {
                Some(common) => prefixes.push(common),
                None => uploads.push(upload),
            }
        }
        let last = uploads.last();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(spell(&prefix, encoding.as_ref())),
            delimiter: input.delimiter.map(|delimiter| spell(&delimiter, encoding.as_ref())),
            key_marker: Some(spell(&key_marker, encoding.as_ref())),
            upload_id_marker: Some(id_marker),
            next_key_marker: last.filter(|_| truncated).map(|upload| spell(&upload.key, encoding.as_ref())),
            next_upload_id_marker: last.filter(|_| truncated).map(|upload| upload.id.clone()),
            max_uploads: Some(count_i32(count_max)),
            is_truncated: Some(truncated),
            uploads: Some(uploads.iter().map(|upload| listed_upload(upload, encoding.as_ref())).collect()),
            common_prefixes: Some(
                prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(spell(prefix, encoding.as_ref())) }).collect(),
            ),
            encoding_type: encoding,
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let object = self.find(&req.input.bucket, &req.input.key, req.input.version_id.as_deref())?;
        let version_id = self.version_id(&req.input.bucket, &object.record);
        let tag = |(key, value): &(String, String)| Tag { key: Some(key.clone()), value: Some(value.clone()) };
        let tag_set = object.record.attributes.tags.iter().map(tag).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = req.input;
        let tag = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        let tags = check_tags(input.tagging.tag_set.into_iter().map(tag).collect())?;
        let version = version_wanted(input.version_id.as_deref());
        self.store.set_tags(&input.bucket, &input.key, version, tags).map_err(refuse)?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id: input.version_id }))
    }

    async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let version = version_wanted(req.input.version_id.as_deref());
        self.store.set_tags(&req.input.bucket, &req.input.key, version, Vec::new()).map_err(refuse)?;
        let output = DeleteObjectTaggingOutput { version_id: req.input.version_id };
        Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
    }
}

/// A page as both versions of the listing show it.
struct ListedPage {
    contents: Vec<s3s::dto::Object>,
    common_prefixes: Vec<CommonPrefix>,
    next: Option<String>,
}

fn listed(entry: Entry, encoding: Option<&EncodingType>) -> s3s::dto::Object {
    let storage_class = entry.storage_class.unwrap_or_else(|| ObjectStorageClass::STANDARD.to_owned());
    s3s::dto::Object {
        key: Some(spell(&entry.key, encoding)),
        size: Some(size_i64(entry.size_bytes)),
        e_tag: Some(ETag::Strong(entry.etag)),
        last_modified: Some(timestamp(entry.modified_secs)),
        checksum_algorithm: entry.checksum.map(|(algorithm, _)| vec![ChecksumAlgorithm::from_static(algorithm.name())]),
        checksum_type: entry.checksum.map(|(_, coverage)| checksum_type(coverage)),
        storage_class: Some(ObjectStorageClass::from(storage_class)),
        ..s3s::dto::Object::default()
    }
}

fn listed_version(line: Line, encoding: Option<&EncodingType>) -> ObjectVersion {
    let Line { key, version, is_latest } = line;
    let content = version.object.expect("delete markers are listed elsewhere");
    let storage_class = content.storage_class.unwrap_or_else(|| ObjectVersionStorageClass::STANDARD.to_owned());
    ObjectVersion {
        key: Some(spell(&key, encoding)),
        version_id: Some(version.id),
        is_latest: Some(is_latest),
        size: Some(size_i64(content.size_bytes)),
        e_tag: Some(ETag::Strong(content.etag)),
        last_modified: Some(timestamp(version.modified_secs)),
        checksum_algorithm: content
            .checksum
            .map(|(algorithm, _)| vec![ChecksumAlgorithm::from_static(algorithm.name())]),
        checksum_type: content.checksum.map(|(_, coverage)| checksum_type(coverage)),
        storage_class: Some(ObjectVersionStorageClass::from(storage_class)),
        ..ObjectVersion::default()
    }
}

fn listed_part(part: Part, with_checksum: bool) -> s3s::dto::Part {
    let mut output = s3s::dto::Part {
        part_number: Some(i32::from(part.number)),
        size: Some(size_i64(part.body.size_bytes())),
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified_secs)),
        ..s3s::dto::Part::default()
    };
    if with_checksum {
        state_value!(output, part.checksum.algorithm, part.checksum.value);
    }
    output
}

/// One page of the parts of an object. They are counted from one without gaps once the upload is complete, whatever their
/// numbers were.
fn attributes_of_parts(record: &Record, max: Option<i32>, marker: Option<i32>) -> S3Result<GetObjectAttributesParts> {
    let count_max = page_size(max)?;
    let before = usize::try_from(marker.unwrap_or(0)).unwrap_or(0);
    let mut rest = record.parts.iter().enumerate().skip(before);
    let part = |(index, part): (usize, &PartRecord)| {
        let mut output = ObjectPart {
            part_number: Some(count_i32(index + 1)),
            size: Some(size_i64(part.size_bytes)),
            ..ObjectPart::default()
        };
        if let (Some(checksum), Some(value)) = (&record.checksum, &part.checksum) {
            state_value!(output, checksum.algorithm, value.clone());
        }
        output
    };
    if record.checksum.is_none() {
        // AWS tells of such an object how many parts it has, and not which.
        let total_parts_count = Some(count_i32(record.parts.len()));
        return Ok(GetObjectAttributesParts { total_parts_count, ..GetObjectAttributesParts::default() });
    }
    let parts: Vec<ObjectPart> = rest.by_ref().take(count_max).map(part).collect();
    Ok(GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: Some(count_i32(count_max)),
        next_part_number_marker: parts.last().and_then(|part| part.part_number),
        part_number_marker: Some(count_i32(before)),
        parts: Some(parts),
        total_parts_count: Some(count_i32(record.parts.len())),
    })
}

fn listed_upload(upload: &Upload, encoding: Option<&EncodingType>) -> MultipartUpload {
    MultipartUpload {
        key: Some(spell(&upload.key, encoding)),
        upload_id: Some(upload.id.clone()),
        initiated: Some(timestamp(upload.initiated_secs)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm: upload.algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: upload.algorithm.map(|_| checksum_type(upload.coverage)),
        ..MultipartUpload::default()
    }
}

/// The record of a copy. A multipart object becomes a whole one, as at AWS, so its ETag and checksum are computed anew.
async fn copied(source: &Object, wanted: Option<Algorithm>, attributes: Attributes) -> S3Result<Record> {
    let kept = source.record.checksum.as_ref().map(|checksum| checksum.algorithm);
    let algorithm = wanted.or(kept).unwrap_or(Algorithm::Crc64Nvme);
    let known = source.record.parts.is_empty() && !hides_md5(source.record.attributes.encryption.as_ref());
    let (etag, checksum) = if known && kept == Some(algorithm) {
        (source.record.etag.clone(), source.record.checksum.clone())
    } else {
        let received = rehash(source.body.clone(), algorithm).await?;
        (received.etag, Some(received.checksum))
    };
    Ok(Record {
        etag: etag_of(etag, attributes.encryption.as_ref()),
        size_bytes: source.record.size_bytes,
        modified_secs: now_secs(),
        attributes,
        checksum,
        parts: Vec::new(),
        version: None,
    })
}

/// Whether the object lies in an archive, from which nothing is ever restored here.
fn is_archived(record: &Record) -> bool {
    let class = record.attributes.storage_class.as_deref();
    matches!(class, Some(StorageClass::GLACIER | StorageClass::DEEP_ARCHIVE))
}

/// How S3 refuses to copy out of an archive.
fn not_in_active_tier() -> S3Error {
    let code = S3ErrorCode::Custom("ObjectNotInActiveTierError".into());
    let mut error = S3Error::with_message(code, "The source object of the COPY action is not in the active tier.");
    error.set_status_code(http::StatusCode::FORBIDDEN);
    error
}

/// The condition of a copy upon its target, for which s3s has no fields.
fn copy_guard(headers: &http::HeaderMap) -> S3Result<Guard> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    match (text(http::header::IF_MATCH), text(http::header::IF_NONE_MATCH)) {
        (None, None) => Ok(Guard::Anything),
        (None, Some("*")) => Ok(Guard::Absent),
        (Some("*"), None) => Ok(Guard::Present),
        (Some(etag), None) => Ok(Guard::Etag(etag.trim_matches('"').to_owned())),
        (_, Some(_)) => Err(s3_error!(NotImplemented, "A write takes If-Match or If-None-Match: *, and only one.")),
    }
}

fn copies_itself(input: &CopyObjectInput) -> bool {
    match &input.copy_source {
        CopySource::Bucket { bucket, key, .. } => **bucket == *input.bucket && **key == *input.key,
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => false,
    }
}

/// A part is hashed with the algorithm that its upload's creator chose, and a client that states another is mistaken.
fn part_claims(upload: &Upload, claims: Claims) -> S3Result<Claims> {
    let stated = claims.checksums.first().map(|(algorithm, _)| *algorithm).or(claims.algorithm);
    match (upload.algorithm, stated) {
        (Some(chosen), Some(stated)) if chosen != stated => Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            chosen.name(),
            stated.name()
        )),
        (Some(chosen), _) => Ok(Claims { algorithm: Some(chosen), ..claims }),
        (None, _) => Ok(claims),
    }
}

fn copy_range(range: &str, size_bytes: u64) -> S3Result<ByteRange<u64>> {
    let invalid =
        || s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last.");
    match Range::parse(range) {
        Ok(Range::Int { first, last: Some(last) }) if last < size_bytes => Ok(first..last + 1),
        Ok(Range::Int { last: Some(_), .. }) => Err(s3_error!(InvalidRange)),
        Ok(Range::Int { last: None, .. } | Range::Suffix { .. }) | Err(_) => Err(invalid()),
    }
}

fn check_conditions(conditions: &ReadConditions, record: &Record) -> S3Result<()> {
    match conditions.judge(&record.etag, &timestamp(record.modified_secs)) {
        Verdict::Proceed => Ok(()),
        Verdict::PreconditionFailed => Err(s3_error!(PreconditionFailed)),
        Verdict::NotModified => {
            let mut error = s3_error!(NotModified);
            let mut headers = http::HeaderMap::new();
            if let Ok(etag) = http::HeaderValue::try_from(format!("\"{}\"", record.etag)) {
                headers.insert(http::header::ETAG, etag);
            }
            error.set_headers(headers);
            Err(error)
        }
    }
}

/// An empty id is how some clients say that they mean none.
fn version_wanted(version: Option<&str>) -> Option<&str> {
    version.filter(|id| !id.is_empty())
}

fn guard(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<Guard> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Guard::Anything),
        (None, Some(ETagCondition::Any)) => Ok(Guard::Absent),
        (Some(ETagCondition::Any), None) => Ok(Guard::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Guard::Etag(etag.into_value())),
        (_, Some(_)) => Err(s3_error!(NotImplemented, "A write takes If-Match or If-None-Match: *, and only one.")),
    }
}

fn refuse(error: StoreError) -> S3Error {
    match error {
        StoreError::NoSuchBucket => s3_error!(NoSuchBucket),
        StoreError::NoSuchKey => s3_error!(NoSuchKey),
        StoreError::NoSuchVersion => s3_error!(NoSuchVersion),
        StoreError::Marker { id, is_latest } => refuse_marker(&id, is_latest),
        StoreError::NoSuchUpload => s3_error!(NoSuchUpload),
        StoreError::BucketNotEmpty => s3_error!(BucketNotEmpty),
        StoreError::PreconditionFailed => s3_error!(PreconditionFailed),
        StoreError::Io(_)
        | StoreError::Index(_)
        | StoreError::Record(_)
        | StoreError::KeyNotText
        | StoreError::Version(_) => {
            tracing::error!(%error, "the embedded server's storage failed");
            S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
        }
    }
}

/// A key whose latest version is a delete marker is absent; a delete marker itself has nothing that could be read.
fn refuse_marker(id: &str, is_latest: bool) -> S3Error {
    let mut error = if is_latest { s3_error!(NoSuchKey) } else { s3_error!(MethodNotAllowed) };
    let mut headers = http::HeaderMap::new();
    headers.insert("x-amz-delete-marker", http::HeaderValue::from_static("true"));
    if let Ok(id) = http::HeaderValue::try_from(id) {
        headers.insert("x-amz-version-id", id);
    }
    error.set_headers(headers);
    error
}

fn part_number(number: i32) -> S3Result<u16> {
    let valid = u16::try_from(number).ok().filter(|_| (1..=PART_NUMBER_MAX).contains(&number));
    valid.ok_or_else(|| s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive."))
}

fn page_size(wanted: Option<i32>) -> S3Result<usize> {
    let wanted = wanted.unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX);
    usize::try_from(wanted).map_err(|_| s3_error!(InvalidArgument, "A page cannot have less than no entries."))
}

fn algorithm(name: Option<&ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    let Some(name) = name else { return Ok(None) };
    let known = Algorithm::parse(name.as_str());
    known.map(Some).ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))
}

fn coverage(name: Option<&ChecksumType>) -> S3Result<Option<Coverage>> {
    match name.map(ChecksumType::as_str) {
        None => Ok(None),
        Some(ChecksumType::FULL_OBJECT) => Ok(Some(Coverage::FullObject)),
        Some(ChecksumType::COMPOSITE) => Ok(Some(Coverage::Composite)),
        Some(_) => Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
    }
}

fn checksum_type(coverage: Coverage) -> ChecksumType {
    ChecksumType::from_static(match coverage {
        Coverage::FullObject => ChecksumType::FULL_OBJECT,
        Coverage::Composite => ChecksumType::COMPOSITE,
    })
}

fn encoding(encoding: Option<EncodingType>) -> S3Result<Option<EncodingType>> {
    match encoding {
        Some(other) if other.as_str() != EncodingType::URL => {
            Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request."))
        }
        valid => Ok(valid),
    }
}

fn storage_class(class: Option<StorageClass>) -> Option<String> {
    class.map(|class| class.as_str().to_owned()).filter(|class| class != StorageClass::STANDARD)
}

fn metadata(record: &Record) -> Option<Metadata> {
    let metadata = &record.attributes.metadata;
    (!metadata.is_empty()).then(|| metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn timestamp(unix_secs: i64) -> Timestamp {
    time::OffsetDateTime::from_unix_timestamp(unix_secs).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

fn size_i64(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).expect("no storage holds an exabyte")
}

fn count_i32(count: usize) -> i32 {
    i32::try_from(count).expect("pages and parts are bounded far below")
}
