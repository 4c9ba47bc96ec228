//! A directory as a descriptor. On Linux, a path beneath it is resolved by `openat2`, which refuses links and escapes in
//! the kernel; elsewhere, and where that call is missing, one segment at a time with links refused at each.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::{FileFacts, FileKind, Follow, saturating_ns};

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Directory {
    pub(crate) fn open_root(path: &Path) -> io::Result<Directory> {
        Ok(Directory { fd: openat(CWD, path, OPEN_DIRECTORY, Mode::empty())? })
    }

    /// Opens a directory some segments below, through no link.
    pub(crate) fn open_beneath(&self, relative: &Path) -> io::Result<Directory> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{ResolveFlags, openat2};
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.fd, relative, OPEN_DIRECTORY, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Directory { fd }),
                // An old kernel, a sandbox or a filter without the call; or a rename nearby, for which the kernel could
                // not vouch.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.descend(relative)
    }

    /// [`open_beneath`](Self::open_beneath) without the kernel's help.
    pub(super) fn descend(&self, relative: &Path) -> io::Result<Directory> {
        let mut reached: Option<Directory> = None;
        for name in relative.iter() {
            reached = Some(reached.as_ref().unwrap_or(self).open_child(name, Follow::Never)?);
        }
        reached.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    pub(crate) fn open_child(&self, name: &OsStr, follow: Follow) -> io::Result<Directory> {
        match openat(&self.fd, name, OPEN_DIRECTORY | no_follow(follow), Mode::empty()) {
            Ok(fd) => Ok(Directory { fd }),
            // Asked for a directory and no link, the kernel calls a link "not a directory".
            Err(Errno::NOTDIR) if follow == Follow::Never && self.is_link(name) => Err(Errno::LOOP.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn is_link(&self, name: &OsStr) -> bool {
        self.facts(Path::new(name), Follow::Never).is_ok_and(|facts| facts.kind == FileKind::Symlink)
    }

    /// Whether `error` says that a symbolic link was in the way.
    pub(crate) fn refused_a_link(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
    }

    pub(crate) fn make_child(&self, name: &OsStr) -> io::Result<()> {
        Ok(mkdirat(&self.fd, name, Mode::from_raw_mode(0o777))?)
    }

    /// Opens a file to read, not waiting if it is a pipe without a writer.
    pub(crate) fn open_file(&self, relative: &Path, follow: Follow) -> io::Result<std::fs::File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | no_follow(follow);
        Ok(openat(&self.fd, relative, flags, Mode::empty())?.into())
    }

    pub(crate) fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::from_bits_truncate(mode as _))?.into())
    }

    /// To read, too: what an earlier run wrote is hashed before it is believed.
    pub(crate) fn open_to_write(&self, name: &OsStr) -> io::Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    pub(crate) fn facts(&self, relative: &Path, follow: Follow) -> io::Result<FileFacts> {
        let flags = match follow {
            Follow::Links => AtFlags::empty(),
            Follow::Never => AtFlags::SYMLINK_NOFOLLOW,
        };
        Ok(facts_of(&statat(&self.fd, relative, flags)?))
    }

    pub(crate) fn own_facts(&self) -> io::Result<FileFacts> {
        Ok(facts_of(&fstat(&self.fd)?))
    }

    /// Renames within this directory, replacing what has the new name.
    pub(crate) fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_child(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Calls `each` with every name in this directory and its kind where the directory tells it, without `.` and `..`.
    #[cfg(target_os = "linux")]
    pub(crate) fn list(&self, mut each: impl FnMut(&OsStr, Option<FileKind>)) -> io::Result<()> {
        use rustix::fs::RawDir;
        use std::os::unix::ffi::OsStrExt;
        /// Room for about a thousand entries a call.
        const NAMES_BYTES: usize = 32 << 10;
        // A descriptor of its own: the position in the directory belongs to the open file, and this one starts at zero.
        let fresh = openat(&self.fd, ".", OPEN_DIRECTORY, Mode::empty())?;
        let mut room = Vec::with_capacity(NAMES_BYTES);
        let mut entries = RawDir::new(fresh.as_fd(), room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => each(OsStr::from_bytes(name), kind_of_type(entry.file_type())),
            }
        }
        Ok(())
    }

    /// Calls `each` with every name in this directory and its kind where the directory tells it, without `.` and `..`.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn list(&self, mut each: impl FnMut(&OsStr, Option<FileKind>)) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        for entry in rustix::fs::Dir::read_from(self.fd.as_fd())? {
            let entry = entry?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => each(OsStr::from_bytes(name), kind_of_type(entry.file_type())),
            }
        }
        Ok(())
    }
}

fn no_follow(follow: Follow) -> OFlags {
    match follow {
        Follow::Links => OFlags::empty(),
        Follow::Never => OFlags::NOFOLLOW,
    }
}

/// `None`: the file system leaves it open in its directories.
fn kind_of_type(file_type: rustix::fs::FileType) -> Option<FileKind> {
    use rustix::fs::FileType;
    match file_type {
        FileType::RegularFile => Some(FileKind::Regular),
        FileType::Directory => Some(FileKind::Directory),
        FileType::Symlink => Some(FileKind::Symlink),
        FileType::Unknown => None,
        _ => Some(FileKind::Other),
    }
}

#[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ from system to system")]
fn facts_of(stat: &rustix::fs::Stat) -> FileFacts {
    FileFacts {
        size_bytes: stat.st_size as u64,
        modified_ns: saturating_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        kind: kind_of_type(rustix::fs::FileType::from_raw_mode(stat.st_mode as _)).unwrap_or(FileKind::Other),
    }
}
