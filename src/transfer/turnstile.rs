//! Hashes of a whole object whose parts are read at the same time.

use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;
use ropeway_io::hash::{Md5Lane, Md5Lanes};
use tokio::sync::Notify;

use super::sums::Running;
use super::verify::{Taken, Wanted};

/// Bytes pass it in order, whoever comes first, so that one hash can be taken of an object whose parts are read at once.
///
/// A part that waits here holds a buffer. That cannot lock up: parts get their slots and buffers in the order of their
/// numbers, so the one whose turn it is always has its own.
pub(super) struct Turnstile {
    /// Absent while a part is passing.
    hashes: Cell<Option<Hashes>>,
    next: Cell<u64>,
    moved: Notify,
}

struct Hashes {
    md5: Option<Md5Lane>,
    sum: Option<Running>,
}

impl Turnstile {
    /// None if no hash is wanted.
    pub(super) fn new(lanes: &Md5Lanes, wanted: Wanted) -> Option<Turnstile> {
        let hashes = Hashes { md5: wanted.md5.then(|| lanes.lane()), sum: wanted.sum.map(Running::new) };
        let anything = hashes.md5.is_some() || hashes.sum.is_some();
        anything.then(|| Turnstile { hashes: Cell::new(Some(hashes)), next: Cell::new(0), moved: Notify::new() })
    }

    pub(super) async fn pass(&self, range: Range<u64>, content: Bytes) {
        if range.end <= self.next.get() {
            // A second try of a part that has passed before.
            return;
        }
        while self.next.get() != range.start {
            self.moved.notified().await;
        }
        let mut hashes = self.hashes.take().expect("one part passes at a time");
        if let Some(sum) = &mut hashes.sum {
            sum.update(&content).await;
        }
        if let Some(lane) = &mut hashes.md5 {
            lane.push(content);
            // Nobody wants the digest before the last part, which may be waiting for the buffer that the lane holds.
            lane.drained().await;
        }
        self.hashes.set(Some(hashes));
        self.next.set(range.end);
        self.moved.notify_waiters();
    }

    /// The hashes of all that passed.
    pub(super) async fn finish(&self) -> Taken {
        let Hashes { md5, sum } = self.hashes.take().expect("no part is passing, and it is asked once");
        let md5 = match md5 {
            Some(lane) => Some(lane.finish().await),
            None => None,
        };
        Taken { md5, sum: sum.map(Running::finish) }
    }
}
