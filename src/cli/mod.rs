//! The command line: one file per command with its flags, their help and their meaning; `screen` is what the person sees of
//! a run, `sides`, `filters` and `deletes` are flags that several commands share, `places` makes a side of them,
//! `units` are sizes and durations.

mod attributes;
mod cleanup;
mod completions;
mod conflicts;
mod deletes;
mod express;
mod filters;
mod integrity;
mod output;
mod performance;
mod places;
mod plan;
mod print;
mod reports;
mod screen;
mod serve;
mod sides;
mod sync;
pub mod units;
mod verify;
mod versions;

use std::ffi::OsString;
use std::process;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::engine::StopHandle;
use crate::error::ExitCode;

/// Moves data between local disks and S3: fast per core, bounded in memory, every byte verified.
#[derive(Debug, Parser)]
#[command(name = "ropeway", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sync(Box<sync::SyncArgs>),
    Plan(Box<plan::PlanArgs>),
    Verify(Box<verify::VerifyArgs>),
    Serve(serve::ServeArgs),
    Cleanup(Box<cleanup::CleanupArgs>),
    Completions(completions::CompletionsArgs),
}

/// Runs the process's command line and says how it ended.
pub fn main() -> process::ExitCode {
    let code = match parse(std::env::args_os()) {
        Ok(Asked::Script(shell)) => completions::print(shell),
        Ok(Asked::Nonsense(text)) => {
            print::err(&format!("error: {text}"));
            ExitCode::Usage.number()
        }
        Ok(Asked::Run(cli)) => {
            ropeway_io::probe::raise_open_files_limit();
            let stop = StopHandle::default();
            watch_signals(&stop);
            match cli.command {
                Command::Sync(args) => sync::run(&args, &stop),
                Command::Plan(args) => plan::run(&args, &stop),
                Command::Verify(args) => verify::run(&args, &stop),
                Command::Serve(args) => serve::run(&args, &stop),
                Command::Cleanup(args) => cleanup::run(&args, &stop),
                Command::Completions(args) => completions::run(args),
            }
        }
        Err(error) => {
            // Help and version are answers, everything else a mistake; either way there is nothing more to say than this.
            let _ = error.print();
            if error.use_stderr() { ExitCode::Usage.number() } else { ExitCode::Done.number() }
        }
    };
    process::ExitCode::from(code)
}

/// What a command line asks for.
#[derive(Debug)]
enum Asked {
    Run(Cli),
    /// A completion script, by s3sync's flag for it.
    Script(clap_complete::Shell),
    /// Flags that exclude or lack each other, as this sentence says.
    Nonsense(String),
}

/// Parses, and applies the rules between flags.
fn parse<A: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = A>) -> Result<Asked, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    if let Some(shell) = matches.subcommand().and_then(|(_, matches)| sync::script_asked_for(matches)) {
        return Ok(Asked::Script(shell));
    }
    if let Some((_, matches)) = matches.subcommand()
        && let Some(broken) = conflicts::broken_rule(matches)
    {
        return Ok(Asked::Nonsense(broken));
    }
    Cli::from_arg_matches(&matches).map(Asked::Run)
}

/// The whole command line.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("sync", sync::without_sides_for_a_script)
}

/// The first SIGINT or SIGTERM ends the run in order, the second at once.
#[cfg(unix)]
fn watch_signals(stop: &StopHandle) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = stop.clone();
    let mut signals = match signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return tracing::warn!(%error, "signals cannot be watched, so one will end the run at once"),
    };
    std::thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked {
                process::exit(i32::from(ExitCode::of_signal(signal).number()));
            }
            asked = true;
            stop.stop(signal);
        }
    });
}

/// Without signals a run ends when its process is ended.
#[cfg(not(unix))]
fn watch_signals(_stop: &StopHandle) {}
