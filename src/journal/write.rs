//! The thread that owns an open journal. Whatever waits is written in one transaction, so a burst costs as much as a single
//! entry. When a write fails, a full disk for instance, that is said once, nothing more is written, and everybody is
//! answered as if nothing were known.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use super::{RunEnd, Saved, SavedPart, SavedPlace, SavedProof, Unfinished, replay, schema};
use crate::entry::KeyRange;

/// What the journal is told and asked.
#[derive(Debug)]
pub(super) enum Message {
    Recall { key: String, answer: oneshot::Sender<Option<Saved>> },
    Begin { begun: Box<Saved>, answer: oneshot::Sender<bool> },
    Opened { id: i64, upload_id: String, answer: oneshot::Sender<()> },
    Part { id: i64, part: SavedPart },
    Forget { id: i64 },
    Done(KeyRange),
    Unfinished(oneshot::Sender<Vec<Unfinished>>),
    End(RunEnd),
}

/// Entries written in one transaction.
const BATCH_MAX: usize = 256;

/// The journal's thread.
pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    run_tag: u32,
    /// Entries with a number from this one on are this run's own.
    first_own_id: i64,
    /// Entries of earlier runs that were asked for.
    claimed: HashSet<i64>,
    trouble: Arc<OnceLock<String>>,
}

/// An answer that is due once the transaction is committed.
enum Due {
    Begun(oneshot::Sender<bool>),
    Opened(oneshot::Sender<()>),
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: PathBuf,
        run_tag: u32,
        first_own_id: i64,
        trouble: Arc<OnceLock<String>>,
    ) -> Writer {
        Writer { connection, path, run_tag, first_own_id, claimed: HashSet::new(), trouble }
    }

    /// Serves until everybody has let go of the journal.
    pub(super) fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut end = None;
        while let Some(first) = messages.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(message) = messages.try_recv()
            {
                batch.push(message);
            }
            if let Some(Message::End(how)) = batch.iter().find(|message| matches!(message, Message::End(_))) {
                end = Some(*how);
            }
            if let Err(error) = self.serve(batch) {
                let _ = self.trouble.set(schema::sentence(&self.path, &error));
            }
        }
        if let Some(end) = end
            && self.trouble.get().is_none()
        {
            self.close(end);
        }
    }

    fn serve(&mut self, batch: Vec<Message>) -> rusqlite::Result<()> {
        if self.trouble.get().is_some() {
            // Whoever waits is answered by the end of his channel.
            return Ok(());
        }
        let change = self.connection.transaction()?;
        let mut due = Vec::new();
        for message in batch {
            match message {
                Message::Recall { key, answer } => {
                    let saved = replay::by_key(&change, &key, self.first_own_id)?;
                    self.claimed.extend(saved.as_ref().map(|saved| saved.id));
                    let _ = answer.send(saved);
                }
                Message::Unfinished(answer) => {
                    let is_claimed = |saved: &Saved| saved.id >= self.first_own_id || self.claimed.contains(&saved.id);
                    let all = replay::transfers(&change)?;
                    let all = all.into_iter().map(|saved| Unfinished { is_claimed: is_claimed(&saved), saved });
                    let _ = answer.send(all.collect());
                }
                Message::Begin { begun, answer } => {
                    insert(&change, &begun)?;
                    due.push(Due::Begun(answer));
                }
                Message::Opened { id, upload_id, answer } => {
                    let sql = "UPDATE transfer SET upload_id = ?2 WHERE id = ?1";
                    change.prepare_cached(sql)?.execute(params![id, upload_id])?;
                    due.push(Due::Opened(answer));
                }
                Message::Part { id, part } => insert_part(&change, id, &part)?,
                Message::Forget { id } => {
                    change.prepare_cached("DELETE FROM part WHERE transfer = ?1")?.execute([id])?;
                    change.prepare_cached("DELETE FROM transfer WHERE id = ?1")?.execute([id])?;
                }
                Message::Done(range) => insert_done(&change, &range)?,
                Message::End(_) => {}
            }
        }
        change.commit()?;
        for due in due {
            match due {
                Due::Begun(answer) => drop(answer.send(true)),
                Due::Opened(answer) => drop(answer.send(())),
            }
        }
        Ok(())
    }

    /// Strikes the run out, and removes a journal in which nothing is left.
    fn close(self, end: RunEnd) {
        let Writer { connection, path, run_tag, trouble, .. } = self;
        let closed = || -> rusqlite::Result<bool> {
            match end {
                RunEnd::Complete => connection.execute_batch("DELETE FROM run; DELETE FROM done")?,
                RunEnd::Early => drop(connection.execute("DELETE FROM run WHERE tag = ?1", [run_tag])?),
            }
            let any =
                "SELECT EXISTS (SELECT 1 FROM transfer) OR EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM done)";
            connection.query_row(any, [], |row| row.get(0))
        };
        match closed() {
            Ok(true) => {}
            Ok(false) => {
                drop(connection);
                schema::remove(&path);
            }
            Err(error) => drop(trouble.set(schema::sentence(&path, &error))),
        }
    }
}

/// Writes down that a run has begun, before it has made anything.
pub(super) fn record_run(connection: &Connection, run_tag: u32) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![run_tag, std::process::id(), now_ms()]).map(drop)
}

/// Writes the ranges anew that were read with fewer borders than they were written with.
pub(super) fn rewrite_done(connection: &mut Connection, done: &[KeyRange]) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    change.execute("DELETE FROM done", [])?;
    done.iter().try_for_each(|range| insert_done(&change, range))?;
    change.commit()
}

fn insert_done(change: &Transaction<'_>, range: &KeyRange) -> rusqlite::Result<()> {
    let (after, through) = (range.after.as_deref(), range.through.as_deref());
    change.prepare_cached("INSERT INTO done VALUES (?1, ?2)")?.execute(params![after, through]).map(drop)
}

fn insert(change: &Transaction<'_>, begun: &Saved) -> rusqlite::Result<()> {
    let (token, upload_id, temporary) = match &begun.place {
        SavedPlace::Upload { token, upload_id } => (Some(token), upload_id.as_ref(), None),
        // Made from a key, so it is UTF-8.
        SavedPlace::File { temporary } => (None, None, temporary.to_str()),
    };
    let source = &begun.source;
    let sql = "INSERT INTO transfer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    change.prepare_cached(sql)?.execute(params![
        begun.id,
        begun.key,
        begun.began_ms,
        source.size_bytes as i64,
        source.modified_ns,
        source.inode as i64,
        source.etag,
        begun.part_bytes as i64,
        token,
        upload_id,
        temporary
    ])?;
    Ok(())
}

fn insert_part(change: &Transaction<'_>, id: i64, part: &SavedPart) -> rusqlite::Result<()> {
    let proof = match part.proof {
        SavedProof::None => 0,
        SavedProof::ETag => 1,
        SavedProof::Checksum => 2,
        SavedProof::ChecksumAndETag => 3,
        SavedProof::TurnedOff => 4,
    };
    let sql = "INSERT OR REPLACE INTO part VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (size_bytes, crc64, md5) =
        (part.size_bytes as i64, part.crc64 as i64, part.md5.as_ref().map(<[u8; 16]>::as_slice));
    change.prepare_cached(sql)?.execute(params![id, part.number, size_bytes, crc64, md5, part.etag, proof])?;
    Ok(())
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
