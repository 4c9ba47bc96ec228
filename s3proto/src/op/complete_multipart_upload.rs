//! CompleteMultipartUpload: makes the object out of its parts.
//!
//! The service answers 200 before it has done the work and keeps the connection alive with blanks, so only the root of
//! the document that follows tells success. An answer without it tells nothing: the object may exist, and the caller
//! has to look.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{condition::Condition, draft};
use crate::{
    checksum::{Algorithm, Checksum, ChecksumType, StoredChecksum, X_AMZ_CHECKSUM_TYPE},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, PartNumber, UploadId},
    xml::push_element,
};

const X_AMZ_MP_OBJECT_SIZE: &str = "x-amz-mp-object-size";

/// An upload to be finished.
#[derive(Debug, Clone, Copy)]
pub struct CompleteMultipartUpload<'a> {
    /// The object to be.
    pub key: &'a Key,
    /// The upload.
    pub upload_id: &'a UploadId,
    /// All its parts, in the order of their numbers.
    pub parts: &'a [CompletedPart],
    /// The checksum of all bytes of the object, if the upload was opened with one that covers those.
    pub checksum: Option<Checksum>,
    /// Bytes of all parts together. It is sent only beside the checksum, to servers that know both.
    pub object_size: u64,
    /// When the object may take the place of what is there.
    pub condition: Condition<'a>,
}

/// A part as the service acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    /// Its place.
    pub number: PartNumber,
    /// The tag that its upload returned.
    pub etag: ETag,
    /// Its checksum, if the upload was opened with one.
    pub checksum: Option<Checksum>,
}

/// The object as made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteMultipartUploadOutput {
    /// Its tag.
    pub etag: Option<ETag>,
    /// The checksum as the service keeps it.
    pub checksum: Option<StoredChecksum>,
    /// The version, in a bucket that keeps versions.
    pub version_id: Option<String>,
}

impl CompleteMultipartUpload<'_> {
    /// The head of the request; [`Self::body`] goes with it.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let query = [("uploadId", self.upload_id.as_str())];
        draft::about_object(head, Method::POST, address, self.key, &query);
        draft::content_length(head, self.body().len() as u64);
        head.header("content-type", "application/xml");
        self.condition.write(head);
        if self.checksum.is_some() {
            draft::checksums(head, None, self.checksum);
            head.header(X_AMZ_CHECKSUM_TYPE, ChecksumType::FullObject.name());
            head.number(X_AMZ_MP_OBJECT_SIZE, self.object_size);
        }
    }

    /// The list of parts.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut out = String::with_capacity(128 + self.parts.len() * 160);
        out.push_str("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for part in self.parts {
            out.push_str("<Part>");
            if let Some(checksum) = part.checksum {
                push_element(&mut out, checksum.algorithm().element(), &checksum.to_base64());
            }
            push_element(&mut out, "ETag", &part.etag.quoted());
            push_element(&mut out, "PartNumber", &part.number.to_string());
            out.push_str("</Part>");
        }
        out.push_str("</CompleteMultipartUpload>");
        Bytes::from(out)
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, under whatever status, or did not say; in doubt
    /// [`ServiceError::is_ambiguous`] is true.
    pub fn parse(
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
    ) -> Result<CompleteMultipartUploadOutput, ServiceError> {
        draft::expect_document(status, headers, body, &["CompleteMultipartUploadResult"], |document| {
            let mut output = CompleteMultipartUploadOutput {
                etag: None,
                checksum: None,
                version_id: headers.text(draft::X_AMZ_VERSION_ID).map(str::to_owned),
            };
            let (mut value, mut kind) = (None, None);
            while let Some(element) = document.child()? {
                match (element.name(), Algorithm::of_element(element.name())) {
                    ("ETag", _) => output.etag = ETag::parse(document.text()?).ok(),
                    ("ChecksumType", _) => kind = ChecksumType::parse(document.text()?.trim()),
                    (_, Some(algorithm)) => value = Some((algorithm, document.text()?.trim().to_owned())),
                    (_, None) => document.skip()?,
                }
            }
            output.checksum = value.and_then(|(algorithm, text)| StoredChecksum::parse(algorithm, &text, kind));
            Ok(output)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };
    use crate::{
        checksum::Crc64Nvme,
        error::{Class, Kind},
    };

    fn parse(body: &str) -> Result<CompleteMultipartUploadOutput, ServiceError> {
        CompleteMultipartUpload::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let (key, upload_id) = (key("k"), UploadId::parse("u").unwrap());
        let part = |number, checksum| CompletedPart {
            number: PartNumber::new(number).unwrap(),
            etag: ETag::parse("\"x&y\"").unwrap(),
            checksum,
        };
        let parts = [part(1, Some(Crc64Nvme(0).into())), part(2, None)];
        let plain = CompleteMultipartUpload {
            key: &key,
            upload_id: &upload_id,
            parts: &parts,
            checksum: None,
            object_size: 9,
            condition: Condition::Always,
        };
        let body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Part><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME><ETag>&quot;x&amp;y&quot;</ETag>\
            <PartNumber>1</PartNumber></Part>\
            <Part><ETag>&quot;x&amp;y&quot;</ETag><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>";
        assert_eq!(plain.body(), body);
        let head =
            format!("POST /b/k?uploadId=u\ncontent-length: {}\ncontent-type: application/xml\nhost: h:9", body.len());
        assert_eq!(shown(|text| plain.request(&address(), text)), head);
        let checked = CompleteMultipartUpload { checksum: Some(Crc64Nvme(0).into()), ..plain };
        let more =
            "\nx-amz-checksum-crc64nvme: AAAAAAAAAAA=\nx-amz-checksum-type: FULL_OBJECT\nx-amz-mp-object-size: 9";
        assert_eq!(shown(|text| checked.request(&address(), text)), format!("{head}{more}"));
    }

    #[test]
    fn success_is_told_by_the_root() {
        let body = "\n \r\n   <?xml version=\"1.0\"?>\n<CompleteMultipartUploadResult xmlns=\"x\"><Location>http://h/SlowDown\
            </Location><Key>InternalError</Key><ETag>&quot;3858f62230ac3c915f300c664312c11f-9&quot;</ETag>\
            <ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME></CompleteMultipartUploadResult>";
        let output = parse(body).unwrap();
        assert_eq!(output.etag.unwrap().to_string(), "3858f62230ac3c915f300c664312c11f-9");
        assert_eq!(output.checksum.unwrap().whole(), Some(Crc64Nvme(0xAE8B_1486_0A79_9888).into()));
    }

    #[test]
    fn a_checksum_of_parts_is_told_from_one_of_bytes() {
        let value = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
        let body = format!(
            "<CompleteMultipartUploadResult><ETag>x</ETag><ChecksumSHA256>{value}-9</ChecksumSHA256>\
             <ChecksumType>COMPOSITE</ChecksumType></CompleteMultipartUploadResult>"
        );
        let stored = parse(&body).unwrap().checksum.unwrap();
        assert_eq!((stored.to_string(), stored.whole()), (format!("{value}-9"), None));
    }

    #[test]
    fn an_error_under_status_200_is_that_error() {
        for (code, class) in [
            ("InternalError", Class::Retry),
            ("SlowDown", Class::Throttle),
            ("InvalidPart", Class::Conflict),
            ("EntityTooSmall", Class::Fatal),
        ] {
            let error = parse(&format!("  <Error><Code>{code}</Code><Message>m</Message></Error>")).unwrap_err();
            assert_eq!((error.kind, error.class(), error.status), (Kind::Refused, class, 200));
        }
    }

    #[test]
    fn an_answer_that_tells_nothing_is_ambiguous() {
        for body in [
            "",
            "   ",
            "<html>ok</html>",
            "<CompleteMultipartUploadResult><ETag>x",
            "<Error><Code>Int",
            "<Error/>",
            "\u{0}",
        ] {
            let error = parse(body).unwrap_err();
            assert_eq!(
                (error.kind, error.class(), error.is_ambiguous()),
                (Kind::Malformed, Class::Retry, true),
                "{body}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(CompleteMultipartUpload::parse(StatusCode::OK, &Headers::new(), &body).is_err());
        }
    }
}
