//! A directory of one test, and what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A directory that is removed at the end of the test.
pub struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Tree {
        Tree { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file or directory in it.
    pub fn at(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path().join(relative)
    }

    /// Writes a file, its directories included.
    pub fn file(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Tree {
        let path = self.at(relative);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("directories");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Sets a file's modification time, in nanoseconds since 1970.
    pub fn set_modified(&self, relative: impl AsRef<Path>, ns: u64) -> &Tree {
        let file = std::fs::File::options().write(true).open(self.at(relative)).expect("a file");
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(ns)).expect("a time");
        self
    }

    /// A file's modification time, in nanoseconds since 1970.
    pub fn modified(&self, relative: impl AsRef<Path>) -> u64 {
        let modified = std::fs::metadata(self.at(relative)).and_then(|facts| facts.modified()).expect("a file");
        nanoseconds(modified)
    }

    /// Everything below `relative`, directories too, as paths; for what must not have changed.
    pub fn names(&self, relative: impl AsRef<Path>) -> Vec<PathBuf> {
        let root = self.at(relative);
        let mut found = Vec::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.expect("an entry")) {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
                found.push(entry.path().strip_prefix(&root).expect("below the root").to_owned());
            }
        }
        found.sort();
        found
    }

    /// Every regular file below `relative`, with its content.
    pub fn contents(&self, relative: impl AsRef<Path>) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.at(relative);
        let mut found = BTreeMap::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.expect("an entry")) {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let relative = path.strip_prefix(&root).expect("below the root").to_owned();
                    found.insert(relative, std::fs::read(&path).expect("a readable file"));
                }
            }
        }
        found
    }
}

/// Nanoseconds since 1970.
pub fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos() as u64
}

/// Where a random test begins: somewhere else each time, unless `ROPEWAY_TEST_SEED` says where. The test prints it.
pub fn seed() -> u64 {
    match std::env::var("ROPEWAY_TEST_SEED") {
        Ok(seed) => seed.parse().expect("ROPEWAY_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

/// Bytes that no compressor and no cut repeats, the same in every run.
pub fn noise(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}
