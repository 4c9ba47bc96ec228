//! Taking files and emptied directories away from beneath a root: never a link, never through one, and never a temporary
//! file of Ropeway's.
//!
//! The directory of a name is resolved anew each time: a directory that was moved away meanwhile is not reached by a
//! descriptor that was opened when it still lay beneath the root.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Directory, FileFacts, FileKind, Follow, PathError, Root, is_partial_name, split};

/// What became of a file that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, by this call.
    Done,
    /// There is nothing of that name.
    Absent,
    /// What has the name is not the file that was meant, and was left alone.
    Another,
}

impl Root {
    /// Removes the regular file `relative` if `is_it` knows it by its facts. A link, a directory or anything else of that
    /// name is [`Removal::Another`].
    ///
    /// # Errors
    /// As the system reports; a path that leads through a link or out of the root is `Escapes`, and the name of a
    /// temporary file `NotRepresentable`.
    pub fn remove_file(&self, relative: &Path, is_it: impl Fn(&FileFacts) -> bool) -> Result<Removal, PathError> {
        let (parent, name) = split(relative)?;
        if is_partial_name(name.as_encoded_bytes()) {
            return Err(PathError::NotRepresentable);
        }
        let removed = self.resolve(parent).and_then(|directory| {
            let facts = directory.facts(Path::new(name), Follow::Never)?;
            if facts.kind != FileKind::Regular || !is_it(&facts) {
                return Ok(Removal::Another);
            }
            directory.remove(name)?;
            Ok(Removal::Done)
        });
        match removed {
            Err(error) if is_absent(&error) => Ok(Removal::Absent),
            removed => Ok(removed?),
        }
    }

    /// Removes the directory `relative` if it is empty, and says whether it did.
    ///
    /// # Errors
    /// As [`remove_file`](Self::remove_file).
    pub fn remove_empty_dir(&self, relative: &Path) -> Result<bool, PathError> {
        let (parent, name) = split(relative)?;
        match self.resolve(parent).and_then(|directory| directory.remove_child(name)) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What has the name `relative`, if anything has. Links on the way are followed, as a listing of a source follows
    /// them; a link of that very name is itself what has it.
    ///
    /// # Errors
    /// As the system reports.
    pub fn find(&self, relative: &Path) -> io::Result<Option<FileFacts>> {
        split(relative)?;
        match self.directory().facts(relative, Follow::Never) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn resolve(&self, parent: &Path) -> io::Result<Arc<Directory>> {
        match parent.as_os_str().is_empty() {
            true => Ok(self.directory().clone()),
            false => Ok(Arc::new(self.directory().open_beneath(parent)?)),
        }
    }
}

/// Nothing has the name, or what should be a directory on the way to it is none.
fn is_absent(error: &io::Error) -> bool {
    !Directory::refused_a_link(error) && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn any(_: &FileFacts) -> bool {
        true
    }

    fn planted() -> (tempfile::TempDir, Root) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("root/a/b")).unwrap();
        for file in ["outside", "root/a/b/f", "root/a/.ropeway-0123456789abcdef.partial"] {
            std::fs::write(home.path().join(file), "content").unwrap();
        }
        let root = Root::open(&home.path().join("root")).unwrap();
        (home, root)
    }

    #[test]
    fn only_the_file_that_was_meant_is_removed() {
        let (home, root) = planted();
        let file = Path::new("a/b/f");
        assert_eq!(root.remove_file(file, |facts| facts.size_bytes == 1).unwrap(), Removal::Another);
        assert!(home.path().join("root/a/b/f").exists());
        assert_eq!(root.remove_file(file, |facts| facts.size_bytes == 7).unwrap(), Removal::Done);
        assert_eq!(root.remove_file(file, any).unwrap(), Removal::Absent);
        assert_eq!(root.remove_file(Path::new("a/b/f/g"), any).unwrap(), Removal::Absent);
        assert_eq!(root.remove_file(Path::new("a/b"), any).unwrap(), Removal::Another, "a directory");
    }

    #[test]
    fn nothing_is_removed_through_a_link_or_outside_and_no_link_either() {
        let (home, root) = planted();
        symlink(home.path(), home.path().join("root/up")).unwrap();
        symlink("../outside", home.path().join("root/link")).unwrap();
        assert!(matches!(root.remove_file(Path::new("up/outside"), any), Err(PathError::Escapes)));
        assert!(matches!(root.remove_file(Path::new("../outside"), any), Err(PathError::Escapes)));
        assert!(matches!(root.remove_file(Path::new("/etc/passwd"), any), Err(PathError::Escapes)));
        assert_eq!(root.remove_file(Path::new("link"), any).unwrap(), Removal::Another);
        assert!(matches!(root.remove_empty_dir(Path::new("up/root")), Err(PathError::Escapes)));
        assert!(!root.remove_empty_dir(Path::new("up")).unwrap_or(false));
        for left in ["outside", "root/link", "root/up"] {
            assert!(std::fs::symlink_metadata(home.path().join(left)).is_ok(), "{left}");
        }
    }

    /// A directory opened before and moved out of the root is no way to what it holds.
    #[test]
    fn a_directory_that_was_moved_away_is_not_reached() {
        let (home, root) = planted();
        root.facts(Path::new("a/b/f")).unwrap();
        std::fs::rename(home.path().join("root/a/b"), home.path().join("elsewhere")).unwrap();
        assert_eq!(root.remove_file(Path::new("a/b/f"), any).unwrap(), Removal::Absent);
        assert!(home.path().join("elsewhere/f").exists());
    }

    #[test]
    fn only_empty_directories_go_and_no_temporary_file_does() {
        let (_home, root) = planted();
        let temporary = Path::new("a/.ropeway-0123456789abcdef.partial");
        assert!(matches!(root.remove_file(temporary, any), Err(PathError::NotRepresentable)));
        assert!(!root.remove_empty_dir(Path::new("a/b")).unwrap());
        root.remove_file(Path::new("a/b/f"), any).unwrap();
        assert!(root.remove_empty_dir(Path::new("a/b")).unwrap());
        assert!(!root.remove_empty_dir(Path::new("a/b")).unwrap(), "it is gone");
        assert!(!root.remove_empty_dir(Path::new("a")).unwrap(), "it holds a temporary file");
    }

    #[test]
    fn what_has_a_name_is_found_through_links_but_not_behind_one() {
        let (home, root) = planted();
        symlink("a", home.path().join("root/way")).unwrap();
        symlink("nowhere", home.path().join("root/dangling")).unwrap();
        let kind = |path: &str| root.find(Path::new(path)).unwrap().map(|facts| facts.kind);
        assert_eq!(kind("way/b/f"), Some(FileKind::Regular));
        assert_eq!(kind("dangling"), Some(FileKind::Symlink));
        assert_eq!((kind("a/c"), kind("a/b/f/g"), kind("dangling/x")), (None, None, None));
    }
}
