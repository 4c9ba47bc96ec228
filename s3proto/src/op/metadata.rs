//! What an object says about itself beside its bytes, as headers on the way up and down.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use thiserror::Error;

const USER_PREFIX: &str = "x-amz-meta-";

/// Why a request cannot be built from its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InputError {
    /// A value that would break out of its header, or that no header carries unchanged.
    #[error("the metadata `{name}` has a value that no header can carry (only visible ASCII and blanks can)")]
    MetadataValue {
        /// Which metadata.
        name: String,
    },
    /// A name of user metadata that is not a header's name.
    #[error("`{name}` cannot be the name of metadata")]
    MetadataName {
        /// The name, clipped and escaped.
        name: String,
    },
    /// A key for which XML has no form, so that it cannot be part of a batch; alone it can be named.
    #[error("the key {key:?} holds a control character that a batch cannot carry")]
    KeyInDocument {
        /// The key.
        key: String,
    },
}

/// The metadata that travels with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`, which belongs to a transfer and not to an object.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as text: servers keep it unread.
    pub expires: Option<String>,
    /// Names without `x-amz-meta-`, in lower case once they have been through a server, and their values.
    pub user: Vec<(String, String)>,
}

impl ObjectMetadata {
    /// Adds the metadata to a request.
    pub(super) fn write(&self, headers: &mut HeaderMap) -> Result<(), InputError> {
        let standard = [
            (header::CONTENT_TYPE, &self.content_type),
            (header::CONTENT_ENCODING, &self.content_encoding),
            (header::CONTENT_DISPOSITION, &self.content_disposition),
            (header::CONTENT_LANGUAGE, &self.content_language),
            (header::CACHE_CONTROL, &self.cache_control),
            (header::EXPIRES, &self.expires),
        ];
        for (name, value) in standard {
            if let Some(value) = value {
                let value = header_value(name.as_str(), value)?;
                headers.insert(name, value);
            }
        }
        for (name, value) in &self.user {
            let header = HeaderName::try_from(format!("{USER_PREFIX}{name}"))
                .map_err(|_| InputError::MetadataName { name: crate::text::shown(name) })?;
            headers.insert(header, header_value(name, value)?);
        }
        Ok(())
    }

    /// Collects the metadata from an answer.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let standard = |name: HeaderName| headers.get(name).map(value_text);
        let user = headers.iter().filter_map(|(name, value)| {
            name.as_str().strip_prefix(USER_PREFIX).map(|name| (name.to_owned(), value_text(value)))
        });
        Self {
            content_type: standard(header::CONTENT_TYPE),
            content_encoding: standard(header::CONTENT_ENCODING).and_then(|value| without_aws_chunked(&value)),
            content_disposition: standard(header::CONTENT_DISPOSITION),
            content_language: standard(header::CONTENT_LANGUAGE),
            cache_control: standard(header::CACHE_CONTROL),
            expires: standard(header::EXPIRES),
            user: user.collect(),
        }
    }
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, InputError> {
    let refused = || InputError::MetadataValue { name: crate::text::shown(name) };
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(refused());
    }
    HeaderValue::from_str(value).map_err(|_| refused())
}

/// A header's value as text. Some servers send UTF-8 and some Latin-1; each byte of the latter is its own character.
fn value_text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// Some servers keep the transfer's own coding as if it were the object's.
fn without_aws_chunked(value: &str) -> Option<String> {
    let kept: Vec<_> =
        value.split(',').map(str::trim).filter(|&coding| coding != "aws-chunked" && !coding.is_empty()).collect();
    if kept.is_empty() { None } else { Some(kept.join(",")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let text = |text: &str| Some(text.to_owned());
        let metadata = ObjectMetadata {
            content_type: text("text/plain; charset=utf-8"),
            content_encoding: text("gzip"),
            content_disposition: text("attachment; filename=\"a b\""),
            content_language: text("en"),
            cache_control: text("no-cache"),
            expires: text("never"),
            user: vec![("mtime".into(), "1.5".into())],
        };
        let mut headers = HeaderMap::new();
        metadata.write(&mut headers).unwrap();
        assert_eq!(headers["x-amz-meta-mtime"], "1.5");
        assert_eq!(ObjectMetadata::read(&headers), metadata);
    }

    #[test]
    fn nothing_breaks_out_of_its_header() {
        for evil in ["a\r\nx-amz-acl: public-read", "a\nb", "\0", "\u{7f}", "\u{e9}"] {
            let user = ObjectMetadata { user: vec![("a".into(), evil.into())], ..ObjectMetadata::default() };
            let standard = ObjectMetadata { content_type: Some(evil.into()), ..ObjectMetadata::default() };
            for metadata in [user, standard] {
                let refused = metadata.write(&mut HeaderMap::new());
                assert!(matches!(refused, Err(InputError::MetadataValue { .. })), "{evil:?}");
            }
        }
        for evil in ["a b", "a:b", "a\r\nb", "\u{e9}"] {
            let metadata = ObjectMetadata { user: vec![(evil.into(), "v".into())], ..ObjectMetadata::default() };
            assert!(matches!(metadata.write(&mut HeaderMap::new()), Err(InputError::MetadataName { .. })), "{evil:?}");
        }
    }

    #[test]
    fn the_transfers_own_coding_is_not_the_objects() {
        for (sent, kept) in [("aws-chunked", None), ("gzip,aws-chunked", Some("gzip")), ("gzip, br", Some("gzip,br"))] {
            assert_eq!(without_aws_chunked(sent).as_deref(), kept);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_metadata_is_refused_or_whole(name in "[a-z]{1,5}|\\PC{1,5}", value in any::<String>()) {
            let metadata = ObjectMetadata { user: vec![(name, value.clone())], ..ObjectMetadata::default() };
            let mut headers = HeaderMap::new();
            if metadata.write(&mut headers).is_ok() {
                prop_assert_eq!(&ObjectMetadata::read(&headers).user[0].1, &value);
            }
        }

        #[test]
        fn arbitrary_headers_never_panic(value in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let _ = ObjectMetadata::read(&[(header::CONTENT_ENCODING, value)].into_iter().collect());
            }
        }
    }
}
