//! What Ropeway writes into an object's user metadata, and reads back.
//!
//! * `mtime`: the file's own modification time, seconds since 1970 with a decimal fraction, as rclone and s3fs write it, so
//!   that trees made by either keep their times.
//! * `s3sync_origin_last_modified`: the same as s3sync writes it, for those who ask for it; never read.
//! * `s3sync_origin_version_id`: which version of the source this is, where all versions are carried, as s3sync writes it; so
//!   each knows what the other has carried.
//! * `ropeway-token`: unique to one multipart upload. When the answer to its completion is lost, the token tells whether
//!   the object that stands there now is ours (reliability.md P07).
//! * `ropeway-part-bytes`: the part size of a multipart upload, with which its ETag can be computed again later.

use ropeway_s3proto::date::rfc3339_of_unix_ns;
use ropeway_s3proto::name::{Key, VersionId};
use ropeway_s3proto::op::ObjectMetadata;

use super::part::Cut;
use super::side::BucketSide;
use super::{Error, Kit, Side};
use crate::client::ObjectHead;

const MTIME: &str = "mtime";
const ORIGIN_VERSION: &str = "s3sync_origin_version_id";
const S3SYNC_MODIFIED: &str = "s3sync_origin_last_modified";
const TOKEN: &str = "ropeway-token";
const PART_BYTES: &str = "ropeway-part-bytes";

/// The modification time stored with an object, in nanoseconds since 1970.
pub fn stored_modified_ns(metadata: &ObjectMetadata) -> Option<i64> {
    parse_time(user(metadata, MTIME)?)
}

/// The modification time that a copy of the object is given: the stored one, else when it was written. The header of an
/// answer has that in whole seconds, the listing finer on some services; only the listed time is found again next time.
pub(super) fn modified_ns(metadata: &ObjectMetadata, last_modified_ns: Option<i64>, listed_ns: i64) -> i64 {
    let written = last_modified_ns.filter(|ns| ns.div_euclid(SECOND_NS) != listed_ns.div_euclid(SECOND_NS));
    stored_modified_ns(metadata).or(written).unwrap_or(listed_ns)
}

/// The token of the upload that made the object.
pub(super) fn token(metadata: &ObjectMetadata) -> Option<&str> {
    user(metadata, TOKEN)
}

/// The part size that the object was uploaded with.
pub(super) fn part_bytes(metadata: &ObjectMetadata) -> Option<u64> {
    user(metadata, PART_BYTES)?.parse().ok().filter(|bytes| *bytes > 0)
}

/// What a file tells of itself: its own time, and a Content-Type guessed from its name.
pub(super) fn told_by_file(key: &str, modified_ns: i64) -> ObjectMetadata {
    let content_type = mime_guess::from_path(key).first_raw().unwrap_or("application/octet-stream");
    ObjectMetadata {
        content_type: Some(content_type.to_owned()),
        user: vec![(MTIME.to_owned(), format_time(modified_ns))],
        ..ObjectMetadata::default()
    }
}

/// What an uploaded file is given: what it tells of itself, but for what the person wants otherwise.
pub(super) fn of_file(kit: &Kit, key: &str, modified_ns: i64) -> ObjectMetadata {
    let mut metadata = told_by_file(key, modified_ns);
    if let Some(attributes) = &kit.attributes {
        attributes.apply_to_file(&mut metadata, modified_ns);
    }
    metadata
}

/// What a copy of an object is given: what that has, its tags included, but for what the person wants otherwise. `modified_ns`
/// is when it was written. A local target keeps none of it.
pub(super) async fn of_object(
    kit: &Kit,
    side: &BucketSide,
    (key, version): (&Key, Option<&VersionId>),
    head: &mut ObjectHead,
    modified_ns: i64,
) -> Result<ObjectMetadata, Error> {
    let mut metadata = std::mem::take(&mut head.metadata);
    if let Side::Local(_) = kit.target {
        return Ok(metadata);
    }
    forget_upload(&mut metadata);
    // Only directory buckets have it, and they have no other: it belongs to the bucket.
    metadata.storage_class.take_if(|class| class == "EXPRESS_ONEZONE");
    let drops_tags = kit.attributes.as_ref().is_some_and(|it| it.drop_tags || it.given.tagging.is_some());
    if head.tag_count > 0 && !drops_tags {
        let tags = side.client.tags(key, version).await.map_err(Error::source)?;
        metadata.tagging = (!tags.is_empty()).then(|| tags.to_header());
    }
    if let Some(attributes) = &kit.attributes {
        attributes.apply_to_object(&mut metadata, modified_ns);
    }
    if let (true, Some(version)) = (kit.marks_origins, version) {
        metadata.user.retain(|(name, _)| !is_spelled(name, ORIGIN_VERSION) && !is_spelled(name, S3SYNC_MODIFIED));
        set(&mut metadata, ORIGIN_VERSION, version.as_str().to_owned());
        if let Some(time) = rfc3339_of_unix_ns(modified_ns) {
            set(&mut metadata, S3SYNC_MODIFIED, time);
        }
    }
    Ok(metadata)
}

/// The version of the source that an object was copied from, by Ropeway or by s3sync, where all versions were carried.
pub(super) fn origin(metadata: &ObjectMetadata) -> Option<&str> {
    let origin = metadata.user.iter().find(|(name, _)| is_spelled(name, ORIGIN_VERSION));
    origin.map(|(_, value)| value.as_str())
}

/// Whether a service gives this name back for the other: Ceph makes hyphens of the underscores.
fn is_spelled(name: &str, wanted: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == wanted.len() && name.bytes().map(plain).eq(wanted.bytes().map(plain))
}

/// Leaves of two objects' user metadata what can be expected to be the same: neither what belongs to the upload that made the
/// object, nor what it was given as a copy.
pub(super) fn keep_what_compares(source: &mut ObjectMetadata, target: &mut ObjectMetadata) {
    let has_time = user(source, MTIME).is_some();
    for metadata in [source, target] {
        forget_upload(metadata);
        let own = |name: &str| [ORIGIN_VERSION, S3SYNC_MODIFIED].iter().any(|it| is_spelled(name, it));
        metadata.user.retain(|(name, _)| !own(name) && (has_time || !name.eq_ignore_ascii_case(MTIME)));
    }
}

/// Removes user metadata that says nothing of the content's own time.
pub(super) fn keep_only_own(metadata: &mut ObjectMetadata) {
    metadata.user.retain(|(name, _)| name.eq_ignore_ascii_case(MTIME));
}

/// Adds the source's modification time under s3sync's name, and under ours if there is none.
pub(super) fn set_modified(metadata: &mut ObjectMetadata, modified_ns: i64) {
    if let Some(time) = rfc3339_of_unix_ns(modified_ns) {
        set(metadata, S3SYNC_MODIFIED, time);
    }
    if user(metadata, MTIME).is_none() {
        set(metadata, MTIME, format_time(modified_ns));
    }
}

/// Marks a multipart upload as ours. Its part size is stored if it has one.
pub(super) fn set_upload(metadata: &mut ObjectMetadata, token: &str, cut: &Cut) {
    set(metadata, TOKEN, token.to_owned());
    if let Cut::Equal(part_bytes) = cut {
        set(metadata, PART_BYTES, part_bytes.to_string());
    }
}

/// Removes what belonged to the upload that made the source object.
fn forget_upload(metadata: &mut ObjectMetadata) {
    metadata.user.retain(|(name, _)| name != TOKEN && name != PART_BYTES);
}

fn user<'a>(metadata: &'a ObjectMetadata, wanted: &str) -> Option<&'a str> {
    metadata.user.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

pub(super) fn set(metadata: &mut ObjectMetadata, name: &str, value: String) {
    metadata.user.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    metadata.user.push((name.to_owned(), value));
}

const SECOND_NS: i64 = 1_000_000_000;

fn format_time(ns: i64) -> String {
    let (sign, ns) = if ns < 0 { ("-", ns.unsigned_abs()) } else { ("", ns as u64) };
    format!("{sign}{}.{:09}", ns / SECOND_NS as u64, ns % SECOND_NS as u64)
}

fn parse_time(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: u32 = seconds.parse().ok()?;
    let fraction: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    let ns = i64::from(seconds) * SECOND_NS + fraction;
    Some(if negative { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_read_back_as_it_was_written(ns in -4_000_000_000_000_000_000i64..4_000_000_000_000_000_000) {
            prop_assert_eq!(parse_time(&format_time(ns)), Some(ns));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_time(&text);
        }
    }

    #[test]
    fn the_listed_time_is_the_finer_one_unless_the_object_was_replaced() {
        let stored = ObjectMetadata { user: vec![(MTIME.to_owned(), "5.5".to_owned())], ..ObjectMetadata::default() };
        let none = ObjectMetadata::default();
        assert_eq!(modified_ns(&stored, Some(9 * SECOND_NS), 9 * SECOND_NS + 7), 5 * SECOND_NS + SECOND_NS / 2);
        assert_eq!(modified_ns(&none, Some(9 * SECOND_NS), 9 * SECOND_NS + 7), 9 * SECOND_NS + 7);
        assert_eq!(modified_ns(&none, Some(11 * SECOND_NS), 9 * SECOND_NS + 7), 11 * SECOND_NS);
        assert_eq!(modified_ns(&none, None, 9 * SECOND_NS + 7), 9 * SECOND_NS + 7);
    }

    #[test]
    fn an_origin_is_known_by_whatever_spelling_a_service_has() {
        for (name, is_origin) in [
            ("s3sync_origin_version_id", true),
            ("s3sync-origin-version-id", true),
            ("S3sync_Origin_Version_Id", true),
            ("s3sync_origin_version", false),
            ("mtime", false),
        ] {
            let user = vec![(name.to_owned(), "v".to_owned())];
            let metadata = ObjectMetadata { user, ..ObjectMetadata::default() };
            assert_eq!(origin(&metadata).is_some(), is_origin, "{name}");
        }
    }

    #[test]
    fn times_of_other_programs_are_understood() {
        assert_eq!(parse_time("1354040105"), Some(1_354_040_105 * SECOND_NS));
        assert_eq!(parse_time("1354040105.5"), Some(1_354_040_105 * SECOND_NS + SECOND_NS / 2));
        assert_eq!(parse_time("1354040105.1234567890"), None);
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("99999999999999"), None);
    }
}
