//! A directory as a path, for systems whose standard library offers nothing better. Each segment is looked at before it
//! is used, which stops links that are there; a link swapped in between look and use is beyond this twin.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::{FileFacts, FileKind, Follow, kind_of};

/// A directory known by its path.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn open_root(path: &Path) -> io::Result<Directory> {
        // Made absolute, so that it stays the same when the process changes its directory.
        let path = path.canonicalize()?;
        if path.is_dir() { Ok(Directory { path }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Opens a directory some segments below, through no link.
    pub(crate) fn open_beneath(&self, relative: &Path) -> io::Result<Directory> {
        let mut reached: Option<Directory> = None;
        for name in relative.iter() {
            reached = Some(reached.as_ref().unwrap_or(self).open_child(name, Follow::Never)?);
        }
        reached.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    pub(crate) fn open_child(&self, name: &OsStr, follow: Follow) -> io::Result<Directory> {
        match self.facts(Path::new(name), follow)?.kind {
            FileKind::Directory => Ok(Directory { path: self.path.join(name) }),
            FileKind::Symlink => Err(LinkInTheWay.into()),
            FileKind::Regular | FileKind::Other => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Whether `error` says that a symbolic link was in the way.
    pub(crate) fn refused_a_link(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<LinkInTheWay>())
    }

    pub(crate) fn make_child(&self, name: &OsStr) -> io::Result<()> {
        std::fs::create_dir(self.path.join(name))
    }

    pub(crate) fn open_file(&self, relative: &Path, follow: Follow) -> io::Result<std::fs::File> {
        self.refuse_link(relative, follow)?;
        std::fs::File::open(self.path.join(relative))
    }

    /// `_mode` has no meaning here: the directory decides who may read what is created in it.
    pub(crate) fn create_new(&self, name: &OsStr, _mode: u32) -> io::Result<std::fs::File> {
        std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))
    }

    pub(crate) fn open_to_write(&self, name: &OsStr) -> io::Result<std::fs::File> {
        self.refuse_link(Path::new(name), Follow::Never)?;
        std::fs::OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    pub(crate) fn facts(&self, relative: &Path, follow: Follow) -> io::Result<FileFacts> {
        let path = self.path.join(relative);
        let metadata = match follow {
            Follow::Links => std::fs::metadata(path)?,
            Follow::Never => std::fs::symlink_metadata(path)?,
        };
        Ok(FileFacts::of(&metadata))
    }

    pub(crate) fn own_facts(&self) -> io::Result<FileFacts> {
        Ok(FileFacts::of(&std::fs::metadata(&self.path)?))
    }

    /// Renames within this directory, replacing what has the new name.
    pub(crate) fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        if self.facts(Path::new(to), Follow::Never).is_ok_and(|facts| facts.kind == FileKind::Directory) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    /// Removes an empty directory.
    pub(crate) fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        if self.facts(Path::new(name), Follow::Never)?.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        std::fs::remove_dir(self.path.join(name))
    }

    /// Calls `each` with every name in this directory and its kind where the directory tells it, without `.` and `..`.
    pub(crate) fn list(&self, mut each: impl FnMut(&OsStr, Option<FileKind>)) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            each(&entry.file_name(), entry.metadata().ok().map(|metadata| kind_of(&metadata)));
        }
        Ok(())
    }

    fn refuse_link(&self, relative: &Path, follow: Follow) -> io::Result<()> {
        let is_link = follow == Follow::Never && self.facts(relative, follow)?.kind == FileKind::Symlink;
        if is_link { Err(LinkInTheWay.into()) } else { Ok(()) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a symbolic link is in the way")]
struct LinkInTheWay;

impl From<LinkInTheWay> for io::Error {
    fn from(link: LinkInTheWay) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, link)
    }
}
