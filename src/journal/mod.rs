//! The journal: what a resumed run may believe of the run before it.
//!
//! One SQLite file for each job, under the state directory. It remembers the unfinished large objects (open uploads with
//! their proven parts, temporary files with the parts written to them) and the runs that have not ended. Small objects have no
//! entry: sending one again costs less than writing that it was sent.
//!
//! **Nothing in it is believed unseen.** A part of an upload counts if the service lists it with the same ETag and CRC; a part
//! of a file counts if its bytes, read again, have the CRC that was written down. So the journal need not survive what the
//! system itself does not: it is written ahead (WAL) and never synced. A kill loses nothing that was committed, since the
//! page cache is the kernel's; a power cut may lose or tear it, and then costs work and nothing else. Reading a part again
//! is cheaper than fetching it, and spares the question after which reboots the page cache was lost.
//!
//! Key ranges that were done are remembered for their order alone: either side may have changed since, so the next run
//! compares them again, which is cheap, but only when it has been through what no run had got to.
//!
//! `schema` is the only description of what is on disk; `write` is the thread that owns it, fed by a bounded channel, so that
//! no shard waits for a file; `replay` reads it back; `lock` keeps two runs of one job apart; `identity` is what makes a job.

mod identity;
mod lock;
mod replay;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use lock::Lock;
use write::{Message, Writer};

use crate::entry::KeyRange;

pub use identity::{Identity, state_directory};
pub use replay::{JobOnDisk, jobs};

/// What an object's content is known by. Another value of any field is another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Length of the content.
    pub size_bytes: u64,
    /// Last modification: of a file in nanoseconds since 1970, of an object in whole seconds of them, since its listing and
    /// its head differ in what is finer.
    pub modified_ns: i64,
    /// The file's number; 0 for an object.
    pub inode: u64,
    /// The object's ETag; None for a file.
    pub etag: Option<String>,
}

/// An unfinished large object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its number in the journal.
    pub id: i64,
    /// Relative key.
    pub key: String,
    /// When it was begun, in milliseconds since 1970.
    pub began_ms: i64,
    /// What was being read.
    pub source: SourceIdentity,
    /// Length of all parts but the last.
    pub part_bytes: u64,
    /// Where it was being written.
    pub place: SavedPlace,
    /// The parts that were proven, in the order of their numbers.
    pub parts: Vec<SavedPart>,
}

/// An unfinished object, as a run sees it.
#[derive(Debug)]
pub struct Unfinished {
    /// What is known of it, without its parts.
    pub saved: Saved,
    /// This run has begun or continued it. What no run asks for any more is of use to nobody.
    pub is_claimed: bool,
}

impl Unfinished {
    /// The path of its temporary file beneath the target directory, if it has one.
    pub fn temporary(&self) -> Option<&Path> {
        match &self.saved.place {
            SavedPlace::File { temporary } => Some(temporary),
            SavedPlace::Upload { .. } => None,
        }
    }
}

/// Where an unfinished object lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedPlace {
    /// In a multipart upload. Without an id the run ended between asking for it and hearing of it.
    Upload {
        /// The token in the metadata of the object to be.
        token: String,
        /// The service's name for it.
        upload_id: Option<String>,
    },
    /// In a temporary file, by its path beneath the target directory.
    File {
        /// As `Partial::temp_path` gives it.
        temporary: PathBuf,
    },
}

/// A part that had arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPart {
    /// From 1.
    pub number: u32,
    /// Its length.
    pub size_bytes: u64,
    /// CRC64NVME of its bytes, as they passed.
    pub crc64: u64,
    /// MD5 of its bytes, where it was computed.
    pub md5: Option<[u8; 16]>,
    /// The ETag that the service gave it.
    pub etag: Option<String>,
    /// How the service's word was compared with ours.
    pub proof: SavedProof,
}

/// What a part was compared with when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedProof {
    /// The CRC64NVME that the service computed.
    Checksum,
    /// The ETag.
    ETag,
    /// Both of them.
    ChecksumAndETag,
    /// Nothing: the service gave nothing to compare with.
    None,
    /// Nothing: there was an ETag alone, and the person did not want ETags compared.
    TurnedOff,
}

/// Why a job's journal is not there for a run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process runs the same job.
    #[error("the same job is already running{}; wait for it to end, or stop it", process(.0))]
    Running(Option<u32>),
    /// The state directory or the file cannot be used.
    #[error("{0}")]
    Unusable(String),
}

fn process(id: &Option<u32>) -> String {
    id.map(|id| format!(" as process {id}")).unwrap_or_default()
}

/// A job's journal, held by this process until the run ends.
#[derive(Debug)]
pub struct Job {
    journal: Journal,
    thread: JoinHandle<()>,
    trouble: Arc<OnceLock<String>>,
    /// What the person should know about the file that was found: it was damaged and put aside.
    pub damage: Option<String>,
    /// Stands in the names of this run's temporary files.
    pub run_tag: u32,
    /// The tags of runs that did not come to their end.
    pub killed_run_tags: Vec<u32>,
    /// Key ranges that they had listed and compared, in order.
    pub done: Vec<KeyRange>,
    path: PathBuf,
    lock: Lock,
}

/// How a run ended, as far as the journal cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All ranges were looked at, and what killed runs left was removed.
    Complete,
    /// Before its time, but in order: its own temporary files are removed or in the journal.
    Early,
}

/// A shard's access to the journal; clones share one.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    sender: Option<mpsc::Sender<Message>>,
    next_id: Arc<AtomicI64>,
}

/// Entries that may wait for the journal's thread: parts are megabytes, so this is a second's worth even at full speed.
const MESSAGES_WAITING: usize = 1_024;

impl Job {
    /// Opens the journal of a job, and takes the job for this process.
    ///
    /// # Errors
    /// [`OpenError::Running`] if another process has it; [`OpenError::Unusable`] if there can be none.
    pub fn open(state_directory: &Path, identity: &Identity, run_tag: u32) -> Result<Job, OpenError> {
        let path = state_directory.join(format!("{}.db", identity.name()));
        let unusable = |error: std::io::Error| {
            OpenError::Unusable(format!("the state directory `{}` cannot be used: {error}", state_directory.display()))
        };
        std::fs::create_dir_all(state_directory).map_err(unusable)?;
        let lock = Lock::take(&path.with_extension("lock")).map_err(|refused| match refused {
            lock::Refused::Held(process) => OpenError::Running(process),
            lock::Refused::Io(error) => unusable(error),
        })?;
        let (mut connection, damage) = schema::open_or_put_aside(&path, identity)?;
        let in_file = |error: rusqlite::Error| schema::unusable(&path, &error);
        let killed_run_tags = replay::run_tags(&connection).map_err(in_file)?;
        let next_id = replay::next_id(&connection).map_err(in_file)?;
        let (done, rows) = replay::done(&connection).map_err(in_file)?;
        if done.len() < rows {
            write::rewrite_done(&mut connection, &done).map_err(in_file)?;
        }
        write::record_run(&connection, run_tag).map_err(in_file)?;
        let trouble: Arc<OnceLock<String>> = Arc::default();
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING);
        let writer = Writer::new(connection, path.clone(), run_tag, next_id, trouble.clone());
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(messages))
            .map_err(unusable)?;
        let journal = Journal { sender: Some(sender), next_id: Arc::new(next_id.into()) };
        Ok(Job { journal, thread, trouble, damage, run_tag, killed_run_tags, done, path, lock })
    }

    /// Access for a shard.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Why nothing more is written down, once that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    /// All unfinished objects, without their parts.
    pub async fn unfinished(&self) -> Vec<Unfinished> {
        self.journal.ask(Message::Unfinished).await.unwrap_or_default()
    }

    /// Ends the run. All clones of the journal must be gone. A journal with nothing left in it is removed.
    /// Returns why something was not written down, if it was not.
    pub async fn finish(self, end: RunEnd) -> Option<String> {
        let Job { journal, thread, trouble, path, lock, .. } = self;
        journal.tell(Message::End(end)).await;
        drop(journal);
        if thread.join().is_err() {
            let _ = trouble.set("the journal's thread panicked: a mistake in Ropeway".to_owned());
        }
        if !path.exists() {
            lock.remove();
        }
        trouble.get().cloned()
    }
}

impl Journal {
    /// What an earlier run left of the object with this relative key. It counts as claimed from now on.
    pub async fn recall(&self, key: &str) -> Option<Saved> {
        let key = key.to_owned();
        self.ask(|answer| Message::Recall { key, answer }).await.flatten()
    }

    /// Writes down that an object is being begun, and returns its number once that is on record. None if it cannot be.
    pub async fn begin(&self, key: &str, source: SourceIdentity, part_bytes: u64, place: SavedPlace) -> Option<i64> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (key, began_ms) = (key.to_owned(), write::now_ms());
        let begun = Box::new(Saved { id, key, began_ms, source, part_bytes, place, parts: Vec::new() });
        self.ask(|answer| Message::Begin { begun, answer }).await.filter(|written| *written).map(|_| id)
    }

    /// Writes down the service's name for an upload, and returns once that is on record.
    pub async fn opened(&self, id: i64, upload_id: &str) {
        let upload_id = upload_id.to_owned();
        self.ask(|answer| Message::Opened { id, upload_id, answer }).await;
    }

    /// Writes down a part that has arrived and was proven.
    pub async fn part(&self, id: i64, part: SavedPart) {
        self.tell(Message::Part { id, part }).await;
    }

    /// Strikes an object out: it is finished, or nothing is left of it.
    pub async fn forget(&self, id: i64) {
        self.tell(Message::Forget { id }).await;
    }

    /// Writes down that a key range was listed to its end and compared.
    pub async fn done(&self, range: KeyRange) {
        self.tell(Message::Done(range)).await;
    }

    async fn tell(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // A journal that has ended has said why.
            let _ = sender.send(message).await;
        }
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let sender = self.sender.as_ref()?;
        let (answer, answered) = oneshot::channel();
        sender.send(message(answer)).await.ok()?;
        answered.await.ok()
    }
}
