//! Parts of large objects, offered to every core.
//!
//! The shard that owns a large object posts its parts here and begins with them itself. An idle shard asks, and is given a
//! few ([`Board::give`]); it carries them out with files, buffers and connections of its own, and what became of them
//! returns to the owner ([`Board::returned`]). A board is touched by its own shard alone; what crosses between cores is a
//! message with a handful of parts, never a single buffer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};

use super::Error;
use super::large::{Large, PartDone};
use super::part::Part;

/// The large objects of one shard.
pub struct Board {
    /// Parts in flight on this shard, whoever owns them.
    slots: Semaphore,
    slots_max: usize,
    posted: RefCell<Vec<Rc<Posted>>>,
    next_id: Cell<u64>,
    /// Told when there is more to give.
    posted_more: Notify,
}

/// One large object and how far its parts are given out.
pub(super) struct Posted {
    pub(super) large: Arc<Large>,
    next: Cell<u64>,
    total: u64,
    /// Its parts must be hashed in order, so they stay on this shard.
    stays: bool,
    returned: mpsc::UnboundedSender<Result<Vec<PartDone>, Error>>,
}

/// A few parts on their way to another shard.
#[derive(Debug)]
pub struct PartsJob {
    pub(super) large: Arc<Large>,
    pub(super) parts: Vec<Part>,
}

impl PartsJob {
    /// How many parts; never none.
    #[expect(clippy::len_without_is_empty, reason = "a job without parts is not made")]
    pub fn len(&self) -> usize {
        self.parts.len()
    }
}

/// What became of them, on its way back.
#[derive(Debug)]
pub struct PartsReturned {
    /// The shard that owns the object.
    pub owner: usize,
    pub(super) id: u64,
    pub(super) outcome: Result<Vec<PartDone>, Error>,
}

/// Parts given away at a time: enough that the message costs nothing beside the bytes, few enough that the last ones do
/// not keep everyone waiting for one shard.
const GIVEN_MAX: u64 = 8;

impl Board {
    /// A board for a shard that has at most `slots` parts in flight.
    pub fn new(slots: usize) -> Board {
        Board {
            slots: Semaphore::new(slots),
            slots_max: slots,
            posted: RefCell::default(),
            next_id: Cell::new(0),
            posted_more: Notify::new(),
        }
    }

    /// Parts that an idle shard may have, if there are any to spare: those in the hand of this shard's own slots are not.
    pub fn give(&self) -> Option<PartsJob> {
        let posted = self.posted.borrow();
        let posted = posted.iter().find(|posted| !posted.stays && posted.left() > 0)?;
        let number = (posted.left() / 4).clamp(1, GIVEN_MAX);
        let parts = (0..number).map_while(|_| posted.take()).collect();
        Some(PartsJob { large: posted.large.clone(), parts })
    }

    /// Waits until there is more to give than before.
    pub async fn news(&self) {
        self.posted_more.notified().await;
    }

    /// Takes back what another shard did. The object may have failed meanwhile; then nobody waits for it.
    pub fn returned(&self, back: PartsReturned) {
        if let Some(posted) = self.posted.borrow().iter().find(|posted| posted.large.id == back.id) {
            let _ = posted.returned.send(back.outcome);
        }
    }

    /// An id for the next large object of this shard.
    pub(super) fn new_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Offers an object's parts, until the guard is dropped. Outcomes of parts that travel arrive at the receiver; it holds
    /// at most one message for each job given away.
    pub(super) fn post(
        &self,
        large: Arc<Large>,
        stays: bool,
    ) -> (PostedGuard<'_>, mpsc::UnboundedReceiver<Result<Vec<PartDone>, Error>>) {
        let (returned, receiver) = mpsc::unbounded_channel();
        let total = large.cut.count(large.size_bytes);
        let posted = Rc::new(Posted { large, next: Cell::new(0), total, stays, returned });
        self.posted.borrow_mut().push(posted.clone());
        self.posted_more.notify_one();
        (PostedGuard { board: self, posted }, receiver)
    }

    /// Waits for leave to have one more part in flight.
    pub(super) async fn slot(&self) -> SemaphorePermit<'_> {
        self.slots.acquire().await.expect("slots are never closed")
    }

    /// Parts in flight at most.
    pub(super) fn slots_max(&self) -> usize {
        self.slots_max
    }
}

impl Posted {
    /// The next part that nobody has.
    pub(super) fn take(&self) -> Option<Part> {
        let index = self.next.get();
        if index == self.total {
            return None;
        }
        self.next.set(index + 1);
        Some(self.large.cut.nth(self.large.size_bytes, index))
    }

    fn left(&self) -> u64 {
        self.total - self.next.get()
    }

    /// All parts, given out or not.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// Withdraws the offer when dropped.
pub(super) struct PostedGuard<'a> {
    board: &'a Board,
    pub(super) posted: Rc<Posted>,
}

impl Drop for PostedGuard<'_> {
    fn drop(&mut self) {
        self.board.posted.borrow_mut().retain(|posted| !Rc::ptr_eq(posted, &self.posted));
    }
}
