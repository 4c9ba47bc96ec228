//! The flags about deleting, for the commands that delete or say what would be.

use std::time::Duration;

use clap::Args;

use crate::settings::{Copied, Deletes, DeletesMax, Extras};

#[derive(Debug, Args)]
#[command(next_help_heading = "Deleting")]
pub(super) struct DeleteArgs {
    /// When all else is done without an error, delete from the target what the source does not have. (The source's empty
    /// directories count for nothing; directories of the target that become empty by this are removed.)
    #[arg(long, alias = "delete-dst", env = "ROPEWAY_DELETE")]
    delete: bool,

    /// The same, and also what a filter excludes, which is kept otherwise.
    #[arg(long, env = "ROPEWAY_DELETE_EXCLUDED")]
    delete_excluded: bool,

    /// Delete nothing at all if it would be more than so many objects, or than so many percent of those that the side
    /// lists.
    #[arg(long, value_name = "N|P%", env = "ROPEWAY_MAX_DELETE", value_parser = deletes_max)]
    max_delete: Option<DeletesMax>,

    /// Take a source at its word that lists no objects at all, and let --delete empty the target.
    #[arg(long, env = "ROPEWAY_ALLOW_EMPTY_SOURCE")]
    allow_empty_source: bool,

    /// When all else is done, delete from the source what was copied and verified, if it still is what was copied.
    /// Directories stay.
    #[arg(long, alias = "delete-src-after", env = "ROPEWAY_DELETE_SOURCE")]
    delete_source: bool,

    /// Before --delete deletes an object, ask the source for it once more if the run is older than this; 0 for always. (A
    /// local source is always asked.)
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "ROPEWAY_DELETE_LOOK_UP_AFTER")]
    delete_look_up_after: u64,
}

impl DeleteArgs {
    /// What they come to.
    pub(super) fn deletes(&self) -> Deletes {
        Deletes {
            extras: match (self.delete, self.delete_excluded) {
                (_, true) => Extras::DeleteExcluded,
                (true, false) => Extras::Delete,
                (false, false) => Extras::Keep,
            },
            copied: if self.delete_source { Copied::Delete } else { Copied::Keep },
            max: self.max_delete,
            allow_empty_source: self.allow_empty_source,
            look_up_after: Duration::from_secs(self.delete_look_up_after),
        }
    }
}

fn deletes_max(text: &str) -> Result<DeletesMax, String> {
    let explain = || "a number of objects, or a percentage from 0% to 100%".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 0..=100) => Ok(DeletesMax::Percent(percent)),
            _ => Err(explain()),
        },
        None => text.parse().map(DeletesMax::Objects).map_err(|_| explain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_percentages() {
        let table = [
            ("0", Some(DeletesMax::Objects(0))),
            ("1000", Some(DeletesMax::Objects(1_000))),
            ("0%", Some(DeletesMax::Percent(0))),
            ("100%", Some(DeletesMax::Percent(100))),
            ("101%", None),
            ("-1", None),
            ("5.5%", None),
            ("%", None),
            ("many", None),
        ];
        for (text, expected) in table {
            assert_eq!(deletes_max(text).ok(), expected, "{text}");
        }
    }
}
