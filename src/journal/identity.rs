//! What makes two runs the same job: the same source and the same target. Keys, tokens and regions are not part of it, since
//! they may change between two runs; nor are limits and part sizes, which each unfinished object carries itself.

use std::path::{Path, PathBuf};

use ropeway_io::hash::md5;

/// A job, by its source and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where data is read, in one spelling.
    pub source: String,
    /// Where data is written, in one spelling.
    pub target: String,
}

impl Identity {
    /// The name of its files: the MD5 of both, as hexadecimal digits. Two jobs of one name would still not share a journal,
    /// which has the whole identity inside.
    pub(super) fn name(&self) -> String {
        let text = [self.source.as_str(), self.target.as_str()].join("\n");
        md5(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Where journals are kept unless the person says otherwise: `$XDG_STATE_HOME/ropeway`, else `~/.local/state/ropeway` (XDG Base
/// Directory Specification). None where neither is known. `variable` reads the environment.
pub fn state_directory(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    // The specification wants relative paths ignored.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(Path::new(".local/state"))))?;
    Some(state.join("ropeway"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_follows_the_specification() {
        let find = |pairs: &[(&str, &str)]| {
            state_directory(|name| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into()))
        };
        assert_eq!(find(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]), Some("/s/ropeway".into()));
        assert_eq!(find(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]), Some("/h/.local/state/ropeway".into()));
        assert_eq!(find(&[("XDG_STATE_HOME", "")]), None);
    }

    #[test]
    fn source_and_target_both_count() {
        let job = |source: &str, target: &str| Identity { source: source.into(), target: target.into() }.name();
        let names = [job("a", "b"), job("b", "a"), job("a", "c"), job("ab", "")];
        assert!((1..names.len()).all(|at| !names[..at].contains(&names[at])), "{names:?}");
        assert_eq!(names[0].len(), 32);
    }
}
