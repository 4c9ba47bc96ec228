//! What an object says about itself beside its bytes, as headers on the way up and down.

use thiserror::Error;

use crate::head::{HeadText, Headers, Unfit, is_value};

const USER_PREFIX: &str = "x-amz-meta-";
const WEBSITE_REDIRECT: &str = "x-amz-website-redirect-location";
const STORAGE_CLASS: &str = "x-amz-storage-class";
const TAGGING: &str = "x-amz-tagging";

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
    /// A tag for which XML has no form.
    #[error("the tag `{name}` holds a control character that no document can carry")]
    TagInDocument {
        /// Its name, clipped and escaped.
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
    /// Where a website made of the bucket sends those who ask for the object.
    pub website_redirect: Option<String>,
    /// `x-amz-storage-class`. Services leave out the usual one, `STANDARD`.
    pub storage_class: Option<String>,
    /// The tags, as `x-amz-tagging` has them. Only a request has them: an answer tells no more than their number.
    pub tagging: Option<String>,
    /// Names without `x-amz-meta-`, in lower case once they have been through a server, and their values.
    pub user: Vec<(String, String)>,
}

impl ObjectMetadata {
    /// Adds the metadata to a request.
    pub(super) fn write(&self, head: &mut HeadText) -> Result<(), InputError> {
        let standard = [
            ("content-type", &self.content_type),
            ("content-encoding", &self.content_encoding),
            ("content-disposition", &self.content_disposition),
            ("content-language", &self.content_language),
            ("cache-control", &self.cache_control),
            ("expires", &self.expires),
            (WEBSITE_REDIRECT, &self.website_redirect),
            (STORAGE_CLASS, &self.storage_class),
            (TAGGING, &self.tagging),
        ];
        for (name, value) in standard {
            if let Some(value) = value {
                head.try_header("", name, value).map_err(|Unfit| refused(name, value))?;
            }
        }
        for (index, (name, value)) in self.user.iter().enumerate() {
            // Of a name that is there twice the last value counts; both on one line would be a third.
            if !self.user[index + 1..].iter().any(|(later, _)| later.eq_ignore_ascii_case(name)) {
                head.try_header(USER_PREFIX, name, value).map_err(|Unfit| refused(name, value))?;
            }
        }
        Ok(())
    }

    /// Collects the metadata from an answer.
    pub(super) fn read(headers: &Headers) -> Self {
        let mut metadata = Self::default();
        // Each line is looked at once, and of a name that came twice the first value counts.
        for (name, value) in headers.iter() {
            let field = match name {
                "content-type" => &mut metadata.content_type,
                "content-encoding" => &mut metadata.content_encoding,
                "content-disposition" => &mut metadata.content_disposition,
                "content-language" => &mut metadata.content_language,
                "cache-control" => &mut metadata.cache_control,
                "expires" => &mut metadata.expires,
                WEBSITE_REDIRECT => &mut metadata.website_redirect,
                STORAGE_CLASS => &mut metadata.storage_class,
                _ => {
                    if let Some(name) = name.strip_prefix(USER_PREFIX) {
                        metadata.user.push((name.to_owned(), value_text(value)));
                    }
                    continue;
                }
            };
            if field.is_none() {
                *field = Some(value_text(value));
            }
        }
        metadata.content_encoding = metadata.content_encoding.and_then(|value| without_aws_chunked(&value));
        metadata
    }
}

/// Which of the two no header can carry.
fn refused(name: &str, value: &str) -> InputError {
    let name = crate::text::shown(name);
    if is_value(value) { InputError::MetadataName { name } } else { InputError::MetadataValue { name } }
}

/// A header's value as text. Some servers send UTF-8 and some Latin-1; each byte of the latter is its own character.
fn value_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|&byte| char::from(byte)).collect(),
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

    /// What the metadata become on their way through a server.
    fn written(metadata: &ObjectMetadata) -> Result<Headers, InputError> {
        let mut head = HeadText::new();
        metadata.write(&mut head)?;
        Ok(crate::head::tests::echoed(&head))
    }

    #[test]
    fn of_a_name_that_is_there_twice_the_last_value_counts() {
        let user = vec![("A".into(), "1".into()), ("b".into(), "2".into()), ("a".into(), "3".into())];
        let headers = written(&ObjectMetadata { user, ..ObjectMetadata::default() }).unwrap();
        let kept = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "3".to_owned())];
        assert_eq!(ObjectMetadata::read(&headers).user, kept);
    }

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
            website_redirect: text("/elsewhere"),
            storage_class: text("GLACIER"),
            tagging: None,
            user: vec![("mtime".into(), "1.5".into())],
        };
        let headers = written(&metadata).unwrap();
        assert_eq!(headers.text("x-amz-meta-mtime"), Some("1.5"));
        assert_eq!(ObjectMetadata::read(&headers), metadata);
    }

    #[test]
    fn nothing_breaks_out_of_its_header() {
        for evil in ["a\r\nx-amz-acl: public-read", "a\nb", "\0", "\u{7f}", "\u{e9}"] {
            let user = ObjectMetadata { user: vec![("a".into(), evil.into())], ..ObjectMetadata::default() };
            let standard = ObjectMetadata { content_type: Some(evil.into()), ..ObjectMetadata::default() };
            for metadata in [user, standard] {
                let refused = written(&metadata);
                assert!(matches!(refused, Err(InputError::MetadataValue { .. })), "{evil:?}");
            }
        }
        for evil in ["a b", "a:b", "a\r\nb", "\u{e9}"] {
            let metadata = ObjectMetadata { user: vec![(evil.into(), "v".into())], ..ObjectMetadata::default() };
            assert!(matches!(written(&metadata), Err(InputError::MetadataName { .. })), "{evil:?}");
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
            if let Ok(headers) = written(&metadata) {
                prop_assert_eq!(&ObjectMetadata::read(&headers).user[0].1, &value);
            }
        }

        #[test]
        fn arbitrary_headers_never_panic(value in proptest::collection::vec(any::<u8>(), 0..30)) {
            let mut headers = Headers::new();
            headers.push("Content-Encoding", &value);
            let _ = ObjectMetadata::read(&headers);
        }
    }
}
