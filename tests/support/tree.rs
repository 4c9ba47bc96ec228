//! A directory of one test, and what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
