//! `ropeway cleanup`: what stopped and killed runs have left, listed and removed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::performance::PatienceArgs;
use super::places::{AwsArgs, place};
use super::print;
use super::sides::{Mistake, TargetArgs};
use super::units::{parse_duration, show_size};
use crate::engine::{self, Action, Leftover, Origin, StopHandle};
use crate::entry::SideName;
use crate::journal::state_directory;
use crate::settings::{CleanupSettings, Place};

/// List and remove what stopped or killed runs have left in PLACE: open multipart uploads of a bucket, temporary files
/// (`.ropeway-*.partial`) below a directory.
///
/// An upload does not say who began it. Removed are those that a journal of this host names; --all takes those of other
/// hosts and other programs, too. What a run uses that is under way on this host is always left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ropeway cleanup s3://my-bucket/photos/ --dry-run
  ropeway cleanup s3://my-bucket/ --all --older-than 7d
  ropeway cleanup ./restored

Exit codes: 0 all done; 1 something could not be removed; 2 usage; 6 credentials or configuration; 7 a place is unreachable;
130 and 143 stopped by SIGINT and SIGTERM.")]
pub(super) struct CleanupArgs {
    /// Where to look: a directory, or s3://bucket/prefix.
    #[arg(required = true)]
    place: Vec<String>,

    /// Only what was begun (a file: last written to) so long ago, as in 45m, 12h or 7d [default: 0s for what a journal names,
    /// 1d for everything else].
    #[arg(long, value_name = "AGE", env = "ROPEWAY_OLDER_THAN", value_parser = parse_duration)]
    older_than: Option<Duration>,

    /// Take open uploads that no journal here names, too: other hosts' and other programs'.
    #[arg(long)]
    all: bool,

    /// Say what would be removed, and change nothing.
    #[arg(long, env = "ROPEWAY_DRY_RUN")]
    dry_run: bool,

    /// Write each finding and the summary to stdout as one JSON object a line.
    #[arg(long, env = "ROPEWAY_JSON")]
    json: bool,

    /// Where the journals are [default: ropeway below $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, value_name = "DIR", env = "ROPEWAY_STATE_DIR")]
    state_dir: Option<PathBuf>,

    #[command(flatten)]
    aws: AwsArgs,

    #[command(flatten)]
    target_side: TargetArgs,

    #[command(flatten)]
    patience: PatienceArgs,
}

/// How many were found, by what was done about them.
#[derive(Default, serde::Serialize)]
struct Count {
    removed: u64,
    would_remove: u64,
    kept: u64,
    failed: u64,
}

/// Runs the command and says how it ended.
pub(super) fn run(args: &CleanupArgs, stop: &StopHandle) -> u8 {
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(Mistake { text, exit_code }) => {
            print::err(&format!("error: {text}"));
            return exit_code.number();
        }
    };
    let mut count = Count::default();
    let ended = engine::cleanup(&settings, stop, &mut |leftover: &Leftover| {
        count.add(leftover);
        match args.json {
            true => print::out(&serde_json::to_string(leftover).expect("findings are plain data")),
            false => print::out(&print::clean(&row(leftover))),
        }
    });
    let exit_code = match ended {
        Ok(exit_code) => exit_code.number(),
        Err(error) => {
            print::err(&format!("error: {}", print::clean(&error.to_string())));
            error.exit_code().number()
        }
    };
    if args.json {
        print::out(&summary_line(&count, exit_code));
    }
    let Count { removed, would_remove, kept, failed } = count;
    let removed = if args.dry_run { format!("{would_remove} would be removed") } else { format!("{removed} removed") };
    print::err(&format!("{removed}, {kept} kept, {failed} failed"));
    exit_code
}

fn settings(args: &CleanupArgs) -> Result<CleanupSettings, Mistake> {
    let wishes = args.target_side.wishes(&args.aws);
    let place = |text: &String| match text.starts_with("s3://") {
        true => place(text, SideName::Target, &wishes),
        // An endpoint that is given is the other places'.
        false => Ok(Place::Local(PathBuf::from(text))),
    };
    Ok(CleanupSettings {
        places: args.place.iter().map(place).collect::<Result<_, _>>()?,
        patience: args.patience.patience(),
        state_directory: args.state_dir.clone().or_else(|| state_directory(|name| std::env::var_os(name))),
        older_than: args.older_than,
        everything: args.all,
        dry_run: args.dry_run,
    })
}

impl Count {
    fn add(&mut self, leftover: &Leftover) {
        let (Leftover::Upload { action, .. } | Leftover::File { action, .. }) = leftover;
        *match action {
            Action::Removed => &mut self.removed,
            Action::WouldRemove => &mut self.would_remove,
            Action::Kept => &mut self.kept,
            Action::Failed => &mut self.failed,
        } += 1;
    }
}

/// One line of the table: what was done, the age, what it is, why.
fn row(leftover: &Leftover) -> String {
    let (Leftover::Upload { action, age_seconds, origin, reason, .. }
    | Leftover::File { action, age_seconds, origin, reason, .. }) = leftover;
    let done = match action {
        Action::Removed => "removed",
        Action::WouldRemove => "would remove",
        Action::Kept => "kept",
        Action::Failed => "failed",
    };
    let what = match leftover {
        Leftover::Upload { bucket, key, upload_id, .. } => format!("upload of s3://{bucket}/{key}, id {upload_id}"),
        Leftover::File { path, size_bytes, .. } => format!("file {}, {}", path.display(), show_size(*size_bytes)),
    };
    let age = age_seconds.map_or("?".to_owned(), show_age);
    let whose = match origin {
        Origin::RunningJob | Origin::Unknown => "",
        Origin::RestingJob => ", of a run that ended early",
    };
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{done:<12} {age:>6}  {what}{whose}{reason}")
}

fn show_age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn summary_line(count: &Count, exit_code: u8) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        event: &'static str,
        #[serde(flatten)]
        count: &'a Count,
        exit_code: u8,
    }
    serde_json::to_string(&Line { event: "summary", count, exit_code }).expect("a summary is plain data")
}
