//! One process for each job. The lock is the operating system's, on an open file, so a run that was killed leaves none.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lock cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// Another process has it; this one, if it said so.
    Held(Option<u32>),
    /// The file cannot be used.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock, and says in the file who has it.
    pub(super) fn take(path: &Path) -> Result<Lock, Refused> {
        loop {
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let mut file = options.map_err(Refused::Io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                    return Err(Refused::Held(process));
                }
                Err(TryLockError::Error(error)) => return Err(Refused::Io(error)),
            }
            // Its last holder may have removed the file between opening and locking; then somebody else can make a new one.
            if !is_at(&file, path) {
                continue;
            }
            // Only for the message to others: on a full disk the lock holds without it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Lock { file, path: path.to_owned() });
        }
    }

    /// Gives the lock back and removes its file.
    pub(super) fn remove(self) {
        let removed = std::fs::remove_file(&self.path);
        drop(self.file);
        if let Err(error) = removed {
            tracing::debug!(path = %self.path.display(), %error, "a lock's file could not be removed");
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(held), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_names_its_holder_and_is_free_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("job.lock");
        let held = Lock::take(&path).unwrap();
        assert!(matches!(Lock::take(&path), Err(Refused::Held(Some(id))) if id == std::process::id()));
        drop(held);
        assert!(path.exists());
        let again = Lock::take(&path).unwrap();
        again.remove();
        assert!(!path.exists());
        Lock::take(&path).unwrap();
    }
}
