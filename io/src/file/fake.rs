//! A backend that plays a script, to see what the loops above it do when the system moves less than it was asked to, is
//! interrupted, or fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use super::{File, Outgoing, pool};
use crate::buf::Lease;

/// What one operation does. When the script has ended, operations succeed in full.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Moves at most this many bytes.
    AtMost(usize),
    /// Fails with this kind, moving nothing.
    Fail(io::ErrorKind),
}

#[derive(Debug, Default)]
pub(super) struct Script {
    steps: RefCell<VecDeque<Step>>,
}

impl Script {
    pub(super) fn of(steps: impl IntoIterator<Item = Step>) -> Script {
        Script { steps: RefCell::new(steps.into_iter().collect()) }
    }

    pub(super) fn steps_left(&self) -> usize {
        self.steps.borrow().len()
    }

    pub(super) fn allocate(&self) -> io::Result<()> {
        match self.steps.borrow_mut().pop_front() {
            Some(Step::Fail(kind)) => Err(kind.into()),
            Some(Step::AtMost(_)) | None => Ok(()),
        }
    }

    pub(super) fn read(&self, file: &File, mut buf: Lease, range: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
        let result = self.step(range).and_then(|range| pool::read_now(file, &mut buf.as_mut_slice()[range], at));
        (result, buf)
    }

    pub(super) fn write(
        &self,
        file: &File,
        out: Outgoing,
        range: Range<usize>,
        at: u64,
    ) -> (io::Result<usize>, Outgoing) {
        let result = self.step(range).and_then(|range| pool::write_now(file, &out.as_slice()[range], at));
        (result, out)
    }

    fn step(&self, range: Range<usize>) -> io::Result<Range<usize>> {
        match self.steps.borrow_mut().pop_front() {
            Some(Step::Fail(kind)) => Err(kind.into()),
            Some(Step::AtMost(count)) => Ok(range.start..range.end.min(range.start + count)),
            None => Ok(range),
        }
    }
}
