//! File operations on the ring of this core.
//!
//! tokio-uring hands submissions to the kernel only when its executor goes to sleep. On a busy core that can be hundreds
//! of milliseconds, exactly when the disk should be kept at work. [`fly`] is the one place where an operation is
//! submitted, and it pushes a no-op behind each: the queue has a single entry (`runtime` sees to it), so the no-op does
//! not fit until the operation has gone to the kernel.
//!
//! The kernel holds raw pointers into the buffer and the number of the descriptor. Both are owned by the operation
//! ([`Held`]) until its completion has been read: if the future is dropped, tokio-uring keeps `Held` until then, and
//! `runtime::block_on` does not end before that either.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::task::{Context, Waker};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{cqueue, opcode, squeue};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::{File, Outgoing};
use crate::buf::Lease;
use crate::runtime::Flight;

pub(super) async fn read(file: &File, buf: Lease, range: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
    assert!(range.end <= buf.capacity());
    // The range lies in the buffer, whose address does not change when the lease moves, and which the operation owns.
    let start = buf.start().wrapping_add(range.start);
    let entry = opcode::Read::new(Fd(raw(file)), start, call_len(&range)).offset(at).build();
    fly(entry, buf, file).await
}

pub(super) async fn write(file: &File, out: Outgoing, range: Range<usize>, at: u64) -> (io::Result<usize>, Outgoing) {
    // Both kinds of outgoing bytes live on the heap or in the arena, never in the value that moves.
    let start = out.as_slice()[range.clone()].as_ptr();
    let entry = opcode::Write::new(Fd(raw(file)), start, call_len(&range)).offset(at).build();
    fly(entry, out, file).await
}

pub(super) async fn allocate(file: &File, len_bytes: u64) -> io::Result<()> {
    let entry = opcode::Fallocate::new(Fd(raw(file)), len_bytes).build();
    fly(entry, (), file).await.0.map(|_| ())
}

pub(super) async fn sync_data(file: &File) -> io::Result<()> {
    let entry = opcode::Fsync::new(Fd(raw(file))).flags(FsyncFlags::DATASYNC).build();
    fly(entry, (), file).await.0.map(|_| ())
}

fn raw(file: &File) -> RawFd {
    file.as_std().as_raw_fd()
}

fn call_len(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).expect("one call moves at most ONE_CALL_BYTES_MAX")
}

/// Submits `entry` at once and waits for its completion. `entry` may point into `buffer` and name the descriptor of
/// `file`, and at nothing else.
async fn fly<B: Unpin + 'static>(entry: squeue::Entry, buffer: B, file: &File) -> (io::Result<usize>, B) {
    let held = Held { buffer, _file: file.clone(), _flight: Flight::begin() };
    let under_way = UnsubmittedOneshot::new(held, GiveBack(PhantomData), entry).submit();
    push_companion();
    under_way.await
}

/// Polled once, the no-op is in the queue; dropped, nobody waits for it.
fn push_companion() {
    let companion = pin!(tokio_uring::no_op());
    // Ready at the first poll or not, the entry has been pushed, and that is all it is for.
    let _ = companion.poll(&mut Context::from_waker(Waker::noop()));
}

/// What the kernel may touch until it has answered.
struct Held<B> {
    buffer: B,
    _file: File,
    _flight: Flight,
}

struct GiveBack<B>(PhantomData<B>);

impl<B: 'static> OneshotOutputTransform for GiveBack<B> {
    type Output = (io::Result<usize>, B);
    type StoredData = Held<B>;

    fn transform_oneshot_output(self, held: Held<B>, completion: cqueue::Entry) -> Self::Output {
        let result = match completion.result() {
            count @ 0.. => Ok(count as usize),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        (result, held.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{Arena, ArenaLayout};
    use crate::probe::probe;
    use crate::runtime::{Backend, block_on};
    use std::cell::Cell;
    use std::rc::Rc;

    const PAGE_BYTES: usize = 4096;

    fn pages(count: usize) -> File {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..count).flat_map(|page| [page as u8; PAGE_BYTES]).collect();
        std::io::Write::write_all(&mut &file, &bytes).unwrap();
        File::from_std(file)
    }

    fn arena(count: usize) -> Arena {
        let layout = ArenaLayout { large_bytes: PAGE_BYTES, large_count: count, small_bytes: 0, small_count: 0 };
        Arena::new(layout).unwrap()
    }

    /// Without the companion in [`fly`], the read would wait for as long as another task keeps the executor busy.
    #[test]
    fn a_busy_executor_does_not_starve_submissions() {
        /// The executor looks for completions every 61 turns of its own, in each of which the local tasks have up to 61;
        /// some rounds of that, and a wide margin.
        const TURNS_MAX: u32 = 100_000;
        if probe().uring.is_err() {
            return;
        }
        let turns = Rc::new(Cell::new(0));
        block_on(Backend::Uring, async {
            tokio::task::spawn_local({
                let turns = turns.clone();
                async move {
                    while turns.get() < TURNS_MAX {
                        turns.set(turns.get() + 1);
                        tokio::task::yield_now().await;
                    }
                }
            });
            let (file, arena) = (pages(1), arena(1));
            for _ in 0..10 {
                let (result, _) = read(&file, arena.lease(1).await, 0..PAGE_BYTES, 0).await;
                assert_eq!(result.unwrap(), PAGE_BYTES);
            }
        })
        .unwrap();
        assert!(turns.get() < TURNS_MAX, "the reads completed only after the executor had fallen idle");
    }

    /// With deferred task work (see `runtime`), none of these would ever complete.
    #[test]
    fn sixty_four_reads_under_way_at_once_all_complete() {
        if probe().uring.is_err() {
            return;
        }
        block_on(Backend::Uring, async {
            let (file, arena) = (pages(64), arena(64));
            let reads: Vec<_> = (0..64)
                .map(|page| {
                    let (file, buf) = (file.clone(), arena.try_lease(PAGE_BYTES).unwrap());
                    let at = (page * PAGE_BYTES) as u64;
                    tokio::task::spawn_local(async move { (page, read(&file, buf, 0..PAGE_BYTES, at).await) })
                })
                .collect();
            for reading in reads {
                let (page, (result, buf)) = reading.await.unwrap();
                assert_eq!(result.unwrap(), PAGE_BYTES);
                assert!(buf.as_slice().iter().all(|&byte| byte == page as u8));
            }
            assert_eq!(arena.free_large(), 64);
        })
        .unwrap();
    }
}
