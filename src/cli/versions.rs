//! The flags about versions of objects.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::filters::parse_time;
use crate::settings::Versions;

#[derive(Debug, Args)]
#[command(next_help_heading = "Versioning")]
pub(super) struct VersionArgs {
    /// Carry all versions of each object, the oldest first, between two buckets that keep versions; and delete what is
    /// deleted in SOURCE. Each copy is given the metadata `s3sync_origin_version_id`, by which it is known the next time.
    #[arg(long, env = "ROPEWAY_ENABLE_VERSIONING")]
    enable_versioning: bool,

    /// Take each object as it was at this time, as in 2023-02-19T12:00:00Z, out of a bucket that keeps versions. What TARGET
    /// has is overwritten; what was deleted then is left out.
    #[arg(long, value_name = "TIME", env = "ROPEWAY_POINT_IN_TIME", value_parser = past)]
    point_in_time: Option<i64>,
}

impl VersionArgs {
    /// What they come to.
    pub(super) fn versions(&self) -> Versions {
        match (self.enable_versioning, self.point_in_time) {
            (true, _) => Versions::All,
            (false, Some(time_ns)) => Versions::At(time_ns),
            (false, None) => Versions::Latest,
        }
    }
}

/// A time that has been.
fn past(text: &str) -> Result<i64, String> {
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    parse_time(text).and_then(|time| if time <= now_ns { Ok(time) } else { Err("it is in the future".to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_in_the_past() {
        assert_eq!(past("1970-01-01T00:00:02Z"), Ok(2_000_000_000));
        assert!(past("2200-01-01T00:00:00Z").unwrap_err().contains("future"));
        assert!(past("now").is_err());
    }
}
