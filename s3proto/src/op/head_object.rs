//! HeadObject: what GetObject would say, without the bytes.

use http::{Method, StatusCode};

use super::{draft, object_head::ObjectHead};
use crate::{
    checksum::X_AMZ_CHECKSUM_MODE,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Key, PartNumber, VersionId},
};

/// What to ask about.
#[derive(Debug, Clone, Copy)]
pub struct HeadObject<'a> {
    /// The object.
    pub key: &'a Key,
    /// This version of it, and not the latest.
    pub version: Option<&'a VersionId>,
    /// One of its parts, which also brings the number of parts; the answer is then 206.
    pub part_number: Option<PartNumber>,
    /// Ask for the stored checksum.
    pub checksum_mode: bool,
}

impl HeadObject<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let number = self.part_number.map(|number| number.to_string());
        let pairs = [
            number.as_deref().map(|number| ("partNumber", number)),
            self.version.map(|version| ("versionId", version.as_str())),
        ];
        draft::about_object(head, Method::HEAD, address, self.key, draft::given(&pairs, &mut [("", ""); 2]));
        if self.checksum_mode {
            head.header(X_AMZ_CHECKSUM_MODE, "ENABLED");
        }
    }

    /// Reads the answer; there is no body to HEAD, so `_body` is empty.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused; it has no code, and its class follows from the status.
    pub fn parse(status: StatusCode, headers: &Headers, _body: &[u8]) -> Result<ObjectHead, ServiceError> {
        ObjectHead::parse(status, headers)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, headers, key, shown},
        *,
    };
    use crate::error::Class;

    #[test]
    fn the_request() {
        let key = key("k");
        let head = HeadObject { key: &key, version: None, part_number: None, checksum_mode: false };
        assert_eq!(shown(|text| head.request(&address(), text)), "HEAD /b/k\nhost: h:9");
        let part = HeadObject { part_number: PartNumber::new(1).ok(), checksum_mode: true, ..head };
        let expected = "HEAD /b/k?partNumber=1\nhost: h:9\nx-amz-checksum-mode: ENABLED";
        assert_eq!(shown(|text| part.request(&address(), text)), expected);
        let version = VersionId::parse("a/b").unwrap();
        let version = HeadObject { version: Some(&version), ..head };
        assert_eq!(shown(|text| version.request(&address(), text)), "HEAD /b/k?versionId=a%2Fb\nhost: h:9");
        let both = HeadObject { part_number: part.part_number, ..version };
        assert_eq!(shown(|text| both.request(&address(), text)), "HEAD /b/k?partNumber=1&versionId=a%2Fb\nhost: h:9");
    }

    #[test]
    fn the_answer() {
        let answer =
            headers(&[("content-length", "5"), ("content-range", "bytes 0-4/9"), ("x-amz-mp-parts-count", "2")]);
        let head = HeadObject::parse(StatusCode::PARTIAL_CONTENT, &answer, b"").unwrap();
        assert_eq!((head.size, head.parts_count), (Some(5), Some(2)));
        let error = HeadObject::parse(StatusCode::NOT_FOUND, &answer, b"").unwrap_err();
        assert_eq!(error.class(), Class::Absent);
    }
}
