//! UploadPart: one part of an upload. A part sent twice replaces itself, so sending again is always safe.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    checksum::{Checksum, Md5Digest},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, PartNumber, UploadId},
};

/// A part to be stored.
#[derive(Debug, Clone, Copy)]
pub struct UploadPart<'a> {
    /// The object to be.
    pub key: &'a Key,
    /// The upload it belongs to.
    pub upload_id: &'a UploadId,
    /// Its place.
    pub part_number: PartNumber,
    /// Bytes of the body, exactly.
    pub content_length: u64,
    /// The body's MD5, for servers that check no other.
    pub content_md5: Option<Md5Digest>,
    /// The body's checksum, which the service checks and keeps.
    pub checksum: Option<Checksum>,
}

/// The part as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPartOutput {
    /// Its tag, without which the upload cannot be completed.
    pub etag: Option<ETag>,
    /// The checksum as the service keeps it; absent if it ignored ours.
    pub checksum: Option<Checksum>,
}

impl UploadPart<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let number = self.part_number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", self.upload_id.as_str())];
        draft::about_object(head, Method::PUT, address, self.key, &query);
        draft::content_length(head, self.content_length);
        draft::checksums(head, self.content_md5, self.checksum);
    }

    /// # Errors
    /// [`ServiceError`] when the service refused.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<UploadPartOutput, ServiceError> {
        draft::expect_success(status, headers, body)?;
        Ok(UploadPartOutput { etag: draft::etag(headers), checksum: draft::echoed_checksum(headers) })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, headers, key, shown},
        *,
    };
    use crate::{checksum::Crc64Nvme, error::Class};

    #[test]
    fn the_request() {
        let (key, upload_id) = (key("k"), UploadId::parse("u/+").unwrap());
        let part = UploadPart {
            key: &key,
            upload_id: &upload_id,
            part_number: PartNumber::new(7).unwrap(),
            content_length: 5,
            content_md5: None,
            checksum: Some(Crc64Nvme(0).into()),
        };
        let expected = "PUT /b/k?partNumber=7&uploadId=u%2F%2B\ncontent-length: 5\nhost: h:9\n\
            x-amz-checksum-crc64nvme: AAAAAAAAAAA=";
        assert_eq!(shown(|text| part.request(&address(), text)), expected);
    }

    #[test]
    fn the_answer() {
        let output = UploadPart::parse(StatusCode::OK, &headers(&[("etag", "\"x\"")]), b"").unwrap();
        assert_eq!((output.etag.unwrap().to_string().as_str(), output.checksum), ("x", None));
        assert_eq!(UploadPart::parse(StatusCode::OK, &Headers::new(), b"").unwrap().etag, None);
        let body = b"<Error><Code>NoSuchUpload</Code><Message>m</Message></Error>";
        let error = UploadPart::parse(StatusCode::NOT_FOUND, &Headers::new(), body).unwrap_err();
        assert_eq!((error.class(), error.code.as_str()), (Class::Absent, "NoSuchUpload"));
    }
}
