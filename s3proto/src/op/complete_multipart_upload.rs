//! CompleteMultipartUpload: makes the object out of its parts.
//!
//! The service answers 200 before it has done the work and keeps the connection alive with blanks, so only the root of
//! the document that follows tells success. An answer without it tells nothing: the object may exist, and the caller
//! has to look.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{condition::Condition, draft};
use crate::{
    checksum::{Crc64Nvme, X_AMZ_CHECKSUM_TYPE},
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
    /// The CRC of the whole object, if the upload was opened with one.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
    /// Bytes of all parts together. It is sent only beside the CRC, to servers that know both.
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
    /// Its CRC, if the upload was opened with one.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
}

/// The object as made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteMultipartUploadOutput {
    /// Its tag.
    pub etag: Option<ETag>,
    /// The checksum as the service keeps it.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
}

impl CompleteMultipartUpload<'_> {
    /// The head of the request; [`Self::body`] goes with it.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let query = [("uploadId", self.upload_id.as_str())];
        draft::about_object(head, Method::POST, address, self.key, &query);
        draft::content_length(head, self.body().len() as u64);
        head.header("content-type", "application/xml");
        self.condition.write(head);
        if self.checksum_crc64nvme.is_some() {
            draft::checksums(head, None, self.checksum_crc64nvme);
            head.header(X_AMZ_CHECKSUM_TYPE, "FULL_OBJECT");
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
            if let Some(crc) = part.checksum_crc64nvme {
                push_element(&mut out, "ChecksumCRC64NVME", &crc.to_base64());
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
            let mut output = CompleteMultipartUploadOutput { etag: None, checksum_crc64nvme: None };
            while let Some(element) = document.child()? {
                match element.name() {
                    "ETag" => output.etag = ETag::parse(document.text()?).ok(),
                    "ChecksumCRC64NVME" => output.checksum_crc64nvme = Crc64Nvme::parse_base64(document.text()?.trim()),
                    _ => document.skip()?,
                }
            }
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
    use crate::error::{Class, Kind};

    fn parse(body: &str) -> Result<CompleteMultipartUploadOutput, ServiceError> {
        CompleteMultipartUpload::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let (key, upload_id) = (key("k"), UploadId::parse("u").unwrap());
        let part = |number, checksum_crc64nvme| CompletedPart {
            number: PartNumber::new(number).unwrap(),
            etag: ETag::parse("\"x&y\"").unwrap(),
            checksum_crc64nvme,
        };
        let parts = [part(1, Some(Crc64Nvme(0))), part(2, None)];
        let plain = CompleteMultipartUpload {
            key: &key,
            upload_id: &upload_id,
            parts: &parts,
            checksum_crc64nvme: None,
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
        let checked = CompleteMultipartUpload { checksum_crc64nvme: Some(Crc64Nvme(0)), ..plain };
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
        assert_eq!(output.checksum_crc64nvme, Some(Crc64Nvme(0xAE8B_1486_0A79_9888)));
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
