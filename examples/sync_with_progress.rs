//! A sync from a program of one's own: settings in, a callback while it runs, the report at the end.
//!
//! ```text
//! cargo run --example sync_with_progress -- ./photos
//! ```
//!
//! It copies the directory into the built-in server's memory, so it needs no account and leaves nothing behind. For a real
//! service, replace `EndpointChoice::EmbeddedMemory` with `EndpointChoice::Service` and give credentials.
#![expect(clippy::print_stdout, reason = "an example shows what it has to say")]

use std::path::PathBuf;
use std::process::ExitCode;

use ropeway::engine::{self, StopHandle};
use ropeway::report::{Event, Note, Observer, Progress};
use ropeway::settings::{Bucket, BucketPlace, EndpointChoice, Events, Identity, Place, Proxies, SyncSettings};

fn main() -> ExitCode {
    let Some(source) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("usage: sync_with_progress DIRECTORY");
        return ExitCode::from(2);
    };
    // A `StopHandle` may be given to another thread or a signal handler, which ends the run early and in order.
    match engine::run(&settings(source), &StopHandle::default(), &mut Narrator::default()) {
        Ok(summary) => {
            let counts = summary.counts;
            println!(
                "{} objects and {} bytes copied, {} of them verified, {} failed",
                counts.transferred_objects, counts.transferred_bytes, counts.verified, counts.failed_objects,
            );
            ExitCode::from(summary.exit_code)
        }
        // Refused before anything was changed; the error says what to do about it.
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(error.exit_code().number())
        }
    }
}

fn settings(source: PathBuf) -> SyncSettings {
    let target = BucketPlace {
        bucket: Bucket::parse("example").expect("a valid bucket name"),
        prefix: "copies/".to_owned(),
        endpoint: EndpointChoice::EmbeddedMemory,
        region: "us-east-1".to_owned(),
        identity: Identity::Unsigned,
        requester_pays: false,
        force_path_style: false,
        proxies: Proxies::default(),
        ca_bundle: None,
        customer_key: None,
    };
    SyncSettings {
        // Failures and warnings always come; ask for every copied object as well. With a directory for journals (`journal`), a
        // run that was ended early is continued by the next one.
        events: Events { transferred: true, ..Events::default() },
        ..SyncSettings::between(Place::Local(source), Place::Bucket(target.into()))
    }
}

/// Hears what happens, on the thread that called `engine::run`.
#[derive(Default)]
struct Narrator {
    copied: u64,
}

impl Observer for Narrator {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Transferred { key, size_bytes, verified_by, .. } => {
                self.copied += 1;
                println!(
                    "{}: {key}, {size_bytes} bytes, verified by {}",
                    self.copied,
                    if verified_by.is_empty() { "nothing".to_owned() } else { verified_by.join(" and ") }
                );
            }
            Event::Failed { key, error } => println!("FAILED {key}: {error}"),
            Event::Warned { key, reason } => println!("{key}: {reason}"),
            // Of dry runs, comparisons and deletes, which this is not about, and of objects that were there already.
            Event::Planned { .. }
            | Event::Retagged { .. }
            | Event::Skipped { .. }
            | Event::Filtered { .. }
            | Event::PlannedDelete { .. }
            | Event::Deleted { .. }
            | Event::SyncStatus { .. }
            | Event::ReportSummary { .. }
            | Event::Difference { .. } => {}
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let counts = progress.counts;
        println!("... {} bytes after {:.1} s", counts.moved_bytes, progress.elapsed.as_secs_f64());
    }

    fn note(&mut self, level: Note, text: &str) {
        if level == Note::Warning {
            println!("note: {text}");
        }
    }
}
