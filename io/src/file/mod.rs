//! Reading and writing files with buffers that move into the operation and come back. [`Files`] carries the operations of
//! one core to its backend: the ring, threads, or glommio. What is the same for all lives here: short reads and writes are
//! continued, interrupted ones repeated, and each stretch takes its cheapest way.
//!
//! * What the page cache holds is copied at once, without a turn through ring or thread, and so are small writes.
//! * Large stretches go past the page cache where they may ([`DirectIo`]).
//! * Everything else goes through the page cache by the backend, so that no disk is waited for on the core.
//!
//! An operation whose future is dropped keeps its buffer and its file until it has ended; only then do they return.

mod direct;
#[cfg(test)]
mod fake;
#[cfg(all(target_os = "linux", feature = "glommio"))]
mod glommio;
mod pool;
#[cfg(target_os = "linux")]
mod uring;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

pub use direct::DirectIo;
use direct::{DIRECT_BYTES_MIN, Refusal, Twin};
#[cfg(all(target_os = "linux", feature = "glommio"))]
pub(crate) use glommio::try_executor as try_glommio;

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
    inner: Arc<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: std::fs::File,
    /// The file system it is on, where whoever opened it knows.
    device: Option<u64>,
    access: Access,
}

/// Which way the bytes of a descriptor go.
#[derive(Debug)]
enum Access {
    /// Through the page cache; and the descriptor for the other way, when it is wanted.
    Cached(Twin),
    /// Past it.
    Direct,
}

impl File {
    /// Takes over a file opened elsewhere.
    pub fn from_std(file: std::fs::File) -> File {
        File { inner: Arc::new(Opened { file, device: None, access: Access::Cached(Twin::default()) }) }
    }

    /// As [`from_std`](Self::from_std), of a file known to be on the file system `device`.
    pub(crate) fn on_device(file: std::fs::File, device: u64) -> File {
        File { inner: Arc::new(Opened { file, device: Some(device), access: Access::Cached(Twin::default()) }) }
    }

    /// A descriptor that was opened for direct I/O.
    fn direct(file: std::fs::File) -> File {
        File { inner: Arc::new(Opened { file, device: None, access: Access::Direct }) }
    }

    /// What the file is now: asked of the open file and not of its name, which may have come to mean another.
    ///
    /// # Errors
    /// As the system reports.
    pub fn facts(&self) -> io::Result<FileFacts> {
        Ok(FileFacts::of(&self.as_std().metadata()?))
    }

    /// Cuts or extends the file to `len_bytes`.
    ///
    /// # Errors
    /// As the system reports.
    pub fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.as_std().set_len(len_bytes)
    }

    fn twin(&self) -> &Twin {
        match &self.inner.access {
            Access::Cached(twin) => twin,
            Access::Direct => {
                unreachable!("only `direct::Way` holds such a descriptor, and hands it to the backend alone")
            }
        }
    }

    pub(crate) fn as_std(&self) -> &std::fs::File {
        &self.inner.file
    }
}

/// The file operations of one core.
#[derive(Clone, Debug)]
pub struct Files {
    driver: Driver,
    direct_io: DirectIo,
    seen: Rc<Seen>,
}

/// What one core has learnt of the files it met.
#[derive(Debug, Default)]
struct Seen {
    /// The last device asked for, and whether it is memory: most runs meet one or two.
    memory: Cell<Option<(u64, bool)>>,
    /// Why direct I/O was refused, in words, until somebody takes it.
    direct_refused: RefCell<Option<String>>,
}

#[derive(Clone, Debug)]
enum Driver {
    #[cfg(target_os = "linux")]
    Uring,
    Pool,
    #[cfg(all(target_os = "linux", feature = "glommio"))]
    Glommio(Rc<glommio::Executor>),
    #[cfg(test)]
    Fake(Rc<fake::Script>),
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
    /// Operations on `backend`, which must be the one that [`crate::runtime::block_on`] runs on this thread. All go through
    /// the page cache, unless [`with_direct_io`](Self::with_direct_io) says otherwise.
    pub fn new(backend: Backend) -> Files {
        let driver = match backend {
            #[cfg(target_os = "linux")]
            Backend::Uring => Driver::Uring,
            #[cfg(not(target_os = "linux"))]
            Backend::Uring => unreachable!("`runtime::block_on` refuses the ring on this system"),
            Backend::Pool => Driver::Pool,
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Backend::Glommio => Driver::Glommio(Rc::default()),
        };
        Files { driver, direct_io: DirectIo::Never, seen: Rc::default() }
    }

    /// The same, going past the page cache where `direct_io` says so.
    pub fn with_direct_io(mut self, direct_io: DirectIo) -> Files {
        self.direct_io = direct_io;
        self
    }

    /// Why direct I/O was refused to a file that is large enough for it, as the end of a sentence; each time it is asked,
    /// what was found since.
    pub fn take_direct_refusal(&self) -> Option<String> {
        self.seen.direct_refused.take()
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
        let (mut buf, mut filled) = (buf, 0);
        let mut cached = self.has_cached_reads() && self.looks_cached(file, &mut buf, len_bytes, offset);
        while filled < len_bytes {
            let at = offset + filled as u64;
            let attempt = if cached {
                let range = filled..len_bytes.min(filled + INLINE_BYTES_MAX);
                match self.read_cached(file, &mut buf.as_mut_slice()[range], at) {
                    Some(attempt) => attempt,
                    None => {
                        cached = false;
                        continue;
                    }
                }
            } else {
                let attempt;
                (attempt, buf) = self.read_onward(file, buf, filled..len_bytes, at).await;
                attempt
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
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Driver::Glommio(_) => pool::allocate(file, len_bytes).await,
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
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Driver::Glommio(_) => pool::sync_data(file).await,
            Driver::Pool => pool::sync_data(file).await,
            #[cfg(test)]
            Driver::Fake(_) => Ok(()),
        }
    }

    async fn write_all(&self, file: &File, out: Outgoing, offset: u64) -> (io::Result<()>, Outgoing) {
        let (mut out, mut written) = (out, 0);
        let len_bytes = out.as_slice().len();
        while written < len_bytes {
            let left = written..len_bytes;
            let at = offset + written as u64;
            let inline = self.has_inline_writes() && (left.len() <= INLINE_BYTES_MAX || self.in_memory(file));
            let attempt = if inline {
                pool::write_now(file, &out.as_slice()[left.start..left.end.min(left.start + ONE_CALL_BYTES_MAX)], at)
            } else {
                let attempt;
                (attempt, out) = self.write_onward(file, out, left, at).await;
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

    /// One read into `left` of the buffer, directly where it may go so; may be short.
    async fn read_onward(&self, file: &File, buf: Lease, left: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
        let buffered = left.start..left.end.min(left.start + ONE_CALL_BYTES_MAX);
        let Some(way) = self.direct_way(file, left.len()) else {
            return self.read_once(file, buf, buffered, at).await;
        };
        let start = buf.as_slice()[left.start..].as_ptr();
        let asked_bytes = way.to_read(start, left.len(), buf.capacity() - left.start, at).min(ONE_CALL_BYTES_MAX);
        if asked_bytes == 0 {
            return self.read_once(file, buf, buffered, at).await;
        }
        let range = left.start..left.start + asked_bytes;
        match self.read_once(&way.file, buf, range, at).await {
            (Err(error), buf) if self.gives_up(file, &error) => self.read_once(file, buf, buffered, at).await,
            // What lies between the wanted end and the border was read for the border's sake.
            (result, buf) => (result.map(|count| count.min(left.len())), buf),
        }
    }

    /// One write of `left` of the bytes, directly where it may go so; may be short.
    async fn write_onward(
        &self,
        file: &File,
        out: Outgoing,
        left: Range<usize>,
        at: u64,
    ) -> (io::Result<usize>, Outgoing) {
        let buffered = left.start..left.end.min(left.start + ONE_CALL_BYTES_MAX);
        let Some(way) = self.direct_way(file, left.len()) else {
            return self.write_once(file, out, buffered, at).await;
        };
        let sent_bytes = way.to_write(&out.as_slice()[left.clone()], at).min(ONE_CALL_BYTES_MAX);
        if sent_bytes == 0 {
            return self.write_once(file, out, buffered, at).await;
        }
        match self.write_once(&way.file, out, left.start..left.start + sent_bytes, at).await {
            (Err(error), out) if self.gives_up(file, &error) => self.write_once(file, out, buffered, at).await,
            outcome => outcome,
        }
    }

    /// The way past the page cache, for an operation on what is left of a stretch. Asked only for what is not cached.
    fn direct_way<'a>(&self, file: &'a File, left_bytes: usize) -> Option<&'a direct::Way> {
        match self.direct_io {
            DirectIo::Auto if left_bytes >= DIRECT_BYTES_MIN => {
                file.twin().way(file, |refusal| self.note_refusal(&refusal))
            }
            DirectIo::Auto | DirectIo::Never => None,
        }
    }

    /// Whether a failed direct operation is to be done again through the page cache: the file system had not said that it
    /// would refuse.
    fn gives_up(&self, file: &File, error: &io::Error) -> bool {
        let refused = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported);
        if refused {
            file.twin().give_up();
            self.note_refusal(&Refusal::Failed(error.kind().into()));
        }
        refused
    }

    fn note_refusal(&self, refusal: &Refusal) {
        self.seen.direct_refused.replace(Some(refusal.to_string()));
    }

    /// One read by the backend into `range` of the buffer; may be short.
    async fn read_once(&self, file: &File, buf: Lease, range: Range<usize>, at: u64) -> (io::Result<usize>, Lease) {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Uring => uring::read(file, buf, range, at).await,
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Driver::Glommio(executor) => glommio::read(executor, file, buf, range, at).await,
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
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Driver::Glommio(executor) => glommio::write(executor, file, out, range, at).await,
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
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Driver::Glommio(_) => true,
            #[cfg(test)]
            Driver::Fake(_) => false,
        }
    }

    /// A small write copies into the page cache and returns; the disk is written behind its back.
    fn has_inline_writes(&self) -> bool {
        self.has_cached_reads()
    }

    /// Whether a read is begun by copying from the page cache: one that is small, or one of which a page is there, somewhere
    /// behind its start. To miss leaves that page in the cache, alone, where a miss at the start would make the kernel read
    /// ahead what is then read directly; so another page is asked for each time, or the second run would believe the first
    /// one's question. What is copied ends at the first page that is missing, so a wrong guess costs little.
    fn looks_cached(&self, file: &File, buf: &mut Lease, len_bytes: usize, offset: u64) -> bool {
        if len_bytes <= INLINE_BYTES_MAX || self.in_memory(file) {
            return true;
        }
        // The hasher's keys differ with each use.
        let somewhere = RandomState::new().build_hasher().finish() % len_bytes as u64;
        matches!(self.read_cached(file, &mut buf.as_mut_slice()[..1], offset + somewhere), Some(Ok(1)))
    }

    /// Reads what the page cache holds, without waiting for the disk. `None` when it would have to wait, or cannot tell.
    #[cfg(target_os = "linux")]
    fn read_cached(&self, file: &File, bytes: &mut [u8], at: u64) -> Option<io::Result<usize>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        if self.is_known_memory(file) {
            return Some(pool::read_now(file, bytes, at));
        }
        let mut slices = [io::IoSliceMut::new(bytes)];
        match preadv2(file.as_std(), &mut slices, at, ReadWriteFlags::NOWAIT) {
            Ok(count) => Some(Ok(count)),
            // tmpfs does not know the flag, and has nothing to wait for either.
            Err(Errno::OPNOTSUPP) if self.in_memory(file) => Some(pool::read_now(file, bytes, at)),
            // Not cached; or a file system (or kernel) that does not know the flag.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => None,
            Err(errno) => Some(Err(errno.into())),
        }
    }

    /// Reads what the page cache holds: this system cannot be asked, so every read goes to the pool.
    #[cfg(not(target_os = "linux"))]
    fn read_cached(&self, _file: &File, _bytes: &mut [u8], _at: u64) -> Option<io::Result<usize>> {
        None
    }

    /// Whether it is known, without asking the system, that the file lies in memory.
    fn is_known_memory(&self, file: &File) -> bool {
        file.inner.device.is_some_and(|device| self.seen.memory.get() == Some((device, true)))
    }

    /// As [`in_memory`], asked once for all files of a device.
    fn in_memory(&self, file: &File) -> bool {
        match (file.inner.device, self.seen.memory.get()) {
            (Some(device), Some((known, answer))) if known == device => answer,
            (device, _) => {
                let answer = in_memory(file);
                if let Some(device) = device {
                    self.seen.memory.set(Some((device, answer)));
                }
                answer
            }
        }
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

#[cfg(test)]
mod tests {
    use super::fake::{Script, Step};
    use super::*;
    use crate::buf::{Arena, ArenaLayout};
    use crate::hash::crc64;
    use crate::runtime::block_on;
    use crate::runtime::tests::backends;
    use proptest::prelude::*;

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
        let files = Files { driver: Driver::Fake(script.clone()), direct_io: DirectIo::Auto, seen: Rc::default() };
        (files, script)
    }

    fn pattern(len_bytes: usize) -> Vec<u8> {
        (0..len_bytes).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    /// A directory on a disk that takes direct I/O.
    #[cfg(target_os = "linux")]
    #[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
    fn disk() -> Option<std::path::PathBuf> {
        let places = [std::env::temp_dir(), "/var/tmp".into(), env!("CARGO_MANIFEST_DIR").into()];
        for place in places {
            let Ok(file) = tempfile::tempfile_in(&place) else { continue };
            let file = File::from_std(file);
            let mut refused = false;
            if !in_memory(&file) && Twin::default().way(&file, |_| refused = true).is_some() && !refused {
                return Some(place);
            }
        }
        eprintln!("skipped: neither the directory for temporary files nor /var/tmp takes direct I/O");
        None
    }

    /// A file on such a disk, and its second handle, as another core has it.
    #[cfg(target_os = "linux")]
    pub(super) fn disk_file() -> Option<(File, File)> {
        let file = tempfile::tempfile_in(disk()?).unwrap();
        let other = File::from_std(file.try_clone().unwrap());
        Some((File::from_std(file), other))
    }

    /// Makes the page cache forget a file. Whether it has is for the caller to see: somebody may hold a page.
    #[cfg(target_os = "linux")]
    fn evict(file: &File) {
        file.as_std().sync_all().unwrap();
        rustix::fs::fadvise(file.as_std(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    #[cfg(target_os = "linux")]
    fn large_arena(count: usize) -> Arena {
        Arena::new(ArenaLayout { large_bytes: 4 << 20, large_count: count, small_bytes: 0, small_count: 0 }).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[derive(Clone, Debug)]
    enum Act {
        /// Writes from a lease, or from shared bytes that leave out so many of their buffer's.
        Write {
            way: DirectIo,
            shared_from: Option<usize>,
            offset: u64,
            len: usize,
        },
        Read {
            way: DirectIo,
            offset: u64,
            len: usize,
        },
        Evict,
    }

    #[cfg(target_os = "linux")]
    fn act() -> impl Strategy<Value = Act> {
        let way = || prop_oneof![3 => Just(DirectIo::Auto), 1 => Just(DirectIo::Never)];
        let offset = || {
            prop_oneof![
                (0..10u64).prop_map(|block| block << 19),
                (0..1000u64, 0..3u64).prop_map(|(page, off)| (page * 4096 + off).saturating_sub(1)),
            ]
        };
        let len = || {
            prop_oneof![
                0..5000usize,
                DIRECT_BYTES_MIN - 1..DIRECT_BYTES_MIN + 5000,
                (256..900usize).prop_map(|pages| pages * 4096),
                0..4_000_000usize,
            ]
        };
        let shared_from = prop_oneof![2 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(4096)), 1 => Just(Some(1))];
        prop_oneof![
            3 => (way(), shared_from, offset(), len())
                .prop_map(|(way, shared_from, offset, len)| Act::Write { way, shared_from, offset, len }),
            2 => (way(), offset(), len()).prop_map(|(way, offset, len)| Act::Read { way, offset, len }),
            1 => Just(Act::Evict),
        ]
    }

    #[cfg(target_os = "linux")]
    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        /// Writes and reads by either way, in any order, at odd and even places, with holes between them, against the same
        /// on a vector; at the end the system's own view of the file.
        #[test]
        fn both_ways_on_one_file_agree(acts in prop::collection::vec(act(), 1..10)) {
            let Some((pattern, _)) = disk_file().map(|_| (pattern(5 << 20), ())) else { return Ok(()) };
            for backend in backends() {
                let ((file, other), mut model) = (disk_file().unwrap(), Vec::<u8>::new());
                block_on(backend, async {
                    let arena = large_arena(1);
                    let files = Files::new(backend);
                    for (number, act) in acts.iter().enumerate() {
                        let handle = if number % 3 == 0 { &other } else { &file };
                        match *act {
                            Act::Write { way, shared_from, offset, len } => {
                                let files = files.clone().with_direct_io(way);
                                let content = &pattern[number * 1001..][..len];
                                let mut buf = arena.lease(0).await;
                                let skipped = shared_from.unwrap_or(0);
                                buf.set_len(skipped);
                                buf.extend_from_slice(content);
                                if shared_from.is_some() {
                                    files.write_bytes_at(handle, buf.freeze().slice(skipped..), offset).await.unwrap();
                                } else {
                                    files.write_at(handle, buf, offset).await.0.unwrap();
                                }
                                let end = offset as usize + len;
                                if len > 0 && model.len() < end {
                                    model.resize(end, 0);
                                }
                                if len > 0 {
                                    model[offset as usize..end].copy_from_slice(content);
                                }
                            }
                            Act::Read { way, offset, len } => {
                                let files = files.clone().with_direct_io(way);
                                let (read, buf) = files.read_summed_at(handle, arena.lease(0).await, len, offset).await;
                                let start = model.len().min(offset as usize);
                                let expected = &model[start..model.len().min(start + len)];
                                assert!(buf.filled() == expected, "{backend:?} {act:?} in {acts:?}");
                                assert_eq!(read.unwrap(), (expected.len(), crc64(expected)));
                            }
                            Act::Evict => evict(handle),
                        }
                    }
                }).unwrap();
                let mut found = vec![0; model.len()];
                std::os::unix::fs::FileExt::read_exact_at(file.as_std(), &mut found, 0).unwrap();
                prop_assert!(found == model, "{:?}", backend);
                prop_assert_eq!(file.facts().unwrap().size_bytes, model.len() as u64);
            }
        }
    }

    /// Parts that begin and end within pages, all under way at once, some by another core's handle, into reserved room.
    #[cfg(target_os = "linux")]
    #[test]
    fn parts_that_share_pages_are_written_side_by_side() {
        const PART_BYTES: usize = (3 << 20) / 2 + 123;
        for backend in backends() {
            let Some((file, other)) = disk_file() else { return };
            let whole = pattern(6 * PART_BYTES - 77);
            block_on(backend, async {
                let (arena, files) = (large_arena(6), Files::new(backend).with_direct_io(DirectIo::Auto));
                files.allocate(&file, whole.len() as u64).await.unwrap();
                let parts: Vec<_> = (whole.chunks(PART_BYTES).enumerate())
                    .map(|(number, part)| {
                        let mut buf = arena.try_lease(PART_BYTES).unwrap();
                        buf.extend_from_slice(part);
                        let (files, file) = (files.clone(), if number % 2 == 0 { file.clone() } else { other.clone() });
                        let at = (number * PART_BYTES) as u64;
                        tokio::task::spawn_local(async move { files.write_at(&file, buf, at).await.0.unwrap() })
                    })
                    .collect();
                for part in parts {
                    part.await.unwrap();
                }
            })
            .unwrap();
            evict(&file);
            let mut found = vec![0; whole.len()];
            std::os::unix::fs::FileExt::read_exact_at(file.as_std(), &mut found, 0).unwrap();
            assert!(found == whole, "{backend:?}");
            assert_eq!(file.facts().unwrap().size_bytes, whole.len() as u64);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_cached_is_copied_and_what_is_not_goes_directly() {
        const LEN: usize = (3 << 20) + 5;
        for backend in backends() {
            let Some((file, other)) = disk_file() else { return };
            let content = pattern(LEN);
            std::io::Write::write_all(&mut file.as_std(), &content).unwrap();
            block_on(backend, async {
                let (arena, files) = (large_arena(1), Files::new(backend).with_direct_io(DirectIo::Auto));
                let read = at_once(files.read_at(&other, arena.lease(0).await, LEN, 0));
                let (read, buf) = read.expect("what was just written is cached");
                assert_eq!(read.unwrap(), LEN);
                assert!(buf.filled() == content && !other.twin().is_open(), "{backend:?}");
                evict(&file);
                let (read, buf) = files.read_at(&file, buf, LEN, 0).await;
                assert_eq!(read.unwrap(), LEN);
                assert!(buf.filled() == content && file.twin().is_open(), "{backend:?}");
                files.write_at(&other, buf, 0).await.0.unwrap();
                assert!(other.twin().is_open(), "large writes go directly");
                assert_eq!(files.take_direct_refusal(), None);
            })
            .unwrap();
        }
    }

    /// As a run does that continues another's download.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_partial_that_is_taken_up_again_is_read_and_written_directly() {
        use std::path::Path;
        const WRITTEN: usize = 2 << 20;
        for backend in backends() {
            let Some(place) = disk() else { return };
            let home = tempfile::tempdir_in(place).unwrap();
            let root = crate::path::Root::open(home.path()).unwrap();
            let content = pattern(2 * WRITTEN + 5);
            block_on(backend, async {
                let (arena, files) = (large_arena(1), Files::new(backend).with_direct_io(DirectIo::Auto));
                let partial = root.create_partial(Path::new("file"), 0o666).unwrap();
                let temporary = partial.temp_path().to_owned();
                let mut buf = arena.lease(0).await;
                buf.extend_from_slice(&content[..WRITTEN]);
                files.write_at(partial.file(), buf, 0).await.0.unwrap();
                partial.keep();
                let partial = root.reopen_partial(&temporary, Path::new("file")).unwrap();
                evict(partial.file());
                let (read, buf) = files.read_at(partial.file(), arena.lease(0).await, WRITTEN, 0).await;
                assert_eq!(read.unwrap(), WRITTEN);
                assert!(buf.filled() == &content[..WRITTEN] && partial.file().twin().is_open(), "{backend:?}");
                drop(buf);
                let rest = Bytes::from(content[WRITTEN..].to_vec());
                files.write_bytes_at(partial.file(), rest, WRITTEN as u64).await.unwrap();
                assert_eq!(files.take_direct_refusal(), None);
                partial.publish(None).unwrap();
            })
            .unwrap();
            assert!(std::fs::read(home.path().join("file")).unwrap() == content, "{backend:?}");
        }
    }

    /// A file system may refuse an operation that its answers had promised.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_refused_direct_operation_is_done_through_the_page_cache() {
        let Some((file, other)) = disk_file() else { return };
        let content = pattern(3 << 20);
        let (files, script) = scripted([Step::Fail(io::ErrorKind::InvalidInput), Step::AtMost(1 << 20)]);
        let mut buf = large_arena(1).lease(0).await;
        buf.extend_from_slice(&content);
        let (written, buf) = files.write_at(&file, buf, 0).await;
        written.unwrap();
        assert_eq!(script.steps_left(), 0);
        assert!(file.twin().is_given_up());
        let said = files.take_direct_refusal().unwrap();
        assert!(said.contains("their file system refused it"), "{said}");
        assert_eq!(files.take_direct_refusal(), None, "each refusal is told once");

        // A short direct read goes on where it ended.
        let (files, _) = scripted([Step::AtMost((1 << 20) + 4096)]);
        let (read, buf) = files.read_at(&other, buf, content.len(), 0).await;
        assert_eq!(read.unwrap(), content.len());
        assert!(buf.filled() == content && !other.twin().is_given_up());
        let (files, _) = scripted([Step::Fail(io::ErrorKind::StorageFull)]);
        assert_eq!(files.write_at(&other, buf, 0).await.0.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(files.take_direct_refusal(), None, "a full disk is no refusal");
    }

    /// The files of `/proc` cannot be opened for direct I/O.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_without_direct_io_is_read_all_the_same_and_says_so() {
        for backend in backends() {
            block_on(backend, async {
                let files = Files::new(backend).with_direct_io(DirectIo::Auto);
                let file = File::from_std(std::fs::File::open("/proc/self/status").unwrap());
                let (read, buf) = files.read_at(&file, arena().lease(LARGE_BYTES).await, LARGE_BYTES, 0).await;
                assert_eq!(read.unwrap(), buf.len(), "{backend:?}");
                assert!(buf.filled().starts_with(b"Name:"));
                assert!(files.take_direct_refusal().is_some());
            })
            .unwrap();
        }
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
