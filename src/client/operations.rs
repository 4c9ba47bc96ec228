//! The operations that a sync needs, each as one call: what goes in, what comes out, nothing about how.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::HeaderMap;
use hyper::http::header::HeaderName;
use ropeway_io::buf::Lease;
use ropeway_io::hash::Crc64;
use ropeway_s3proto::checksum::{ChecksumType, Crc64Nvme, Md5Digest};
use ropeway_s3proto::name::{ByteRange, ETag, ETagClass, Key, PartNumber, Prefix, UploadId};
use ropeway_s3proto::op::{
    self, AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, GetObject, HeadObject,
    ListMultipartUploads, ListMultipartUploadsOutput, ListObjectsV2, ListPage, ListParts, ListedPart, ObjectMetadata,
    PutObject, UploadPart,
};
use ropeway_s3proto::sign::Payload;

use super::http::RequestBody;
use super::send::{Answer, Outgoing};
use super::{Client, Error, Failure};

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
    /// CRC64NVME of the whole content, if the service has it.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
}

/// What goes with content so that the service can refuse a damaged one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// Computed by the service too, where it knows how, and echoed.
    pub crc64nvme: Option<Crc64Nvme>,
    /// Compared by any service.
    pub content_md5: Option<Md5Digest>,
}

/// What the service made of content that it received.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// Of the object or part.
    pub etag: Option<ETag>,
    /// As the service computed it.
    pub crc64nvme: Option<Crc64Nvme>,
}

static SSE: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
static SSE_C: HeaderName = HeaderName::from_static("x-amz-server-side-encryption-customer-algorithm");

impl ObjectHead {
    fn new(head: op::ObjectHead, headers: &HeaderMap) -> Result<ObjectHead, Failure> {
        let kms = headers.get(&SSE).is_some_and(|value| value.as_bytes().starts_with(b"aws:kms"));
        let composite = head.checksum_type == Some(ChecksumType::Composite);
        Ok(ObjectHead {
            size_bytes: head.size.ok_or_else(|| Failure::Protocol("no Content-Length".to_owned()))?,
            etag: head.etag,
            etag_is_md5: !kms && !headers.contains_key(&SSE_C),
            last_modified_ns: head.last_modified_ns,
            metadata: head.metadata,
            checksum_crc64nvme: head.checksum_crc64nvme.filter(|_| !composite),
        })
    }

    /// Whether the content can be compared only by its parts' MD5s, for which their size must be known.
    pub fn needs_part_size(&self) -> bool {
        let parts = self.etag.as_ref().map(ETag::class);
        self.checksum_crc64nvme.is_none()
            && self.etag_is_md5
            && matches!(parts, Some(ETagClass::Multipart { parts, .. }) if parts > 1)
    }
}

impl Client {
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
        let make = || Ok(bare(list.request(&self.settings.address)));
        self.perform("ListObjectsV2", None, make, async |client, answer| {
            answer.whole(client, |head, body| ListObjectsV2::parse(head.status, &head.headers, body)).await
        })
        .await
    }

    /// What the service says of an object.
    pub async fn head(&self, key: &Key) -> Result<ObjectHead, Error> {
        self.head_part(key, None).await.map(|(head, _)| head)
    }

    /// The size of the first part of an object that was uploaded in parts; None if the service does not tell.
    pub async fn first_part_bytes(&self, key: &Key) -> Result<Option<u64>, Error> {
        let (part, parts) = self.head_part(key, PartNumber::new(1).ok()).await?;
        // A service that does not know of part numbers answers for the whole object, without a count.
        Ok(parts.map(|_| part.size_bytes).filter(|bytes| *bytes > 0))
    }

    async fn head_part(&self, key: &Key, part_number: Option<PartNumber>) -> Result<(ObjectHead, Option<u32>), Error> {
        let head = HeadObject { key, part_number, checksum_mode: true };
        let make = || Ok(bare(head.request(&self.settings.address)));
        self.perform("HeadObject", Some(key), make, async |client, answer| {
            let (head, headers) = answer
                .whole(client, |head, body| {
                    let parsed = HeadObject::parse(head.status, &head.headers, body)?;
                    Ok((parsed, head.headers.clone()))
                })
                .await?;
            let parts = head.parts_count;
            Ok((ObjectHead::new(head, &headers)?, parts))
        })
        .await
    }

    /// A whole object of `size_bytes` into the buffer, and the sum of what was received.
    pub async fn get_whole(
        &self,
        key: &Key,
        size_bytes: u64,
        buffer: &mut Lease,
    ) -> Result<(ObjectHead, Crc64Nvme), Error> {
        let get = GetObject { key, range: None, if_match: None, checksum_mode: true };
        self.get(&get, size_bytes, buffer).await
    }

    /// A range of an object into the buffer, if the object still has this ETag, and the sum of what was received.
    pub async fn get_range(
        &self,
        key: &Key,
        range: ByteRange,
        if_match: Option<&ETag>,
        buffer: &mut Lease,
    ) -> Result<Crc64Nvme, Error> {
        let get = GetObject { key, range: Some(range), if_match, checksum_mode: false };
        Ok(self.get(&get, range.len(), buffer).await?.1)
    }

    async fn get(
        &self,
        get: &GetObject<'_>,
        size_bytes: u64,
        buffer: &mut Lease,
    ) -> Result<(ObjectHead, Crc64Nvme), Error> {
        let make = || Ok(bare(get.request(&self.settings.address)));
        self.perform("GetObject", Some(get.key), make, async |client, answer: Answer| {
            if !answer.head.status.is_success() {
                let refused = answer.whole(client, |head, body| op_error(head.status, &head.headers, body));
                return Err(refused.await.expect_err("an error status is an error"));
            }
            let mut head = GetObject::parse_head(answer.head.status, &answer.head.headers).map_err(Failure::Service)?;
            check_range(get.range, &head)?;
            // A body of undeclared length, chunked for instance, is counted as it arrives.
            head.size.get_or_insert(size_bytes);
            let head = ObjectHead::new(head, &answer.head.headers)?;
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
        checks: Checks,
        content: Bytes,
    ) -> Result<Uploaded, Error> {
        let length = content.len() as u64;
        self.put_stream(key, metadata, checks, length, || Ok(RequestBody::whole(content.clone()))).await
    }

    /// Writes a whole object of `size_bytes` whose body is made anew for each try.
    pub async fn put_stream(
        &self,
        key: &Key,
        metadata: &ObjectMetadata,
        checks: Checks,
        size_bytes: u64,
        mut body: impl FnMut() -> Result<RequestBody, Failure>,
    ) -> Result<Uploaded, Error> {
        let put = PutObject {
            key,
            content_length: size_bytes,
            metadata,
            content_md5: checks.content_md5,
            checksum_crc64nvme: checks.crc64nvme,
            if_none_match: false,
        };
        let make = || {
            let head = put.request(&self.settings.address).map_err(|error| Failure::Request(error.to_string()))?;
            Ok(Outgoing { head, payload: Payload::Unsigned, body: body()? })
        };
        self.perform("PutObject", Some(key), make, async |client, answer| {
            answer
                .whole(client, |head, body| {
                    let put = PutObject::parse(head.status, &head.headers, body)?;
                    Ok(Uploaded { etag: put.etag, crc64nvme: put.checksum_crc64nvme })
                })
                .await
        })
        .await
    }

    /// Opens a multipart upload. `checksum` asks for a CRC64NVME over the whole object.
    pub async fn create_upload(&self, key: &Key, metadata: &ObjectMetadata, checksum: bool) -> Result<UploadId, Error> {
        let create = CreateMultipartUpload { key, metadata, checksum_crc64nvme_full_object: checksum };
        let make = || {
            let head = create.request(&self.settings.address).map_err(|error| Failure::Request(error.to_string()))?;
            Ok(bare(head))
        };
        self.perform("CreateMultipartUpload", Some(key), make, async |client, answer| {
            answer
                .whole(client, |head, body| {
                    Ok(CreateMultipartUpload::parse(head.status, &head.headers, body)?.upload_id)
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
            checksum_crc64nvme: checks.crc64nvme,
        };
        let make = || {
            let head = upload.request(&self.settings.address);
            Ok(Outgoing { head, payload: Payload::Unsigned, body: body()? })
        };
        self.perform("UploadPart", Some(key), make, async |client, answer| {
            answer
                .whole(client, |head, body| {
                    let part = UploadPart::parse(head.status, &head.headers, body)?;
                    Ok(Uploaded { etag: part.etag, crc64nvme: part.checksum_crc64nvme })
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
        checksum_crc64nvme: Option<Crc64Nvme>,
        object_size: u64,
    ) -> Result<Uploaded, Error> {
        let complete = CompleteMultipartUpload { key, upload_id, parts, checksum_crc64nvme, object_size };
        let make = || {
            let body = RequestBody::whole(complete.body());
            let head = complete.request(&self.settings.address);
            Ok(Outgoing { head, payload: Payload::Unsigned, body })
        };
        self.perform("CompleteMultipartUpload", Some(key), make, async |client, answer| {
            answer
                .whole(client, |head, body| {
                    let done = CompleteMultipartUpload::parse(head.status, &head.headers, body)?;
                    Ok(Uploaded { etag: done.etag, crc64nvme: done.checksum_crc64nvme })
                })
                .await
        })
        .await
    }

    /// Forgets an upload and its parts.
    pub async fn abort_upload(&self, key: &Key, upload_id: &UploadId) -> Result<(), Error> {
        let abort = AbortMultipartUpload { key, upload_id };
        let make = || Ok(bare(abort.request(&self.settings.address)));
        self.perform("AbortMultipartUpload", Some(key), make, async |client, answer| {
            answer.whole(client, |head, body| AbortMultipartUpload::parse(head.status, &head.headers, body)).await
        })
        .await
    }

    /// The parts of an upload that the service has, all pages of them.
    pub async fn list_parts(&self, key: &Key, upload_id: &UploadId) -> Result<Vec<ListedPart>, Error> {
        let mut parts: Vec<ListedPart> = Vec::new();
        let mut part_number_marker = None;
        loop {
            let list = ListParts { key, upload_id, part_number_marker, max_parts: None };
            let make = || Ok(bare(list.request(&self.settings.address)));
            let page = self.perform("ListParts", Some(key), make, async |client, answer| {
                answer.whole(client, |head, body| ListParts::parse(head.status, &head.headers, body)).await
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
        let make = || Ok(bare(list.request(&self.settings.address)));
        self.perform("ListMultipartUploads", None, make, async |client, answer| {
            answer.whole(client, |head, body| ListMultipartUploads::parse(head.status, &head.headers, body)).await
        })
        .await
    }

    fn refused(&self, operation: &'static str, reason: impl ToString) -> Error {
        let failure = Failure::Request(reason.to_string());
        Error { operation, place: self.place(None), failure, attempts: 0, elapsed: Default::default() }
    }
}

fn bare(head: hyper::http::request::Parts) -> Outgoing {
    Outgoing { head, payload: Payload::Empty, body: RequestBody::Empty }
}

fn op_error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), ropeway_s3proto::error::ServiceError> {
    Err(ropeway_s3proto::error::ServiceError::parse(status, headers, body))
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

/// Reads exactly `size_bytes` into the buffer: an answer that is longer or shorter is not the object that was listed
/// (reliability.md P50, P51). Each slice is summed where it was put, while it is still in the core's cache.
async fn receive(
    mut answer: Answer,
    size_bytes: u64,
    buffer: &mut Lease,
    client: &Client,
) -> Result<Crc64Nvme, Failure> {
    let mut crc = Crc64::new();
    buffer.set_len(0);
    while let Some(frame) = answer.frames.next().await? {
        if buffer.len() as u64 + frame.len() as u64 > size_bytes {
            return Err(Failure::Protocol(format!("more than the expected {size_bytes} bytes came")));
        }
        let start = buffer.len();
        buffer.extend_from_slice(&frame);
        crc.update(&buffer.filled()[start..]);
    }
    if (buffer.len() as u64) < size_bytes {
        return Err(Failure::Protocol(format!("{} bytes came, {size_bytes} were expected", buffer.len())));
    }
    answer.give_back(client);
    Ok(Crc64Nvme(crc.finish()))
}
