//! The names in one directory, sorted as their keys will be, whatever their number: what is more than a run of
//! [`RUN_NAMES`] is sorted run by run, written to a temporary file, and merged into a second one, from which a block at a
//! time is read. So ten million names take a few MiB of memory, half of it the index of blocks.
//!
//! The files have no name and end with the process. They lie in `$TMPDIR`, or else in `/var/tmp`, which unlike `/tmp` is
//! seldom memory itself.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::EntryKind;

/// Names that are sorted in memory: 24 bytes and the name for each, some 4 MiB.
const RUN_NAMES: usize = 1 << 16;

/// Names that are read at a time, and for which the index has one place.
const BLOCK_NAMES: usize = 256;

/// Bytes read ahead of each run while runs are merged; 150 runs make ten million names.
const MERGE_BUFFER_BYTES: usize = 16 << 10;

/// Names on their way into order.
#[derive(Debug)]
pub(super) struct Gathering {
    run: Run,
    run_names_max: usize,
    spilled: Option<Spilled>,
}

/// Names in order.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// All, or of those in a file a block.
    run: Run,
    len: usize,
    blocks: Option<Blocks>,
}

/// Names back to back, and where each begins.
#[derive(Debug, Default)]
struct Run {
    text: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    len: u16,
    kind: EntryKind,
}

/// Sorted runs in a file, one after the other.
#[derive(Debug)]
struct Spilled {
    file: BufWriter<File>,
    /// Where each run ends.
    ends: Vec<u64>,
    names: usize,
}

/// All names in order in a file.
#[derive(Debug)]
struct Blocks {
    file: File,
    /// Where each block begins, and where the last one ends.
    starts: Vec<u64>,
    /// The block at hand.
    loaded: usize,
}

impl Gathering {
    pub(super) fn new() -> Gathering {
        Gathering::in_runs_of(RUN_NAMES)
    }

    fn in_runs_of(run_names_max: usize) -> Gathering {
        Gathering { run: Run::default(), run_names_max, spilled: None }
    }

    /// Adds a name.
    ///
    /// # Errors
    /// When the temporary file cannot be made or written.
    pub(super) fn push(&mut self, name: &[u8], kind: EntryKind) -> io::Result<()> {
        if self.run.entries.len() == self.run_names_max {
            self.spill()?;
        }
        self.run.push(name, kind);
        Ok(())
    }

    /// All that was added, in order.
    ///
    /// # Errors
    /// When the temporary files cannot be made, written or read.
    pub(super) fn sorted(mut self) -> io::Result<Names> {
        if self.spilled.is_some() {
            self.spill()?;
        }
        match self.spilled {
            None => {
                self.run.sort();
                Ok(Names { len: self.run.entries.len(), run: self.run, blocks: None })
            }
            Some(spilled) => spilled.merge(),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled { file: BufWriter::new(temporary_file()?), ends: Vec::new(), names: 0 }),
        };
        self.run.sort();
        let mut end = spilled.ends.last().copied().unwrap_or(0);
        for index in 0..self.run.entries.len() {
            let (name, kind) = self.run.at(index);
            end += write_record(&mut spilled.file, name, kind)?;
        }
        spilled.ends.push(end);
        spilled.names += self.run.entries.len();
        self.run.clear();
        Ok(())
    }
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are too many for memory.
    pub(super) fn is_on_disk(&self) -> bool {
        self.blocks.is_some()
    }

    /// The name at a place.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub(super) fn at(&mut self, index: usize) -> io::Result<Option<(&[u8], EntryKind)>> {
        if index >= self.len {
            return Ok(None);
        }
        let Some(blocks) = &mut self.blocks else { return Ok(Some(self.run.at(index))) };
        let block = index / BLOCK_NAMES;
        if blocks.loaded != block {
            blocks.load(block, &mut self.run)?;
        }
        Ok(Some(self.run.at(index % BLOCK_NAMES)))
    }
}

impl Run {
    fn push(&mut self, name: &[u8], kind: EntryKind) {
        // The name of a directory entry is a NAME_MAX string, on every system less than 64 KiB.
        self.entries.push(Entry { start: self.text.len(), len: name.len() as u16, kind });
        self.text.extend_from_slice(name);
    }

    fn at(&self, index: usize) -> (&[u8], EntryKind) {
        let entry = self.entries[index];
        (&self.text[entry.start..entry.start + usize::from(entry.len)], entry.kind)
    }

    fn sort(&mut self) {
        let Run { text, entries } = self;
        let name = |entry: &Entry| &text[entry.start..entry.start + usize::from(entry.len)];
        entries.sort_unstable_by(|a, b| key_order(name(a), a.kind, name(b), b.kind));
    }

    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }
}

impl Spilled {
    fn merge(self) -> io::Result<Names> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let mut runs: Vec<_> = starts.zip(&self.ends).map(|(start, end)| RunReader::new(start, *end)).collect();
        let mut heap = BinaryHeap::new();
        for (index, run) in runs.iter_mut().enumerate() {
            heap.extend(run.next(&file)?.map(|(name, kind)| Reverse(Head { name, kind, run: index })));
        }
        let mut merged = BufWriter::new(temporary_file()?);
        let (mut starts, mut end, mut len) = (Vec::with_capacity(self.names / BLOCK_NAMES + 2), 0, 0);
        while let Some(Reverse(head)) = heap.pop() {
            if usize::is_multiple_of(len, BLOCK_NAMES) {
                starts.push(end);
            }
            end += write_record(&mut merged, &head.name, head.kind)?;
            len += 1;
            heap.extend(runs[head.run].next(&file)?.map(|(name, kind)| Reverse(Head { name, kind, ..head })));
        }
        starts.push(end);
        let file = merged.into_inner().map_err(io::IntoInnerError::into_error)?;
        let blocks = Blocks { file, starts, loaded: usize::MAX };
        Ok(Names { run: Run::default(), len, blocks: Some(blocks) })
    }
}

/// The next name of a run; the lowest comes first.
struct Head {
    name: Vec<u8>,
    kind: EntryKind,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        key_order(&self.name, self.kind, &other.name, other.kind).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Reads a run from the file that all runs share.
struct RunReader {
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl RunReader {
    fn new(at: u64, end: u64) -> RunReader {
        RunReader { at, end, buffer: Vec::new(), used: 0 }
    }

    fn next(&mut self, file: &File) -> io::Result<Option<(Vec<u8>, EntryKind)>> {
        loop {
            if let Some((name, kind, size)) = read_record(&self.buffer[self.used..])? {
                let name = name.to_vec();
                self.used += size;
                return Ok(Some((name, kind)));
            }
            let more = (self.end - self.at).min(MERGE_BUFFER_BYTES as u64);
            if more == 0 {
                return if self.used == self.buffer.len() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            read_at(file, self.at, more as usize, &mut self.buffer)?;
            self.at += more;
        }
    }
}

impl Blocks {
    fn load(&mut self, block: usize, into: &mut Run) -> io::Result<()> {
        let (start, end) = (self.starts[block], self.starts[block + 1]);
        let mut bytes = Vec::new();
        read_at(&self.file, start, (end - start) as usize, &mut bytes)?;
        into.clear();
        let mut rest = bytes.as_slice();
        while let Some((name, kind, size)) = read_record(rest)? {
            into.push(name, kind);
            rest = &rest[size..];
        }
        self.loaded = block;
        Ok(())
    }
}

/// Appends `size` bytes of the file to `buffer`. One thread uses the file, so its position is nobody else's.
fn read_at(mut file: &File, at: u64, size: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let before = buffer.len();
    buffer.resize(before + size, 0);
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut buffer[before..])
}

/// Length, kind, name.
fn write_record(file: &mut BufWriter<File>, name: &[u8], kind: EntryKind) -> io::Result<u64> {
    let [low, high] = (name.len() as u16).to_le_bytes();
    file.write_all(&[low, high, kind as u8])?;
    file.write_all(name)?;
    Ok(3 + name.len() as u64)
}

/// The first record and its size; None if it is not all there.
fn read_record(bytes: &[u8]) -> io::Result<Option<(&[u8], EntryKind, usize)>> {
    let Some((head, rest)) = bytes.split_first_chunk::<3>() else { return Ok(None) };
    let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let kind = EntryKind::ALL.get(usize::from(head[2])).ok_or(io::ErrorKind::InvalidData)?;
    Ok(rest.get(..len).map(|name| (name, *kind, 3 + len)))
}

fn temporary_file() -> io::Result<File> {
    let named = std::env::var_os("TMPDIR").is_some_and(|directory| !directory.is_empty());
    let large = Path::new("/var/tmp");
    if named || !large.is_dir() { tempfile::tempfile() } else { tempfile::tempfile_in(large) }
}

/// Orders two names of one directory as their keys will be.
fn key_order(a: &[u8], a_kind: EntryKind, b: &[u8], b_kind: EntryKind) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let tail = |name: &[u8], kind| name.get(common).copied().or((kind == EntryKind::Directory).then_some(b'/'));
        tail(a, a_kind).cmp(&tail(b, b_kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_disk_sorts_as_memory_does(
            names in prop::collection::btree_set("[ab.0/-]{1,6}|[é日]{1,2}", 0..700),
            directories in prop::collection::vec(any::<bool>(), 700),
            run in 1usize..300,
            order in any::<u64>(),
        ) {
            let names: BTreeSet<String> = names.into_iter().map(|name| name.replace('/', "~")).collect();
            let kind = |directory: bool| if directory { EntryKind::Directory } else { EntryKind::File };
            let mut all: Vec<_> = names.into_iter().zip(directories).map(|(name, is)| (name, kind(is))).collect();
            let key = |(name, kind): &(String, EntryKind)| {
                if *kind == EntryKind::Directory { format!("{name}/") } else { name.clone() }
            };
            all.sort_by_key(|entry| {
                entry.0.bytes().fold(order, |sum, byte| sum.rotate_left(9).wrapping_mul(31) ^ u64::from(byte))
            });
            let mut gathering = Gathering::in_runs_of(run);
            all.iter().for_each(|(name, kind)| gathering.push(name.as_bytes(), *kind).unwrap());
            let mut sorted = gathering.sorted().unwrap();
            all.sort_by_key(key);
            prop_assert_eq!(sorted.len(), all.len());
            // Backwards and forwards: blocks are read again.
            for index in (0..all.len()).rev().chain(0..all.len()) {
                let (name, kind) = sorted.at(index).unwrap().unwrap();
                prop_assert_eq!((name, kind), (all[index].0.as_bytes(), all[index].1));
            }
            prop_assert!(sorted.at(all.len()).unwrap().is_none());
        }
    }

    #[test]
    fn a_run_that_is_full_goes_to_the_disk() {
        let mut gathering = Gathering::new();
        for number in (0..=RUN_NAMES).rev() {
            gathering.push(format!("{number:08}").as_bytes(), EntryKind::File).unwrap();
        }
        assert!(gathering.spilled.is_some());
        let mut sorted = gathering.sorted().unwrap();
        assert!(sorted.is_on_disk());
        assert_eq!(sorted.len(), RUN_NAMES + 1);
        assert_eq!(sorted.at(RUN_NAMES).unwrap().unwrap().0, format!("{RUN_NAMES:08}").as_bytes());
        assert!(sorted.run.entries.len() <= BLOCK_NAMES);
    }
}
