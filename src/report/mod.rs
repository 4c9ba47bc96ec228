//! What the person reads: counters, events, the summary. `engine` reports; whoever observes decides what becomes of it.

pub mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use tally::Counts;

/// Something that happened to one key.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A dry run would copy it, or give it the source's tags.
    Planned {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `absent`, `size`, `newer`, `etag`, `checksum`, `unconditional` or `tags`.
        reason: &'static str,
        /// The source's object or file as it was listed.
        source: Listed,
        /// What the target has under that key, if anything.
        target: Option<Listed>,
    },
    /// It is at the target, acknowledged and compared.
    Transferred {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `absent`, `size`, `newer`, `etag`, `checksum` or `unconditional`.
        reason: &'static str,
        /// `checksum`, `etag`, both, or nothing where nothing could be compared.
        verified_by: &'static [&'static str],
        /// CRC64NVME of the content as it passed, as S3 writes it.
        crc64nvme: Option<String>,
        /// The ETag that the target gave it.
        etag: Option<String>,
    },
    /// It needed no copying, and was given the source's tags.
    Retagged {
        /// Relative key.
        key: String,
    },
    /// The target has it already.
    Skipped {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
    },
    /// A filter leaves it out.
    Filtered {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// The filter's flag.
        filter: &'static str,
    },
    /// A dry run would delete it.
    PlannedDelete {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `source` or `target`.
        side: &'static str,
        /// As it was listed.
        listed: Listed,
    },
    /// It is gone.
    Deleted {
        /// Relative key.
        key: String,
        /// Bytes of content.
        size_bytes: u64,
        /// `source` or `target`.
        side: &'static str,
    },
    /// A comparison found it to be other than it should be, or could not compare it.
    Difference {
        /// What about it.
        kind: Kind,
        /// Relative key.
        key: String,
        /// Bytes at the source, if it is there.
        source_bytes: Option<u64>,
        /// Bytes at the target, if it is there.
        target_bytes: Option<u64>,
        /// More about it, in words.
        detail: Option<String>,
    },
    /// A record of a report: something about an object was compared.
    SyncStatus {
        /// `SYNC_STATUS`, `METADATA_SYNC_STATUS` or `TAGGING_SYNC_STATUS`.
        name: &'static str,
        /// What: `EXISTENCE`, `ETAG`, `CHECKSUM`, `METADATA` or `TAGGING`.
        #[serde(rename = "type")]
        kind: &'static str,
        /// `MATCHES`, `MISMATCH`, `NOT_FOUND` or `UNKNOWN`.
        status: &'static str,
        /// Relative key.
        key: String,
        /// The two sides' values, by their names.
        #[serde(flatten)]
        values: BTreeMap<&'static str, serde_json::Value>,
    },
    /// The end of a report.
    ReportSummary {
        /// `REPORT_SUMMARY`.
        name: &'static str,
        /// What it came to.
        #[serde(flatten)]
        totals: ReportTotals,
    },
    /// What was to be done about it was not.
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

/// How many objects a report has looked at, and how many of them came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are s3sync's, and say it")]
pub struct ReportTotals {
    pub number_of_objects: u64,
    pub etag_matches: u64,
    pub checksum_matches: u64,
    pub metadata_matches: u64,
    pub tagging_matches: u64,
    pub not_found: u64,
    pub etag_mismatch: u64,
    pub checksum_mismatch: u64,
    pub metadata_mismatch: u64,
    pub tagging_mismatch: u64,
    pub etag_unknown: u64,
    pub checksum_unknown: u64,
}

/// What a listing shows of an object or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The ETag, where the side has one.
    pub etag: Option<String>,
}

/// The kinds of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The target does not have it.
    Missing,
    /// The source does not have it.
    Extra,
    /// Both have it, in different lengths.
    Size,
    /// Both have it, with different contents.
    Content,
    /// Both have it, as far as is known; what it holds could not be compared.
    Unverifiable,
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
    /// What is being done.
    pub phase: Phase,
    /// How many requests the services are given.
    pub concurrency: Concurrency,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The sides are listed and compared, and what differs is copied.
    Copying,
    /// The sides are listed and compared, and nothing is changed.
    Comparing,
    /// What has to go is deleted.
    Deleting,
}

/// The limits on requests under way, which adapt to what each service bears. None for a local side.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Concurrency {
    /// To the source's endpoint.
    pub source: Option<RequestLimit>,
    /// To the target's endpoint; the same as the source's if they are one endpoint.
    pub target: Option<RequestLimit>,
}

/// How many requests may be under way to one endpoint, over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RequestLimit {
    /// Now, or at the end.
    pub limit: u32,
    /// The least that it was.
    pub lowest: u32,
    /// How often it was halved because the service said that it was too much, or did not answer in time.
    pub cuts: u64,
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
    /// How many requests the services were given.
    pub concurrency: Concurrency,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The sides were compared, and that was all.
    pub compared: bool,
    /// It was a report, and that was all.
    pub reported: bool,
    /// Why nothing was deleted although something was to be, if so.
    pub deletes_withheld: Option<String>,
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
