//! UploadPartCopy: one part of an upload, copied by the service out of an object that it has. Like CopyObject it answers
//! 200 before the work is done, so only the document's root tells success.

use http::{Method, StatusCode};

use super::{
    copy_object::{CopyResult, CopySource},
    draft,
};
use crate::{
    checksum::Checksum,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ByteRange, ETag, Key, PartNumber, UploadId},
};

const X_AMZ_COPY_SOURCE_RANGE: &str = "x-amz-copy-source-range";

/// A part to be copied.
#[derive(Debug, Clone, Copy)]
pub struct UploadPartCopy<'a> {
    /// The object to be.
    pub key: &'a Key,
    /// The upload it belongs to.
    pub upload_id: &'a UploadId,
    /// Its place.
    pub part_number: PartNumber,
    /// What is copied from.
    pub source: CopySource<'a>,
    /// Which bytes of that; never an empty range.
    pub range: ByteRange,
}

/// The part as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPartCopyOutput {
    /// Its tag, without which the upload cannot be completed.
    pub etag: Option<ETag>,
    /// The checksum as the service computed it.
    pub checksum: Option<Checksum>,
}

impl UploadPartCopy<'_> {
    /// The head of the request.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let number = self.part_number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", self.upload_id.as_str())];
        draft::about_object(head, Method::PUT, address, self.key, &query);
        draft::content_length(head, 0);
        draft::copy_source_payer(head, address);
        self.source.write(head);
        head.header(X_AMZ_COPY_SOURCE_RANGE, &self.range.header_value());
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, under whatever status, or did not say.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<UploadPartCopyOutput, ServiceError> {
        let CopyResult { etag, checksum, .. } = CopyResult::parse(status, headers, body, "CopyPartResult")?;
        Ok(UploadPartCopyOutput { etag, checksum })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };
    use crate::{error::Kind, name::Bucket};

    #[test]
    fn the_request() {
        let (bucket, source, target) = (Bucket::parse("s").unwrap(), key("a b"), key("t"));
        let (upload_id, etag) = (UploadId::parse("u").unwrap(), ETag::parse("x").unwrap());
        let copy = UploadPartCopy {
            key: &target,
            upload_id: &upload_id,
            part_number: PartNumber::new(2).unwrap(),
            source: CopySource { bucket: &bucket, key: &source, version_id: None, if_match: Some(&etag) },
            range: ByteRange { start: 5, end: 10 },
        };
        let expected = "PUT /b/t?partNumber=2&uploadId=u\ncontent-length: 0\nhost: h:9\n\
            x-amz-copy-source-if-match: \"x\"\nx-amz-copy-source-range: bytes=5-9\nx-amz-copy-source: /s/a%20b";
        assert_eq!(shown(|text| copy.request(&address(), text)), expected);
    }

    #[test]
    fn the_answer() {
        let parse = |body: &str| UploadPartCopy::parse(StatusCode::OK, &Headers::new(), body.as_bytes());
        let output =
            parse("<CopyPartResult><LastModified>x</LastModified><ETag>\"x\"</ETag></CopyPartResult>").unwrap();
        assert_eq!(output.etag.unwrap().to_string(), "x");
        let error = parse("<Error><Code>InvalidRequest</Code><Message/></Error>").unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "InvalidRequest"));
        assert_eq!(parse("").unwrap_err().kind, Kind::Malformed);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = UploadPartCopy::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
