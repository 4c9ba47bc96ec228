//! CreateMultipartUpload: opens an upload whose parts may come in any order. What the object says about itself is
//! fixed here.

use http::{Method, StatusCode};

use super::{
    draft,
    metadata::{InputError, ObjectMetadata},
};
use crate::{
    checksum::{Algorithm, ChecksumType, X_AMZ_CHECKSUM_ALGORITHM, X_AMZ_CHECKSUM_TYPE},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Key, UploadId},
    xml::XmlError,
};

/// An upload to be opened.
#[derive(Debug, Clone, Copy)]
pub struct CreateMultipartUpload<'a> {
    /// The object to be.
    pub key: &'a Key,
    /// What it will say about itself.
    pub metadata: &'a ObjectMetadata,
    /// Ask the service to check such a checksum of each part, and to keep one of the object that covers this.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

/// The upload as opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMultipartUploadOutput {
    /// Its name in all that follows.
    pub upload_id: UploadId,
    /// Whether the service named a checksum algorithm in return, and so will check.
    pub checksum_echoed: bool,
}

impl CreateMultipartUpload<'_> {
    /// # Errors
    /// [`InputError`] when the metadata fits no header.
    pub fn request(&self, address: &Address, head: &mut HeadText) -> Result<(), InputError> {
        draft::about_object(head, Method::POST, address, self.key, &[("uploads", "")]);
        draft::content_length(head, 0);
        if let Some((algorithm, covers)) = self.checksum {
            head.header(X_AMZ_CHECKSUM_ALGORITHM, algorithm.name());
            head.header(X_AMZ_CHECKSUM_TYPE, covers.name());
        }
        self.metadata.write(head)?;
        Ok(())
    }

    /// Reads the answer. The bucket and key that it repeats are ignored: a server with tenants names them differently.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, or names no upload.
    pub fn parse(
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
    ) -> Result<CreateMultipartUploadOutput, ServiceError> {
        draft::expect_document(status, headers, body, &["InitiateMultipartUploadResult"], |document| {
            let mut upload_id = None;
            while let Some(element) = document.child()? {
                match element.name() {
                    "UploadId" => upload_id = UploadId::parse(document.text()?.trim()).ok(),
                    _ => document.skip()?,
                }
            }
            Ok(CreateMultipartUploadOutput {
                upload_id: upload_id.ok_or(XmlError::Element { element: "UploadId" })?,
                checksum_echoed: headers.contains(X_AMZ_CHECKSUM_ALGORITHM),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, headers, key, shown},
        *,
    };
    use crate::error::Kind;

    #[test]
    fn the_request() {
        let (key, metadata) = (key("k"), ObjectMetadata::default());
        let create = CreateMultipartUpload { key: &key, metadata: &metadata, checksum: None };
        assert_eq!(
            shown(|text| create.request(&address(), text).unwrap()),
            "POST /b/k?uploads=\ncontent-length: 0\nhost: h:9"
        );
        let checked =
            CreateMultipartUpload { checksum: Some((Algorithm::Crc64Nvme, ChecksumType::FullObject)), ..create };
        let expected = "POST /b/k?uploads=\ncontent-length: 0\nhost: h:9\nx-amz-checksum-algorithm: CRC64NVME\n\
            x-amz-checksum-type: FULL_OBJECT";
        assert_eq!(shown(|text| checked.request(&address(), text).unwrap()), expected);
    }

    #[test]
    fn the_answer() {
        let body = b"<?xml version=\"1.0\"?><InitiateMultipartUploadResult xmlns=\"x\"><Bucket>tenant:b</Bucket>\
            <Key>other</Key><UploadId>VXBs+/=</UploadId></InitiateMultipartUploadResult>";
        let echo = headers(&[("x-amz-checksum-algorithm", "CRC64NVME")]);
        let output = CreateMultipartUpload::parse(StatusCode::OK, &echo, body).unwrap();
        assert_eq!((output.upload_id.as_str(), output.checksum_echoed), ("VXBs+/=", true));
        assert!(!CreateMultipartUpload::parse(StatusCode::OK, &Headers::new(), body).unwrap().checksum_echoed);
        for body in [
            "<InitiateMultipartUploadResult/>",
            "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>",
            "",
        ] {
            let error = CreateMultipartUpload::parse(StatusCode::OK, &Headers::new(), body.as_bytes()).unwrap_err();
            assert_eq!(error.kind, Kind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CreateMultipartUpload::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
