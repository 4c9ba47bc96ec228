//! An MD5 of a whole object whose parts are read at the same time.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use ropeway_io::hash::Md5;
use tokio::sync::Notify;

/// Bytes pass it in order, whoever comes first, so that one MD5 can be taken of an object whose parts are read at once.
///
/// A part that waits here holds a buffer. That cannot lock up: parts get their slots and buffers in the order of their
/// numbers, so the one whose turn it is always has its own.
#[derive(Default)]
pub(super) struct Turnstile {
    md5: RefCell<Md5>,
    next: Cell<u64>,
    moved: Notify,
}

impl Turnstile {
    pub(super) async fn pass(&self, range: Range<u64>, content: &[u8]) {
        if range.end <= self.next.get() {
            // A second try of a part that has passed before.
            return;
        }
        while self.next.get() != range.start {
            self.moved.notified().await;
        }
        self.md5.borrow_mut().update(content);
        self.next.set(range.end);
        self.moved.notify_waiters();
    }

    pub(super) fn finish(&self) -> [u8; 16] {
        self.md5.take().finish()
    }
}
