//! GetObject: an object's bytes or a range of them. The body streams, so only the head is read here; a body that looks
//! like an `Error` document is data like any other.

use http::{Method, StatusCode};

use super::{draft, object_head::ObjectHead};
use crate::{
    checksum::X_AMZ_CHECKSUM_MODE,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ByteRange, ETag, Key, VersionId},
};

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct GetObject<'a> {
    /// The object.
    pub key: &'a Key,
    /// This version of it, and not the latest.
    pub version: Option<&'a VersionId>,
    /// The bytes of it, or all; never an empty range.
    pub range: Option<ByteRange>,
    /// Refuse to read another version than this one. Every ranged read carries it, or the pieces may not match.
    pub if_match: Option<&'a ETag>,
    /// Ask for the stored checksum.
    pub checksum_mode: bool,
}

impl GetObject<'_> {
    /// The head of the request.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let query = self.version.map(|version| ("versionId", version.as_str()));
        draft::about_object(head, Method::GET, address, self.key, query.as_slice());
        // Proxies and some servers compress on their own; the bytes wanted are the stored ones.
        head.header("accept-encoding", "identity");
        if let Some(range) = self.range {
            head.header("range", &range.header_value());
        }
        if let Some(etag) = self.if_match {
            head.header("if-match", &etag.quoted());
        }
        if self.checksum_mode {
            head.header(X_AMZ_CHECKSUM_MODE, "ENABLED");
        }
    }

    /// Reads the head. An error found here knows no code yet: the caller reads the body of a refusal and gives it to
    /// [`ServiceError::parse`].
    ///
    /// # Errors
    /// [`ServiceError`] when the status is neither 200 nor 206, or the head contradicts itself.
    pub fn parse_head(status: StatusCode, headers: &Headers) -> Result<ObjectHead, ServiceError> {
        ObjectHead::parse(status, headers)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, headers, key, shown},
        *,
    };

    #[test]
    fn the_request() {
        let (key, etag) = (key("k"), ETag::parse("\"x\"").unwrap());
        let whole = GetObject { key: &key, version: None, range: None, if_match: None, checksum_mode: false };
        assert_eq!(shown(|text| whole.request(&address(), text)), "GET /b/k\naccept-encoding: identity\nhost: h:9");
        let range = Some(ByteRange { start: 5, end: 15 });
        let part = GetObject { range, if_match: Some(&etag), checksum_mode: true, ..whole };
        let expected = "GET /b/k\naccept-encoding: identity\nhost: h:9\nif-match: \"x\"\nrange: bytes=5-14\n\
            x-amz-checksum-mode: ENABLED";
        assert_eq!(shown(|text| part.request(&address(), text)), expected);
    }

    #[test]
    fn the_answer() {
        let answer = headers(&[("content-length", "3"), ("content-type", "application/xml")]);
        assert_eq!(GetObject::parse_head(StatusCode::OK, &answer).unwrap().size, Some(3));
        assert!(GetObject::parse_head(StatusCode::NOT_MODIFIED, &answer).is_err());
        assert!(GetObject::parse_head(StatusCode::NO_CONTENT, &answer).is_err());
    }
}
