//! DeleteObject: removes one object, or marks it deleted in a bucket that keeps versions.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::Key,
};

/// An object to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeleteObject<'a> {
    /// The object.
    pub key: &'a Key,
}

impl DeleteObject<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_object(head, Method::DELETE, address, self.key, &[]);
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
        assert_eq!(shown(|text| DeleteObject { key: &key }.request(&address(), text)), "DELETE /b/a%01\nhost: h:9");
        assert_eq!(DeleteObject::parse(StatusCode::NO_CONTENT, &Headers::new(), b""), Ok(()));
        assert!(DeleteObject::parse(StatusCode::FORBIDDEN, &Headers::new(), b"").is_err());
    }
}
