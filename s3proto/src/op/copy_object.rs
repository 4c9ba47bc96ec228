//! CopyObject: a copy made by the service, up to 5 GiB. Like Complete, it answers 200 before the work is done, so only
//! the document's root tells success.

use http::{Method, StatusCode};

use super::{
    condition::Condition,
    draft::{self, X_AMZ_VERSION_ID},
    metadata::{InputError, ObjectMetadata},
};
use crate::{
    checksum::{Algorithm, Checksum, X_AMZ_CHECKSUM_ALGORITHM},
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Bucket, ETag, Key},
    text,
};

const X_AMZ_COPY_SOURCE: &str = "x-amz-copy-source";
const X_AMZ_COPY_SOURCE_IF_MATCH: &str = "x-amz-copy-source-if-match";
const X_AMZ_METADATA_DIRECTIVE: &str = "x-amz-metadata-directive";
const X_AMZ_TAGGING_DIRECTIVE: &str = "x-amz-tagging-directive";

/// What the service copies from.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// The object.
    pub key: &'a Key,
    /// One of its versions; without it, the latest.
    pub version_id: Option<&'a str>,
    /// Refuse to copy another content than that of this tag.
    pub if_match: Option<&'a ETag>,
}

impl CopySource<'_> {
    pub(super) fn write(&self, head: &mut HeadText) {
        // The whole name is encoded, so that a `?` in the key cannot be taken for the beginning of a version.
        let mut source = self.bucket.copy_source_root();
        text::push_path(&mut source, self.key.as_bytes());
        if let Some(version_id) = self.version_id {
            source.push_str("?versionId=");
            text::push_query(&mut source, version_id.as_bytes());
        }
        head.header(X_AMZ_COPY_SOURCE, &source);
        if let Some(etag) = self.if_match {
            head.header(X_AMZ_COPY_SOURCE_IF_MATCH, &etag.quoted());
        }
    }
}

/// A copy to be made.
#[derive(Debug, Clone, Copy)]
pub struct CopyObject<'a> {
    /// Where the copy goes.
    pub key: &'a Key,
    /// What is copied.
    pub source: CopySource<'a>,
    /// What the copy says about itself, its tags included; without it, what the source says.
    pub metadata: Option<&'a ObjectMetadata>,
    /// Have the service compute such a checksum of the copy.
    pub algorithm: Option<Algorithm>,
    /// When the copy may take the place of what is there.
    pub condition: Condition<'a>,
}

/// The copy as made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyObjectOutput {
    /// Its tag.
    pub etag: Option<ETag>,
    /// When it was written, in Unix nanoseconds.
    pub last_modified_ns: Option<i64>,
    /// The checksum as the service keeps it.
    pub checksum: Option<Checksum>,
    /// The version, in a bucket that keeps versions.
    pub version_id: Option<String>,
}

impl CopyObject<'_> {
    /// # Errors
    /// [`InputError`] when the metadata fits no header.
    pub fn request(&self, address: &Address, head: &mut HeadText) -> Result<(), InputError> {
        draft::about_object(head, Method::PUT, address, self.key, &[]);
        draft::content_length(head, 0);
        draft::copy_source_payer(head, address);
        self.source.write(head);
        self.condition.write(head);
        if let Some(algorithm) = self.algorithm {
            head.header(X_AMZ_CHECKSUM_ALGORITHM, algorithm.name());
        }
        if let Some(metadata) = self.metadata {
            head.header(X_AMZ_METADATA_DIRECTIVE, "REPLACE");
            head.header(X_AMZ_TAGGING_DIRECTIVE, "REPLACE");
            metadata.write(head)?;
        }
        Ok(())
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, under whatever status, or did not say.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<CopyObjectOutput, ServiceError> {
        let CopyResult { etag, last_modified_ns, checksum } =
            CopyResult::parse(status, headers, body, "CopyObjectResult")?;
        let version_id = headers.text(X_AMZ_VERSION_ID).map(str::to_owned);
        Ok(CopyObjectOutput { etag, last_modified_ns, checksum, version_id })
    }
}

/// What the service says of a copy that it made, of an object or of a part.
#[derive(Debug, Default)]
pub(super) struct CopyResult {
    pub(super) etag: Option<ETag>,
    pub(super) last_modified_ns: Option<i64>,
    pub(super) checksum: Option<Checksum>,
}

impl CopyResult {
    /// The document with this root.
    pub(super) fn parse(
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
        root: &'static str,
    ) -> Result<CopyResult, ServiceError> {
        draft::expect_document(status, headers, body, &[root], |document| {
            let mut result = CopyResult::default();
            while let Some(element) = document.child()? {
                match (element.name(), Algorithm::of_element(element.name())) {
                    ("ETag", _) => result.etag = ETag::parse(document.text()?).ok(),
                    ("LastModified", _) => result.last_modified_ns = date::iso_to_unix_ns(document.text()?.trim()),
                    (_, Some(algorithm)) => {
                        result.checksum = Checksum::parse_base64(algorithm, document.text()?.trim())
                    }
                    (_, None) => document.skip()?,
                }
            }
            Ok(result)
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

    #[test]
    fn the_request() {
        let (bucket, target, source) = (Bucket::parse("s").unwrap(), key("t"), key("a?versionId=1+\u{e9}"));
        let from = CopySource { bucket: &bucket, key: &source, version_id: None, if_match: None };
        let copy =
            CopyObject { key: &target, source: from, metadata: None, algorithm: None, condition: Condition::Always };
        let expected = "PUT /b/t\ncontent-length: 0\nhost: h:9\nx-amz-copy-source: /s/a%3FversionId%3D1%2B%C3%A9";
        assert_eq!(shown(|text| copy.request(&address(), text).unwrap()), expected);
        let etag = ETag::parse("x").unwrap();
        let metadata = ObjectMetadata { content_type: Some("a/b".into()), ..ObjectMetadata::default() };
        let from = CopySource { version_id: Some("v&1"), if_match: Some(&etag), ..from };
        let copy = CopyObject { source: from, metadata: Some(&metadata), condition: Condition::Absent, ..copy };
        let expected = "PUT /b/t\ncontent-length: 0\ncontent-type: a/b\nhost: h:9\nif-none-match: *\n\
            x-amz-copy-source-if-match: \"x\"\nx-amz-copy-source: /s/a%3FversionId%3D1%2B%C3%A9?versionId=v%261\n\
            x-amz-metadata-directive: REPLACE\nx-amz-tagging-directive: REPLACE";
        assert_eq!(shown(|text| copy.request(&address(), text).unwrap()), expected);
    }

    #[test]
    fn an_access_point_is_copied_from_by_its_arn() {
        let point = Bucket::parse("arn:aws:s3:eu-west-1:1:accesspoint:mine").unwrap();
        let source = key("a b");
        let from = CopySource { bucket: &point, key: &source, version_id: None, if_match: None };
        let mut head = HeadText::new();
        head.begin(&Method::PUT, |target| target.push('/'));
        from.write(&mut head);
        let expected = "arn%3Aaws%3As3%3Aeu-west-1%3A1%3Aaccesspoint/mine/object/a%20b";
        assert_eq!(head.value(X_AMZ_COPY_SOURCE), Some(expected));
    }

    #[test]
    fn the_answer() {
        let parse = |body: &str| CopyObject::parse(StatusCode::OK, &Headers::new(), body.as_bytes());
        let output = parse(
            "<CopyObjectResult><LastModified>2009-10-12T17:50:30Z</LastModified><ETag>\"x\"</ETag></CopyObjectResult>",
        )
        .unwrap();
        assert_eq!(output.etag.unwrap().to_string(), "x");
        assert_eq!(output.last_modified_ns, Some(1_255_369_830_000_000_000));
        let error = parse("<Error><Code>SlowDown</Code><Message/></Error>").unwrap_err();
        assert_eq!((error.kind, error.class()), (Kind::Refused, Class::Throttle));
        for body in ["", "<html/>", "<CopyObjectResult>"] {
            let error = parse(body).unwrap_err();
            assert_eq!((error.kind, error.is_ambiguous()), (Kind::Malformed, true));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CopyObject::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
