//! Opening names beneath a root and never outside it. Keys come from a bucket that others may write to, so a name is
//! hostile until proven otherwise: it is checked as text, then resolved by the kernel from the root's descriptor with
//! symbolic links forbidden, and what is created in a directory is created relative to that directory's descriptor, so
//! that nothing swapped in along the path can lead a write astray.
//!
//! A file appears by rename: [`Root::create_partial`] makes a temporary file beside the final name, and
//! [`Partial::publish`] puts it in place. Dropped before that, it leaves no trace and the old file untouched.

#[cfg(any(not(unix), test))]
mod portable;
mod remove;
#[cfg(unix)]
mod unix;

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::file::File;

#[cfg(not(unix))]
pub(crate) use portable::Directory;
pub use remove::Removal;
#[cfg(unix)]
pub(crate) use unix::Directory;

/// The longest name of one file or directory, in bytes; the common limit of the file systems in use.
const NAME_BYTES_MAX: usize = 255;

/// Every temporary file of Ropeway is named `.ropeway-<16 hex digits>.partial`. The first eight digits are the run's tag, if
/// its root has one ([`Root::tagged`]).
const PARTIAL_PREFIX: &str = ".ropeway-";
const PARTIAL_SUFFIX: &str = ".partial";

/// What kind of thing a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket or a device.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its length.
    pub size_bytes: u64,
    /// Nanoseconds since 1970 of the last change of its bytes; what does not fit saturates (the years 1677 and 2262).
    pub modified_ns: i64,
    /// The file system it is on; 0 where the system does not say.
    pub device: u64,
    /// Its number there; 0 where the system does not say.
    pub inode: u64,
    /// What it is.
    pub kind: FileKind,
}

impl FileFacts {
    /// What the system's answer about a file says.
    #[cfg(unix)]
    pub fn of(metadata: &std::fs::Metadata) -> FileFacts {
        use std::os::unix::fs::MetadataExt;
        FileFacts {
            size_bytes: metadata.len(),
            modified_ns: saturating_ns(metadata.mtime(), metadata.mtime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
            kind: kind_of(metadata),
        }
    }

    #[cfg(not(unix))]
    pub fn of(metadata: &std::fs::Metadata) -> FileFacts {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let modified_ns = match modified.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        FileFacts { size_bytes: metadata.len(), modified_ns, device: 0, inode: 0, kind: kind_of(metadata) }
    }
}

fn kind_of(metadata: &std::fs::Metadata) -> FileKind {
    let kind = metadata.file_type();
    if kind.is_file() {
        FileKind::Regular
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    }
}

#[cfg(unix)]
pub(crate) fn saturating_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Whether symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Yes, wherever they lead: for sources, where the user's links are the user's wish.
    Links,
    /// Never, at no segment of the path: for targets, where a link may have been planted.
    Never,
}

/// Why a key has no place beneath the root.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// `..`, or a symbolic link on the way.
    #[error("it would leave the target directory (a `..` segment, or a symbolic link on the way)")]
    Escapes,
    /// An empty segment, `.`, or a character that file names cannot hold.
    #[error(
        "no file can have this name (an empty segment, as a leading or a doubled `/` makes, a `.` segment, or a character not allowed in names)"
    )]
    NotRepresentable,
    /// A segment or the whole is longer than the file system allows.
    #[error("the name is too long for the file system (at most 255 bytes between slashes, 4096 in all)")]
    NameTooLong,
    /// A directory is where the file should go.
    #[error("a directory is in the place of the file")]
    IsDirectory,
    /// A file is where a directory should be.
    #[error("a file is in the place of a directory on the way")]
    NotADirectory,
    /// The system refused.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for PathError {
    fn from(error: io::Error) -> Self {
        if Directory::refused_a_link(&error) {
            return PathError::Escapes;
        }
        match error.kind() {
            io::ErrorKind::CrossesDevices => PathError::Escapes,
            io::ErrorKind::NotADirectory => PathError::NotADirectory,
            io::ErrorKind::IsADirectory => PathError::IsDirectory,
            io::ErrorKind::InvalidFilename => PathError::NameTooLong,
            _ => PathError::Io(error),
        }
    }
}

impl From<PathError> for io::Error {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Io(error) => error,
            PathError::Escapes
            | PathError::NotRepresentable
            | PathError::NameTooLong
            | PathError::IsDirectory
            | PathError::NotADirectory => io::Error::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

/// The place of `key` beneath a root. Every oddity is an error, a leading slash too, since two keys must not meet in one
/// file, and a file must be found again by its key. (A key that ends in a slash names a directory: take the slash off and see
/// [`Root::create_dir`].)
///
/// # Errors
/// Says why no file beneath the root can have this name.
pub fn key_to_relative(key: &str) -> Result<PathBuf, PathError> {
    key.split('/').try_for_each(check_segment)?;
    Ok(PathBuf::from(key))
}

fn check_segment(segment: &str) -> Result<(), PathError> {
    match segment {
        ".." => Err(PathError::Escapes),
        "" | "." => Err(PathError::NotRepresentable),
        _ if segment.contains('\0') => Err(PathError::NotRepresentable),
        // A backslash parts directories on Windows, and a colon names a drive or a stream.
        _ if cfg!(windows) && segment.contains(['\\', ':']) => Err(PathError::NotRepresentable),
        _ if segment.len() > NAME_BYTES_MAX => Err(PathError::NameTooLong),
        _ => Ok(()),
    }
}

/// Checks a relative path that did not come through [`key_to_relative`] by the same rules, and parts it into its
/// directory and its name.
fn split(relative: &Path) -> Result<(&Path, &OsStr), PathError> {
    for component in relative.components() {
        match component {
            Component::Normal(name) if name.len() > NAME_BYTES_MAX => return Err(PathError::NameTooLong),
            Component::Normal(name) if name.as_encoded_bytes().contains(&0) => return Err(PathError::NotRepresentable),
            Component::Normal(_) => {}
            Component::CurDir => return Err(PathError::NotRepresentable),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(PathError::Escapes),
        }
    }
    let name = relative.file_name().ok_or(PathError::NotRepresentable)?;
    Ok((relative.parent().unwrap_or(Path::new("")), name))
}

/// A directory opened once, and everything beneath it. A clone serves another core.
#[derive(Clone, Debug)]
pub struct Root {
    directory: Arc<Directory>,
    path: PathBuf,
    /// The directory that served last. Keys arrive in order, so ten thousand files of one directory resolve its path
    /// once.
    recent: RefCell<Option<(PathBuf, Arc<Directory>)>>,
    /// Stands in the names of temporary files that are made by this root.
    run_tag: Option<u32>,
}

impl Root {
    /// Opens the directory at `path`, following links: the user named it.
    ///
    /// # Errors
    /// As the system reports; `NotADirectory` when it is something else.
    pub fn open(path: &Path) -> io::Result<Root> {
        let directory = Arc::new(Directory::open_root(path)?);
        Ok(Root { directory, path: path.to_path_buf(), recent: RefCell::new(None), run_tag: None })
    }

    /// The same root, its temporary files named with this tag, so that those of a run that was killed are known for its own
    /// ([`partial_tag`]).
    pub fn tagged(mut self, run_tag: u32) -> Root {
        self.run_tag = Some(run_tag);
        self
    }

    /// Opens the directory at `path`, first creating it and what is missing above it.
    ///
    /// # Errors
    /// As the system reports.
    pub fn create(path: &Path) -> io::Result<Root> {
        std::fs::create_dir_all(path)?;
        Root::open(path)
    }

    /// The path by which the root was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Opens a file for reading and says what it is. Never waits for the other end of a pipe: look at the kind before
    /// reading.
    ///
    /// # Errors
    /// As the system reports. A path refused as text, or a link where none may be, is `InvalidInput` with a [`PathError`]
    /// inside.
    pub fn open_file(&self, relative: &Path, follow: Follow) -> io::Result<(File, FileFacts)> {
        let (parent, name) = split(relative)?;
        let file = match follow {
            Follow::Links => self.directory.open_file(relative, follow)?,
            Follow::Never => {
                let opened = self.in_parent(parent, Absent::Fails, |parent| parent.open_file(Path::new(name), follow));
                opened?.1
            }
        };
        let facts = FileFacts::of(&file.metadata()?);
        Ok((File::on_device(file, facts.device), facts))
    }

    /// What is at `relative`, following no link: of a link, the facts of the link itself.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn facts(&self, relative: &Path) -> io::Result<FileFacts> {
        let (parent, name) = split(relative)?;
        let looked = self.in_parent(parent, Absent::Fails, |parent| parent.facts(Path::new(name), Follow::Never));
        Ok(looked?.1)
    }

    /// Makes an empty temporary file where `relative` will be, creating the directories on the way. `mode` is the
    /// permission bits of the final file, usually `0o666`, less the process's umask; bits beyond the nine are dropped.
    ///
    /// # Errors
    /// Says why the file cannot be there.
    pub fn create_partial(&self, relative: &Path, mode: u32) -> Result<Partial, PathError> {
        self.partial(relative, |directory, name| {
            if directory.facts(Path::new(name), Follow::Never).is_ok_and(|facts| facts.kind == FileKind::Directory) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            create_temp(directory, mode, self.run_tag)
        })
    }

    /// As [`create_partial`](Self::create_partial), for content that is at hand: a directory in the file's place is found
    /// by [`Partial::publish`] alone, which saves a system call where no transfer is saved by finding it first.
    ///
    /// # Errors
    /// As [`create_partial`](Self::create_partial), but for that.
    pub fn create_brief_partial(&self, relative: &Path, mode: u32) -> Result<Partial, PathError> {
        self.partial(relative, |directory, _| create_temp(directory, mode, self.run_tag))
    }

    fn partial(
        &self,
        relative: &Path,
        create: impl Fn(&Directory, &OsStr) -> io::Result<(OsString, std::fs::File)>,
    ) -> Result<Partial, PathError> {
        let (parent, name) = split(relative)?;
        let (directory, (temp, file)) = self.in_parent(parent, Absent::IsMade, |directory| create(directory, name))?;
        let temp_path = parent.join(&temp);
        Ok(Partial { directory, temp, temp_path, name: name.into(), file: File::from_std(file), published: false })
    }

    /// Takes up the temporary file that an earlier run kept ([`Partial::keep`]) for what will be at `relative`.
    ///
    /// # Errors
    /// As [`create_partial`](Self::create_partial); a temporary file that is not beside `relative`, or has not the name of
    /// one, is `NotRepresentable`.
    pub fn reopen_partial(&self, temp_path: &Path, relative: &Path) -> Result<Partial, PathError> {
        let ((parent, temp), (beside, name)) = (split(temp_path)?, split(relative)?);
        if parent != beside || !is_partial_name(temp.as_encoded_bytes()) {
            return Err(PathError::NotRepresentable);
        }
        let (directory, file) = self.in_parent(parent, Absent::Fails, |parent| parent.open_to_write(temp))?;
        let file = File::from_std(file);
        Ok(Partial {
            directory,
            temp: temp.into(),
            temp_path: temp_path.into(),
            name: name.into(),
            file,
            published: false,
        })
    }

    /// Removes a temporary file that an earlier run left. No error if it is gone.
    ///
    /// # Errors
    /// As [`create_partial`](Self::create_partial); a name that is not a temporary file's is `NotRepresentable`.
    pub fn remove_partial(&self, temp_path: &Path) -> Result<(), PathError> {
        let (parent, name) = split(temp_path)?;
        if !is_partial_name(name.as_encoded_bytes()) {
            return Err(PathError::NotRepresentable);
        }
        match self.in_parent(parent, Absent::Fails, |parent| parent.remove(name)) {
            Err(PathError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map(|_| ()),
        }
    }

    /// Calls `found` with every temporary file of Ropeway below the root, by its path beneath it, and what it is. Follows no
    /// link. Directories that cannot be read, or that vanish, are passed over.
    ///
    /// # Errors
    /// As the system reports of the root itself.
    pub fn partials(&self, mut found: impl FnMut(&Path, FileFacts)) -> io::Result<()> {
        let mut below = vec![PathBuf::new()];
        while let Some(path) = below.pop() {
            let opened = match path.as_os_str().is_empty() {
                true => Ok(self.directory.clone()),
                false => self.directory.open_beneath(&path).map(Arc::new),
            };
            let Ok(directory) = opened else { continue };
            let mut partials = Vec::new();
            let listed = directory.list(|name, kind| {
                let kind = kind.or_else(|| Some(directory.facts(Path::new(name), Follow::Never).ok()?.kind));
                match kind {
                    Some(FileKind::Directory) => below.push(path.join(name)),
                    Some(FileKind::Regular) if is_partial_name(name.as_encoded_bytes()) => {
                        partials.push(path.join(name))
                    }
                    _ => {}
                }
            });
            if path.as_os_str().is_empty() {
                listed?;
            }
            for partial in partials {
                let name = partial.file_name().unwrap_or_default();
                if let Ok(facts) = directory.facts(Path::new(name), Follow::Never) {
                    found(&partial, facts);
                }
            }
        }
        Ok(())
    }

    /// Opens the temporary file of a [`Partial`] for writing, by its [`Partial::temp_path`]: for a core that takes a part
    /// of another's file.
    ///
    /// # Errors
    /// As [`create_partial`](Self::create_partial); a name that is not a temporary file's is `NotRepresentable`.
    pub fn open_partial(&self, temp_path: &Path) -> Result<File, PathError> {
        let (parent, name) = split(temp_path)?;
        if !is_partial_name(name.as_encoded_bytes()) {
            return Err(PathError::NotRepresentable);
        }
        let (_, file) = self.in_parent(parent, Absent::Fails, |parent| parent.open_to_write(name))?;
        Ok(File::from_std(file))
    }

    /// Makes the directory `relative` and those on the way; no error if it is there.
    ///
    /// # Errors
    /// Says why the directory cannot be there.
    pub fn create_dir(&self, relative: &Path) -> Result<(), PathError> {
        split(relative)?;
        self.make(relative)?;
        Ok(())
    }

    /// Runs `act` in the directory `parent`. The directory used last is tried without resolving its path again; if it
    /// has been removed meanwhile, its path is resolved (and made) anew.
    fn in_parent<T>(
        &self,
        parent: &Path,
        absent: Absent,
        act: impl Fn(&Directory) -> io::Result<T>,
    ) -> Result<(Arc<Directory>, T), PathError> {
        if let Some(directory) = self.recent_directory(parent) {
            match act(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => return Ok((directory, outcome?)),
            }
        }
        let directory = match (parent.as_os_str().is_empty(), absent) {
            (true, _) => self.directory.clone(),
            (false, Absent::Fails) => Arc::new(self.directory.open_beneath(parent)?),
            (false, Absent::IsMade) => Arc::new(self.make(parent)?),
        };
        self.recent.replace(Some((parent.to_path_buf(), directory.clone())));
        let outcome = act(&directory)?;
        Ok((directory, outcome))
    }

    fn recent_directory(&self, parent: &Path) -> Option<Arc<Directory>> {
        let recent = self.recent.borrow();
        let (path, directory) = recent.as_ref()?;
        // Compared as bytes, not by component: this runs once per file.
        (path.as_os_str() == parent.as_os_str()).then(|| directory.clone())
    }

    /// Opens the directory `relative`, making what is missing, one segment after the other.
    fn make(&self, relative: &Path) -> Result<Directory, PathError> {
        match self.directory.open_beneath(relative) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return Ok(outcome?),
        }
        let mut made: Option<Directory> = None;
        for name in relative.iter() {
            let above = made.as_ref().unwrap_or(&self.directory);
            match above.make_child(name) {
                // Somebody made it first, or it is something else: opening it will tell.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => outcome?,
            }
            made = Some(above.open_child(name, Follow::Never)?);
        }
        made.ok_or(PathError::NotRepresentable)
    }
}

#[derive(Clone, Copy)]
enum Absent {
    Fails,
    IsMade,
}

fn create_temp(directory: &Directory, mode: u32, run_tag: Option<u32>) -> io::Result<(OsString, std::fs::File)> {
    loop {
        let name = OsString::from(partial_name(run_tag));
        match directory.create_new(&name, mode & 0o777) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return Ok((name, outcome?)),
        }
    }
}

/// A name that nobody can foresee and nobody else uses: 64 bits, or the tag and 32 bits, from a hasher whose keys are random
/// in each process and differ with each use. Should it be taken after all, creating it exclusively finds out.
fn partial_name(run_tag: Option<u32>) -> String {
    let random = RandomState::new().build_hasher().finish();
    let number = run_tag.map_or(random, |tag| u64::from(tag) << 32 | random & u64::from(u32::MAX));
    format!("{PARTIAL_PREFIX}{number:016x}{PARTIAL_SUFFIX}")
}

/// Whether a file name is that of a temporary file of Ropeway; listings leave these out.
pub(crate) fn is_partial_name(name: &[u8]) -> bool {
    let digits =
        name.strip_prefix(PARTIAL_PREFIX.as_bytes()).and_then(|rest| rest.strip_suffix(PARTIAL_SUFFIX.as_bytes()));
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// The tag of the run that made a temporary file, whatever it is worth: a root without a tag draws these digits too. None if
/// the name is not a temporary file's.
pub fn partial_tag(path: &Path) -> Option<u32> {
    let name = path.file_name()?.as_encoded_bytes();
    let digits = is_partial_name(name).then(|| &name[PARTIAL_PREFIX.len()..][..8])?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A file on its way: written under a temporary name beside its final one. Dropped unpublished, it is removed.
#[derive(Debug)]
pub struct Partial {
    directory: Arc<Directory>,
    temp: OsString,
    temp_path: PathBuf,
    name: OsString,
    file: File,
    /// It has its name, or keeps its temporary one: either way it stays.
    published: bool,
}

impl Partial {
    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path of the temporary file beneath the root, for [`Root::open_partial`].
    pub fn temp_path(&self) -> &Path {
        &self.temp_path
    }

    /// Leaves the file as it is, under its temporary name, for [`Root::reopen_partial`].
    pub fn keep(mut self) {
        self.published = true;
    }

    /// Cuts or extends the file to its final length: room that was reserved beyond it goes back.
    ///
    /// # Errors
    /// As the system reports.
    pub fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    /// Puts the file in place, its modification time set to `modified_ns` (nanoseconds since 1970) if given. A file there
    /// is replaced in one step; a link there is replaced itself, and what it points to stays as it is. All writes must
    /// have ended.
    ///
    /// # Errors
    /// As the system reports; a directory in its place is `IsADirectory`. The old file is then untouched and the
    /// temporary one removed.
    pub fn publish(mut self, modified_ns: Option<i64>) -> io::Result<()> {
        if let Some(modified_ns) = modified_ns {
            let modified = system_time(modified_ns);
            self.file.as_std().set_times(std::fs::FileTimes::new().set_modified(modified))?;
        }
        self.directory.replace(&self.temp, &self.name)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.directory.remove(&self.temp)
        {
            tracing::debug!(path = %self.temp_path.display(), %error, "a temporary file could not be removed");
        }
    }
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn write(partial: &Partial, content: &[u8]) {
        partial.file().as_std().write_all(content).unwrap();
    }

    /// A file put where `key` says, as a download does it.
    fn put(root: &Root, key: &str, content: &[u8]) -> Result<(), PathError> {
        let partial = root.create_partial(&key_to_relative(key)?, 0o666)?;
        write(&partial, content);
        Ok(partial.publish(None)?)
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn keys_become_paths_or_are_refused_with_the_reason() {
        let long = "x".repeat(300);
        let good = [("a", "a"), ("a/b.c", "a/b.c"), ("...", "..."), ("a b/~", "a b/~")];
        for (key, path) in good {
            assert_eq!(key_to_relative(key).unwrap(), Path::new(path), "{key}");
        }
        for key in ["..", "../x", "a/../../x", "a/.."] {
            assert!(matches!(key_to_relative(key), Err(PathError::Escapes)), "{key}");
        }
        for key in ["", "/", "/a", "/etc/passwd", "//a", "a//b", "a/", ".", "./a", "a/./b", "a\0b", "data//../secret"] {
            assert!(matches!(key_to_relative(key), Err(PathError::NotRepresentable)), "{key}");
        }
        assert!(matches!(key_to_relative(&format!("a/{long}/b")), Err(PathError::NameTooLong)));
        assert_eq!(
            key_to_relative("..").unwrap_err().to_string(),
            "it would leave the target directory (a `..` segment, or a symbolic link on the way)"
        );
    }

    #[test]
    fn paths_from_elsewhere_are_held_to_the_same_rules() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::create(&home.path().join("new/root")).unwrap();
        for path in ["../x", "/etc/passwd", "a/../b", ".."] {
            assert!(matches!(root.create_partial(Path::new(path), 0o666), Err(PathError::Escapes)), "{path}");
            assert_eq!(
                root.open_file(Path::new(path), Follow::Links).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{path}"
            );
        }
        assert!(matches!(root.create_dir(Path::new("")), Err(PathError::NotRepresentable)));
        assert!(matches!(root.create_partial(Path::new(&"n".repeat(300)), 0o666), Err(PathError::NameTooLong)));
        assert!(names(root.path()).is_empty());
    }

    proptest! {
        /// I9: whatever the key, nothing appears outside the root; and what is accepted can be read back by its key.
        #[test]
        fn no_key_writes_outside_the_root(keys in prop::collection::vec("(\\.|/|[ab]|\\.\\.|\\PC){0,8}", 1..8)) {
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("a"), "untouched").unwrap();
            let root = Root::create(&home.path().join("root")).unwrap();
            for key in &keys {
                if put(&root, key, key.as_bytes()).is_ok() {
                    let read = std::fs::read(root.path().join(key)).unwrap();
                    prop_assert_eq!(&read, key.as_bytes());
                }
            }
            prop_assert_eq!(names(home.path()), ["a", "root"]);
            prop_assert_eq!(std::fs::read(home.path().join("a")).unwrap(), b"untouched");
        }
    }

    #[test]
    fn a_kept_partial_is_taken_up_again_and_only_a_partial_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap().tagged(0x0123_abcd);
        let partial = root.create_partial(Path::new("a/name"), 0o666).unwrap();
        let temporary = partial.temp_path().to_owned();
        assert_eq!(partial_tag(&temporary), Some(0x0123_abcd), "{temporary:?}");
        write(&partial, b"half");
        partial.keep();
        let mut found = Vec::new();
        root.partials(|path, facts| found.push((path.to_owned(), facts.size_bytes))).unwrap();
        assert_eq!(found, [(temporary.clone(), 4)]);
        for (temp_path, relative) in [("a/name", "a/name"), ("../x", "a/name")] {
            assert!(root.reopen_partial(Path::new(temp_path), Path::new(relative)).is_err());
            assert!(root.remove_partial(Path::new(temp_path)).is_err());
        }
        assert!(root.reopen_partial(&temporary, Path::new("name")).is_err(), "it would move to another directory");
        let again = root.reopen_partial(&temporary, Path::new("a/name")).unwrap();
        assert_eq!(again.file().facts().unwrap().size_bytes, 4);
        again.publish(None).unwrap();
        assert_eq!(std::fs::read(home.path().join("a/name")).unwrap(), b"half");
        root.remove_partial(&temporary).unwrap();
        assert_eq!(names(&home.path().join("a")), ["name"]);
        assert_eq!(partial_tag(Path::new("a/name")), None);
    }

    #[cfg(unix)]
    #[test]
    fn partials_are_looked_for_behind_no_link() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Root::open(elsewhere.path()).unwrap().create_partial(Path::new("x"), 0o666).unwrap().keep();
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("link")).unwrap();
        let root = Root::open(home.path()).unwrap();
        root.partials(|path, _| panic!("{path:?} was found behind a link")).unwrap();
    }

    #[test]
    fn a_partial_is_published_whole_with_its_time_or_leaves_no_trace() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap();
        std::fs::write(home.path().join("old"), "old").unwrap();
        let abandoned = root.create_partial(Path::new("old"), 0o666).unwrap();
        write(&abandoned, b"half");
        assert!(is_partial_name(abandoned.temp_path().as_os_str().as_encoded_bytes()));
        drop(abandoned);
        assert_eq!(std::fs::read(home.path().join("old")).unwrap(), b"old");
        assert_eq!(names(home.path()), ["old"]);

        for modified_ns in [0, -1_500_000_000, 1_700_000_000_123_456_789] {
            let partial = root.create_partial(Path::new("a/b/old"), 0o666).unwrap();
            write(&partial, b"new and too long");
            partial.set_len(3).unwrap();
            partial.publish(Some(modified_ns)).unwrap();
            let facts = root.facts(Path::new("a/b/old")).unwrap();
            assert_eq!((facts.size_bytes, facts.modified_ns, facts.kind), (3, modified_ns, FileKind::Regular));
        }
        assert_eq!(names(&home.path().join("a/b")), ["old"]);
    }

    #[test]
    fn another_core_writes_to_the_same_partial() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap();
        let partial = root.create_partial(Path::new("d/file"), 0o666).unwrap();
        let (there, temp) = (root.clone(), partial.temp_path().to_path_buf());
        std::thread::spawn(move || there.open_partial(&temp).unwrap().as_std().write_all(b"from there").unwrap())
            .join()
            .unwrap();
        partial.publish(None).unwrap();
        assert_eq!(std::fs::read(home.path().join("d/file")).unwrap(), b"from there");
        assert!(matches!(root.open_partial(Path::new("d/file")), Err(PathError::NotRepresentable)));
    }

    #[test]
    fn files_and_directories_in_each_others_place_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap();
        put(&root, "file", b"").unwrap();
        root.create_dir(Path::new("dir/sub")).unwrap();
        root.create_dir(Path::new("dir/sub")).unwrap();
        assert!(matches!(put(&root, "file/below", b""), Err(PathError::NotADirectory)));
        assert!(matches!(put(&root, "dir", b""), Err(PathError::IsDirectory)));
        assert!(matches!(root.create_dir(Path::new("file")), Err(PathError::NotADirectory)));
        let late = root.create_partial(Path::new("late"), 0o666).unwrap();
        std::fs::create_dir(home.path().join("late")).unwrap();
        assert_eq!(late.publish(None).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(home.path()), ["dir", "file", "late"]);
    }

    #[test]
    fn a_brief_partial_finds_a_directory_in_its_place_when_it_is_published() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap();
        root.create_dir(Path::new("dir/sub")).unwrap();
        for name in ["dir", "dir/sub"] {
            let partial = root.create_brief_partial(Path::new(name), 0o666).unwrap();
            write(&partial, b"content");
            assert_eq!(partial.publish(None).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        }
        let partial = root.create_brief_partial(Path::new("dir/file"), 0o666).unwrap();
        write(&partial, b"content");
        partial.publish(Some(0)).unwrap();
        assert_eq!(names(home.path()), ["dir"]);
        assert_eq!(names(&home.path().join("dir")), ["file", "sub"]);
    }

    #[test]
    fn a_directory_removed_meanwhile_is_made_again() {
        let home = tempfile::tempdir().unwrap();
        let root = Root::open(home.path()).unwrap();
        put(&root, "d/one", b"1").unwrap();
        std::fs::remove_dir_all(home.path().join("d")).unwrap();
        put(&root, "d/two", b"2").unwrap();
        assert_eq!(names(&home.path().join("d")), ["two"]);
        std::fs::remove_dir_all(home.path().join("d")).unwrap();
        let gone = root.open_file(Path::new("d/two"), Follow::Never).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(!home.path().join("d").exists(), "looking makes nothing");
    }

    #[cfg(unix)]
    mod links {
        use super::*;
        use std::os::unix::fs::{PermissionsExt, symlink};

        #[test]
        fn a_planted_link_is_never_written_through() {
            let home = tempfile::tempdir().unwrap();
            let outside = home.path().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("victim"), "untouched").unwrap();
            let root = Root::create(&home.path().join("root")).unwrap();
            symlink("../outside", root.path().join("dir")).unwrap();
            symlink("../outside/victim", root.path().join("file")).unwrap();
            symlink("real", root.path().join("inside")).unwrap();
            std::fs::create_dir(root.path().join("real")).unwrap();
            for key in ["dir/victim", "dir/new/deep", "inside/even-within"] {
                assert!(matches!(put(&root, key, b"evil"), Err(PathError::Escapes)), "{key}");
            }
            assert!(matches!(root.create_dir(Path::new("dir")), Err(PathError::Escapes)));
            assert!(matches!(root.create_dir(Path::new("dir/new")), Err(PathError::Escapes)));
            // The link itself gives way; what it pointed to stays.
            put(&root, "file", b"new").unwrap();
            assert_eq!(root.facts(Path::new("file")).unwrap().kind, FileKind::Regular);
            assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"untouched");
            assert_eq!(names(&outside), ["victim"]);
        }

        #[test]
        fn a_directory_swapped_for_a_link_leads_nothing_astray() {
            let home = tempfile::tempdir().unwrap();
            let outside = home.path().join("outside");
            std::fs::create_dir(&outside).unwrap();
            let root = Root::create(&home.path().join("root")).unwrap();
            let partial = root.create_partial(Path::new("d/one"), 0o666).unwrap();
            std::fs::rename(root.path().join("d"), root.path().join("moved")).unwrap();
            symlink(&outside, root.path().join("d")).unwrap();
            partial.publish(None).unwrap();
            put(&root, "d/two", b"").unwrap();
            // Another directory first, so that the path is resolved anew.
            put(&root, "e/three", b"").unwrap();
            assert!(matches!(put(&root, "d/four", b""), Err(PathError::Escapes)));
            assert!(names(&outside).is_empty());
            assert_eq!(names(&root.path().join("moved")), ["one", "two"]);
        }

        #[test]
        fn a_temporary_name_swapped_for_a_link_is_not_opened() {
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("victim"), "untouched").unwrap();
            let root = Root::create(&home.path().join("root")).unwrap();
            let temp = partial_name(None);
            symlink("../victim", root.path().join(&temp)).unwrap();
            assert!(matches!(root.open_partial(Path::new(&temp)), Err(PathError::Escapes)));
        }

        #[test]
        fn sources_follow_links_and_targets_do_not() {
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("file"), "content").unwrap();
            let root = Root::create(&home.path().join("root")).unwrap();
            symlink("../file", root.path().join("link")).unwrap();
            let (_, facts) = root.open_file(Path::new("link"), Follow::Links).unwrap();
            assert_eq!((facts.kind, facts.size_bytes), (FileKind::Regular, 7));
            assert_eq!(root.facts(Path::new("link")).unwrap().kind, FileKind::Symlink);
            let refused = root.open_file(Path::new("link"), Follow::Never).unwrap_err();
            assert!(refused.get_ref().is_some_and(|inner| matches!(inner.downcast_ref(), Some(PathError::Escapes))));
        }

        #[test]
        fn a_pipe_is_opened_without_waiting_and_told_by_its_kind() {
            let home = tempfile::tempdir().unwrap();
            let root = Root::open(home.path()).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, home.path().join("pipe"), mode).unwrap();
            let (_, facts) = root.open_file(Path::new("pipe"), Follow::Links).unwrap();
            assert_eq!(facts.kind, FileKind::Other);
        }

        #[test]
        fn permissions_are_those_asked_for_less_the_umask_and_never_setuid() {
            let home = tempfile::tempdir().unwrap();
            let root = Root::open(home.path()).unwrap();
            std::fs::write(home.path().join("usual"), "").unwrap();
            let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o7777;
            root.create_partial(Path::new("plain"), 0o666).unwrap().publish(None).unwrap();
            root.create_partial(Path::new("evil"), 0o6600).unwrap().publish(None).unwrap();
            assert_eq!(mode("plain"), mode("usual"));
            assert_eq!(mode("evil"), 0o600);
        }

        /// Both twins of a directory, by the same table.
        #[test]
        fn every_way_down_refuses_links_files_and_absence_alike() {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(home.path().join("a/b")).unwrap();
            std::fs::write(home.path().join("file"), "").unwrap();
            symlink("a", home.path().join("link")).unwrap();
            let unix = Directory::open_root(home.path()).unwrap();
            let portable = portable::Directory::open_root(home.path()).unwrap();
            let name = |error: io::Error| match error.into() {
                PathError::Escapes => "escapes",
                PathError::NotADirectory => "not a directory",
                PathError::Io(error) if error.kind() == io::ErrorKind::NotFound => "not found",
                _ => "another",
            };
            let table = [
                ("a/b", "ok"),
                ("link/b", "escapes"),
                ("link", "escapes"),
                ("file", "not a directory"),
                ("file/x", "not a directory"),
                ("a/x", "not found"),
            ];
            for (path, outcome) in table {
                let path = Path::new(path);
                assert_eq!(unix.open_beneath(path).map_or_else(name, |_| "ok"), outcome, "{path:?} by the kernel");
                assert_eq!(unix.descend(path).map_or_else(name, |_| "ok"), outcome, "{path:?} by segments");
                let portable = portable.open_beneath(path).map(|_| "ok").unwrap_or_else(|error| {
                    if portable::Directory::refused_a_link(&error) { "escapes" } else { name(error) }
                });
                assert_eq!(portable, outcome, "{path:?} by the portable twin");
            }
        }
    }

    #[test]
    fn the_portable_twin_creates_replaces_lists_and_removes() {
        let home = tempfile::tempdir().unwrap();
        let directory = portable::Directory::open_root(home.path()).unwrap();
        assert_eq!(directory.own_facts().unwrap().kind, FileKind::Directory);
        directory.make_child("sub".as_ref()).unwrap();
        directory.create_new("temp".as_ref(), 0o666).unwrap().write_all(b"new").unwrap();
        let again = directory.create_new("temp".as_ref(), 0o666).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        directory.open_to_write("temp".as_ref()).unwrap().write_all(b"NEW").unwrap();
        let onto = directory.replace("temp".as_ref(), "sub".as_ref()).unwrap_err();
        assert_eq!(onto.kind(), io::ErrorKind::IsADirectory);
        directory.replace("temp".as_ref(), "file".as_ref()).unwrap();
        let file = directory.open_file(Path::new("file"), Follow::Never).unwrap();
        assert_eq!(FileFacts::of(&file.metadata().unwrap()).size_bytes, 3);
        let mut listed = Vec::new();
        directory.list(|name, kind| listed.push((name.to_owned(), kind))).unwrap();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(listed, [("file".into(), Some(FileKind::Regular)), ("sub".into(), Some(FileKind::Directory))]);
        directory.remove("file".as_ref()).unwrap();
        assert_eq!(names(home.path()), ["sub"]);
        std::fs::write(home.path().join("file"), "").unwrap();
        assert_eq!(directory.remove_child("file".as_ref()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        directory.make_child("empty".as_ref()).unwrap();
        directory.remove_child("empty".as_ref()).unwrap();
        assert!(!home.path().join("empty").exists());
    }
}
