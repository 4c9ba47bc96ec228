//! The command line: one file per command with its flags, their help and their meaning; `screen` is what the person sees of
//! a run, `sides` and `deletes` are flags that several commands share, `units` are sizes and durations.

mod cleanup;
mod deletes;
mod integrity;
mod plan;
mod print;
mod screen;
mod serve;
mod sides;
mod sync;
pub mod units;
mod verify;

use std::process;

use clap::{Parser, Subcommand};

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
}

/// Runs the process's command line and says how it ended.
pub fn main() -> process::ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => {
            ropeway_io::probe::raise_open_files_limit();
            let stop = StopHandle::default();
            watch_signals(&stop);
            match cli.command {
                Command::Sync(args) => sync::run(&args, &stop),
                Command::Plan(args) => plan::run(&args, &stop),
                Command::Verify(args) => verify::run(&args, &stop),
                Command::Serve(args) => serve::run(&args, &stop),
                Command::Cleanup(args) => cleanup::run(&args, &stop),
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
