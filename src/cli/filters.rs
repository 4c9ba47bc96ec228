//! The flags that say which objects of the source count, for every command that compares two sides.

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::units::parse_size;
use crate::settings::{Filters, Patterns, Regex};

#[derive(Debug, Args)]
#[command(next_help_heading = "Filtering")]
pub(super) struct FilterArgs {
    /// Only what was modified before this time, as in 2023-02-19T12:00:00Z.
    #[arg(long, value_name = "TIME", env = "ROPEWAY_FILTER_MTIME_BEFORE", value_parser = parse_time)]
    filter_mtime_before: Option<i64>,

    /// Only what was modified at this time or later, as in 2023-02-19T12:00:00Z.
    #[arg(long, value_name = "TIME", env = "ROPEWAY_FILTER_MTIME_AFTER", value_parser = parse_time)]
    filter_mtime_after: Option<i64>,

    /// Only what is smaller than this size.
    #[arg(long, value_name = "SIZE", env = "ROPEWAY_FILTER_SMALLER_SIZE", value_parser = parse_size)]
    filter_smaller_size: Option<u64>,

    /// Only what has this size or more.
    #[arg(long, value_name = "SIZE", env = "ROPEWAY_FILTER_LARGER_SIZE", value_parser = parse_size)]
    filter_larger_size: Option<u64>,

    /// Only keys in which this regular expression is found. It sees the key relative to SOURCE, and may look ahead and behind.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_INCLUDE_REGEX", value_parser = parse_regex)]
    filter_include_regex: Option<Regex>,

    /// No keys in which this regular expression is found. What only the target has and is named so is kept by --delete.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_EXCLUDE_REGEX", value_parser = parse_regex)]
    filter_exclude_regex: Option<Regex>,

    /// Only objects in whose Content-Type this regular expression is found. Objects are asked one by one; of a file, its
    /// name tells.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_INCLUDE_CONTENT_TYPE_REGEX", value_parser = parse_regex)]
    filter_include_content_type_regex: Option<Regex>,

    /// No objects in whose Content-Type this regular expression is found.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_EXCLUDE_CONTENT_TYPE_REGEX", value_parser = parse_regex)]
    filter_exclude_content_type_regex: Option<Regex>,

    /// Only objects in whose user metadata this regular expression is found. It is written as `name=value,name=value`, in
    /// the order of the names, with values percent-encoded. Objects are asked one by one.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_INCLUDE_METADATA_REGEX", value_parser = parse_regex)]
    filter_include_metadata_regex: Option<Regex>,

    /// No objects in whose user metadata this regular expression is found.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_EXCLUDE_METADATA_REGEX", value_parser = parse_regex)]
    filter_exclude_metadata_regex: Option<Regex>,

    /// Only objects in whose tags this regular expression is found. They are written as `name=value&name=value`, in the order of
    /// the names, both percent-encoded. Objects are asked one by one.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_INCLUDE_TAG_REGEX", value_parser = parse_regex)]
    filter_include_tag_regex: Option<Regex>,

    /// No objects in whose tags this regular expression is found.
    #[arg(long, value_name = "REGEX", env = "ROPEWAY_FILTER_EXCLUDE_TAG_REGEX", value_parser = parse_regex)]
    filter_exclude_tag_regex: Option<Regex>,

    /// Leave symbolic links of a local SOURCE out. (SOURCE itself may be one.)
    #[arg(long, env = "ROPEWAY_IGNORE_SYMLINKS")]
    ignore_symlinks: bool,
}

impl FilterArgs {
    /// What they come to.
    pub(super) fn filters(&self) -> Filters {
        let patterns = |include: &Option<Regex>, exclude: &Option<Regex>| Patterns {
            include: include.clone(),
            exclude: exclude.clone(),
        };
        Filters {
            modified_before_ns: self.filter_mtime_before,
            modified_from_ns: self.filter_mtime_after,
            below_bytes: self.filter_smaller_size,
            from_bytes: self.filter_larger_size,
            key: patterns(&self.filter_include_regex, &self.filter_exclude_regex),
            content_type: patterns(&self.filter_include_content_type_regex, &self.filter_exclude_content_type_regex),
            metadata: patterns(&self.filter_include_metadata_regex, &self.filter_exclude_metadata_regex),
            tags: patterns(&self.filter_include_tag_regex, &self.filter_exclude_tag_regex),
            ignore_symlinks: self.ignore_symlinks,
        }
    }
}

/// A time as nanoseconds since 1970.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    let explain = |_| "a time is written as in 2023-02-19T12:00:00Z (RFC 3339)".to_owned();
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(explain)?;
    i64::try_from(time.unix_timestamp_nanos()).map_err(|_| "a time from 1678 to 2262".to_owned())
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let table = [
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("1970-01-01T01:00:01.5+01:00", Some(1_500_000_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000_000_000)),
            ("2023-02-19", None),
            ("2023-02-19T12:00:00", None),
            ("yesterday", None),
            ("9999-01-01T00:00:00Z", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn expressions_may_look_around_and_must_be_whole() {
        assert!(parse_regex(r"^(?!.*\.tmp$)").is_ok());
        assert!(parse_regex("(").is_err());
    }
}
