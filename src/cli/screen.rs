//! What the person sees of a run: bars on a terminal, lines elsewhere, events, the report, the summary.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use super::units::show_size;
use crate::error::ExitCode;
use crate::report::{Concurrency, EndedEarly, Event, Note, Observer, Phase, Progress, Summary};

/// How much the person wants to see, and where.
pub(super) struct ScreenWishes<'a> {
    /// 0: failures and warnings; 1: every object copied; 2: every object skipped, too.
    pub(super) verbose: u8,
    /// 0: everything that `verbose` says; 1: only errors; 2: nothing.
    pub(super) quiet: u8,
    /// Events and the summary as JSON.
    pub(super) json: Option<JsonTo>,
    /// Nothing that only a person reads.
    pub(super) no_text: bool,
    /// Neither progress nor the summary, for a person.
    pub(super) no_progress: bool,
    /// A file for all events and the summary.
    pub(super) report: Option<&'a Path>,
    /// Without a terminal: seconds between progress lines; 0 for none.
    pub(super) stats: u64,
}

/// Where JSON goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonTo {
    Stdout,
    Stderr,
}

/// What the person sees of a run.
pub(super) struct Screen {
    verbose: u8,
    quiet: bool,
    json: Option<JsonTo>,
    no_text: bool,
    no_progress: bool,
    report: Option<Report>,
    bar: Option<ProgressBar>,
    stats: Option<Duration>,
    next_stats: Duration,
    failed_shown: u64,
    warned_shown: u64,
}

/// The report's file.
struct Report {
    path: PathBuf,
    file: BufWriter<File>,
    error: Option<std::io::Error>,
}

/// Failures, and warnings, shown one by one; behind these a count says how many more there are, and the report has them
/// all.
const SHOWN_MAX: u64 = 1_000;

impl Screen {
    pub(super) fn new(wishes: &ScreenWishes<'_>) -> Result<Screen, String> {
        let report = wishes.report.map(Report::create).transpose()?;
        let quiet = wishes.quiet > 0;
        let progress = !quiet && !wishes.no_progress && !wishes.no_text;
        let lively = std::io::stderr().is_terminal() && progress && wishes.json.is_none();
        let bar = lively.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = "{spinner} {msg}  [{elapsed_precise}]";
            bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
            bar
        });
        let stats = (!lively && progress && wishes.stats > 0).then(|| Duration::from_secs(wishes.stats));
        Ok(Screen {
            verbose: wishes.verbose,
            quiet,
            json: wishes.json,
            no_text: wishes.no_text,
            no_progress: wishes.no_progress,
            report,
            bar,
            stats,
            next_stats: stats.unwrap_or_default(),
            failed_shown: 0,
            warned_shown: 0,
        })
    }

    /// A line that stays, above the bar if there is one.
    fn line(&self, text: &str) {
        if self.no_text {
            return;
        }
        let text = print::clean(text);
        match &self.bar {
            Some(bar) => bar.suspend(|| print::err(&text)),
            None => print::err(&text),
        }
    }

    fn result(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print::out(text)),
            None => print::out(text),
        }
    }

    fn json(&self, line: &str) {
        match self.json {
            Some(JsonTo::Stdout) => print::out(line),
            Some(JsonTo::Stderr) => print::err(line),
            None => {}
        }
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The end: the summary to the person, to the report and to whoever reads the exit code.
    pub(super) fn finish(mut self, mut summary: Summary) -> u8 {
        self.clear();
        if let Some(report) = &mut self.report {
            report.write(&summary_line(&summary));
            if let Err(error) = report.close() {
                print::err(&format!("error: {error}"));
                if summary.exit_code == ExitCode::Done.number() {
                    summary.exit_code = ExitCode::Warnings.number();
                }
            }
        }
        if self.json.is_some() {
            self.json(&summary_line(&summary));
        }
        if let Some(reason) = print::lost() {
            print::err(&format!("error: what was to be written to stdout is incomplete: {reason}"));
            if summary.exit_code == ExitCode::Done.number() {
                summary.exit_code = ExitCode::Warnings.number();
            }
        }
        for (shown, what) in [(self.failed_shown, "failures"), (self.warned_shown, "warnings")] {
            if let Some(more) = shown.checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
                self.line(&format!("... and {more} more {what}; --report FILE keeps them all"));
            }
        }
        if let Some(reason) = &summary.deletes_withheld {
            self.line(&format!("error: {reason}"));
        }
        if let Some(EndedEarly::Fatal { error, .. }) = &summary.ended_early {
            self.line(&format!("error: {error}"));
        }
        if !self.quiet && !self.no_progress {
            self.line(&summary_text(&summary));
        }
        summary.exit_code
    }
}

impl Observer for Screen {
    fn event(&mut self, event: &Event) {
        if self.json.is_some() || self.report.is_some() {
            let line = serde_json::to_string(event).expect("events are plain data");
            if let Some(report) = &mut self.report {
                report.write(&line);
            }
            self.json(&line);
        }
        match event {
            // Differences are what a comparison is for, and are written the same for people and programs.
            Event::Difference { .. } | Event::SyncStatus { .. } | Event::ReportSummary { .. }
                if self.json.is_none() =>
            {
                self.result(&serde_json::to_string(event).expect("events are plain data"));
            }
            Event::Planned { key, reason: "tags", .. } if self.json.is_none() => {
                self.result(&format!("would give {} the source's tags", print::clean(key)));
            }
            Event::Planned { key, size_bytes, reason, .. } if self.json.is_none() => {
                let key = print::clean(key);
                self.result(&format!("would copy {key} ({}, {reason})", show_size(*size_bytes)));
            }
            Event::Transferred { key, size_bytes, verified_by, .. } if self.verbose > 0 => {
                let by = match verified_by {
                    [] => String::new(),
                    names => format!(", verified by {}", names.join(" and ")),
                };
                self.line(&format!("copied {key} ({}{by})", show_size(*size_bytes)));
            }
            Event::Retagged { key } if self.verbose > 0 => self.line(&format!("gave {key} the source's tags")),
            Event::Skipped { key, .. } if self.verbose > 1 => self.line(&format!("skipped {key}")),
            Event::Filtered { key, filter, .. } if self.verbose > 1 => {
                self.line(&format!("skipped {key} because of {filter}"));
            }
            Event::PlannedDelete { key, size_bytes, side, .. } if self.json.is_none() => {
                let key = print::clean(key);
                let from = if *side == "source" { "from the source, " } else { "" };
                self.result(&format!("would delete {key} ({from}{})", show_size(*size_bytes)));
            }
            Event::Deleted { key, side, .. } if self.verbose > 0 => {
                self.line(&format!("deleted {key} from the {side}"))
            }
            Event::Failed { key, error } => {
                self.failed_shown += 1;
                if self.failed_shown <= SHOWN_MAX {
                    let name = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
                    self.line(&format!("failed: {name}{error}"));
                }
            }
            Event::Warned { key, reason } if !self.quiet => {
                self.warned_shown += 1;
                if self.warned_shown <= SHOWN_MAX {
                    self.line(&format!("warning: `{key}`: {reason}"));
                }
            }
            Event::Planned { .. }
            | Event::Transferred { .. }
            | Event::Retagged { .. }
            | Event::Skipped { .. }
            | Event::Filtered { .. }
            | Event::PlannedDelete { .. }
            | Event::Deleted { .. }
            | Event::SyncStatus { .. }
            | Event::ReportSummary { .. }
            | Event::Difference { .. }
            | Event::Warned { .. } => {}
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let text = || progress_text(progress);
        if let Some(bar) = &self.bar {
            bar.set_message(text());
            bar.tick();
        } else if let Some(interval) = self.stats.filter(|_| progress.elapsed >= self.next_stats) {
            self.next_stats = progress.elapsed + interval;
            print::err(&text());
        }
    }

    fn note(&mut self, level: Note, text: &str) {
        match level {
            // In JSON it goes with the log.
            Note::Detail if self.no_text => tracing::info!("{text}"),
            Note::Warning if self.no_text => tracing::warn!("{text}"),
            Note::Detail if self.verbose > 0 => self.line(&format!("note: {text}")),
            Note::Warning if !self.quiet => self.line(&format!("warning: {text}")),
            Note::Detail | Note::Warning => {}
        }
    }
}

impl Report {
    fn create(path: &Path) -> Result<Report, String> {
        let file = File::create(path)
            .map_err(|error| format!("the report `{}` cannot be written: {error}", path.display()))?;
        Ok(Report { path: path.to_owned(), file: BufWriter::new(file), error: None })
    }

    fn write(&mut self, line: &str) {
        if self.error.is_none() {
            self.error = writeln!(self.file, "{line}").err();
        }
    }

    /// A report that is not whole is worth an error of its own, but never the run.
    fn close(&mut self) -> Result<(), String> {
        let flushed = match self.error.take() {
            Some(error) => Err(error),
            None => self.file.flush(),
        };
        flushed.map_err(|error| format!("the report `{}` is incomplete: {error}", self.path.display()))
    }
}

fn progress_text(progress: &Progress) -> String {
    let counts = &progress.counts;
    if progress.phase == Phase::Deleting {
        let failed =
            if counts.failed_deletes > 0 { format!(", {} failed", counts.failed_deletes) } else { String::new() };
        return format!("deleting: {} of {} objects{failed}", counts.deleted_objects, counts.planned_deletes);
    }
    if progress.phase == Phase::Comparing {
        return format!(
            "comparing: {} objects equal, {} differences, {} not comparable, {} read",
            counts.equal_objects,
            counts.differences,
            counts.unverifiable_objects,
            show_size(counts.moved_bytes),
        );
    }
    let seconds = progress.elapsed.as_secs_f64().max(0.001);
    let rate = counts.moved_bytes as f64 / seconds;
    let left = counts.planned_bytes.saturating_sub(counts.moved_bytes);
    let eta = match left {
        0 => String::new(),
        _ if rate < 1.0 => String::new(),
        _ => format!(", {} left", show_duration(left as f64 / rate)),
    };
    let failed = if counts.failed_objects > 0 { format!(", {} failed", counts.failed_objects) } else { String::new() };
    let retries = if counts.retries > 0 { format!(", {} retries", counts.retries) } else { String::new() };
    let requests = requests_text(&progress.concurrency);
    format!(
        "{}{} of {} objects, {} of {}, {}/s, {} skipped{failed}{retries}{requests}{eta}",
        if progress.stopping { "stopping: " } else { "" },
        counts.transferred_objects,
        counts.planned_objects,
        show_size(counts.moved_bytes),
        show_size(counts.planned_bytes.max(counts.moved_bytes)),
        show_size(rate as u64),
        counts.skipped_objects,
    )
}

/// How many requests the services are given; said of each side apart only where they differ.
fn requests_text(concurrency: &Concurrency) -> String {
    match (concurrency.source, concurrency.target) {
        (None, None) => String::new(),
        (Some(source), Some(target)) if source != target => {
            format!(", up to {} and {} requests at once", source.limit, target.limit)
        }
        (Some(limit), _) | (None, Some(limit)) => format!(", up to {} requests at once", limit.limit),
    }
}

fn show_duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn summary_line(summary: &Summary) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        event: &'static str,
        #[serde(flatten)]
        summary: &'a Summary,
    }
    serde_json::to_string(&Line { event: "summary", summary }).expect("a summary is plain data")
}

fn summary_text(summary: &Summary) -> String {
    let counts = &summary.counts;
    let seconds = summary.elapsed_ms as f64 / 1_000.0;
    let head = match (&summary.ended_early, summary.dry_run && !summary.compared && !summary.reported) {
        (Some(EndedEarly::Signal(_)), _) => "stopped: ",
        (Some(EndedEarly::Fatal { .. }), _) => "ended early: ",
        (None, true) => "dry run: ",
        (None, false) => "",
    };
    if summary.reported {
        return format!(
            "{head}{} objects: {} match, {} do not, {} are not there, {} could not be compared; {} read; {} failed, {} warnings; \
             {} requests, {} retries; {seconds:.1} s",
            counts.reported_objects,
            counts.etag_matches + counts.checksum_matches,
            counts.etag_mismatch + counts.checksum_mismatch,
            counts.not_found,
            counts.etag_unknown + counts.checksum_unknown,
            show_size(counts.moved_bytes),
            counts.failed_objects,
            counts.warnings,
            counts.requests,
            counts.retries,
        );
    }
    if summary.compared {
        return format!(
            "{head}{} objects equal, {} differences, {} not comparable; {} read; {} failed, {} warnings; {} requests, {} \
             retries; {seconds:.1} s",
            counts.equal_objects,
            counts.differences,
            counts.unverifiable_objects,
            show_size(counts.moved_bytes),
            counts.failed_objects,
            counts.warnings,
            counts.requests,
            counts.retries,
        );
    }
    let deleted = match (counts.planned_deletes, summary.dry_run) {
        (0, _) => String::new(),
        (planned, true) => format!("; {planned} would be deleted"),
        (planned, false) => format!("; {} of {planned} deleted", counts.deleted_objects),
    };
    let retagged = match (counts.retagged_objects, summary.dry_run) {
        (0, _) => String::new(),
        (objects, true) => format!("; {objects} would be given other tags"),
        (objects, false) => format!("; {objects} given other tags"),
    };
    if summary.dry_run {
        return format!(
            "{head}{} objects, {} would be copied{retagged}{deleted}; {} skipped, {} failed, {} warnings; {seconds:.1} s",
            counts.planned_objects,
            show_size(counts.planned_bytes),
            counts.skipped_objects,
            counts.failed_objects,
            counts.warnings,
        );
    }
    let again = match (counts.kept_objects, &summary.ended_early) {
        (0, Some(_)) => "; run the same command again to continue".to_owned(),
        (0, None) => String::new(),
        (kept, _) => format!(
            "; {kept} unfinished objects are kept: run the same command again to continue them, or `ropeway cleanup` to \
             remove them"
        ),
    };
    let resumed = match counts.resumed_bytes {
        0 => String::new(),
        bytes => format!(" ({} of it by an earlier run)", show_size(bytes)),
    };
    format!(
        "{head}{} objects, {} transferred{resumed}; {} verified ({} by checksum, {} by ETag){retagged}{deleted}; {} skipped, {} failed, {} \
         warnings; {} requests, {} retries; {seconds:.1} s{again}",
        counts.transferred_objects,
        show_size(counts.transferred_bytes),
        counts.verified,
        counts.verified_checksum,
        counts.verified_etag,
        counts.skipped_objects,
        counts.failed_objects,
        counts.warnings,
        counts.requests,
        counts.retries,
    )
}
