//! DeleteObject: removes one object, or marks it deleted in a bucket that keeps versions.

use http::{HeaderMap, Method, StatusCode, header, request::Parts};

use super::draft;
use crate::{
    endpoint::Address,
    error::ServiceError,
    name::{ETag, Key},
};

/// An object to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeleteObject<'a> {
    /// The object.
    pub key: &'a Key,
    /// Refuse to delete another version than this one. Some servers answer that they do not know how, others ignore it.
    pub if_match: Option<&'a ETag>,
}

impl DeleteObject<'_> {
    /// The head of the request.
    #[must_use]
    pub fn request(&self, address: &Address) -> Parts {
        let mut parts = draft::about_object(Method::DELETE, address, self.key, &[]);
        if let Some(etag) = self.if_match {
            draft::insert(&mut parts, &header::IF_MATCH, etag.quoted());
        }
        parts
    }

    /// # Errors
    /// [`ServiceError`] when the service refused. Deleting what is absent succeeds on most servers.
    pub fn parse(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), ServiceError> {
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
        let delete = DeleteObject { key: &key, if_match: None };
        assert_eq!(shown(&delete.request(&address())), "DELETE /b/a%01\nhost: h:9");
        let etag = ETag::parse("\"tag\"").unwrap();
        let guarded = DeleteObject { if_match: Some(&etag), ..delete };
        assert_eq!(shown(&guarded.request(&address())), "DELETE /b/a%01\nhost: h:9\nif-match: \"tag\"");
        assert_eq!(DeleteObject::parse(StatusCode::NO_CONTENT, &HeaderMap::new(), b""), Ok(()));
        assert!(DeleteObject::parse(StatusCode::FORBIDDEN, &HeaderMap::new(), b"").is_err());
    }
}
