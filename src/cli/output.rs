//! What is said of a run, and where: the person's lines, JSON, the report, the log.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::screen::{JsonTo, ScreenWishes};
use crate::settings::Events;

/// What is said of a run, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Say more: each object copied; twice: each object skipped, and what the client does.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Say only errors, and no summary; twice: nothing at all.
    #[arg(short, long, action = ArgAction::Count)]
    quiet: u8,

    /// Write each event and the summary to stdout as one JSON object a line.
    #[arg(long, env = "ROPEWAY_JSON")]
    json: bool,

    /// Write every event, with what proves each object, and the summary to this file as one JSON object a line.
    #[arg(long, value_name = "FILE", env = "ROPEWAY_REPORT")]
    report: Option<PathBuf>,

    /// Without a terminal: seconds between progress lines; 0 for none.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "ROPEWAY_STATS")]
    stats: u64,

    /// Show neither progress nor the summary.
    #[arg(long, env = "ROPEWAY_SHOW_NO_PROGRESS")]
    show_no_progress: bool,

    /// As --json, and the log and what a person would read in JSON too, on the same stream.
    #[arg(long, env = "ROPEWAY_JSON_TRACING")]
    json_tracing: bool,

    /// With --json-tracing: write to stderr instead of stdout. Without it the log is always on stderr, and stdout is kept
    /// for results.
    #[arg(long, env = "ROPEWAY_TRACING_STDERR")]
    tracing_stderr: bool,

    /// Log each request that is tried again, and what is learnt of the services.
    #[arg(long, env = "ROPEWAY_AWS_SDK_TRACING")]
    aws_sdk_tracing: bool,

    /// Log when each object is begun and done.
    #[arg(long, env = "ROPEWAY_SPAN_EVENTS_TRACING")]
    span_events_tracing: bool,

    /// Log without colours, also on a terminal.
    #[arg(long, env = "ROPEWAY_DISABLE_COLOR_TRACING")]
    disable_color_tracing: bool,
}

impl OutputArgs {
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet > 0
    }

    pub(super) fn wishes(&self) -> ScreenWishes<'_> {
        ScreenWishes {
            verbose: self.verbose,
            quiet: self.quiet,
            json: self.json_to(),
            no_text: self.json_tracing || self.quiet > 1,
            no_progress: self.show_no_progress || self.json_tracing,
            report: self.report.as_deref(),
            stats: self.stats,
        }
    }

    fn json_to(&self) -> Option<JsonTo> {
        match (self.json_tracing, self.tracing_stderr) {
            (true, true) => Some(JsonTo::Stderr),
            (true, false) => Some(JsonTo::Stdout),
            (false, _) => self.json.then_some(JsonTo::Stdout),
        }
    }

    /// What is worth an event.
    pub(super) fn events(&self) -> Events {
        let everything = self.verbose > 1 || self.report.is_some() || self.json_to().is_some();
        Events { transferred: everything || self.verbose > 0, skipped: everything, spans: self.span_events_tracing }
    }

    /// Starts the log: warnings and errors alone, unless more is asked for.
    pub(super) fn start_log(&self) {
        let level = match (self.quiet, self.verbose) {
            (2.., _) => "off",
            (1, _) => "error,s3s=off",
            (0, 0 | 1) => "warn,s3s=off",
            (0, 2) => "ropeway=debug,ropeway_io=debug,warn,s3s=off",
            (0, _) => "trace",
        };
        let mut filter = EnvFilter::try_from_env("ROPEWAY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let more = [(self.aws_sdk_tracing, "ropeway::client=debug"), (self.span_events_tracing, "ropeway::spans=info")];
        for (_, directive) in more.into_iter().filter(|(wanted, _)| *wanted) {
            filter = filter.add_directive(directive.parse().expect("the directive is well formed"));
        }
        let to_stdout = self.json_tracing && !self.tracing_stderr;
        let writer = if to_stdout { BoxMakeWriter::new(io::stdout) } else { BoxMakeWriter::new(io::stderr) };
        let spans = if self.span_events_tracing { FmtSpan::NEW | FmtSpan::CLOSE } else { FmtSpan::NONE };
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_span_events(spans)
            .with_ansi(io::stderr().is_terminal() && !self.disable_color_tracing && !self.json_tracing);
        // Only a second run in the same process finds a logger in place, and that one serves it.
        let _ = if self.json_tracing { log.json().try_init() } else { log.try_init() };
    }
}
