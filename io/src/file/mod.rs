//! Reading and writing files with buffers that move into the operation and come back. [`Files`] carries the operations of
//! one core to its backend: the ring, or threads. What is the same for both lives here: short reads and writes are
//! continued, interrupted ones repeated, and small ones done at once, without a turn through ring or thread.
//!
//! An operation whose future is dropped keeps its buffer and its file until it has ended; only then do they return.

#[cfg(test)]
mod fake;
mod pool;
#[cfg(target_os = "linux")]
mod uring;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::buf::Lease;
use crate::hash::Crc64;
use crate::path::FileFacts;
use crate::runtime::Backend;

/// Up to this size an operation is tried inline first: copying 256 KiB from or to the page cache takes some 10 µs, about
/// what a turn through the ring costs and less than one through a thread.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// The most that one system call is asked to move. The ring counts in 32 bits, and Linux moves no more than 2 GiB less a
/// page at once.
const ONE_CALL_BYTES_MAX: usize = 1 << 30;

/// An open file. Clones share one descriptor, so parts of one file can be under way together; it is closed with the last
/// of them, operations included.
#[derive(Clone, Debug)]
pub struct File {
    inner: Arc<std::fs::File>,
}

impl File {
    /// Takes over a file opened elsewhere.
    pub fn from_std(file: std::fs::File) -> File {
        File { inner: Arc::new(file) }
    }

    /// What the file is now: asked of the open file and not of its name, which may have come to mean another.
    ///
    /// # Errors
    /// As the system reports.
    pub fn facts(&self) -> io::Result<FileFacts> {
        Ok(FileFacts::of(&self.inner.metadata()?))
    }

    /// Cuts or extends the file to `len_bytes`.
    ///
    /// # Errors
    /// As the system reports.
    pub fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.inner.set_len(len_bytes)
    }

    pub(crate) fn as_std(&self) -> &std::fs::File {
        &self.inner
    }
}

/// The file operations of one core.
#[derive(Clone, Debug)]
pub struct Files {
    driver: Driver,
}

#[derive(Clone, Debug)]
enum Driver {
    #[cfg(target_os = "linux")]
    Uring,
    Pool,
    #[cfg(test)]
    Fake(std::rc::Rc<fake::Script>),
}

/// What is written: a buffer that comes back, or bytes shared with somebody else.
#[derive(Debug)]
enum Outgoing {
    Lease(Lease),
    Bytes(Bytes),
}

impl Outgoing {
    fn as_slice(&self) -> &[u8] {
        match self {
            Outgoing::Lease(lease) => lease.filled(),
            Outgoing::Bytes(bytes) => bytes,
        }
    }
}

impl Files {
    /// Operations on `backend`, which must be the one that [`crate::runtime::block_on`] runs on this thread.
    pub fn new(backend: Backend) -> Files {
        let driver = match backend {
            #[cfg(target_os = "linux")]
            Backend::Uring => Driver::Uring,
            #[cfg(not(target_os = "linux"))]
            Backend::Uring => unreachable!("`runtime::block_on` refuses the ring on this system"),
            Backend::Pool => Driver::Pool,
        };
        Files { driver }
    }

    /// Fills `buf` with up to `len_bytes` bytes of `file` from `offset` on. Reads fewer only at the end of the file; the
    /// number read is also the lease's new length.
    ///
    /// # Errors
    /// As the system reports; the lease then holds what was read before.
    ///
    /// # Panics
    /// When `len_bytes` is beyond the capacity of `buf`.
    pub async fn read_at(&self, file: &File, buf: Lease, len_bytes: usize, offset: u64) -> (io::Result<usize>, Lease) {
        self.fill(file, buf, len_bytes, offset, |_| {}).await
    }

    /// As [`read_at`](Self::read_at), with the CRC64NVME of what was read. Bytes that only have to be copied are summed in
    /// pieces while they are still in the core's cache.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    ///
    /// # Panics
    /// As [`read_at`](Self::read_at).
    pub async fn read_summed_at(
        &self,
        file: &File,
        buf: Lease,
        len_bytes: usize,
        offset: u64,
    ) -> (io::Result<(usize, u64)>, Lease) {
        let mut crc = Crc64::new();
        let (read, buf) = self.fill(file, buf, len_bytes, offset, |bytes| crc.update(bytes)).await;
        (read.map(|count| (count, crc.finish())), buf)
    }

    /// Reads until the buffer holds `len_bytes` or the file ends, and shows `seen` each stretch as it arrives.
    async fn fill(
        &self,
        file: &File,
        buf: Lease,
        len_bytes: usize,
        offset: u64,
        mut seen: impl FnMut(&[u8]),
    ) -> (io::Result<usize>, Lease) {
        assert!(len_bytes <= buf.capacity(), "{len_bytes} bytes do not fit in a buffer of {}", buf.capacity());
        let mut buf = buf;
        let mut filled = 0;
        let mut cached = len_bytes <= INLINE_BYTES_MAX && self.has_cached_reads();
        let in_memory = len_bytes > INLINE_BYTES_MAX && self.has_cached_reads() && in_memory(file);
        let call_bytes_max = if in_memory { INLINE_BYTES_MAX } else { ONE_CALL_BYTES_MAX };
        while filled < len_bytes {
            let range = filled..len_bytes.min(filled + call_bytes_max);
            let at = offset + filled as u64;
            let bytes = &mut buf.as_mut_slice()[range.clone()];
            let at_once = match (in_memory, cached) {
                (true, _) => Some(pool::read_now(file, bytes, at)),
                (false, true) => read_cached(file, bytes, at),
                (false, false) => None,
            };
            let attempt = match at_once {
                Some(attempt) => attempt,
                None => {
                    cached = false;
                    let attempt;
                    (attempt, buf) = self.read_once(file, buf, range, at).await;
                    attempt
                }
            };
            match attempt {
                Ok(0) => break,
                Ok(count) => {
                    seen(&buf.as_slice()[filled..filled + count]);
                    filled += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    buf.set_len(filled);
                    return (Err(error), buf);
                }
            }
        }
        buf.set_len(filled);
        (Ok(filled), buf)
    }

    /// Writes all that is filled of `buf` to `file` from `offset` on, and gives the buffer back.
    ///
    /// # Errors
    /// As the system reports (no space, quota, device); part of the bytes may have been written.
    pub async fn write_at(&self, file: &File, buf: Lease, offset: u64) -> (io::Result<()>, Lease) {
        match self.write_all(file, Outgoing::Lease(buf), offset).await {
            (result, Outgoing::Lease(buf)) => (result, buf),
            (_, Outgoing::Bytes(_)) => unreachable!("a write gives back what it was given"),
        }
    }

    /// Writes `bytes` to `file` from `offset` on.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub async fn write_bytes_at(&self, file: &File, bytes: Bytes, offset: u64) -> io::Result<()> {
        self.write_all(file, Outgoing::Bytes(bytes), offset).await.0
    }

    /// Reserves room for a file of `len_bytes`, so that a full disk shows before the transfer and extents lie together. A
    /// file system that cannot reserve is no error. The file may become longer by this; whoever finishes it sets its
    /// length.
    ///
    /// # Errors
    /// No space, quota, or a size beyond what the file system can hold.
    pub async fn allocate(&self, file: &File, len_bytes: u64) -> io::Result<()> {
        if len_bytes == 0 {
            return Ok(());
        }
        let result = match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => uring::allocate(file, len_bytes).await,
            Driver::Pool => pool::allocate(file, len_bytes).await,
            #[cfg(test)]
            Driver::Fake(script) => script.allocate(),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    /// Waits until the bytes of `file` are on the device.
    ///
    /// # Errors
    /// As the system reports; a write that failed in the background shows here.
    pub async fn sync_data(&self, file: &File) -> io::Result<()> {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => uring::sync_data(file).await,
            Driver::Pool => pool::sync_data(file).await,
            #[cfg(test)]
            Driver::Fake(_) => Ok(()),
        }
    }

    async fn write_all(&self, file: &File, out: Outgoing, offset: u64) -> (io::Result<()>, Outgoing) {
        let mut out = out;
        let len_bytes = out.as_slice().len();
        let inline = self.has_inline_writes() && (len_bytes <= INLINE_BYTES_MAX || in_memory(file));
        let mut written = 0;
        while written < len_bytes {
            let range = written..len_bytes.min(written + ONE_CALL_BYTES_MAX);
            let at = offset + written as u64;
            let attempt = if inline {
                pool::write_now(file, &out.as_slice()[range], at)
            } else {
                let attempt;
                (attempt, out) = self.write_once(file, out, range, at).await;
                attempt
            };
            match attempt {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), out),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), out),
            }
        }
        (Ok(()), out)
    }

    /// One read by the backend into `range` of the buffer; may be short.
    async fn read_once(&self, file: &File, buf: Lease, range: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => uring::read(file, buf, range, at).await,
            Driver::Pool => pool::read(file, buf, range, at).await,
            #[cfg(test)]
            Driver::Fake(script) => script.read(file, buf, range, at),
        }
    }

    /// One write by the backend of `range` of the bytes; may be short.
    async fn write_once(
        &self,
        file: &File,
        out: Outgoing,
        range: Range<usize>,
        at: u64,
    ) -> (io::Result<usize>, Outgoing) {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => uring::write(file, out, range, at).await,
            Driver::Pool => pool::write(file, out, range, at).await,
            #[cfg(test)]
            Driver::Fake(script) => script.write(file, out, range, at),
        }
    }

    fn has_cached_reads(&self) -> bool {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => true,
            Driver::Pool => true,
            #[cfg(test)]
            Driver::Fake(_) => false,
        }
    }

    /// A small write copies into the page cache and returns; the disk is written behind its back.
    fn has_inline_writes(&self) -> bool {
        self.has_cached_reads()
    }
}

/// Reads what the page cache holds, without waiting for the disk. `None` when it would have to wait, or cannot tell.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, bytes: &mut [u8], at: u64) -> Option<io::Result<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut slices = [io::IoSliceMut::new(bytes)];
    match preadv2(file.as_std(), &mut slices, at, ReadWriteFlags::NOWAIT) {
        Ok(count) => Some(Ok(count)),
        // tmpfs does not know the flag, and has nothing to wait for either.
        Err(Errno::OPNOTSUPP) if in_memory(file) => Some(pool::read_now(file, bytes, at)),
        // Not cached; or a file system (or kernel) that does not know the flag.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => None,
        Err(errno) => Some(Err(errno.into())),
    }
}

/// Whether the file lies in memory, where to read or write is to copy, so that ring and thread only add to it: the ring
/// gives such a write to a kernel thread, which shares the core with us and costs two switches. A page that was swapped out
/// makes us wait; whoever keeps files in memory that is not there has chosen so.
#[cfg(target_os = "linux")]
fn in_memory(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::fstatfs(file.as_std()).is_ok_and(|found| matches!(found.f_type as u64, TMPFS | RAMFS))
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_file: &File) -> bool {
    false
}

/// Reads what the page cache holds: this system cannot be asked, so every read goes to the pool.
#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _bytes: &mut [u8], _at: u64) -> Option<io::Result<usize>> {
    None
}

#[cfg(test)]
mod tests {
    use super::fake::{Script, Step};
    use super::*;
    use crate::buf::{Arena, ArenaLayout};
    use crate::hash::crc64;
    use crate::runtime::block_on;
    use crate::runtime::tests::backends;
    use proptest::prelude::*;
    use std::rc::Rc;

    const LARGE_BYTES: usize = 1 << 20;

    fn arena() -> Arena {
        let layout = ArenaLayout { large_bytes: LARGE_BYTES, large_count: 2, small_bytes: 4096, small_count: 2 };
        Arena::new(layout).unwrap()
    }

    /// The output of a future that needs to be polled only once.
    #[cfg(target_os = "linux")]
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    fn new_file() -> File {
        File::from_std(tempfile::tempfile().unwrap())
    }

    fn scripted(steps: impl IntoIterator<Item = Step>) -> (Files, Rc<Script>) {
        let script = Rc::new(Script::of(steps));
        (Files { driver: Driver::Fake(script.clone()) }, script)
    }

    fn pattern(len_bytes: usize) -> Vec<u8> {
        (0..len_bytes).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Sizes on both sides of the inline limit, read back shifted and beyond the end.
        #[test]
        fn what_is_written_is_read_on_every_backend(
            len in prop_oneof![0..5000usize, INLINE_BYTES_MAX - 2..INLINE_BYTES_MAX + 3, 0..LARGE_BYTES],
            offset in 0..10_000u64,
            skip in 0..6000usize,
        ) {
            for backend in backends() {
                let read = block_on(backend, async {
                    let (arena, files, file) = (arena(), Files::new(backend), new_file());
                    let mut buf = arena.lease(LARGE_BYTES).await;
                    buf.extend_from_slice(&pattern(len));
                    let (written, buf) = files.write_at(&file, buf, offset).await;
                    written.unwrap();
                    assert_eq!(file.facts().unwrap().size_bytes, if len == 0 { 0 } else { offset + len as u64 });
                    let (read, buf) = files.read_summed_at(&file, buf, LARGE_BYTES, offset + skip as u64).await;
                    assert_eq!(read.unwrap(), (buf.len(), crc64(buf.filled())));
                    buf.filled().to_vec()
                }).unwrap();
                prop_assert!(read == pattern(len)[skip.min(len)..], "{:?}", backend);
            }
        }
    }

    /// An anonymous file in memory lies on tmpfs, and needs neither a mount nor a name.
    #[cfg(target_os = "linux")]
    #[test]
    fn files_in_memory_are_known_and_go_through_no_backend() {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from_std(rustix::fs::memfd_create("in-memory", flags).unwrap().into());
        assert!(in_memory(&file));
        assert!(!in_memory(&File::from_std(std::fs::File::open("/proc/self/status").unwrap())));
        let content = pattern(LARGE_BYTES);
        for backend in backends() {
            block_on(backend, async {
                let (arena, files) = (arena(), Files::new(backend));
                let mut buf = arena.lease(LARGE_BYTES).await;
                buf.extend_from_slice(&content);
                // Ready at the first poll: nothing was handed to the ring or to a thread.
                let (written, buf) = at_once(files.write_at(&file, buf, 0)).expect("a write that is a copy");
                written.unwrap();
                for len in [5_000, LARGE_BYTES] {
                    let buf = arena.lease(LARGE_BYTES).await;
                    let read = at_once(files.read_summed_at(&file, buf, len, 0));
                    let (read, buf) = read.expect("a read that is a copy");
                    assert_eq!(read.unwrap(), (len, crc64(&content[..len])));
                    assert_eq!(buf.filled(), &content[..len]);
                }
                drop(buf);
            })
            .unwrap();
        }
    }

    #[test]
    fn shared_bytes_are_written_and_a_reservation_is_cut_off() {
        for backend in backends() {
            block_on(backend, async {
                let (files, file) = (Files::new(backend), new_file());
                files.allocate(&file, 0).await.unwrap();
                files.allocate(&file, 5 << 20).await.unwrap();
                for (part, offset) in [(pattern(400_000), 400_000), (pattern(400_000), 0)] {
                    files.write_bytes_at(&file, part.into(), offset).await.unwrap();
                }
                file.set_len(800_000).unwrap();
                files.sync_data(&file).await.unwrap();
                let (read, buf) = files.read_at(&file, arena().lease(LARGE_BYTES).await, LARGE_BYTES, 0).await;
                assert_eq!(read.unwrap(), 800_000, "{backend:?}");
                assert!(buf.filled() == [pattern(400_000), pattern(400_000)].concat());
            })
            .unwrap();
        }
    }

    #[test]
    fn errors_of_the_system_come_out_and_the_buffer_comes_back() {
        for backend in backends() {
            block_on(backend, async {
                let (arena, files) = (arena(), Files::new(backend));
                let directory = File::from_std(std::fs::File::open(std::env::temp_dir()).unwrap());
                for len in [100, LARGE_BYTES] {
                    let mut buf = arena.lease(LARGE_BYTES).await;
                    buf.set_len(len);
                    let (read, buf) = files.read_at(&directory, buf, len, 0).await;
                    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::IsADirectory, "{backend:?}");
                    assert_eq!(buf.len(), 0);
                }
                assert_eq!(arena.free_large(), 2);
            })
            .unwrap();
        }
    }

    #[tokio::test]
    async fn short_and_interrupted_operations_go_on_where_they_stopped() {
        let (files, script) = scripted([
            Step::AtMost(1),
            Step::Fail(io::ErrorKind::Interrupted),
            Step::AtMost(4095),
            Step::AtMost(100_000),
            Step::Fail(io::ErrorKind::Interrupted),
        ]);
        let file = new_file();
        files.write_bytes_at(&file, pattern(300_000).into(), 7).await.unwrap();
        assert_eq!(script.steps_left(), 0);

        let (files, script) =
            scripted([Step::AtMost(10), Step::Fail(io::ErrorKind::Interrupted), Step::AtMost(200_000)]);
        let (read, buf) = files.read_at(&file, arena().lease(LARGE_BYTES).await, 300_000, 7).await;
        assert_eq!((read.unwrap(), script.steps_left()), (300_000, 0));
        assert!(buf.filled() == pattern(300_000));
    }

    #[tokio::test]
    async fn a_failure_half_way_is_an_error_with_what_came_before() {
        let file = new_file();
        file.set_len(1000).unwrap();
        let (files, _) = scripted([Step::AtMost(10), Step::Fail(io::ErrorKind::TimedOut)]);
        let (read, buf) = files.read_at(&file, arena().lease(1000).await, 1000, 0).await;
        assert_eq!((read.unwrap_err().kind(), buf.len()), (io::ErrorKind::TimedOut, 10));

        let (files, _) = scripted([Step::AtMost(4), Step::Fail(io::ErrorKind::StorageFull)]);
        let (written, buf) = files.write_at(&file, buf, 0).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let (files, _) = scripted([Step::AtMost(0)]);
        let (written, _) = files.write_at(&file, buf, 0).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[tokio::test]
    async fn only_the_lack_of_reservations_is_forgiven() {
        let file = new_file();
        let (files, _) = scripted([Step::Fail(io::ErrorKind::Unsupported), Step::Fail(io::ErrorKind::StorageFull)]);
        files.allocate(&file, 1000).await.unwrap();
        assert_eq!(files.allocate(&file, 1000).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    /// A large buffer and a read into it that completes only once something is written to the pipe: a slow disk. (The
    /// pool cannot read a pipe at an offset; there, the closure's ownership of the buffer is all there is to show.)
    #[cfg(target_os = "linux")]
    fn slow_read(arena: &Arena) -> (tokio::task::JoinHandle<(io::Result<usize>, Lease)>, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from_std(std::os::fd::OwnedFd::from(reader).into());
        let buf = arena.try_lease(LARGE_BYTES).unwrap();
        let reading = async move { Files::new(Backend::Uring).read_at(&file, buf, LARGE_BYTES, 0).await };
        (tokio::task::spawn_local(reading), writer)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abandoned_read_keeps_its_buffer_until_the_kernel_has_let_go_of_it() {
        use std::io::Write;
        if !backends().contains(&Backend::Uring) {
            return;
        }
        let arena = arena();
        block_on(Backend::Uring, async {
            let (reading, mut writer) = slow_read(&arena);
            // A file operation of the same core ends behind the read's submission.
            Files::new(Backend::Uring).sync_data(&new_file()).await.unwrap();
            reading.abort();
            assert!(reading.await.is_err_and(|error| error.is_cancelled()));
            assert_eq!(arena.free_large(), 1, "the kernel may still write into it");
            // Were the descriptor closed, this would be a broken pipe.
            writer.write_all(b"late").unwrap();
            let mut turns = 0..1_000_000;
            while arena.free_large() < 2 && turns.next().is_some() {
                tokio::task::yield_now().await;
            }
            assert_eq!(arena.free_large(), 2);
        })
        .unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_end_of_the_executor_waits_for_reads_of_tasks_it_drops() {
        use std::io::Write;
        if !backends().contains(&Backend::Uring) {
            return;
        }
        let arena = arena();
        let writer = block_on(Backend::Uring, async {
            let (_, mut writer) = slow_read(&arena);
            Files::new(Backend::Uring).sync_data(&new_file()).await.unwrap();
            let (ended, end) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                // Returns when `ended` is dropped, which is when the main future returns.
                assert!(end.recv().is_err());
                writer.write_all(b"late").unwrap();
            });
            drop(ended);
            thread
        })
        .unwrap();
        assert_eq!(arena.free_large(), 2, "what was abandoned has landed");
        writer.join().unwrap();
    }
}
