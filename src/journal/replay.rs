//! Reading a journal back: for the run that continues it, and for `cleanup`, which looks at all jobs.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};

use super::lock::Lock;
use super::{Identity, Saved, SavedPart, SavedPlace, SavedProof, SourceIdentity, schema};
use crate::entry::KeyRange;

/// A job's journal as somebody else sees it.
#[derive(Debug)]
pub struct JobOnDisk {
    /// Whose it is.
    pub identity: Identity,
    /// Its unfinished objects, without their parts.
    pub unfinished: Vec<Saved>,
    /// The tags of its runs that have not ended.
    pub run_tags: Vec<u32>,
    /// Keeps the job from running as long as this lives. None if it is running.
    held: Option<Lock>,
    path: PathBuf,
}

impl JobOnDisk {
    /// Whether a process runs it now.
    pub fn is_running(&self) -> bool {
        self.held.is_none()
    }

    /// Strikes out what is no longer there. A job that is running does so itself.
    pub fn forget(&self, ids: &[i64]) {
        if self.held.is_none() || ids.is_empty() {
            return;
        }
        let forgotten = schema::open_to_read(&self.path).and_then(|connection| {
            for id in ids {
                connection.execute("DELETE FROM part WHERE transfer = ?1", [id])?;
                connection.execute("DELETE FROM transfer WHERE id = ?1", [id])?;
            }
            Ok(())
        });
        if let Err(error) = forgotten {
            // Its next run finds that they are gone.
            tracing::debug!(path = %self.path.display(), %error, "a journal could not be brought up to date");
        }
    }
}

/// All jobs that have a journal in the directory. Files that cannot be read are passed over: nothing is known from them.
pub fn jobs(state_directory: &Path) -> Vec<JobOnDisk> {
    let entries = std::fs::read_dir(state_directory).into_iter().flatten().flatten();
    let journals = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "db"));
    journals.filter_map(|path| job(path).ok()).collect()
}

fn job(path: PathBuf) -> rusqlite::Result<JobOnDisk> {
    // Whoever cannot be asked is taken for running.
    let held = Lock::take(&path.with_extension("lock")).ok();
    let connection = schema::open_to_read(&path)?;
    let identity = connection.query_row("SELECT source, target FROM job", [], |row| {
        Ok(Identity { source: row.get(0)?, target: row.get(1)? })
    })?;
    let (unfinished, run_tags) = (transfers(&connection)?, run_tags(&connection)?);
    Ok(JobOnDisk { identity, unfinished, run_tags, held, path })
}

/// The last entry for a key that was made before this run, with its parts.
pub(super) fn by_key(connection: &Connection, key: &str, before_id: i64) -> rusqlite::Result<Option<Saved>> {
    let sql = format!("{TRANSFERS} WHERE key = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1");
    let saved = connection.prepare_cached(&sql)?.query_row((key, before_id), saved).optional()?;
    let Some(mut saved) = saved else { return Ok(None) };
    let sql = "SELECT number, size_bytes, crc64, md5, etag, proof FROM part WHERE transfer = ?1 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    saved.parts = statement.query_map([saved.id], part)?.collect::<Result<_, _>>()?;
    Ok(Some(saved))
}

const TRANSFERS: &str = "SELECT id, key, began_ms, size_bytes, modified_ns, inode, etag, part_bytes, token, upload_id, temporary \
                         FROM transfer";

/// All unfinished objects, without their parts.
pub(super) fn transfers(connection: &Connection) -> rusqlite::Result<Vec<Saved>> {
    connection.prepare(TRANSFERS)?.query_map([], saved)?.collect()
}

pub(super) fn run_tags(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    connection.prepare("SELECT tag FROM run")?.query_map([], |row| row.get(0))?.collect()
}

/// The key ranges that were done, in order and without overlap, and how many rows say so.
pub(super) fn done(connection: &Connection) -> rusqlite::Result<(Vec<KeyRange>, usize)> {
    let mut statement = connection.prepare("SELECT after, through FROM done ORDER BY after")?;
    let range = |row: &Row<'_>| -> rusqlite::Result<KeyRange> {
        let key = |text: Option<Vec<u8>>| text.map(Vec::into_boxed_slice);
        Ok(KeyRange { after: key(row.get(0)?), through: key(row.get(1)?) })
    };
    let rows: Vec<KeyRange> = statement.query_map([], range)?.collect::<Result<_, _>>()?;
    let count = rows.len();
    Ok((joined(rows), count))
}

/// Joins ranges that touch or overlap. They come in the order of their starts, NULL first, as SQLite sorts bytes.
fn joined(rows: Vec<KeyRange>) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(KeyRange { through: None, .. }) => break,
            Some(last) if row.after <= last.through => {
                if row.through.is_none() || row.through > last.through {
                    last.through = row.through;
                }
            }
            _ => ranges.push(row),
        }
    }
    ranges
}

/// A number that no entry has.
pub(super) fn next_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM transfer", [], |row| row.get(0))
}

fn saved(row: &Row<'_>) -> rusqlite::Result<Saved> {
    let token: Option<String> = row.get(8)?;
    let temporary: Option<String> = row.get(10)?;
    let place = match (token, temporary) {
        (Some(token), _) => SavedPlace::Upload { token, upload_id: row.get(9)? },
        (None, temporary) => SavedPlace::File { temporary: temporary.unwrap_or_default().into() },
    };
    Ok(Saved {
        id: row.get(0)?,
        key: row.get(1)?,
        began_ms: row.get(2)?,
        source: SourceIdentity {
            size_bytes: row.get::<_, i64>(3)? as u64,
            modified_ns: row.get(4)?,
            inode: row.get::<_, i64>(5)? as u64,
            etag: row.get(6)?,
        },
        part_bytes: row.get::<_, i64>(7)? as u64,
        place,
        parts: Vec::new(),
    })
}

fn part(row: &Row<'_>) -> rusqlite::Result<SavedPart> {
    Ok(SavedPart {
        number: row.get(0)?,
        size_bytes: row.get::<_, i64>(1)? as u64,
        crc64: row.get::<_, i64>(2)? as u64,
        md5: row.get(3)?,
        etag: row.get(4)?,
        proof: match row.get::<_, i32>(5)? {
            4 => SavedProof::TurnedOff,
            3 => SavedProof::ChecksumAndETag,
            2 => SavedProof::Checksum,
            1 => SavedProof::ETag,
            _ => SavedProof::None,
        },
    })
}
