//! Direct I/O: bytes between a buffer and the device, past the page cache, at a fraction of the processor's time. A file
//! has a twin for it, a second descriptor of the same file with `O_DIRECT`, opened when it is first wanted. The first
//! descriptor stays as it is, so every operation chooses its way.
//!
//! A stretch goes directly when its offset, its length and its address are aligned as the file system asks; whatever is
//! left at its end goes through the page cache. Both ways on one file agree, because the kernel writes back and drops the
//! cached pages of a direct stretch, and because stretches are whole pages, so that no page is ever written both ways at
//! once.
//!
//! A file that refuses says so once and goes through the page cache from then on.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::File;

/// Whether direct I/O is used (`--direct-io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// Where a file is large, not cached, and the file system allows it.
    #[default]
    Auto,
    /// Nowhere.
    Never,
}

/// From this size on an operation is worth going directly; what is smaller is cheaper to copy (performance.md D2).
pub(super) const DIRECT_BYTES_MIN: usize = 1 << 20;

/// Offsets and lengths are multiples of this at least, even where a device would take its sectors of 512 bytes: a file
/// system serialises writes of less than a block. Also what is asked of addresses where the kernel does not tell.
const ALIGN_BYTES_MIN: usize = 4096;

/// Why a file is not read or written directly.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its file system says that it cannot.
    FileSystem,
    /// Its second descriptor could not be had, or the first operation on it failed.
    Failed(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::FileSystem => f.write_str("their file system does not offer it"),
            Refusal::Failed(error) if error.kind() == io::ErrorKind::InvalidInput => {
                write!(f, "their file system refused it ({error})")
            }
            Refusal::Failed(error) => write!(f, "a file could not be opened for it by its descriptor ({error})"),
        }
    }
}

/// A file's second descriptor, once it was looked for.
#[derive(Debug, Default)]
pub(super) struct Twin {
    looked_for: OnceLock<Option<Way>>,
    /// An operation on it was refused after all.
    given_up: AtomicBool,
}

/// How a file is reached directly.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) file: File,
    /// Offsets and lengths are multiples of this, a power of two.
    offset_align_bytes: usize,
    /// Addresses are multiples of this, a power of two.
    memory_align_bytes: usize,
}

impl Way {
    /// Whether a buffer at `start` may begin to move at `offset`.
    fn is_aligned(&self, start: *const u8, offset: u64) -> bool {
        start.addr().is_multiple_of(self.memory_align_bytes) && offset.is_multiple_of(self.offset_align_bytes as u64)
    }

    /// How many bytes to ask for when `wanted_bytes` are wanted into `room_bytes` at `start`: up to the next border, since
    /// a file may end between two, where there is room for it.
    pub(super) fn to_read(&self, start: *const u8, wanted_bytes: usize, room_bytes: usize, offset: u64) -> usize {
        if !self.is_aligned(start, offset) {
            return 0;
        }
        let up = wanted_bytes.next_multiple_of(self.offset_align_bytes);
        if up <= room_bytes { up } else { self.down(wanted_bytes) }
    }

    /// How many of the bytes at hand can be written directly.
    pub(super) fn to_write(&self, bytes: &[u8], offset: u64) -> usize {
        if self.is_aligned(bytes.as_ptr(), offset) { self.down(bytes.len()) } else { 0 }
    }

    fn down(&self, len_bytes: usize) -> usize {
        len_bytes - len_bytes % self.offset_align_bytes
    }
}

impl Twin {
    /// The direct way to `file`, whose twin this is. What refused it is given to `refused`, once for each file.
    pub(super) fn way(&self, file: &File, refused: impl FnOnce(Refusal)) -> Option<&Way> {
        if self.given_up.load(Ordering::Relaxed) {
            return None;
        }
        let looked_for = self.looked_for.get_or_init(|| match open(file) {
            Ok(way) => Some(way),
            Err(refusal) => {
                refused(refusal);
                None
            }
        });
        looked_for.as_ref()
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.looked_for.get(), Some(Some(_)))
    }

    #[cfg(test)]
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// An operation was refused: no further one is tried.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// Opens a file a second time through its descriptor, which is the only name that cannot have come to mean another.
#[cfg(target_os = "linux")]
fn open(file: &File) -> Result<Way, Refusal> {
    use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fcntl_getfl, statx};
    use std::os::fd::AsRawFd;

    let failed = |errno: rustix::io::Errno| Refusal::Failed(errno.into());
    let first = file.as_std();
    // Kernels before 6.1 do not know the question and leave its bit out of the answer.
    let told = statx(first, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).map_err(failed)?;
    let tells = StatxFlags::from_bits_retain(told.stx_mask).contains(StatxFlags::DIOALIGN);
    if tells && told.stx_dio_offset_align == 0 {
        return Err(Refusal::FileSystem);
    }
    let memory_align_bytes = if tells { told.stx_dio_mem_align.max(1) as usize } else { ALIGN_BYTES_MIN };
    let asked = if tells { told.stx_dio_offset_align as usize } else { 1 };
    let offset_align_bytes = asked.max(ALIGN_BYTES_MIN).max(rustix::param::page_size());
    if !(memory_align_bytes.is_power_of_two() && offset_align_bytes.is_power_of_two()) {
        return Err(Refusal::FileSystem);
    }
    let access = fcntl_getfl(first).map_err(failed)? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY;
    let second = File::direct(rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?.into());
    let (ours, theirs) = (file.facts().map_err(Refusal::Failed)?, second.facts().map_err(Refusal::Failed)?);
    if (ours.device, ours.inode) != (theirs.device, theirs.inode) {
        return Err(Refusal::Failed(io::Error::other("`/proc/self/fd` led to another file")));
    }
    Ok(Way { file: second, offset_align_bytes, memory_align_bytes })
}

/// Other systems have other names for it, or none.
#[cfg(not(target_os = "linux"))]
fn open(_file: &File) -> Result<Way, Refusal> {
    Err(Refusal::FileSystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_at_aligned_places_go_directly() {
        let file = File::direct(tempfile::tempfile().unwrap());
        let way = Way { file, offset_align_bytes: 4096, memory_align_bytes: 512 };
        let at = |address: usize| std::ptr::without_provenance::<u8>(address);
        let read = [
            ((8192, 5000, 8192, 0), 8192, "up to the border behind the end"),
            ((8192, 5000, 8191, 0), 4096, "no room up to the border"),
            ((8192, 8192, 8192, 4096), 8192, "whole blocks"),
            ((8704, 4096, 4096, 4096), 4096, "an address aligned as asked"),
            ((8193, 8192, 9000, 4096), 0, "an odd address"),
            ((8192, 8192, 9000, 4097), 0, "an odd offset"),
            ((8192, 8192, 9000, 512), 0, "less than a block"),
        ];
        for ((start, wanted, room, offset), asked, why) in read {
            assert_eq!(way.to_read(at(start), wanted, room, offset), asked, "{why}");
        }
        let bytes = vec![0; 20_000];
        let aligned = bytes.as_ptr().align_offset(512);
        for (skipped, offset, sent) in [(0, 0, 16_384), (0, 8192, 16_384), (1, 0, 0), (0, 1, 0), (512, 4096, 16_384)] {
            let bytes = &bytes[aligned + skipped..][..17_000];
            assert_eq!(way.to_write(bytes, offset), sent, "{skipped} {offset}");
        }
    }
}
