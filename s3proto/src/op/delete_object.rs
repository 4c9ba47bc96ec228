//! DeleteObject: removes one object, or marks it deleted in a bucket that keeps versions.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, VersionId},
};

/// An object to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeleteObject<'a> {
    /// The object.
    pub key: &'a Key,
    /// One of its versions, which is then gone for good; without it, the latest, which a bucket that keeps versions only marks.
    pub version: Option<&'a VersionId>,
    /// Refuse to delete another version than this one. Some servers answer that they do not know how, others ignore it.
    pub if_match: Option<&'a ETag>,
}

impl DeleteObject<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let query = self.version.map(|version| ("versionId", version.as_str()));
        draft::about_object(head, Method::DELETE, address, self.key, query.as_slice());
        if let Some(etag) = self.if_match {
            head.header("if-match", &etag.quoted());
        }
    }

    /// # Errors
    /// [`ServiceError`] when the service refused. Deleting what is absent succeeds on most servers.
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
        let key = key("a\u{1}");
        let delete = DeleteObject { key: &key, version: None, if_match: None };
        assert_eq!(shown(|text| delete.request(&address(), text)), "DELETE /b/a%01\nhost: h:9");
        let etag = ETag::parse("\"tag\"").unwrap();
        let guarded = DeleteObject { if_match: Some(&etag), ..delete };
        assert_eq!(shown(|text| guarded.request(&address(), text)), "DELETE /b/a%01\nhost: h:9\nif-match: \"tag\"");
        assert_eq!(DeleteObject::parse(StatusCode::NO_CONTENT, &Headers::new(), b""), Ok(()));
        assert!(DeleteObject::parse(StatusCode::FORBIDDEN, &Headers::new(), b"").is_err());
    }
}
