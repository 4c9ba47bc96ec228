//! The operations that a sync needs, each as one call: what goes in, what comes out, nothing about how.

use bytes::Bytes;
use http::StatusCode;
use ropeway_io::buf::Lease;
use ropeway_io::hash::Crc64;
use ropeway_s3proto::checksum::{Algorithm, Checksum, ChecksumType, Crc64Nvme, Md5Digest, StoredChecksum};
use ropeway_s3proto::error::{Kind, ServiceError};
use ropeway_s3proto::head::{HeadText, Headers};
use ropeway_s3proto::name::{ByteRange, ETag, ETagClass, Key, PartNumber, Prefix, UploadId, VersionId};
use ropeway_s3proto::op::{
    self, AbortMultipartUpload, BucketVersioning, CompleteMultipartUpload, Condition, CreateMultipartUpload,
    GetBucketVersioning, GetObject, GetObjectAttributes, HeadObject, InputError, ListMultipartUploads,
    ListMultipartUploadsOutput, ListObjectVersions, ListObjectsV2, ListPage, ListParts, ListedPart, ObjectMetadata,
    PutObject, UploadPart, VersionsPage,
};
use ropeway_s3proto::sign::Payload;

use super::send::{Answer, Outgoing};
use super::{Client, Error, Failure, RequestBody};

pub use ropeway_s3proto::op::CompletedPart;

/// What a service says of an object.
#[derive(Debug, Clone)]
pub struct ObjectHead {
    /// Length of the content.
    pub size_bytes: u64,
    /// The ETag, if it gave one.
    pub etag: Option<ETag>,
    /// Whether an ETag of the usual form is an MD5; under SSE-KMS and SSE-C it is not (reliability.md V01).
    pub etag_is_md5: bool,
    /// Last modification, in nanoseconds since 1970.
    pub last_modified_ns: Option<i64>,
    /// What travels beside the content.
    pub metadata: ObjectMetadata,
    /// How many tags it has, as far as the service says.
    pub tag_count: u32,
    /// The checksum that the service keeps of it.
    pub checksum: Option<StoredChecksum>,
}

/// The parts of which an object was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectParts {
    /// Of the object that they belong to.
    pub etag: Option<ETag>,
    /// In their order.
    pub sizes_bytes: Vec<u64>,
}

/// What goes with content so that the service can refuse a damaged one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// Computed by the service too, where it knows how, and echoed.
    pub checksum: Option<Checksum>,
    /// Compared by any service.
    pub content_md5: Option<Md5Digest>,
}

/// What the service made of content that it received.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// Of the object or part.
    pub etag: Option<ETag>,
    /// Whether an ETag of the usual form is an MD5; see [`ObjectHead::etag_is_md5`].
    pub etag_is_md5: bool,
    /// As the service computed it.
    pub checksum: Option<StoredChecksum>,
    /// Of the object, in a bucket that keeps versions.
    pub version: Option<VersionId>,
}

const SSE: &str = "x-amz-server-side-encryption";
const SSE_C: &str = "x-amz-server-side-encryption-customer-algorithm";

impl ObjectHead {
    fn new(head: op::ObjectHead, headers: &Headers) -> Result<ObjectHead, Failure> {
        Ok(ObjectHead {
            size_bytes: head.size.ok_or_else(|| Failure::Protocol("no Content-Length".to_owned()))?,
            etag: head.etag,
            etag_is_md5: etags_are_md5s(headers),
            last_modified_ns: head.last_modified_ns,
            metadata: head.metadata,
            tag_count: head.tag_count,
            checksum: head.checksum,
        })
    }

    /// Whether the content can be compared only by what covers its parts, for which their sizes must be known.
    pub fn needs_parts(&self) -> bool {
        let parts = self.etag.as_ref().map(ETag::class);
        match self.checksum {
            Some(stored) => stored.parts.is_some(),
            None => self.etag_is_md5 && matches!(parts, Some(ETagClass::Multipart { parts, .. }) if parts > 1),
        }
    }
}

/// The version that an answer names. `null` is no version of its own: it is what a bucket has that keeps none, or none any more.
pub(super) fn version(text: Option<String>) -> Option<VersionId> {
    text.filter(|text| text != "null").and_then(|text| VersionId::parse(&text).ok())
}

/// Whether the answer's ETag may be an MD5: it is not one of content that the service encrypted with such keys.
fn etags_are_md5s(headers: &Headers) -> bool {
    let kms = headers.value(SSE).is_some_and(|value| value.starts_with(b"aws:kms"));
    !kms && !headers.contains(SSE_C)
}

impl Client {
    /// One page, of the usual size, of the keys under a prefix, behind `after` or where `token` says.
    pub async fn list_page(&self, prefix: &str, after: Option<&[u8]>, token: Option<&str>) -> Result<ListPage, Error> {
        self.list(prefix, after, token, self.settings.page_keys).await
    }

    /// One page of the keys under a prefix, behind `after` or where `token` says.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&[u8]>,
        token: Option<&str>,
        keys_max: u32,
    ) -> Result<ListPage, Error> {
        let prefix = Prefix::parse(prefix).map_err(|error| self.refused("ListObjectsV2", error))?;
        let start_after = after.map(Key::parse).transpose().map_err(|error| self.refused("ListObjectsV2", error))?;
        let list = ListObjectsV2 {
            prefix: &prefix,
            start_after: start_after.as_ref(),
            continuation_token: token,
            max_keys: Some(keys_max),
            delimiter: None,
        };
        let make = |text: &mut HeadText| {
            list.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("ListObjectsV2", None, make, async |client, answer| {
            answer.whole(client, ListObjectsV2::parse).await
        })
        .await
    }

    /// One page of the versions of all keys under a prefix, behind a key, or behind a version of it.
    pub async fn list_versions(
        &self,
        prefix: &str,
        after: Option<(&str, Option<&str>)>,
    ) -> Result<VersionsPage, Error> {
        let prefix = Prefix::parse(prefix).map_err(|error| self.refused("ListObjectVersions", error))?;
        let list = ListObjectVersions { prefix: &prefix, after, max_keys: Some(self.settings.page_keys) };
        let make = |text: &mut HeadText| {
            list.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("ListObjectVersions", None, make, async |client, answer| {
            answer.whole(client, ListObjectVersions::parse).await
        })
        .await
    }

    /// Whether the bucket keeps versions.
    pub async fn versioning(&self) -> Result<BucketVersioning, Error> {
        let make = |text: &mut HeadText| {
            GetBucketVersioning.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("GetBucketVersioning", None, make, async |client, answer| {
            answer.whole(client, GetBucketVersioning::parse).await
        })
        .await
    }

    /// What the service says of an object.
    pub async fn head(&self, key: &Key) -> Result<ObjectHead, Error> {
        self.head_version(key, None).await
    }

    /// What the service says of a version of an object, or of the latest.
    pub async fn head_version(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectHead, Error> {
        self.head_part(key, version, None).await.map(|(head, _)| head)
    }

    /// The sizes of an object's parts, in their order, all pages of them. None where the service does not tell them.
    pub async fn object_parts(&self, key: &Key, version: Option<&VersionId>) -> Result<Option<ObjectParts>, Error> {
        let mut parts: Vec<u64> = Vec::new();
        let mut part_number_marker = None;
        loop {
            let ask = GetObjectAttributes { key, version, part_number_marker, max_parts: None };
            let make = |text: &mut HeadText| {
                ask.request(&self.settings.address, text);
                self.settings.protection.write_key(text);
                Ok(BARE)
            };
            let page = self.perform("GetObjectAttributes", Some(key), make, async |client, answer| {
                match answer.whole(client, GetObjectAttributes::parse).await {
                    Ok(page) => Ok(Some(page)),
                    // A service that does not know the operation answers with the object, and will do so again.
                    Err(Failure::Protocol(_)) => Ok(None),
                    Err(Failure::Service(answer)) if answer.kind == Kind::Malformed && answer.status == 200 => Ok(None),
                    Err(failure) => Err(failure),
                }
            });
            let Some(page) = page.await? else {
                self.abilities().learn_parts_untold();
                return Ok(None);
            };
            parts.extend(page.parts.iter().map(|part| part.size));
            match page.next {
                // A page that leads back to where it began would never end.
                Some(next) if part_number_marker.is_none_or(|before| next > before) => part_number_marker = Some(next),
                Some(_) | None => {
                    let whole = !parts.is_empty() && page.parts_count.is_none_or(|count| count as usize == parts.len());
                    return Ok(whole.then_some(ObjectParts { etag: page.etag, sizes_bytes: parts }));
                }
            }
        }
    }

    /// The size of one part of an object that was uploaded in parts, and how many there are; None if the service does not
    /// tell.
    pub async fn part_bytes(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        number: u32,
    ) -> Result<Option<(u64, u32)>, Error> {
        let number = PartNumber::new(number).map_err(|error| self.refused("HeadObject", error))?;
        let (part, parts) = self.head_part(key, version, Some(number)).await?;
        Ok(parts.map(|parts| (part.size_bytes, parts)))
    }

    async fn head_part(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        part_number: Option<PartNumber>,
    ) -> Result<(ObjectHead, Option<u32>), Error> {
        let head = HeadObject { key, version, part_number, checksum_mode: true };
        let make = |text: &mut HeadText| {
            head.request(&self.settings.address, text);
            self.settings.protection.write_key(text);
            Ok(BARE)
        };
        self.perform("HeadObject", Some(key), make, async |client, answer| {
            let head = answer.whole(client, |status, headers, body| {
                let head = HeadObject::parse(status, headers, body)?;
                let parts = head.parts_count;
                Ok(ObjectHead::new(head, headers).map(|head| (head, parts)))
            });
            head.await?
        })
        .await
    }

    /// A whole object of `size_bytes` into the buffer, and the sum of what was received.
    pub async fn get_whole(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        size_bytes: u64,
        buffer: &mut Lease,
    ) -> Result<(ObjectHead, Crc64Nvme), Error> {
        let get = GetObject { key, version, range: None, if_match: None, checksum_mode: true };
        self.get(&get, size_bytes, buffer).await
    }

    /// A range of an object into the buffer, if the object still has this ETag, and the sum of what was received.
    pub async fn get_range(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        range: ByteRange,
        if_match: Option<&ETag>,
        buffer: &mut Lease,
    ) -> Result<Crc64Nvme, Error> {
        let get = GetObject { key, version, range: Some(range), if_match, checksum_mode: false };
        Ok(self.get(&get, range.len(), buffer).await?.1)
    }

    async fn get(
        &self,
        get: &GetObject<'_>,
        size_bytes: u64,
        buffer: &mut Lease,
    ) -> Result<(ObjectHead, Crc64Nvme), Error> {
        let make = |text: &mut HeadText| {
            get.request(&self.settings.address, text);
            self.settings.protection.write_key(text);
            Ok(BARE)
        };
        self.perform("GetObject", Some(get.key), make, async |client, answer: Answer| {
            if !answer.status().is_success() {
                let refused = answer.whole(client, refusal);
                return Err(refused.await.expect_err("an error status is an error"));
            }
            let mut head = GetObject::parse_head(answer.status(), answer.headers()).map_err(Failure::Service)?;
            check_range(get.range, &head)?;
            // A body of undeclared length, chunked for instance, is counted as it arrives.
            head.size.get_or_insert(size_bytes);
            let head = ObjectHead::new(head, answer.headers())?;
            if head.size_bytes != size_bytes {
                let now = head.size_bytes;
                return Err(Failure::Changed(format!("{size_bytes} bytes were expected, it now has {now}")));
            }
            let crc = receive(answer, size_bytes, buffer, client).await?;
            Ok((head, crc))
        })
        .await
    }

    /// Writes a whole object.
    pub async fn put(
        &self,
        key: &Key,
        metadata: &ObjectMetadata,
        condition: Condition<'_>,
        checks: Checks,
        content: Bytes,
    ) -> Result<Uploaded, Error> {
        let length = content.len() as u64;
        self.put_stream(key, metadata, condition, checks, length, || Ok(RequestBody::whole(content.clone()))).await
    }

    /// Writes a whole object of `size_bytes` whose body is made anew for each try.
    pub async fn put_stream(
        &self,
        key: &Key,
        metadata: &ObjectMetadata,
        condition: Condition<'_>,
        checks: Checks,
        size_bytes: u64,
        mut body: impl FnMut() -> Result<RequestBody, Failure>,
    ) -> Result<Uploaded, Error> {
        let put = PutObject {
            key,
            content_length: size_bytes,
            metadata,
            content_md5: checks.content_md5,
            checksum: checks.checksum,
            condition,
        };
        let make = |head: &mut HeadText| {
            put.request(&self.settings.address, head).map_err(unfit)?;
            self.settings.protection.write_new(head).map_err(unfit)?;
            Ok(Outgoing { payload: Payload::Unsigned, body: body()? })
        };
        self.perform("PutObject", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    let put = PutObject::parse(status, headers, body)?;
                    let etag_is_md5 = client.etags_are_md5s(headers);
                    let (checksum, version) = (put.checksum.map(StoredChecksum::of_bytes), version(put.version_id));
                    Ok(Uploaded { etag: put.etag, etag_is_md5, checksum, version })
                })
                .await
        })
        .await
    }

    /// Opens a multipart upload. `checksum` asks for one of each part and of the object, and says what that covers.
    pub async fn create_upload(
        &self,
        key: &Key,
        metadata: &ObjectMetadata,
        checksum: Option<(Algorithm, ChecksumType)>,
    ) -> Result<UploadId, Error> {
        let create = CreateMultipartUpload { key, metadata, checksum };
        let make = |head: &mut HeadText| {
            create.request(&self.settings.address, head).map_err(unfit)?;
            self.settings.protection.write_new(head).map_err(unfit)?;
            Ok(BARE)
        };
        self.perform("CreateMultipartUpload", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    Ok(CreateMultipartUpload::parse(status, headers, body)?.upload_id)
                })
                .await
        })
        .await
    }

    /// Writes one part.
    pub async fn upload_part(
        &self,
        key: &Key,
        upload_id: &UploadId,
        number: u32,
        checks: Checks,
        content: Bytes,
    ) -> Result<Uploaded, Error> {
        let length = content.len() as u64;
        let body = || Ok(RequestBody::whole(content.clone()));
        self.upload_part_stream(key, upload_id, number, checks, length, body).await
    }

    /// Writes one part of `size_bytes` whose body is made anew for each try.
    pub async fn upload_part_stream(
        &self,
        key: &Key,
        upload_id: &UploadId,
        number: u32,
        checks: Checks,
        size_bytes: u64,
        mut body: impl FnMut() -> Result<RequestBody, Failure>,
    ) -> Result<Uploaded, Error> {
        let upload = UploadPart {
            key,
            upload_id,
            part_number: PartNumber::new(number).map_err(|error| self.refused("UploadPart", error))?,
            content_length: size_bytes,
            content_md5: checks.content_md5,
            checksum: checks.checksum,
        };
        let make = |head: &mut HeadText| {
            upload.request(&self.settings.address, head);
            self.settings.protection.write_key(head);
            Ok(Outgoing { payload: Payload::Unsigned, body: body()? })
        };
        self.perform("UploadPart", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    let part = UploadPart::parse(status, headers, body)?;
                    let etag_is_md5 = client.etags_are_md5s(headers);
                    let checksum = part.checksum.map(StoredChecksum::of_bytes);
                    Ok(Uploaded { etag: part.etag, etag_is_md5, checksum, version: None })
                })
                .await
        })
        .await
    }

    /// Makes the object out of its parts.
    pub async fn complete_upload(
        &self,
        key: &Key,
        upload_id: &UploadId,
        parts: &[CompletedPart],
        checksum: Option<Checksum>,
        object_size: u64,
        condition: Condition<'_>,
    ) -> Result<Uploaded, Error> {
        let complete = CompleteMultipartUpload { key, upload_id, parts, checksum, object_size, condition };
        let make = |head: &mut HeadText| {
            complete.request(&self.settings.address, head);
            self.settings.protection.write_key(head);
            Ok(Outgoing { payload: Payload::Unsigned, body: RequestBody::whole(complete.body()) })
        };
        self.perform("CompleteMultipartUpload", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    let done = CompleteMultipartUpload::parse(status, headers, body)?;
                    let etag_is_md5 = client.etags_are_md5s(headers);
                    let version = version(done.version_id);
                    Ok(Uploaded { etag: done.etag, etag_is_md5, checksum: done.checksum, version })
                })
                .await
        })
        .await
    }

    /// Forgets an upload and its parts.
    pub async fn abort_upload(&self, key: &Key, upload_id: &UploadId) -> Result<(), Error> {
        let abort = AbortMultipartUpload { key, upload_id };
        let make = |text: &mut HeadText| {
            abort.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("AbortMultipartUpload", Some(key), make, async |client, answer| {
            answer.whole(client, AbortMultipartUpload::parse).await
        })
        .await
    }

    /// The parts of an upload that the service has, all pages of them.
    pub async fn list_parts(&self, key: &Key, upload_id: &UploadId) -> Result<Vec<ListedPart>, Error> {
        let mut parts: Vec<ListedPart> = Vec::new();
        let mut part_number_marker = None;
        loop {
            let list = ListParts { key, upload_id, part_number_marker, max_parts: None };
            let make = |text: &mut HeadText| {
                list.request(&self.settings.address, text);
                self.settings.protection.write_key(text);
                Ok(BARE)
            };
            let page = self.perform("ListParts", Some(key), make, async |client, answer| {
                answer.whole(client, ListParts::parse).await
            });
            let page = page.await?;
            parts.extend(page.parts);
            match page.next {
                // A page that leads back to where it began would never end.
                Some(next) if part_number_marker.is_none_or(|before| next > before) => part_number_marker = Some(next),
                Some(_) | None => return Ok(parts),
            }
        }
    }

    /// One page of the open uploads of keys that begin with `prefix`, behind `after`, as the page before said.
    pub async fn list_uploads(
        &self,
        prefix: &str,
        after: Option<&(String, String)>,
    ) -> Result<ListMultipartUploadsOutput, Error> {
        let prefix = Prefix::parse(prefix).map_err(|error| self.refused("ListMultipartUploads", error))?;
        let list = ListMultipartUploads { prefix: &prefix, after, max_uploads: None };
        let make = |text: &mut HeadText| {
            list.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("ListMultipartUploads", None, make, async |client, answer| {
            answer.whole(client, ListMultipartUploads::parse).await
        })
        .await
    }

    /// Whether the ETag of what was just written may be an MD5. Not every answer says how it was encrypted, so what was asked
    /// for counts as well.
    pub(super) fn etags_are_md5s(&self, headers: &Headers) -> bool {
        !self.settings.protection.hides_md5s() && etags_are_md5s(headers)
    }

    pub(super) fn refused(&self, operation: &'static str, reason: impl ToString) -> Error {
        let failure = Failure::Request(reason.to_string());
        Error { operation, place: self.place(None), failure, attempts: 0, elapsed: Default::default() }
    }
}

/// A request that cannot be built from what it was to say.
pub(super) fn unfit(error: InputError) -> Failure {
    Failure::Request(error.to_string())
}

/// Goes with a head that has no body.
pub(super) const BARE: Outgoing = Outgoing { payload: Payload::Empty, body: RequestBody::Empty };

fn refusal(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<(), ServiceError> {
    Err(ServiceError::parse(status, headers, body))
}

/// A ranged read must be answered by that range and no other: bytes at a wrong place would be silent corruption
/// (reliability.md P31, P32).
fn check_range(wanted: Option<ByteRange>, head: &op::ObjectHead) -> Result<(), Failure> {
    match (wanted, head.content_range) {
        (None, None) => Ok(()),
        (Some(wanted), Some((range, _))) if wanted == range => Ok(()),
        // The whole object is the range that was asked for.
        (Some(wanted), None) if wanted.start == 0 && head.size == Some(wanted.end) => Ok(()),
        (Some(wanted), Some((range, _))) => {
            let (asked, came) = (wanted.header_value(), range.header_value());
            Err(Failure::Protocol(format!("asked for {asked:?}, it sent {came:?}")))
        }
        (Some(wanted), None) => {
            Err(Failure::Protocol(format!("asked for {:?}, it sent the whole object", wanted.header_value())))
        }
        (None, Some(_)) => Err(Failure::Protocol("asked for the whole object, it sent a range".to_owned())),
    }
}

/// As much of a body is read and summed at a time as stays in the core's cache between the two.
const PIECE_BYTES: usize = 256 << 10;

/// Reads exactly `size_bytes` from the socket into the buffer: an answer that is longer or shorter is not the object that
/// was listed (reliability.md P50, P51).
async fn receive(
    mut answer: Answer,
    size_bytes: u64,
    buffer: &mut Lease,
    client: &Client,
) -> Result<Crc64Nvme, Failure> {
    let mut crc = Crc64::new();
    let mut filled = 0;
    loop {
        let end = buffer.capacity().min(filled + PIECE_BYTES);
        // Where the buffer is full, whatever comes is too much.
        let mut beyond = [0];
        let room = if filled < end { &mut buffer.as_mut_slice()[filled..end] } else { &mut beyond[..] };
        let came = answer.read(room).await?;
        if came == 0 {
            break;
        }
        if (filled + came) as u64 > size_bytes {
            return Err(Failure::Protocol(format!("more than the expected {size_bytes} bytes came")));
        }
        crc.update(&buffer.as_slice()[filled..filled + came]);
        filled += came;
    }
    if (filled as u64) < size_bytes {
        return Err(Failure::Protocol(format!("{filled} bytes came, {size_bytes} were expected")));
    }
    buffer.set_len(filled);
    answer.give_back(client);
    Ok(Crc64Nvme(crc.finish()))
}
