//! Entries kept until the end of a run: in memory while they are few, and in a temporary file beyond that, so that memory
//! does not grow with their number.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};

use ropeway_s3proto::name::ETag;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// What a record holds in memory: some thousands of entries.
const MEMORY_BYTES_MAX: usize = 256 << 10;

/// A list that is written once and then read once.
#[derive(Debug, Default)]
pub(super) struct Record {
    len: u64,
    /// One line of JSON for each entry.
    recent: Vec<u8>,
    older: Option<File>,
}

/// An entry as it is written down.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    size_bytes: u64,
    modified_ns: i64,
    etag: Option<String>,
}

impl Record {
    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let line = Line {
            key: (&*entry.key).into(),
            size_bytes: entry.size_bytes,
            modified_ns: entry.modified_ns,
            etag: entry.etag.as_ref().map(ETag::to_string),
        };
        serde_json::to_writer(&mut self.recent, &line)?;
        self.recent.push(b'\n');
        self.len += 1;
        if self.recent.len() >= MEMORY_BYTES_MAX {
            let older = match &mut self.older {
                Some(older) => older,
                None => self.older.insert(nameless_file()?),
            };
            older.write_all(&self.recent)?;
            self.recent.clear();
        }
        Ok(())
    }

    /// All entries, in the order in which they came.
    pub(super) fn entries(mut self) -> io::Result<impl Iterator<Item = io::Result<Entry>>> {
        if let Some(older) = &mut self.older {
            older.seek(SeekFrom::Start(0))?;
        }
        let mut lines = BufReader::new(Whole { older: self.older, recent: Cursor::new(self.recent) });
        let mut text = String::new();
        Ok(std::iter::from_fn(move || {
            text.clear();
            match lines.read_line(&mut text) {
                Ok(0) => None,
                Ok(_) => Some(parse(&text)),
                Err(error) => Some(Err(error)),
            }
        }))
    }
}

fn parse(text: &str) -> io::Result<Entry> {
    let line: Line<'_> = serde_json::from_str(text)?;
    let etag = line.etag.map(|etag| ETag::parse(&etag)).transpose().map_err(io::Error::other)?;
    Ok(Entry { key: line.key.into(), size_bytes: line.size_bytes, modified_ns: line.modified_ns, etag, version: None })
}

/// First the file, then the memory.
struct Whole {
    older: Option<File>,
    recent: Cursor<Vec<u8>>,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(older) = &mut self.older {
            match older.read(buffer)? {
                0 => {}
                read => return Ok(read),
            }
        }
        self.recent.read(buffer)
    }
}

/// A temporary file that only we can read, and whose name is gone from the start: however the process ends, nothing of it
/// is left. (A system that removes no open file leaves it to whoever empties that directory.)
fn nameless_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("ropeway-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    let _ = std::fs::remove_file(&path);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went_however_many() {
        for count in [0u64, 1, 10, 20_000] {
            let entry = |number: u64| Entry {
                key: format!("a \"key\"\n\u{1}/{number}").into(),
                size_bytes: number,
                modified_ns: -(number as i64),
                etag: number.is_multiple_of(2).then(|| ETag::from_md5([7; 16])),
                version: None,
            };
            let mut record = Record::default();
            (0..count).for_each(|number| record.push(&entry(number)).unwrap());
            assert_eq!(record.len(), count);
            assert_eq!(record.older.is_some(), count == 20_000, "few stay in memory, and many do not");
            assert!(record.recent.len() < MEMORY_BYTES_MAX);
            let mut back = 0;
            for (number, found) in record.entries().unwrap().enumerate() {
                let (found, expected) = (found.unwrap(), entry(number as u64));
                assert_eq!(
                    (found.key, found.size_bytes, found.modified_ns, found.etag),
                    (expected.key, expected.size_bytes, expected.modified_ns, expected.etag)
                );
                back += 1;
            }
            assert_eq!(back, count);
        }
    }
}
