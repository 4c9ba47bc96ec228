//! An MD5 of a whole object whose parts are read at the same time.

use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;
use ropeway_io::hash::{Md5Lane, Md5Lanes};
use tokio::sync::Notify;

/// Bytes pass it in order, whoever comes first, so that one MD5 can be taken of an object whose parts are read at once.
///
/// A part that waits here holds a buffer. That cannot lock up: parts get their slots and buffers in the order of their
/// numbers, so the one whose turn it is always has its own.
pub(super) struct Turnstile {
    /// Absent while a part is passing.
    lane: Cell<Option<Md5Lane>>,
    next: Cell<u64>,
    moved: Notify,
}

impl Turnstile {
    pub(super) fn new(lanes: &Md5Lanes) -> Turnstile {
        Turnstile { lane: Cell::new(Some(lanes.lane())), next: Cell::new(0), moved: Notify::new() }
    }

    pub(super) async fn pass(&self, range: Range<u64>, content: Bytes) {
        if range.end <= self.next.get() {
            // A second try of a part that has passed before.
            return;
        }
        while self.next.get() != range.start {
            self.moved.notified().await;
        }
        let mut lane = self.lane.take().expect("one part passes at a time");
        lane.push(content);
        // Nobody wants the digest before the last part, which may be waiting for the buffer that the lane holds.
        lane.drained().await;
        self.lane.set(Some(lane));
        self.next.set(range.end);
        self.moved.notify_waiters();
    }

    /// The MD5 of all that passed.
    pub(super) async fn finish(&self) -> [u8; 16] {
        self.lane.take().expect("no part is passing, and it is asked once").finish().await
    }
}
