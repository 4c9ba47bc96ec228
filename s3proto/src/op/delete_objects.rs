//! DeleteObjects: up to a thousand objects in one request. The answer is 200 even if every one of them failed, so each
//! is looked at.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{draft, metadata::InputError};
use crate::{
    checksum::{Crc64Nvme, Md5Digest},
    endpoint::Address,
    error::{Class, ServiceError, class_of_code},
    head::{HeadText, Headers},
    name::Key,
    xml::{is_writable, push_element},
};

/// The most keys that a service takes in one request.
pub const KEYS_MAX: usize = 1000;

/// A batch to be deleted. Its body comes first, from [`Self::document`], because the request carries the body's
/// checksums: one server insists on the MD5 and another on the CRC, so both may be given.
#[derive(Debug, Clone)]
pub struct DeleteObjects {
    /// What [`Self::document`] wrote.
    pub document: Bytes,
    /// The document's MD5.
    pub content_md5: Option<Md5Digest>,
    /// The document's CRC.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteObjectsOutput {
    /// Keys that the service says are gone. A quiet answer names none, and some servers are never quiet.
    pub deleted: Vec<String>,
    /// Keys that are still there.
    pub failed: Vec<DeleteFailure>,
}

/// One object that was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteFailure {
    /// Its key.
    pub key: String,
    /// The service's code.
    pub code: String,
    /// The service's words: one line, at most 200 characters.
    pub message: String,
}

impl DeleteFailure {
    /// What to do about it; a code that is unknown is final.
    #[must_use]
    pub fn class(&self) -> Class {
        class_of_code(&self.code).unwrap_or(Class::Fatal)
    }
}

impl DeleteObjects {
    /// Writes the list of keys. With `quiet` the service should answer with failures alone.
    ///
    /// # Errors
    /// [`InputError::KeyInDocument`] for a key that XML cannot carry; it has to be deleted alone.
    ///
    /// # Panics
    /// If there are more than [`KEYS_MAX`] keys.
    pub fn document<'a>(keys: impl IntoIterator<Item = &'a Key>, quiet: bool) -> Result<Bytes, InputError> {
        let mut out = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (index, key) in keys.into_iter().enumerate() {
            assert!(index < KEYS_MAX, "a batch of more than {KEYS_MAX} keys");
            if !is_writable(key.as_str()) {
                return Err(InputError::KeyInDocument { key: key.as_str().to_owned() });
            }
            out.push_str("<Object>");
            push_element(&mut out, "Key", key.as_str());
            out.push_str("</Object>");
        }
        push_element(&mut out, "Quiet", if quiet { "true" } else { "false" });
        out.push_str("</Delete>");
        Ok(Bytes::from(out))
    }

    /// The head of the request; [`Self::body`] goes with it.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_bucket(head, Method::POST, address, &[("delete", "")]);
        draft::content_length(head, self.document.len() as u64);
        head.header("content-type", "application/xml");
        draft::checksums(head, self.content_md5, self.checksum_crc64nvme.map(Into::into));
    }

    /// The list of keys.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.document.clone()
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused the batch as a whole.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<DeleteObjectsOutput, ServiceError> {
        draft::expect_document(status, headers, body, &["DeleteResult"], |document| {
            let mut output = DeleteObjectsOutput::default();
            while let Some(element) = document.child()? {
                let failed = match element.name() {
                    "Deleted" => false,
                    "Error" => true,
                    _ => {
                        document.skip()?;
                        continue;
                    }
                };
                let mut found = DeleteFailure { key: String::new(), code: String::new(), message: String::new() };
                while let Some(inner) = document.child()? {
                    match inner.name() {
                        "Key" => found.key = document.text()?.to_owned(),
                        "Code" => found.code = crate::text::shown(document.text()?),
                        "Message" => found.message = crate::text::shown(document.text()?),
                        _ => document.skip()?,
                    }
                }
                if failed {
                    output.failed.push(found);
                } else {
                    output.deleted.push(found.key);
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

    #[test]
    fn the_request() {
        let keys = [key("a&b"), key("c\r\n")];
        let document = DeleteObjects::document(&keys, true).unwrap();
        let expected = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object>\
            <Object><Key>c&#13;&#10;</Key></Object><Quiet>true</Quiet></Delete>";
        assert_eq!(document, expected);
        let batch = DeleteObjects { document, content_md5: Some(Md5Digest([0; 16])), checksum_crc64nvme: None };
        let head = format!(
            "POST /b?delete=\ncontent-length: {}\ncontent-md5: AAAAAAAAAAAAAAAAAAAAAA==\n\
             content-type: application/xml\nhost: h:9",
            expected.len()
        );
        assert_eq!((shown(|text| batch.request(&address(), text)), batch.body()), (head, Bytes::from(expected)));
        assert!(DeleteObjects::document([&key("a\u{1}")], true).is_err());
    }

    #[test]
    fn each_key_has_its_own_fate() {
        let body = b"<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker></Deleted><Error><Key>b</Key>\
            <Code>InternalError</Code><Message>m</Message></Error><Error><Key>c</Key><Code>AccessDenied</Code></Error></DeleteResult>";
        let output = DeleteObjects::parse(StatusCode::OK, &Headers::new(), body).unwrap();
        assert_eq!(output.deleted, ["a"]);
        let failed: Vec<_> = output.failed.iter().map(|failure| (failure.key.as_str(), failure.class())).collect();
        assert_eq!(failed, [("b", Class::Retry), ("c", Class::Denied)]);
        assert!(DeleteObjects::parse(StatusCode::OK, &Headers::new(), b"").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = DeleteObjects::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
