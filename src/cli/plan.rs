//! `ropeway plan`: its flags, and the dry run that writes a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;

use super::deletes::DeleteArgs;
use super::integrity::CheckArgs;
use super::print;
use super::screen::Screen;
use super::sides::{Mistake, SidesArgs, usage};
use crate::engine::{self, PlanWriter, StopHandle};
use crate::report::{Event, Note, Observer, Progress};

/// Write down what a sync would do, and change nothing.
///
/// The plan is one JSON object a line: a header, then `copy` and `delete` lines in no order, then the totals. It is carried
/// out by `ropeway sync --from-plan FILE` with the same SOURCE and TARGET, as it stands: nothing is listed again, and an
/// object that has changed since is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ropeway plan ./photos s3://my-bucket/photos/ --delete --output photos.plan
  ropeway sync ./photos s3://my-bucket/photos/ --from-plan photos.plan

Exit codes: as of `ropeway sync --dry-run`.")]
pub(super) struct PlanArgs {
    /// Write the plan to this file instead of stdout.
    #[arg(short, long, value_name = "FILE", env = "ROPEWAY_OUTPUT")]
    output: Option<PathBuf>,

    #[command(flatten)]
    sides: SidesArgs,

    #[command(flatten)]
    check: CheckArgs,

    #[command(flatten)]
    deletes: DeleteArgs,
}

/// Runs the command and says how it ended.
pub(super) fn run(args: &PlanArgs, stop: &StopHandle) -> u8 {
    make(args, stop).unwrap_or_else(|Mistake { text, exit_code }| {
        print::err(&format!("error: {text}"));
        exit_code.number()
    })
}

fn make(args: &PlanArgs, stop: &StopHandle) -> Result<u8, Mistake> {
    args.sides.output.start_log();
    let mut settings = args.sides.settings()?;
    settings.dry_run = true;
    settings.deletes = args.deletes.deletes();
    args.check.apply(&mut settings.integrity);
    let name = args.output.as_ref().map_or("stdout".to_owned(), |path| path.display().to_string());
    let incomplete = |error: std::io::Error| usage(format!("the plan cannot be written to `{name}`: {error}"));
    let out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(incomplete)?)),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let screen = Screen::new(&args.sides.output.wishes()).map_err(usage)?;
    let mut planner = Planner { screen, writer: PlanWriter::new(out, &settings) };
    match engine::run(&settings, stop, &mut planner) {
        Ok(summary) => {
            let written = planner.writer.finish(&summary);
            let code = planner.screen.finish(summary);
            written.map_err(incomplete)?;
            Ok(code)
        }
        Err(error) => {
            planner.screen.clear();
            Err(Mistake { text: print::clean(&error.to_string()).into_owned(), exit_code: error.exit_code() })
        }
    }
}

/// Writes what is planned, and shows the rest.
struct Planner {
    screen: Screen,
    writer: PlanWriter<Box<dyn Write>>,
}

impl Observer for Planner {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Planned { .. } | Event::PlannedDelete { .. } => self.writer.event(event),
            Event::Transferred { .. }
            | Event::Retagged { .. }
            | Event::Skipped { .. }
            | Event::Filtered { .. }
            | Event::Deleted { .. }
            | Event::SyncStatus { .. }
            | Event::ReportSummary { .. }
            | Event::Difference { .. }
            | Event::Failed { .. }
            | Event::Warned { .. } => self.screen.event(event),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.screen.progress(progress);
    }

    fn note(&mut self, level: Note, text: &str) {
        self.screen.note(level, text);
    }
}
