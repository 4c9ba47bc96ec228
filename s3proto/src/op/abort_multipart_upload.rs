//! AbortMultipartUpload: forgets an upload and frees its parts.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Key, UploadId},
};

/// An upload to be forgotten.
#[derive(Debug, Clone, Copy)]
pub struct AbortMultipartUpload<'a> {
    /// The object that will not be.
    pub key: &'a Key,
    /// The upload.
    pub upload_id: &'a UploadId,
}

impl AbortMultipartUpload<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_object(head, Method::DELETE, address, self.key, &[("uploadId", self.upload_id.as_str())]);
    }

    /// # Errors
    /// [`ServiceError`] when the service refused; one that is absent is gone already.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<(), ServiceError> {
        draft::expect_success(status, headers, body)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };

    #[test]
    fn request_and_answer() {
        let (key, upload_id) = (key("k"), UploadId::parse("u").unwrap());
        let abort = AbortMultipartUpload { key: &key, upload_id: &upload_id };
        assert_eq!(shown(|text| abort.request(&address(), text)), "DELETE /b/k?uploadId=u\nhost: h:9");
        assert_eq!(AbortMultipartUpload::parse(StatusCode::NO_CONTENT, &Headers::new(), b""), Ok(()));
        assert!(AbortMultipartUpload::parse(StatusCode::NOT_FOUND, &Headers::new(), b"").is_err());
    }
}
