//! PutObject: a whole object in one request, visible only once the service has all of it.

use http::{Method, StatusCode};

use super::{
    condition::Condition,
    draft::{self, X_AMZ_VERSION_ID},
    metadata::{InputError, ObjectMetadata},
};
use crate::{
    checksum::{Checksum, Md5Digest},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key},
};

/// An object to be stored.
#[derive(Debug, Clone, Copy)]
pub struct PutObject<'a> {
    /// Its name.
    pub key: &'a Key,
    /// Bytes of the body, exactly.
    pub content_length: u64,
    /// What it says about itself.
    pub metadata: &'a ObjectMetadata,
    /// The body's MD5, for servers that check no other.
    pub content_md5: Option<Md5Digest>,
    /// The body's checksum, which the service checks and keeps.
    pub checksum: Option<Checksum>,
    /// When it may take the place of what is there.
    pub condition: Condition<'a>,
}

/// The object as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObjectOutput {
    /// The new version's tag; a server that gives none leaves the caller to look.
    pub etag: Option<ETag>,
    /// The checksum as the service keeps it; absent if it ignored ours.
    pub checksum: Option<Checksum>,
    /// The version, in a bucket that keeps versions.
    pub version_id: Option<String>,
}

impl PutObject<'_> {
    /// # Errors
    /// [`InputError`] when the metadata fits no header.
    pub fn request(&self, address: &Address, head: &mut HeadText) -> Result<(), InputError> {
        draft::about_object(head, Method::PUT, address, self.key, &[]);
        draft::content_length(head, self.content_length);
        draft::checksums(head, self.content_md5, self.checksum);
        self.condition.write(head);
        self.metadata.write(head)?;
        Ok(())
    }

    /// # Errors
    /// [`ServiceError`] when the service refused.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<PutObjectOutput, ServiceError> {
        draft::expect_success(status, headers, body)?;
        Ok(PutObjectOutput {
            etag: draft::etag(headers),
            checksum: draft::echoed_checksum(headers),
            version_id: headers.text(X_AMZ_VERSION_ID).map(str::to_owned),
        })
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
        let key = key("a/../b c");
        let metadata = ObjectMetadata {
            content_type: Some("text/plain".into()),
            user: vec![("mtime".into(), "1".into())],
            ..ObjectMetadata::default()
        };
        let put = PutObject {
            key: &key,
            content_length: 0,
            metadata: &metadata,
            content_md5: Some(Md5Digest([0; 16])),
            checksum: Some(Crc64Nvme(0).into()),
            condition: Condition::Absent,
        };
        let expected = "PUT /b/a/../b%20c\ncontent-length: 0\ncontent-md5: AAAAAAAAAAAAAAAAAAAAAA==\n\
            content-type: text/plain\nhost: h:9\nif-none-match: *\nx-amz-checksum-crc64nvme: AAAAAAAAAAA=\n\
            x-amz-meta-mtime: 1";
        assert_eq!(shown(|text| put.request(&address(), text).unwrap()), expected);
        let evil = ObjectMetadata { cache_control: Some("a\r\nb".into()), ..ObjectMetadata::default() };
        assert!(PutObject { metadata: &evil, ..put }.request(&address(), &mut HeadText::new()).is_err());
    }

    #[test]
    fn the_answer() {
        let answer = headers(&[("etag", "\"x\""), ("x-amz-checksum-crc64nvme", "rosUhgp5mIg=")]);
        let output = PutObject::parse(StatusCode::OK, &answer, b"").unwrap();
        assert_eq!(output.etag.unwrap().to_string(), "x");
        assert_eq!(output.checksum, Some(Crc64Nvme(0xAE8B_1486_0A79_9888).into()));
        let bare = PutObject::parse(StatusCode::OK, &Headers::new(), b"").unwrap();
        assert_eq!((bare.etag, bare.checksum, bare.version_id), (None, None, None));
        let body = b"<Error><Code>SlowDown</Code><Message>m</Message></Error>";
        let error = PutObject::parse(StatusCode::SERVICE_UNAVAILABLE, &Headers::new(), body).unwrap_err();
        assert_eq!(error.class(), Class::Throttle);
        let error = PutObject::parse(StatusCode::OK, &answer, body).unwrap_err();
        assert_eq!(error.class(), Class::Throttle);
    }
}
