//! A plan as a file: what a dry run found, one JSON object a line, to be looked at and carried out later.
//!
//! The first line says between which places and when; then comes a line for each action, in no order; the last line counts
//! them, and a plan without it is incomplete and refused. What is carried out is what the plan says and nothing else: no
//! side is listed, and an object that has changed since is refused by itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::rc::Rc;

use ropeway_s3proto::name::ETag;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::preflight::Refusal;
use super::shard::{Shard, Token, Told};
use crate::entry::{Action, Entry, EntryRef, Existing, Reason};
use crate::error::ExitCode;
use crate::report::tally::add;
use crate::report::{Event, Listed, Summary};
use crate::settings::{Copied, EndpointChoice, Extras, Place, SyncSettings};

/// The only format there has been.
const VERSION: u32 = 1;

/// One line of a plan.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Header(Header),
    Copy { key: String, size_bytes: u64, reason: String, source: Listed, target: Option<Listed> },
    Delete { key: String, target: Listed },
    Totals(Totals),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    version: u32,
    source: String,
    target: String,
    /// Whether what is copied is deleted at the source afterwards.
    delete_source: bool,
    /// RFC 3339.
    made: String,
}

/// The last line.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    copies: u64,
    deletes: u64,
    /// What the listings had, for the conditions of deletes.
    source_listed: u64,
    target_listed: u64,
    failed: u64,
}

/// Writes a plan while a dry run goes on. What cannot be written is remembered, and said at the end.
pub struct PlanWriter<W: Write> {
    out: W,
    totals: Totals,
    error: Option<io::Error>,
}

impl<W: Write> PlanWriter<W> {
    /// Begins the plan of a dry run with these settings.
    pub fn new(out: W, settings: &SyncSettings) -> PlanWriter<W> {
        let mut writer = PlanWriter { out, totals: Totals::default(), error: None };
        let made = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        writer.write(&Line::Header(Header { made, ..header(settings) }));
        writer
    }

    /// Adds what an event plans, if it does.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Planned { key, size_bytes, reason, source, target } => {
                self.totals.copies += 1;
                let (key, reason, source, target) = (key.clone(), (*reason).to_owned(), source.clone(), target.clone());
                self.write(&Line::Copy { key, size_bytes: *size_bytes, reason, source, target });
            }
            Event::PlannedDelete { key, side: "target", listed, .. } => {
                self.totals.deletes += 1;
                self.write(&Line::Delete { key: key.clone(), target: listed.clone() });
            }
            // At the source, it is what was copied that goes, whatever that will be.
            Event::PlannedDelete { .. }
            | Event::Transferred { .. }
            | Event::Retagged { .. }
            | Event::Skipped { .. }
            | Event::Filtered { .. }
            | Event::Deleted { .. }
            | Event::SyncStatus { .. }
            | Event::ReportSummary { .. }
            | Event::Difference { .. }
            | Event::Failed { .. }
            | Event::Warned { .. } => {}
        }
    }

    /// Ends the plan, if the dry run came to its end.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        if summary.ended_early.is_none() {
            let totals = Totals {
                source_listed: summary.counts.source_listed,
                target_listed: summary.counts.target_listed,
                failed: summary.counts.failed_objects,
                ..std::mem::take(&mut self.totals)
            };
            self.write(&Line::Totals(totals));
        }
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn write(&mut self, line: &Line) {
        if self.error.is_none() {
            let text = serde_json::to_string(line).expect("a plan is plain data");
            self.error = writeln!(self.out, "{text}").err();
        }
    }
}

fn header(settings: &SyncSettings) -> Header {
    Header {
        version: VERSION,
        source: place(&settings.source),
        target: place(&settings.target),
        delete_source: settings.deletes.copied == Copied::Delete,
        made: String::new(),
    }
}

/// One place is written in one way, wherever the command is given.
fn place(place: &Place) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    match place {
        Place::Local(path) => absolute(path),
        Place::Bucket(bucket) => match &bucket.endpoint {
            EndpointChoice::Aws(_) => format!("{place} at AWS"),
            EndpointChoice::Service(endpoint) => format!("{place} at {endpoint}"),
            EndpointChoice::EmbeddedDirectory(directory) => format!("{place} at embedded:{}", absolute(directory)),
            EndpointChoice::EmbeddedMemory => format!("{place} at embedded:memory"),
        },
    }
}

/// Reads a plan to its end, and says what carrying it out means for the settings.
pub(super) fn settings_of(plan: &Path, settings: &SyncSettings) -> Result<SyncSettings, Refusal> {
    let refuse =
        |text: String| Refusal { text: format!("the plan `{}` {text}", plan.display()), exit_code: ExitCode::Usage };
    let mut lines = open(plan).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let mut next = || lines.next().transpose().map_err(|error| refuse(format!("cannot be read: {error}")));
    let Some(Line::Header(found)) = next()? else {
        return Err(refuse("is none: its first line is no header".to_owned()));
    };
    if found.version != VERSION {
        return Err(refuse(format!("has version {}, and this Ropeway knows version {VERSION}", found.version)));
    }
    let expected = header(settings);
    for (side, found, expected) in
        [("source", &found.source, &expected.source), ("target", &found.target, &expected.target)]
    {
        if found != expected {
            return Err(refuse(format!("is for the {side} `{found}`, and this command's is `{expected}`")));
        }
    }
    let mut counted = Totals::default();
    let totals = loop {
        match next()? {
            Some(Line::Copy { .. }) => counted.copies += 1,
            Some(Line::Delete { .. }) => counted.deletes += 1,
            Some(Line::Totals(totals)) => break totals,
            Some(Line::Header(_)) => return Err(refuse("has two headers".to_owned())),
            None => return Err(refuse("is incomplete: its last line is missing; make it again".to_owned())),
        }
    };
    if (totals.copies, totals.deletes) != (counted.copies, counted.deletes) || next()?.is_some() {
        return Err(refuse("does not hold what its last line counts; make it again".to_owned()));
    }
    let mut settings = settings.clone();
    if totals.deletes > 0 {
        settings.deletes.extras = Extras::DeleteExcluded;
    }
    if found.delete_source {
        settings.deletes.copied = Copied::Delete;
    }
    Ok(settings)
}

/// Queues a plan's copies, and writes its deletes down for the last phase.
pub(super) async fn feed(shard: &Rc<Shard>, plan: &Path, token: &Rc<Token>) -> Result<(), Told> {
    let fatal = |error: &dyn std::fmt::Display| {
        let text = format!("the plan `{}` cannot be read any more: {error}", plan.display());
        Told::Fatal { text, code: ExitCode::Usage, objects: 0 }
    };
    for line in open(plan).map_err(|error| fatal(&error))? {
        if shard.kit.stop.asked() {
            return Ok(());
        }
        match line.map_err(|error| fatal(&error))? {
            Line::Header(_) => {}
            Line::Copy { key, source, target, reason, .. } => {
                let action = action(&key, &source, target.as_ref(), &reason);
                add(&shard.tally.planned_objects, 1);
                add(&shard.tally.planned_bytes, source.size_bytes);
                shard.enqueue(action.map_err(|error| fatal(&error))?, token).await;
            }
            Line::Delete { key, target } => {
                let etag = etag(&target).map_err(|error| fatal(&error))?;
                let (size_bytes, modified_ns) = (target.size_bytes, target.modified_ns);
                let entry =
                    EntryRef { key: key.as_bytes(), size_bytes, modified_ns, etag: etag.as_ref(), versions: &[] };
                shard.recorder.extra(&shard.kit.source, entry);
            }
            Line::Totals(totals) => {
                add(&shard.tally.source_listed, totals.source_listed);
                add(&shard.tally.target_listed, totals.target_listed);
            }
        }
    }
    Ok(())
}

fn action(key: &str, source: &Listed, target: Option<&Listed>, reason: &str) -> io::Result<Action> {
    let entry = Entry {
        key: key.into(),
        size_bytes: source.size_bytes,
        modified_ns: source.modified_ns,
        etag: etag(source)?,
        version: None,
    };
    let existing = |target: &Listed| -> io::Result<Existing> {
        Ok(Existing { size_bytes: target.size_bytes, modified_ns: target.modified_ns, etag: etag(target)? })
    };
    let reason = match reason {
        "absent" => Reason::Absent,
        "size" => Reason::Size,
        "newer" => Reason::Newer,
        "etag" => Reason::ETag,
        "checksum" => Reason::Checksum,
        "unconditional" => Reason::Unconditional,
        other => return Err(io::Error::other(format!("`{other}` is no reason to copy"))),
    };
    Ok(Action { entry, reason, existing: target.map(existing).transpose()?, history: None })
}

fn etag(listed: &Listed) -> io::Result<Option<ETag>> {
    listed.etag.as_deref().map(ETag::parse).transpose().map_err(io::Error::other)
}

/// The longest line: a key of 1,024 bytes, each written as six, and two ETags, with room to spare.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// The lines of a plan, one after the other.
fn open(plan: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let mut file = BufReader::new(File::open(plan)?);
    let mut text = String::new();
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        text.clear();
        number += 1;
        match io::Read::take(&mut file, LINE_BYTES_MAX).read_line(&mut text) {
            Ok(0) => None,
            Ok(_) => {
                let line = serde_json::from_str(&text);
                Some(line.map_err(|error| io::Error::other(format!("line {number}: {error}"))))
            }
            Err(error) => Some(Err(error)),
        }
    }))
}
