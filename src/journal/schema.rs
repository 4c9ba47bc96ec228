//! What is on disk, and the only place that says so.
//!
//! A journal is an SQLite database, `<md5 of the job>.db`, with `-wal` and `-shm` beside it while it is open. Its
//! `application_id` says that it is ours and its `user_version` which description it follows; a file of a later version is
//! left alone, a file that is not whole is put aside as `<name>.damaged`.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{Identity, OpenError};

/// "Rope", as `file` and SQLite's own tools show it.
const APPLICATION_ID: i32 = 0x526f_7065;

/// The version of the tables below.
const VERSION: i32 = 1;

/// * `job`: one row, whose journal this is.
/// * `run`: runs that have begun and not ended. `tag` stands in the names of their temporary files.
/// * `transfer`: unfinished large objects. Of an upload `token` is set, and `upload_id` as soon as the service has answered; of a
///   file `temporary` is, its path beneath the target directory. `modified_ns`, `inode` and `etag` are the source's.
/// * `part`: parts of those that were proven. `crc64` is the CRC64NVME, its bits as a signed number; `proof` is 0 for nothing,
///   1 for the ETag, 2 for the checksum, 3 for both, 4 for nothing because ETags were not to be compared.
/// * `done`: key ranges that runs which did not come to their end had listed and compared. `after` is the key before the first
///   one, `through` the last; NULL is an end of the key space.
const TABLES: &str = "
CREATE TABLE job (source TEXT NOT NULL, target TEXT NOT NULL);
CREATE TABLE run (tag INTEGER PRIMARY KEY, process INTEGER NOT NULL, began_ms INTEGER NOT NULL);
CREATE TABLE transfer (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    began_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    etag TEXT,
    part_bytes INTEGER NOT NULL,
    token TEXT,
    upload_id TEXT,
    temporary TEXT
);
CREATE INDEX transfer_by_key ON transfer (key);
CREATE TABLE part (
    transfer INTEGER NOT NULL,
    number INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    crc64 INTEGER NOT NULL,
    md5 BLOB,
    etag TEXT,
    proof INTEGER NOT NULL,
    PRIMARY KEY (transfer, number)
) WITHOUT ROWID;
CREATE TABLE done (after BLOB, through BLOB);
";

/// Why a file is not a journal that can be used.
enum Unfit {
    /// Not whole, or another job's: nothing in it can be used.
    Damaged(String),
    /// The file may be good, but not now or not for this version.
    Unusable(String),
}

/// Opens the journal at `path`, making it if it is not there. One that is damaged is put aside, with a sentence about it.
pub(super) fn open_or_put_aside(path: &Path, identity: &Identity) -> Result<(Connection, Option<String>), OpenError> {
    let reason = match open(path, identity) {
        Ok(connection) => return Ok((connection, None)),
        Err(Unfit::Unusable(text)) => return Err(OpenError::Unusable(text)),
        Err(Unfit::Damaged(reason)) => reason,
    };
    let aside = path.with_extension("damaged");
    let failed =
        |error| OpenError::Unusable(format!("the damaged journal `{}` cannot be moved: {error}", path.display()));
    std::fs::rename(path, &aside).map_err(failed)?;
    for file in companions(path) {
        let _ = std::fs::remove_file(file);
    }
    let text = format!(
        "the journal `{}` is damaged ({reason}); it was put aside as `{}`, and what it knew of unfinished objects is not used",
        path.display(),
        aside.display()
    );
    match open(path, identity) {
        Ok(connection) => Ok((connection, Some(text))),
        Err(Unfit::Damaged(text) | Unfit::Unusable(text)) => Err(OpenError::Unusable(text)),
    }
}

/// Opens a journal that exists, to read it beside the run that may hold it.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite wants to write beside the file even for reading a journal written ahead.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    Ok(connection)
}

/// Somebody else may look at a journal for a moment; nobody writes to it but its run.
const BUSY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Removes a journal's files.
pub(super) fn remove(path: &Path) {
    for file in companions(path).into_iter().chain([path.to_owned()]) {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(path = %file.display(), %error, "a journal's file could not be removed");
            }
            _ => {}
        }
    }
}

/// The sentence about a journal that cannot be used.
pub(super) fn unusable(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Unusable(sentence(path, error))
}

/// What happened to the file, in words.
pub(super) fn sentence(path: &Path, error: &rusqlite::Error) -> String {
    format!("the journal `{}` cannot be used: {error}", path.display())
}

/// The files that SQLite keeps beside it.
fn companions(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

fn open(path: &Path, identity: &Identity) -> Result<Connection, Unfit> {
    let judge = |error: rusqlite::Error| judge(path, &error);
    let mut connection = Connection::open(path).map_err(judge)?;
    connection.busy_timeout(BUSY_PATIENCE).map_err(judge)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(judge);
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    if application == APPLICATION_ID && version > VERSION {
        let text = format!("the journal `{}` was written by a later version of Ropeway", path.display());
        return Err(Unfit::Unusable(text));
    }
    // Written ahead and never synced: see the module's page.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(judge)?;
    connection.pragma_update(None, "synchronous", "off").map_err(judge)?;
    if (version, application) == (0, 0) {
        create(&mut connection, identity).map_err(judge)?;
    } else if (version, application) != (VERSION, APPLICATION_ID) {
        return Err(Unfit::Damaged("it is not a journal of Ropeway's".to_owned()));
    }
    check(&connection, identity).map_err(judge)?.map_or(Ok(connection), |fault| Err(Unfit::Damaged(fault)))
}

/// Fills an empty file. All in one transaction, so a kill leaves it empty or whole.
fn create(connection: &mut Connection, identity: &Identity) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    change.execute_batch(TABLES)?;
    change.execute("INSERT INTO job VALUES (?1, ?2)", params![identity.source, identity.target])?;
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    change.pragma_update(None, "user_version", VERSION)?;
    change.commit()
}

/// What is wrong with an opened file, if anything is.
fn check(connection: &Connection, identity: &Identity) -> rusqlite::Result<Option<String>> {
    let fault: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if fault != "ok" {
        return Ok(Some(fault.lines().last().unwrap_or_default().to_owned()));
    }
    let job = connection.query_row("SELECT source, target FROM job", [], |row| {
        Ok(Identity { source: row.get(0)?, target: row.get(1)? })
    });
    Ok((job.optional()?.as_ref() != Some(identity)).then(|| "it is the journal of another job".to_owned()))
}

fn judge(path: &Path, error: &rusqlite::Error) -> Unfit {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Unfit::Damaged(error.to_string()),
        // A table is missing, though the version says that all are there.
        Some(ErrorCode::Unknown) => Unfit::Damaged(error.to_string()),
        _ if matches!(
            error,
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
        ) =>
        {
            Unfit::Damaged(error.to_string())
        }
        _ => Unfit::Unusable(sentence(path, error)),
    }
}
