//! What the head of a GET or a HEAD says about an object.

use http::StatusCode;

use super::{
    draft::{X_AMZ_VERSION_ID, etag, stored_checksum},
    metadata::ObjectMetadata,
};
use crate::{
    checksum::StoredChecksum,
    date,
    error::ServiceError,
    head::Headers,
    name::{ByteRange, ETag},
};

const X_AMZ_TAGGING_COUNT: &str = "x-amz-tagging-count";
const X_AMZ_MP_PARTS_COUNT: &str = "x-amz-mp-parts-count";

/// An object, or the range of it that was asked for, as its answer's head describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes of the body that follows (after HEAD: that would follow), from `Content-Length`. Some servers omit it.
    pub size: Option<u64>,
    /// Present exactly when the status is 206: the range that the body holds and the size of the whole object. Absent
    /// after a ranged request, it means that the server ignored the range and sends everything from byte 0.
    pub content_range: Option<(ByteRange, u64)>,
    /// The version's tag.
    pub etag: Option<ETag>,
    /// When the object was written, in Unix nanoseconds; headers have whole seconds.
    pub last_modified_ns: Option<i64>,
    /// What the object says about itself.
    pub metadata: ObjectMetadata,
    /// How many tags the object has, if the service says so.
    pub tag_count: u32,
    /// The stored checksum. A server may show the whole object's on a range too, so it proves a whole body only.
    pub checksum: Option<StoredChecksum>,
    /// How many parts the object was made of, if asked for by part number.
    pub parts_count: Option<u32>,
    /// The version, in a bucket that keeps versions.
    pub version_id: Option<String>,
}

impl ObjectHead {
    pub(super) fn parse(status: StatusCode, headers: &Headers) -> Result<Self, ServiceError> {
        let malformed = |what: &str| Err(ServiceError::malformed(status, headers, what));
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(ServiceError::parse(status, headers, b""));
        }
        let size = match headers.value("content-length") {
            None => None,
            Some(_) => match headers.text("content-length").and_then(|text| text.trim().parse().ok()) {
                Some(size) => Some(size),
                None => return malformed("the `Content-Length` is no number"),
            },
        };
        let content_range = match status {
            StatusCode::PARTIAL_CONTENT => {
                let text = headers.text("content-range").unwrap_or("");
                let Some((range, total)) = parse_content_range(text) else {
                    return malformed("a partial answer without a usable `Content-Range`");
                };
                if size.is_some_and(|size| size != range.len()) {
                    return malformed("`Content-Length` and `Content-Range` disagree");
                }
                Some((range, total))
            }
            _ => None,
        };
        let last_modified = headers.text("last-modified").and_then(date::http_to_unix_seconds);
        Ok(Self {
            size,
            content_range,
            etag: etag(headers),
            last_modified_ns: last_modified.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            metadata: ObjectMetadata::read(headers),
            tag_count: headers.text(X_AMZ_TAGGING_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0),
            checksum: stored_checksum(headers),
            parts_count: headers.text(X_AMZ_MP_PARTS_COUNT).and_then(|count| count.parse().ok()),
            version_id: headers.text(X_AMZ_VERSION_ID).map(str::to_owned),
        })
    }
}

/// Reads `bytes 0-9/443` as the half-open range and the total, only if the one lies within the other.
fn parse_content_range(text: &str) -> Option<(ByteRange, u64)> {
    let digits =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end, total) = (digits(first)?, digits(last)?.checked_add(1)?, digits(total)?);
    (start < end && end <= total).then_some((ByteRange { start, end }, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::draft::tests::headers, *};
    use crate::{
        checksum::Crc64Nvme,
        error::{Class, Kind},
    };

    #[test]
    fn a_whole_object() {
        let answer = headers(&[
            ("content-length", "11"),
            ("etag", "\"d41d8cd98f00b204e9800998ecf8427e\""),
            ("last-modified", "Mon, 12 Oct 2009 17:50:30 GMT"),
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "b"),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-mp-parts-count", "3"),
            ("x-amz-tagging-count", "2"),
            ("x-amz-version-id", "v1"),
        ]);
        let head = ObjectHead::parse(StatusCode::OK, &answer).unwrap();
        assert_eq!((head.size, head.content_range), (Some(11), None));
        assert_eq!(head.etag.unwrap().to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(head.last_modified_ns, Some(1_255_369_830_000_000_000));
        assert_eq!(head.metadata.content_type.as_deref(), Some("text/plain"));
        assert_eq!(head.tag_count, 2);
        assert_eq!(head.metadata.user, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(head.checksum.unwrap().whole(), Some(Crc64Nvme(0xAE8B_1486_0A79_9888).into()));
        assert_eq!((head.parts_count, head.version_id.as_deref()), (Some(3), Some("v1")));
    }

    #[test]
    fn a_range_shows_as_one_only_under_206() {
        let answer = headers(&[("content-length", "10"), ("content-range", "bytes 5-14/443")]);
        let head = ObjectHead::parse(StatusCode::PARTIAL_CONTENT, &answer).unwrap();
        assert_eq!(head.content_range, Some((ByteRange { start: 5, end: 15 }, 443)));
        assert_eq!(ObjectHead::parse(StatusCode::OK, &answer).unwrap().content_range, None);
    }

    #[test]
    fn a_range_that_makes_no_sense_is_an_error() {
        for range in ["", "bytes */443", "bytes 5-4/443", "bytes 0-443/443", "bytes 0-9/*", "bytes +0-9/443", "0-9/443"]
        {
            let answer = headers(&[("content-length", "10"), ("content-range", range)]);
            let error = ObjectHead::parse(StatusCode::PARTIAL_CONTENT, &answer).unwrap_err();
            assert_eq!((error.kind, error.class()), (Kind::Malformed, Class::Retry), "{range}");
        }
        let disagree = headers(&[("content-length", "9"), ("content-range", "bytes 0-9/443")]);
        assert!(ObjectHead::parse(StatusCode::PARTIAL_CONTENT, &disagree).is_err());
        assert!(ObjectHead::parse(StatusCode::OK, &headers(&[("content-length", "-1")])).is_err());
    }

    #[test]
    fn statuses_without_a_body_to_read() {
        for (status, class) in
            [(404, Class::Absent), (403, Class::Denied), (412, Class::Conflict), (416, Class::Conflict)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(ObjectHead::parse(status, &Headers::new()).unwrap_err().class(), class);
        }
    }

    proptest! {
        #[test]
        fn ranges_never_panic(text in any::<String>(), close in "bytes [0-9]{0,21}-[0-9]{0,21}/[0-9]{0,21}") {
            let _ = (parse_content_range(&text), parse_content_range(&close));
        }
    }
}
