//! Body files under one directory, named by random numbers so that no key ever becomes a path.
//!
//! A file is written under `incoming`, then renamed to `bodies`; it belongs to nobody until the index refers to it and
//! is removed once nothing refers to it and the last reader has left. Files are not synced one by one: a killed process
//! loses nothing that the system has accepted, and surviving a power cut is not promised.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const INCOMING: &str = "incoming";
const BODIES: &str = "bodies";

/// Subdirectories of `bodies`: with a million files, each holds some four thousand.
const FAN_OUT: u64 = 256;

/// The directory and who is using its files.
#[derive(Debug)]
pub(in crate::serve) struct Files {
    root: PathBuf,
    leases: Mutex<HashMap<u64, Use>>,
}

#[derive(Debug)]
struct Use {
    leases: usize,
    /// Whether the file goes when the last lease does.
    doomed: bool,
}

impl Files {
    /// Makes the directories, and clears away what was being received when the last server stopped.
    pub(super) fn open(root: &Path) -> io::Result<Arc<Self>> {
        let incoming = root.join(INCOMING);
        fs::create_dir_all(&incoming)?;
        for leftover in fs::read_dir(&incoming)? {
            fs::remove_file(leftover?.path())?;
        }
        for fan in 0..FAN_OUT {
            fs::create_dir_all(root.join(BODIES).join(format!("{fan:02x}")))?;
        }
        Ok(Arc::new(Self { root: root.to_owned(), leases: Mutex::new(HashMap::new()) }))
    }

    /// Removes every body file that the index does not know: received whole, but never committed.
    pub(super) fn remove_orphans<E: From<io::Error>>(
        &self,
        mut is_known: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<(), E> {
        for fan in fs::read_dir(self.root.join(BODIES))? {
            for file in fs::read_dir(fan?.path())? {
                let file = file?;
                let id = file.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
                // What has another kind of name is not ours to remove.
                if let Some(id) = id
                    && !is_known(id)?
                {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    /// A new file to write a body to.
    pub(super) fn incoming(self: &Arc<Self>) -> io::Result<Incoming> {
        let id = fastrand::u64(..);
        let path = self.root.join(INCOMING).join(format!("{id:016x}"));
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Incoming { file, temporary: Temporary { path }, id, files: self.clone() })
    }

    /// A lease on a file that the index refers to. The caller holds the index, so that it refers to it still.
    pub(super) fn lease(self: &Arc<Self>, id: u64) -> Lease {
        self.lease_as(id, false)
    }

    /// The index refers to the file now, and the caller has a lease on it.
    pub(super) fn keep(&self, id: u64) {
        if let Some(used) = self.lock().get_mut(&id) {
            used.doomed = false;
        }
    }

    /// The index refers to the file no longer: it goes now, or when its last reader does.
    pub(super) fn doom(&self, id: u64) {
        let mut leases = self.lock();
        match leases.get_mut(&id) {
            Some(used) => used.doomed = true,
            None => self.remove(id),
        }
    }

    fn lease_as(self: &Arc<Self>, id: u64, doomed: bool) -> Lease {
        self.lock().entry(id).or_insert(Use { leases: 0, doomed }).leases += 1;
        Lease { id, files: self.clone() }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.root.join(BODIES).join(format!("{:02x}", id % FAN_OUT)).join(format!("{id:016x}"))
    }

    /// A file that cannot be removed is an orphan, and the next start tries again.
    fn remove(&self, id: u64) {
        if let Err(error) = fs::remove_file(self.path(id)) {
            tracing::warn!(%error, "a body of the embedded server could not be removed");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Use>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a body file from being removed.
#[derive(Debug)]
pub(in crate::serve) struct Lease {
    id: u64,
    files: Arc<Files>,
}

impl Lease {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn open(&self) -> io::Result<File> {
        File::open(self.files.path(self.id))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.files.lock();
        let used = leases.get_mut(&self.id).expect("a lease is counted while it lives");
        used.leases -= 1;
        if used.leases == 0 {
            let doomed = used.doomed;
            leases.remove(&self.id);
            // Still under the lock, so that nobody leases the file between the count and its end.
            if doomed {
                self.files.remove(self.id);
            }
        }
    }
}

/// A body being received; dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub(in crate::serve) struct Incoming {
    file: File,
    temporary: Temporary,
    id: u64,
    files: Arc<Files>,
}

impl Incoming {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Moves the file to its place. It goes with the lease unless the index keeps it.
    pub(super) fn publish(self) -> io::Result<Lease> {
        let lease = self.files.lease_as(self.id, true);
        fs::rename(&self.temporary.path, self.files.path(self.id))?;
        std::mem::forget(self.temporary);
        Ok(lease)
    }
}

#[derive(Debug)]
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "an unfinished body of the embedded server could not be removed");
        }
    }
}
