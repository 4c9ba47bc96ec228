//! File operations on threads that may block: for any system, and for Linux where io_uring is forbidden. The threads are
//! the executor's own blocking pool, bounded in `runtime`. A closure owns its buffer and its file, so a future dropped
//! half way leaves both with the thread until the call has returned.

use std::io;
use std::ops::Range;

use super::{File, Outgoing};
use crate::buf::Lease;

pub(super) async fn read(file: &File, mut buf: Lease, range: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
    let file = file.clone();
    on_a_thread(move || {
        let result = read_now(&file, &mut buf.as_mut_slice()[range], at);
        (result, buf)
    })
    .await
}

pub(super) async fn write(file: &File, out: Outgoing, range: Range<usize>, at: u64) -> (io::Result<usize>, Outgoing) {
    let file = file.clone();
    on_a_thread(move || {
        let result = write_now(&file, &out.as_slice()[range], at);
        (result, out)
    })
    .await
}

pub(super) async fn sync_data(file: &File) -> io::Result<()> {
    let file = file.clone();
    on_a_thread(move || file.as_std().sync_data()).await
}

#[cfg(target_os = "linux")]
pub(super) async fn allocate(file: &File, len_bytes: u64) -> io::Result<()> {
    let file = file.clone();
    let flags = rustix::fs::FallocateFlags::empty();
    on_a_thread(move || Ok(rustix::fs::fallocate(file.as_std(), flags, 0, len_bytes)?)).await
}

#[cfg(not(target_os = "linux"))]
pub(super) async fn allocate(_file: &File, _len_bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
pub(super) fn read_now(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file.as_std(), bytes, at)
}

#[cfg(unix)]
pub(super) fn write_now(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file.as_std(), bytes, at)
}

// The Windows calls also move the file's cursor, which nothing here ever uses.
#[cfg(windows)]
pub(super) fn read_now(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file.as_std(), bytes, at)
}

#[cfg(windows)]
pub(super) fn write_now(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file.as_std(), bytes, at)
}

/// Runs `call` on a thread of the pool. A panic in it goes on in the caller.
async fn on_a_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
