//! Direct reads and writes on a glommio executor, which has a thread of its own: it cannot share one with tokio. Requests
//! go there through a channel and take their buffer and their file along; the answer brings the buffer back, and a request
//! that nobody waits for any more is carried out all the same and then lets go of both. What does not go directly (small
//! files, tails, whatever refuses) goes to the same threads as in the pool: glommio's buffered calls would only add to it.
//!
//! glommio reads and writes buffers of its own alone, so every byte is copied once between one of those and the lease. The
//! copies are made in pieces, which bounds the memory that the executor needs.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use ::glommio::io::{DmaFile, OpenOptions};
use ::glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rustix::fs::{OFlags, fcntl_getfl};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Access, File, Opened, Outgoing, pool};
use crate::buf::Lease;

/// What one operation of the executor moves at most.
const PIECE_BYTES: usize = 1 << 20;

/// Requests under way at the same time, each with one piece: enough to keep a disk at work, and with the pieces the bound
/// on the executor's buffers, which are not part of the arena.
const UNDER_WAY_MAX: usize = 4;

/// The executor's own memory for buffers: its pieces, and as much again for what its allocator cannot use.
const BUFFERS_BYTES: usize = 2 * UNDER_WAY_MAX * PIECE_BYTES;

/// The executor of one core, whose thread starts with the first direct operation. Its end waits for what is under way.
#[derive(Debug, Default)]
pub(super) struct Executor {
    started: OnceCell<Started>,
}

#[derive(Debug)]
struct Started {
    /// Taken at the end, which ends the thread.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<ExecutorJoinHandle<()>>,
}

/// One operation on a file opened for direct I/O.
struct Request {
    file: File,
    at: u64,
    range: Range<usize>,
    job: Job,
}

enum Job {
    Read(Lease, oneshot::Sender<(io::Result<usize>, Lease)>),
    Write(Outgoing, oneshot::Sender<(io::Result<usize>, Outgoing)>),
}

const ANSWERS: &str = "the executor answers every request, and ends only after the last";

pub(super) async fn read(
    executor: &Executor,
    file: &File,
    buf: Lease,
    range: Range<usize>,
    at: u64,
) -> (io::Result<usize>, Lease) {
    let requests = match (&file.inner.access, executor.requests()) {
        (Access::Cached(_), _) => return pool::read(file, buf, range, at).await,
        (Access::Direct, Err(error)) => return (Err(error), buf),
        (Access::Direct, Ok(requests)) => requests,
    };
    let (answer, answered) = oneshot::channel();
    let request = Request { file: file.clone(), at, range: range.clone(), job: Job::Read(buf, answer) };
    requests.send(request).await.expect(ANSWERS);
    match answered.await.expect(ANSWERS) {
        (Err(error), buf) if was_polled_in_vain(&error) => pool::read(file, buf, range, at).await,
        answer => answer,
    }
}

pub(super) async fn write(
    executor: &Executor,
    file: &File,
    out: Outgoing,
    range: Range<usize>,
    at: u64,
) -> (io::Result<usize>, Outgoing) {
    let requests = match (&file.inner.access, executor.requests()) {
        (Access::Cached(_), _) => return pool::write(file, out, range, at).await,
        (Access::Direct, Err(error)) => return (Err(error), out),
        (Access::Direct, Ok(requests)) => requests,
    };
    let (answer, answered) = oneshot::channel();
    let request = Request { file: file.clone(), at, range: range.clone(), job: Job::Write(out, answer) };
    requests.send(request).await.expect(ANSWERS);
    match answered.await.expect(ANSWERS) {
        (Err(error), out) if was_polled_in_vain(&error) => pool::write(file, out, range, at).await,
        answer => answer,
    }
}

/// glommio finds out once for each device whether it can be polled, by reading the first file that it opens there. A file
/// that has nothing on the device yet, as a new download has, is read without asking it; then glommio polls a device that
/// cannot be polled, and gets this answer. The same operation goes past the page cache without polling as well.
fn was_polled_in_vain(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// Starts an executor and ends it again.
///
/// # Errors
/// Why it could not be started.
pub(crate) fn try_executor() -> io::Result<()> {
    builder().spawn(|| async {}).and_then(ExecutorJoinHandle::join).map_err(io::Error::from)
}

/// Not bound to a core: the thread inherits that of the shard which starts it.
fn builder() -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Unbound).name("glommio").io_memory(BUFFERS_BYTES)
}

impl Executor {
    fn requests(&self) -> io::Result<&mpsc::Sender<Request>> {
        let started = match self.started.get() {
            Some(started) => started,
            None => {
                let (requests, incoming) = mpsc::channel(UNDER_WAY_MAX);
                let thread = builder().spawn(move || serve(incoming)).map_err(io::Error::from)?;
                self.started.get_or_init(|| Started { requests: Some(requests), thread: Some(thread) })
            }
        };
        Ok(started.requests.as_ref().expect("taken at the end alone"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(Err(error)) = self.thread.take().map(ExecutorJoinHandle::join) {
            tracing::debug!(%error, "a glommio executor did not end well");
        }
    }
}

/// The executor's main task: ends when nobody can send any more and all is answered.
async fn serve(mut incoming: mpsc::Receiver<Request>) {
    let files = Rc::new(DirectFiles::default());
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    while let Some(request) = incoming.recv().await {
        let permit = under_way.clone().acquire_owned().await.expect("never closed");
        let files = files.clone();
        ::glommio::spawn_local(async move {
            carry_out(&files, request).await;
            drop(permit);
        })
        .detach();
    }
    let _all = under_way.acquire_many(UNDER_WAY_MAX as u32).await;
}

/// Does what is asked and answers. Nobody may be waiting for the answer; then the buffer goes home from here.
async fn carry_out(files: &DirectFiles, request: Request) {
    let Request { file, at, range, job } = request;
    match job {
        Job::Read(mut buf, answer) => {
            let result = read_pieces(files, &file, &mut buf.as_mut_slice()[range], at).await;
            let _ = answer.send((result, buf));
        }
        Job::Write(out, answer) => {
            let result = write_pieces(files, &file, &out.as_slice()[range], at).await;
            let _ = answer.send((result, out));
        }
    }
}

async fn read_pieces(files: &DirectFiles, file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let file = files.open(file).await?;
    let mut read_bytes = 0;
    for piece in into.chunks_mut(PIECE_BYTES) {
        let found = file.read_at_aligned(at + read_bytes as u64, piece.len()).await?;
        piece[..found.len()].copy_from_slice(&found);
        read_bytes += found.len();
        if found.len() < piece.len() {
            break;
        }
    }
    Ok(read_bytes)
}

async fn write_pieces(files: &DirectFiles, file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    let file = files.open(file).await?;
    let mut written_bytes = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        let mut buffer = file.alloc_dma_buffer(piece.len());
        buffer.as_bytes_mut().copy_from_slice(piece);
        let count = file.write_at(buffer, at + written_bytes as u64).await?;
        written_bytes += count;
        if count < piece.len() {
            break;
        }
    }
    Ok(written_bytes)
}

/// glommio's own descriptors. One stays open until the first request after its file was let go of, or until the end.
#[derive(Default)]
struct DirectFiles {
    open: RefCell<Vec<(Weak<Opened>, Rc<DmaFile>)>>,
}

impl DirectFiles {
    async fn open(&self, file: &File) -> io::Result<Rc<DmaFile>> {
        self.open.borrow_mut().retain(|(of, _)| of.strong_count() > 0);
        let known = self.open.borrow().iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(&file.inner)).cloned();
        if let Some((_, known)) = known {
            return Ok(known);
        }
        let access = fcntl_getfl(file.as_std())? & OFlags::RWMODE;
        // By its descriptor, which the request keeps open: no other name is sure to be this file.
        let path = format!("/proc/self/fd/{}", file.as_std().as_raw_fd());
        let (reads, writes) = (access != OFlags::WRONLY, access != OFlags::RDONLY);
        let opened = Rc::new(OpenOptions::new().read(reads).write(writes).dma_open(path).await?);
        self.open.borrow_mut().push((Arc::downgrade(&file.inner), opened.clone()));
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DirectIo, Files};
    use super::*;
    use crate::buf::{Arena, ArenaLayout};
    use crate::runtime::tests::backends;
    use crate::runtime::{Backend, block_on};

    const PART_BYTES: usize = 2 << 20;

    /// More requests than are carried at a time, none waited for: the end comes after the last, and every buffer is home.
    #[test]
    fn the_end_waits_for_requests_that_nobody_waits_for() {
        if !backends().contains(&Backend::Glommio) {
            return;
        }
        let count = 3 * UNDER_WAY_MAX;
        let layout = ArenaLayout { large_bytes: PART_BYTES, large_count: count, small_bytes: 0, small_count: 0 };
        let arena = Arena::new(layout).unwrap();
        let file = File::from_std(tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap());
        block_on(Backend::Glommio, async {
            let files = Files::new(Backend::Glommio).with_direct_io(DirectIo::Auto);
            for part in 0..count {
                let mut buf = arena.try_lease(PART_BYTES).unwrap();
                buf.as_mut_slice().fill(part as u8 + 1);
                buf.set_len(PART_BYTES);
                let (files, file) = (files.clone(), file.clone());
                tokio::task::spawn_local(async move { files.write_at(&file, buf, (part * PART_BYTES) as u64).await });
            }
            // The tasks have sent what the channel takes; the rest is dropped before it is sent.
            tokio::task::yield_now().await;
        })
        .unwrap();
        assert_eq!(arena.free_large(), count);
        let length = file.facts().unwrap().size_bytes as usize;
        assert!(length >= PART_BYTES && length.is_multiple_of(PART_BYTES), "{length}");
    }
}
