//! Which versions of a key are taken, and in which order.

use ropeway_s3proto::name::VersionId;

use crate::entry::ObjectVersion;

/// The version that a key meant at a time, given its versions, the newest first. None if there was none, or it was deleted.
pub fn at(newest_first: &[ObjectVersion], time_ns: i64) -> Option<&ObjectVersion> {
    let then = newest_first.iter().find(|version| version.modified_ns <= time_ns);
    then.filter(|version| version.content.is_some())
}

/// One thing to be done about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The target has it already.
    Skip(&'a ObjectVersion),
    /// It is carried over.
    Carry(&'a ObjectVersion),
    /// The key is deleted, as this marker says.
    Delete(&'a ObjectVersion),
}

/// What is to be done about a key's versions, given the newest first: the oldest comes first, so that they come to stand in
/// the same order at the target. Of delete markers only the one that is the key's latest is reproduced, and that only if
/// the target's key is not deleted, or will not be once versions have been carried; `target_is_deleted` says whether it is
/// now, as it is if it never was there.
pub fn steps<'a>(
    newest_first: &'a [ObjectVersion],
    has: impl Fn(&VersionId) -> bool,
    target_is_deleted: bool,
) -> Vec<Step<'a>> {
    let mut steps = Vec::with_capacity(newest_first.len());
    let mut carries = false;
    for version in newest_first.iter().rev() {
        match &version.content {
            Some(_) if has(&version.id) => steps.push(Step::Skip(version)),
            Some(_) => {
                steps.push(Step::Carry(version));
                carries = true;
            }
            None if version.is_latest && (carries || !target_is_deleted) => steps.push(Step::Delete(version)),
            None => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::VersionContent;

    /// The newest first; `!` is a delete marker.
    fn versions(ids: &[&str]) -> Vec<ObjectVersion> {
        let count = ids.len();
        let version = |(index, id): (usize, &&str)| ObjectVersion {
            id: VersionId::parse(id).unwrap(),
            is_latest: index == 0,
            modified_ns: (count - index) as i64 * 10,
            content: (!id.starts_with('!')).then_some(VersionContent { size_bytes: 1, etag: None }),
        };
        ids.iter().enumerate().map(version).collect()
    }

    fn shown(steps: &[Step<'_>]) -> String {
        let step = |step: &Step<'_>| match step {
            Step::Skip(version) => format!("={}", version.id),
            Step::Carry(version) => format!("+{}", version.id),
            Step::Delete(version) => format!("-{}", version.id),
        };
        steps.iter().map(step).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_table_of_steps() {
        // (versions, the target's, whether it is deleted there, steps)
        let table: [(&[&str], &[&str], bool, &str); 8] = [
            (&["c", "b", "a"], &[], true, "+a +b +c"),
            (&["c", "b", "a"], &["a", "b"], false, "=a =b +c"),
            (&["c", "b", "a"], &["a", "b", "c"], false, "=a =b =c"),
            (&["!2", "b", "!1", "a"], &[], true, "+a +b -!2"),
            (&["!2", "b", "a"], &["a", "b"], false, "=a =b -!2"),
            (&["!2", "b", "a"], &["a", "b"], true, "=a =b"),
            (&["b", "!1", "a"], &["a"], true, "=a +b"),
            (&["!1"], &[], true, ""),
        ];
        for (source, target, deleted, expected) in table {
            let source = versions(source);
            let got = steps(&source, |id| target.contains(&id.as_str()), deleted);
            assert_eq!(shown(&got), expected, "{source:?}");
        }
    }

    #[test]
    fn a_moment_has_the_newest_version_of_then_unless_that_is_a_deletion() {
        let all = versions(&["d", "!", "b", "a"]);
        let then = |time| at(&all, time).map(|version| version.id.as_str());
        let table =
            [(9, None), (10, Some("a")), (19, Some("a")), (20, Some("b")), (30, None), (39, None), (40, Some("d"))];
        for (time, expected) in table {
            assert_eq!(then(time), expected, "{time}");
        }
    }
}
