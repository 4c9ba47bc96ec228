//! What must be true of a key at the moment when a write would replace what it names.

use crate::{head::HeadText, name::ETag};

/// A condition of a write. A service that knows it refuses with `PreconditionFailed`, one that does not may ignore it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition<'a> {
    /// None: whatever is there is replaced.
    #[default]
    Always,
    /// Nothing is there.
    Absent,
    /// What is there has this tag.
    Is(&'a ETag),
}

impl Condition<'_> {
    pub(super) fn write(self, head: &mut HeadText) {
        match self {
            Condition::Always => {}
            Condition::Absent => head.header("if-none-match", "*"),
            Condition::Is(etag) => head.header("if-match", &etag.quoted()),
        }
    }
}
