//! A tree walked in raw byte order of its keys, page by page, so that it can be merged with a bucket's listing. Within a
//! directory, entries sort by name, and a directory sorts as its name plus `/`: `a-b`, `a.b`, `a/b` come in this order
//! although `a` is shorter than the others.
//!
//! What is held in memory is the names of the directories on the way down, never those of the whole tree; of a directory
//! with very many the most part is on disk (`names`). A walk can start
//! after any key without reading the directories before it, and says where its remainder could be cut in two.
//!
//! One bad entry never ends a walk: it becomes a [`Problem`] with its name and reason, and the rest goes on.

mod names;

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use names::{Gathering, Names};

use crate::path::{Directory, FileFacts, FileKind, Follow, Root, is_partial_name};

/// Directories of one walk that stay open at once. Deeper down, those nearest the root are closed and opened again on the
/// way back.
const OPEN_DIRECTORIES_MAX: usize = 32;

/// Fewer files are not worth a walk of their own; what a directory may hold nobody knows.
const FILES_SHARED_MIN: usize = 64;

/// How a tree is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    /// Whether symbolic links are followed; if not, they are left out, silently: that was the wish.
    pub follow_links: bool,
}

/// One page of a walk: the keys lie one after the other in one text, so that a page costs no allocation per file.
#[derive(Debug, Default)]
pub struct WalkPage {
    /// All keys of the page, without anything between them.
    pub text: Vec<u8>,
    /// The files, in key order.
    pub rows: Vec<WalkRow>,
    /// What could not be listed, in key order among themselves.
    pub problems: Vec<Problem>,
}

/// One file of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkRow {
    /// Where the key lies in [`WalkPage::text`]. Keys are UTF-8 with `/` between segments, relative to the root.
    pub key: Range<u32>,
    /// The file's length.
    pub size_bytes: u64,
    /// Its modification time, see [`FileFacts::modified_ns`].
    pub modified_ns: i64,
    /// The file system it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl WalkPage {
    /// The key of a row of this page.
    pub fn key(&self, row: &WalkRow) -> &[u8] {
        &self.text[row.key.start as usize..row.key.end as usize]
    }

    /// Empties the page, keeping its memory for the next.
    pub fn clear(&mut self) {
        self.text.clear();
        self.rows.clear();
        self.problems.clear();
    }

    fn push(&mut self, key: &[u8], facts: &FileFacts) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(key);
        let FileFacts { size_bytes, modified_ns, device, inode, kind: _ } = *facts;
        self.rows.push(WalkRow { key: start..self.text.len() as u32, size_bytes, modified_ns, device, inode });
    }

    fn report(&mut self, key: &[u8], reason: WalkProblem) {
        self.problems.push(Problem { key: key.to_vec(), reason });
    }
}

/// Something that is there and could not be listed.
#[derive(Debug)]
pub struct Problem {
    /// Its key, as bytes; a directory's ends in `/`.
    pub key: Vec<u8>,
    /// Why not.
    pub reason: WalkProblem,
}

/// Why something could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum WalkProblem {
    /// The system would not say what it is.
    #[error("it cannot be looked at: {0}")]
    Unreadable(#[source] io::Error),
    /// A directory that could not be read, or not to its end: nothing beneath it was listed.
    #[error("the directory cannot be read: {0}")]
    UnreadableDirectory(#[source] io::Error),
    /// The name, given here alone, is no UTF-8, and so cannot be a key. Of a directory, nothing beneath was listed.
    #[error("the name is not UTF-8: {}", .0.escape_ascii())]
    NotUtf8(Vec<u8>),
    /// A pipe, a socket or a device.
    #[error("it is a pipe, a socket or a device, and not a file")]
    Special,
    /// A link to a directory that contains the link.
    #[error("the symbolic link leads back to a directory above it")]
    SymlinkLoop,
    /// A link to nothing.
    #[error("the symbolic link leads nowhere")]
    DanglingSymlink,
    /// It was in its directory and then was gone, or had become another thing.
    #[error("it vanished while the tree was being listed")]
    Vanished,
}

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    root: Arc<Directory>,
    follow: Follow,
    /// Only keys greater than this are listed.
    start_after: Vec<u8>,
    /// And none greater than this, if it ends anywhere.
    end: Option<Vec<u8>>,
    /// The directories from the root down to the one being listed.
    levels: Vec<Level>,
    /// The key at hand; its first [`Level::prefix_len`] bytes are the directory's.
    key: Vec<u8>,
    /// What is wrong with the root itself, to be told on the first page.
    root_problem: Option<WalkProblem>,
}

#[derive(Debug)]
struct Level {
    /// `None`: closed for being far up, see [`OPEN_DIRECTORIES_MAX`].
    directory: Option<Arc<Directory>>,
    /// Device and inode.
    identity: (u64, u64),
    /// How many bytes of the key lead to this directory, its `/` included.
    prefix_len: usize,
    listing: Names,
    /// The entry that comes next.
    next: usize,
}

impl Walk {
    /// Starts a walk of all that is beneath `root`, of the keys greater than `start_after` if given.
    ///
    /// # Errors
    /// When the root itself cannot be looked at. That it cannot be read is told as a [`Problem`] with an empty key.
    pub fn new(root: &Root, start_after: Option<&[u8]>, options: WalkOptions) -> io::Result<Walk> {
        let mut walk = Walk {
            root: root.directory().clone(),
            follow: if options.follow_links { Follow::Links } else { Follow::Never },
            start_after: start_after.unwrap_or_default().to_vec(),
            end: None,
            levels: Vec::new(),
            key: Vec::new(),
            root_problem: None,
        };
        let facts = walk.root.own_facts()?;
        walk.root_problem = walk.enter(walk.root.clone(), facts).err().map(WalkProblem::UnreadableDirectory);
        Ok(walk)
    }

    /// Lets the walk end with the last key that is not greater than `end`. Somebody else walks what is behind it.
    pub fn end_at(&mut self, end: &[u8]) {
        self.end = Some(end.to_vec());
    }

    /// Replaces `page` by what the next `entries_max` entries yield in files and problems. Returns whether there may be more;
    /// any page may be empty.
    pub fn next_batch(&mut self, entries_max: usize, page: &mut WalkPage) -> bool {
        page.clear();
        if let Some(reason) = self.root_problem.take() {
            page.report(b"", reason);
        }
        // Entries that yield nothing count as well: a tree of empty directories, or of links into each other, would keep the
        // core for as long as it is deep.
        for _ in 0..entries_max {
            let Some(level) = self.levels.last_mut() else { return false };
            self.key.truncate(level.prefix_len);
            let (name, kind) = match level.listing.at(level.next) {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    self.levels.pop();
                    continue;
                }
                Err(error) => {
                    page.report(&self.key, WalkProblem::UnreadableDirectory(unsorted(error)));
                    self.levels.pop();
                    continue;
                }
            };
            level.next += 1;
            self.key.extend_from_slice(name);
            if self.end.as_deref().is_some_and(|end| is_past(end, &self.key, kind)) {
                self.levels.clear();
                return false;
            }
            match kind {
                EntryKind::File => self.list_file(page),
                EntryKind::Directory => self.descend(page),
                EntryKind::NotUtf8 => {
                    let name = self.name().to_vec();
                    page.report(&self.key, WalkProblem::NotUtf8(name));
                }
                EntryKind::Special => page.report(&self.key, WalkProblem::Special),
                EntryKind::Dangling => page.report(&self.key, WalkProblem::DanglingSymlink),
                EntryKind::Looping => page.report(&self.key, WalkProblem::SymlinkLoop),
                EntryKind::Vanished => page.report(&self.key, WalkProblem::Vanished),
            }
        }
        true
    }

    /// A key that cuts what this walk has not listed yet roughly in two, or `None` when there is nothing to share. Whoever
    /// takes the tail starts a walk after this key; this walk's owner stops behind the last key that is not greater. The
    /// key itself need not exist. The cut is made in the directory nearest the root that is worth it: that has still two
    /// entries to come, the one being walked counted, and of files alone 64.
    pub fn split_key(&mut self) -> Option<Vec<u8>> {
        let deepest = self.levels.len().checked_sub(1)?;
        (0..=deepest).find_map(|depth| {
            let level = &mut self.levels[depth];
            if level.listing.is_on_disk() {
                // Whoever took a share would read and sort all of it again.
                return None;
            }
            // Above the deepest level, the entry before `next` is the directory being walked: it stays here.
            let first = if depth == deepest { level.next } else { level.next - 1 };
            let prefix = self.key.get(..level.prefix_len)?;
            let end = level.end(prefix, self.end.as_deref());
            let next = level.next;
            let is_directory = |index| matches!(level.listing.at(index), Ok(Some((_, EntryKind::Directory))));
            if end < first + FILES_SHARED_MIN && !(next..end).any(is_directory) {
                return None;
            }
            let middle = first + end.saturating_sub(first) / 2;
            // The last entry that stays, by a name that can be a key.
            (first..middle).rev().find_map(|index| {
                let (name, kind) = level.listing.at(index).ok()??;
                let mut cut = [prefix, name].concat();
                if kind == EntryKind::Directory {
                    // `0` is the byte after `/`: behind all that is in the directory, and not behind any sibling that
                    // sorts after it, save the one of exactly this name, which then stays here too.
                    cut.push(b'0');
                }
                (kind != EntryKind::NotUtf8).then_some(cut)
            })
        })
    }

    fn name(&self) -> &[u8] {
        &self.key[self.levels.last().map_or(0, |level| level.prefix_len)..]
    }

    /// Lists the file that the key at hand names.
    fn list_file(&mut self, page: &mut WalkPage) {
        let directory = match self.open_level() {
            Ok(directory) => directory,
            Err(error) => return page.report(&self.key, gone_or(error, WalkProblem::Unreadable)),
        };
        match directory.facts(as_path(self.name()), self.follow) {
            Ok(facts) if facts.kind == FileKind::Regular => page.push(&self.key, &facts),
            Ok(_) => page.report(&self.key, WalkProblem::Vanished),
            Err(error) => page.report(&self.key, gone_or(error, WalkProblem::Unreadable)),
        }
    }

    /// Goes down into the directory that the key at hand names.
    fn descend(&mut self, page: &mut WalkPage) {
        let opened = self.open_level().and_then(|above| {
            let directory = above.open_child(as_path(self.name()).as_os_str(), self.follow)?;
            let facts = directory.own_facts()?;
            Ok((Arc::new(directory), facts))
        });
        self.key.push(b'/');
        let (directory, facts) = match opened {
            Ok(opened) => opened,
            Err(error) => return page.report(&self.key, gone_or(error, WalkProblem::UnreadableDirectory)),
        };
        let is_above = |level: &Level| level.identity == (facts.device, facts.inode) && facts.inode != 0;
        if self.levels.iter().any(is_above) {
            return page.report(&self.key, WalkProblem::SymlinkLoop);
        }
        if let Err(error) = self.enter(directory, facts) {
            page.report(&self.key, gone_or(error, WalkProblem::UnreadableDirectory));
        }
    }

    /// Reads and sorts the directory that the key at hand leads to, and makes it the one being listed.
    fn enter(&mut self, directory: Arc<Directory>, facts: FileFacts) -> io::Result<()> {
        let listing = read(&directory, &self.key, &self.start_after, self.follow)?;
        if let Some(far_up) = self.levels.len().checked_sub(OPEN_DIRECTORIES_MAX) {
            self.levels[far_up].directory = None;
        }
        let identity = (facts.device, facts.inode);
        self.levels.push(Level { directory: Some(directory), identity, prefix_len: self.key.len(), listing, next: 0 });
        Ok(())
    }

    /// The directory being listed, opened again if it was closed.
    fn open_level(&mut self) -> io::Result<Arc<Directory>> {
        let Some(level) = self.levels.last_mut() else { return Ok(self.root.clone()) };
        if let Some(directory) = &level.directory {
            return Ok(directory.clone());
        }
        let mut directory = self.root.clone();
        for name in self.key[..level.prefix_len].split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            directory = Arc::new(directory.open_child(as_path(name).as_os_str(), self.follow)?);
        }
        let facts = directory.own_facts()?;
        if (facts.device, facts.inode) != level.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        level.directory = Some(directory.clone());
        Ok(directory)
    }
}

impl Level {
    /// The index behind the last entry that is not past the end of the walk.
    fn end(&mut self, prefix: &[u8], end: Option<&[u8]>) -> usize {
        let Some(end) = end else { return self.listing.len() };
        let (mut low, mut high) = (self.next, self.listing.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.listing.at(middle) {
                Ok(Some((name, kind))) if !is_past(end, &[prefix, name].concat(), kind) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

fn gone_or(error: io::Error, otherwise: impl FnOnce(io::Error) -> WalkProblem) -> WalkProblem {
    if error.kind() == io::ErrorKind::NotFound { WalkProblem::Vanished } else { otherwise(error) }
}

/// What is to be done about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    File,
    Directory,
    NotUtf8,
    Special,
    Dangling,
    Looping,
    Vanished,
}

impl EntryKind {
    /// By number.
    const ALL: [EntryKind; 7] = [
        EntryKind::File,
        EntryKind::Directory,
        EntryKind::NotUtf8,
        EntryKind::Special,
        EntryKind::Dangling,
        EntryKind::Looping,
        EntryKind::Vanished,
    ];
}

/// What may lie beyond `start_after` in the directory that `prefix` leads to, sorted.
fn read(directory: &Directory, prefix: &[u8], start_after: &[u8], follow: Follow) -> io::Result<Names> {
    let bound = Bound::of(prefix, start_after);
    if bound == Bound::Everything {
        return Ok(Names::default());
    }
    let (mut gathering, mut gathered) = (Gathering::new(), Ok(()));
    directory.list(|name, kind| {
        let bytes = name.as_encoded_bytes();
        if is_partial_name(bytes) {
            return;
        }
        let Some(kind) = entry_kind(directory, name, kind, follow) else { return };
        let kind = if std::str::from_utf8(bytes).is_err() { EntryKind::NotUtf8 } else { kind };
        if gathered.is_ok() && !bound.excludes(bytes, kind) {
            gathered = gathering.push(bytes, kind);
        }
    })?;
    gathered.and_then(|()| gathering.sorted()).map_err(unsorted)
}

/// Where a directory is larger than memory should be, there must be room on the disk.
fn unsorted(error: io::Error) -> io::Error {
    let text =
        format!("its names could not be sorted on disk: {error}; make room there, or name another place with TMPDIR");
    io::Error::new(error.kind(), text)
}

/// Whether all that an entry stands for is behind the end of the walk.
fn is_past(end: &[u8], key: &[u8], kind: EntryKind) -> bool {
    // All keys in a directory begin with its name and `/`.
    if kind == EntryKind::Directory { key.iter().chain(b"/").gt(end) } else { key > end }
}

/// Which entries of a directory come before the start of the walk.
#[derive(Debug, PartialEq, Eq)]
enum Bound<'a> {
    /// None do.
    Nothing,
    /// All do.
    Everything,
    /// Those up to this remainder of the key.
    UpTo(&'a [u8]),
}

impl<'a> Bound<'a> {
    fn of(prefix: &[u8], start_after: &'a [u8]) -> Bound<'a> {
        match start_after.strip_prefix(prefix) {
            Some(rest) => Bound::UpTo(rest),
            None if start_after < prefix => Bound::Nothing,
            None => Bound::Everything,
        }
    }

    /// Whether nothing that the entry stands for is greater than the bound.
    fn excludes(&self, name: &[u8], kind: EntryKind) -> bool {
        match *self {
            Bound::Nothing => false,
            Bound::Everything => true,
            // All keys in a directory begin with its name and `/`; they straddle the bound if it begins so too.
            Bound::UpTo(rest) if kind == EntryKind::Directory => {
                let straddles = rest.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'/'));
                !straddles && name.iter().chain(b"/").lt(rest)
            }
            Bound::UpTo(rest) => name <= rest && !rest.is_empty(),
        }
    }
}

/// What an entry is for this walk. `None`: it is left out.
fn entry_kind(directory: &Directory, name: &OsStr, told: Option<FileKind>, follow: Follow) -> Option<EntryKind> {
    let kind = match told {
        Some(kind) => kind,
        None => match directory.facts(Path::new(name), Follow::Never) {
            Ok(facts) => facts.kind,
            Err(_) => return Some(EntryKind::Vanished),
        },
    };
    match kind {
        FileKind::Regular => Some(EntryKind::File),
        FileKind::Directory => Some(EntryKind::Directory),
        FileKind::Other => Some(EntryKind::Special),
        FileKind::Symlink if follow == Follow::Never => None,
        FileKind::Symlink => Some(match directory.facts(Path::new(name), Follow::Links) {
            Ok(FileFacts { kind: FileKind::Directory, .. }) => EntryKind::Directory,
            Ok(FileFacts { kind: FileKind::Other, .. }) => EntryKind::Special,
            Ok(FileFacts { kind: FileKind::Regular | FileKind::Symlink, .. }) => EntryKind::File,
            Err(error) if Directory::refused_a_link(&error) => EntryKind::Looping,
            Err(error) if error.kind() == io::ErrorKind::NotFound => EntryKind::Dangling,
            // Listed as a file, so that looking at it again gives the reason its place in the report.
            Err(_) => EntryKind::File,
        }),
    }
}

#[cfg(unix)]
fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(OsStr::from_bytes(bytes))
}

/// Names that are not UTF-8 are told apart when a directory is read and never come here.
#[cfg(not(unix))]
fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::str::from_utf8(bytes).expect("only names that are UTF-8 are opened"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const PLAIN: WalkOptions = WalkOptions { follow_links: true };

    fn plant(home: &Path, keys: &BTreeSet<String>) -> BTreeSet<String> {
        // A key that needs a directory where a file is, or the other way round, is left out.
        let fits = |key: &&String| {
            let path = home.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).is_ok() && std::fs::write(&path, key.as_bytes()).is_ok()
        };
        keys.iter().filter(fits).cloned().collect()
    }

    fn walk(home: &Path, start_after: Option<&[u8]>, options: WalkOptions, page_size: usize) -> Vec<String> {
        let mut walk = Walk::new(&Root::open(home).unwrap(), start_after, options).unwrap();
        let (mut page, mut keys, mut more) = (WalkPage::default(), Vec::new(), true);
        while more {
            more = walk.next_batch(page_size, &mut page);
            assert!(page.rows.len() + page.problems.len() <= page_size);
            for row in &page.rows {
                let key = String::from_utf8(page.key(row).to_vec()).unwrap();
                assert_eq!(row.size_bytes, std::fs::metadata(home.join(&key)).unwrap().len());
                keys.push(key);
            }
            keys.extend(
                page.problems.iter().map(|problem| format!("{}: {}", problem.key.escape_ascii(), problem.reason)),
            );
        }
        keys
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ab.0-]{1,2}".prop_filter("no dots alone", |name| name != "." && name != ".."),
            1 => "[ab\u{e9}\u{10348} +]{1,3}",
        ]
    }

    fn tree() -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set(prop::collection::vec(segment(), 1..5).prop_map(|names| names.join("/")), 0..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn a_walk_is_the_sorted_list_of_all_keys_and_may_start_after_any(
            keys in tree(),
            start in prop::collection::vec(segment(), 0..4),
            page_size in 1..10usize,
        ) {
            let home = tempfile::tempdir().unwrap();
            let keys: Vec<String> = plant(home.path(), &keys).into_iter().collect();
            prop_assert_eq!(&walk(home.path(), None, PLAIN, page_size), &keys);
            let starts = keys.iter().cloned().chain([start.join("/"), start.join("/") + "/"]);
            for start in starts {
                let after: Vec<_> = keys.iter().filter(|key| **key > start).cloned().collect();
                prop_assert_eq!(&walk(home.path(), Some(start.as_bytes()), PLAIN, page_size), &after, "{}", start);
            }
        }

        /// At any point, the cut lies ahead of what was listed, and those who share find every key once.
        #[test]
        fn a_cut_loses_and_doubles_nothing(keys in tree(), listed in 0..20usize) {
            let home = tempfile::tempdir().unwrap();
            let keys: Vec<String> = plant(home.path(), &keys).into_iter().collect();
            let mut walk_one = Walk::new(&Root::open(home.path()).unwrap(), None, PLAIN).unwrap();
            let mut page = WalkPage::default();
            walk_one.next_batch(listed, &mut page);
            let listed = page.rows.len();
            match walk_one.split_key() {
                // On the way down no directory was left but those being walked.
                None => {
                    let is_directory = |level: &mut Level, index| {
                        matches!(level.listing.at(index), Ok(Some((_, EntryKind::Directory))))
                    };
                    let deepest = walk_one.levels.len().saturating_sub(1);
                    for (depth, level) in walk_one.levels.iter_mut().enumerate() {
                        let (first, len) = (level.next, level.listing.len());
                        let left = (first..len).filter(|index| is_directory(level, *index)).count();
                        prop_assert!(left == 0 || depth == deepest && first + 1 >= len);
                    }
                }
                Some(cut) => {
                    let cut = String::from_utf8(cut).unwrap();
                    prop_assert!(listed == 0 || keys[listed - 1] <= cut);
                    let kept = keys.iter().take_while(|key| **key <= cut).cloned();
                    let given = walk(home.path(), Some(cut.as_bytes()), PLAIN, 7);
                    walk_one.end_at(cut.as_bytes());
                    let mut rest = Vec::new();
                    while walk_one.next_batch(3, &mut page) || !page.rows.is_empty() {
                        rest.extend(page.rows.iter().map(|row| String::from_utf8(page.key(row).to_vec()).unwrap()));
                    }
                    prop_assert_eq!(&rest, &keys.iter().skip(listed).take_while(|key| **key <= cut).cloned().collect::<Vec<_>>());
                    prop_assert!(!given.is_empty() || keys.len() < 2 || keys.iter().all(|key| *key <= cut));
                    prop_assert_eq!(kept.chain(given).collect::<Vec<_>>(), keys);
                }
            }
        }
    }

    #[test]
    fn a_flat_directory_is_cut_in_its_middle_and_a_deep_one_near_the_root() {
        let home = tempfile::tempdir().unwrap();
        plant(home.path(), &(0..200).map(|number| format!("{number:03}")).collect());
        let root = Root::open(home.path()).unwrap();
        let mut flat = Walk::new(&root, None, PLAIN).unwrap();
        assert_eq!(flat.split_key().unwrap(), b"099");
        flat.next_batch(50, &mut WalkPage::default());
        assert_eq!(flat.split_key().unwrap(), b"124");
        flat.end_at(b"124");
        assert_eq!(flat.split_key().unwrap(), b"086", "what was given away is not given again");
        flat.next_batch(20, &mut WalkPage::default());
        assert_eq!(flat.split_key(), None, "a few files are not worth sharing");

        let home = tempfile::tempdir().unwrap();
        plant(home.path(), &["a/1", "a/2", "a/3", "b/1", "c/1"].map(str::to_owned).into());
        let root = Root::open(home.path()).unwrap();
        let mut deep = Walk::new(&root, None, PLAIN).unwrap();
        deep.next_batch(1, &mut WalkPage::default());
        assert_eq!(deep.split_key().unwrap(), b"a0", "a is under way; b and c are given away");
    }

    #[test]
    fn a_directory_sorts_as_its_name_and_a_slash() {
        let home = tempfile::tempdir().unwrap();
        let keys = ["a-b", "a.b", "a/b", "a/c/d", "a0", "ab"].map(str::to_owned);
        plant(home.path(), &keys.clone().into());
        assert_eq!(walk(home.path(), None, PLAIN, 100), keys);
        assert_eq!(walk(home.path(), Some(b"a/"), PLAIN, 100), keys[2..]);
        assert_eq!(walk(home.path(), Some(b"a"), PLAIN, 100), keys);
    }

    #[test]
    fn temporary_files_of_ropeway_are_not_listed() {
        let home = tempfile::tempdir().unwrap();
        let keys = [".ropeway-0123456789abcdef.partial", ".ropeway-notes.partial", "a"].map(str::to_owned);
        plant(home.path(), &keys.clone().into());
        assert_eq!(walk(home.path(), None, PLAIN, 100), keys[1..]);
    }

    #[test]
    fn deeper_than_the_open_directories_still_lists_all() {
        let home = tempfile::tempdir().unwrap();
        let keys = (0..OPEN_DIRECTORIES_MAX * 2)
            .flat_map(|depth| ["b", "z"].map(|name| "m/".repeat(depth) + name))
            .collect::<BTreeSet<_>>();
        plant(home.path(), &keys);
        assert_eq!(walk(home.path(), None, PLAIN, 5), keys.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_tree_has_one_empty_page() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("empty/deeper")).unwrap();
        assert!(walk(home.path(), None, PLAIN, 10).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_listed_is_named_with_its_reason_and_the_rest_goes_on() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at("dir/sub")).unwrap();
        std::fs::write(at("dir/file"), "").unwrap();
        std::fs::write(at("last"), "").unwrap();
        std::fs::write(home.path().join(OsStr::from_bytes(b"latin\xe9")), "").unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("self", at("self")).unwrap();
        symlink("../..", at("dir/sub/up")).unwrap();
        symlink("dir/file", at("link-to-file")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let mut told = walk(home.path(), None, PLAIN, 100);
        assert_eq!(
            told.split_off(3),
            [
                "dangling: the symbolic link leads nowhere",
                "dir/sub/up/: the symbolic link leads back to a directory above it",
                "latin\\xe9: the name is not UTF-8: latin\\xe9",
                "pipe: it is a pipe, a socket or a device, and not a file",
                "self: the symbolic link leads back to a directory above it",
            ]
        );
        assert_eq!(told, ["dir/file", "last", "link-to-file"]);
        let unfollowed = walk(home.path(), None, WalkOptions { follow_links: false }, 100);
        assert_eq!(unfollowed.iter().filter(|line| !line.contains(": ")).collect::<Vec<_>>(), ["dir/file", "last"]);
    }

    /// A directory taken away between its listing and the way back to it, and a file between listing and looking.
    #[test]
    fn what_vanishes_meanwhile_is_a_problem_of_its_own() {
        let home = tempfile::tempdir().unwrap();
        plant(home.path(), &["a", "b", "c/d", "e"].map(str::to_owned).into());
        let mut walk = Walk::new(&Root::open(home.path()).unwrap(), None, PLAIN).unwrap();
        let mut page = WalkPage::default();
        walk.next_batch(1, &mut page);
        std::fs::remove_file(home.path().join("b")).unwrap();
        std::fs::remove_dir_all(home.path().join("c")).unwrap();
        assert!(!walk.next_batch(100, &mut page));
        assert_eq!(page.rows.iter().map(|row| page.key(row)).collect::<Vec<_>>(), [b"e"]);
        let gone: Vec<_> = page.problems.iter().map(|problem| &problem.key[..]).collect();
        assert_eq!(gone, [&b"b"[..], b"c/"]);
        assert!(page.problems.iter().all(|problem| matches!(problem.reason, WalkProblem::Vanished)));
    }
}
