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
