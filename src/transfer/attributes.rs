//! What an object is given beside its content, and when it may be written, as the person wants it. Decided here, without a
//! request; [`super::metadata`] knows what Ropeway itself adds.

use ropeway_s3proto::name::ETag;
use ropeway_s3proto::op::{Condition, ObjectMetadata};

use super::metadata;

/// What the person wants of the objects that are written. A run in which nothing is asked for has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// What every object is given, in place of what the source's has. User metadata replaces all of the source's.
    pub given: ObjectMetadata,
    /// The source's seven system headers stay behind.
    pub drop_system: bool,
    /// So does its user metadata.
    pub drop_user: bool,
    /// So do its tags.
    pub drop_tags: bool,
    /// Files are given no Content-Type by their names.
    pub no_guessed_type: bool,
    /// The source's modification time is added to the user metadata, as s3sync does.
    pub with_modified_time: bool,
    /// When what is at the target may be replaced.
    pub overwrite: Overwrite,
    /// The target's service is asked to copy by itself.
    pub server_side_copy: bool,
    /// Tells uploads apart that were opened with other attributes than these.
    pub fingerprint: Option<u64>,
}

/// When what is at the target may be replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Whenever the plan says so.
    #[default]
    Always,
    /// Only if it is still what was listed.
    IfUnchanged,
    /// Never.
    Never,
}

impl Attributes {
    /// When an object may be written in whose place the target listed this one. What was not seen there has nothing to be
    /// compared with.
    pub(super) fn condition<'a>(&self, listed: Option<&'a ETag>) -> Condition<'a> {
        match self.overwrite {
            Overwrite::Always => Condition::Always,
            Overwrite::Never => Condition::Absent,
            Overwrite::IfUnchanged => listed.map_or(Condition::Always, Condition::Is),
        }
    }

    /// What an object made of a file is given.
    pub(super) fn apply_to_file(&self, metadata: &mut ObjectMetadata, modified_ns: i64) {
        if self.no_guessed_type {
            metadata.content_type = None;
        }
        self.give(metadata, modified_ns);
    }

    /// What an object made of another object is given. The time of the file behind it stays in any case: it belongs to the
    /// content.
    pub(super) fn apply_to_object(&self, metadata: &mut ObjectMetadata, modified_ns: i64) {
        if self.drop_system {
            let (storage_class, tagging) = (metadata.storage_class.take(), metadata.tagging.take());
            let user = std::mem::take(&mut metadata.user);
            *metadata = ObjectMetadata { storage_class, tagging, user, ..ObjectMetadata::default() };
        }
        if self.drop_user {
            metadata::keep_only_own(metadata);
        }
        self.give(metadata, modified_ns);
    }

    fn give(&self, metadata: &mut ObjectMetadata, modified_ns: i64) {
        let given = &self.given;
        let fields = [
            (&given.content_type, &mut metadata.content_type),
            (&given.content_encoding, &mut metadata.content_encoding),
            (&given.content_disposition, &mut metadata.content_disposition),
            (&given.content_language, &mut metadata.content_language),
            (&given.cache_control, &mut metadata.cache_control),
            (&given.expires, &mut metadata.expires),
            (&given.website_redirect, &mut metadata.website_redirect),
            (&given.storage_class, &mut metadata.storage_class),
            (&given.tagging, &mut metadata.tagging),
        ];
        for (given, field) in fields {
            if given.is_some() {
                field.clone_from(given);
            }
        }
        if !given.user.is_empty() {
            metadata::keep_only_own(metadata);
            given.user.iter().for_each(|(name, value)| metadata::set(metadata, name, value.clone()));
        }
        if self.with_modified_time {
            metadata::set_modified(metadata, modified_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn source() -> ObjectMetadata {
        ObjectMetadata {
            content_type: text("a/b"),
            content_encoding: text("gzip"),
            content_disposition: text("inline"),
            content_language: text("en"),
            cache_control: text("no-cache"),
            expires: text("never"),
            website_redirect: text("/x"),
            storage_class: text("STANDARD_IA"),
            tagging: text("a=1"),
            user: vec![pair("mtime", "5.000000000"), pair("key", "value")],
        }
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let mut metadata = source();
        Attributes::default().apply_to_object(&mut metadata, 0);
        assert_eq!(metadata, source());
    }

    #[test]
    fn what_is_given_wins_and_the_rest_stays() {
        let given = ObjectMetadata {
            content_type: text("c/d"),
            storage_class: text("GLACIER_IR"),
            tagging: text("b=2"),
            user: vec![pair("new", "1")],
            ..ObjectMetadata::default()
        };
        let mut metadata = source();
        Attributes { given, ..Attributes::default() }.apply_to_object(&mut metadata, 0);
        let expected = ObjectMetadata {
            content_type: text("c/d"),
            storage_class: text("GLACIER_IR"),
            tagging: text("b=2"),
            user: vec![pair("mtime", "5.000000000"), pair("new", "1")],
            ..source()
        };
        assert_eq!(metadata, expected);
    }

    #[test]
    fn what_is_dropped_is_gone_but_for_the_files_own_time() {
        let mut metadata = source();
        let attributes = Attributes { drop_system: true, drop_user: true, ..Attributes::default() };
        attributes.apply_to_object(&mut metadata, 0);
        let expected = ObjectMetadata {
            storage_class: text("STANDARD_IA"),
            tagging: text("a=1"),
            user: vec![pair("mtime", "5.000000000")],
            ..ObjectMetadata::default()
        };
        assert_eq!(metadata, expected);
    }

    #[test]
    fn the_modification_time_is_added_under_s3syncs_name_too() {
        let with = Attributes { with_modified_time: true, ..Attributes::default() };
        let mut metadata = ObjectMetadata::default();
        with.apply_to_object(&mut metadata, 1_255_369_830_000_000_000);
        let time = pair("s3sync_origin_last_modified", "2009-10-12T17:50:30+00:00");
        assert_eq!(metadata.user, [time.clone(), pair("mtime", "1255369830.000000000")]);
        let mut metadata = source();
        with.apply_to_object(&mut metadata, 1_255_369_830_000_000_000);
        assert_eq!(metadata.user, [pair("mtime", "5.000000000"), pair("key", "value"), time]);
    }

    #[test]
    fn conditions_follow_what_was_listed() {
        let etag = ETag::parse("x").unwrap();
        let with = |overwrite| Attributes { overwrite, ..Attributes::default() };
        assert_eq!(with(Overwrite::Always).condition(Some(&etag)), Condition::Always);
        assert_eq!(with(Overwrite::Never).condition(Some(&etag)), Condition::Absent);
        assert_eq!(with(Overwrite::IfUnchanged).condition(Some(&etag)), Condition::Is(&etag));
        assert_eq!(with(Overwrite::IfUnchanged).condition(None), Condition::Always);
    }
}
