//! What the person reads: counters, events, the summary. `engine` reports; whoever observes decides what becomes of it.

pub mod tally;

use std::time::Duration;

use serde::Serialize;

pub use tally::Counts;

/// Something that happened to one key.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A dry run would copy it.
    Planned {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `absent`, `size` or `newer`.
        reason: &'static str,
    },
    /// It is at the target, acknowledged and compared.
    Transferred {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `absent`, `size` or `newer`.
        reason: &'static str,
        /// `checksum`, `etag`, both, or nothing where nothing could be compared.
        verified_by: &'static [&'static str],
        /// CRC64NVME of the content as it passed, as S3 writes it.
        crc64nvme: Option<String>,
        /// The ETag that the target gave it.
        etag: Option<String>,
    },
    /// The target has it already.
    Skipped {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
    },
    /// It is not at the target.
    Failed {
        /// Relative key.
        key: String,
        /// What happened, and what to do about it.
        error: String,
    },
    /// Something the person should know that is not a failure.
    Warned {
        /// Relative key.
        key: String,
        /// What.
        reason: String,
    },
}

/// Where the run stands, some times a second.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Counters of all shards.
    pub counts: Counts,
    /// Since the start.
    pub elapsed: Duration,
    /// Whether the run is ending before its time.
    pub stopping: bool,
}

/// Hears what happens in a run, on the thread that called it.
pub trait Observer {
    /// Something happened to one key.
    fn event(&mut self, event: &Event);

    /// Where the run stands; called every [`progress_interval`](crate::settings::SyncSettings::progress_interval).
    fn progress(&mut self, progress: &Progress);

    /// Something about the whole run that the person should know, as one sentence.
    fn note(&mut self, level: Note, text: &str);
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// For whoever asked to be told more.
    Detail,
    /// For everyone.
    Warning,
}

/// The end of a run, however it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Counters of all shards.
    #[serde(flatten)]
    pub counts: Counts,
    /// From start to end, in milliseconds.
    pub elapsed_ms: u64,
    /// The most memory that the process has had, as the system counts it; where it does, which Linux does.
    pub peak_memory_bytes: Option<u64>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Why the run ended before its time, if it did.
    pub ended_early: Option<EndedEarly>,
    /// The exit code that says all this in a number.
    pub exit_code: u8,
}

/// Why a run ended before its time.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedEarly {
    /// The person, or the system, asked it to; by this signal.
    Signal(i32),
    /// Nothing more could succeed, for this reason.
    Fatal {
        /// What happened, and what to do about it.
        error: String,
        /// The exit code for it.
        exit_code: u8,
    },
}
