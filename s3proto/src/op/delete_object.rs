//! DeleteObject: removes one object, or marks it deleted in a bucket that keeps versions.

use http::{HeaderMap, Method, StatusCode, request::Parts};

use super::draft;
use crate::{endpoint::Address, error::ServiceError, name::Key};

/// An object to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeleteObject<'a> {
    /// The object.
    pub key: &'a Key,
}

impl DeleteObject<'_> {
    /// The head of the request.
    #[must_use]
    pub fn request(&self, address: &Address) -> Parts {
        draft::about_object(Method::DELETE, address, self.key, &[])
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
        assert_eq!(shown(&DeleteObject { key: &key }.request(&address())), "DELETE /b/a%01\nhost: h:9");
        assert_eq!(DeleteObject::parse(StatusCode::NO_CONTENT, &HeaderMap::new(), b""), Ok(()));
        assert!(DeleteObject::parse(StatusCode::FORBIDDEN, &HeaderMap::new(), b"").is_err());
    }
}
