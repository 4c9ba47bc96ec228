//! One buffer on loan from an arena. Whoever holds the [`Lease`] has the bytes to themselves; frozen, it becomes a
//! [`Bytes`] that can be cloned for a retry without copying. The last holder's drop, on whatever thread, sends the
//! buffer home.

use std::sync::Arc;

use bytes::Bytes;

use super::arena::Shared;

/// Exclusive use of one buffer of an [`Arena`](super::Arena), of fixed capacity, with a mark for how much of it is
/// filled. All of it is initialised memory: zeros at first, the previous holder's bytes later, so only
/// [`filled`](Self::filled) means anything.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    index: u32,
    offset_bytes: usize,
    capacity_bytes: usize,
    filled_bytes: usize,
}

impl Lease {
    /// `index` must have left the arena's free list and be held by no other lease; `offset_bytes` and `capacity_bytes`
    /// are the range in the map that belongs to it alone.
    pub(super) fn new(shared: Arc<Shared>, index: u32, offset_bytes: usize, capacity_bytes: usize) -> Lease {
        assert!(offset_bytes + capacity_bytes <= shared.map.len());
        Lease { shared, index, offset_bytes, capacity_bytes, filled_bytes: 0 }
    }

    /// How many bytes the buffer can hold.
    pub fn capacity(&self) -> usize {
        self.capacity_bytes
    }

    /// How many bytes of it are filled.
    pub fn len(&self) -> usize {
        self.filled_bytes
    }

    /// Whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.filled_bytes == 0
    }

    /// Declares the first `len_bytes` filled.
    ///
    /// # Panics
    /// When that is beyond the capacity.
    pub fn set_len(&mut self, len_bytes: usize) {
        assert!(len_bytes <= self.capacity_bytes, "{len_bytes} bytes do not fit in {}", self.capacity_bytes);
        self.filled_bytes = len_bytes;
    }

    /// The whole buffer, filled or not.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the range lies in the map (checked in `new`), which `shared` keeps alive and which is initialised from
        // birth; no other lease has this index, and `&self` excludes this lease's writers.
        unsafe { std::slice::from_raw_parts(self.start(), self.capacity_bytes) }
    }

    /// The whole buffer for writing; [`set_len`](Self::set_len) then says how much counts.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` excludes every other reference into the range.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.capacity_bytes) }
    }

    /// The bytes that count.
    pub fn filled(&self) -> &[u8] {
        &self.as_slice()[..self.filled_bytes]
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> usize {
        let room = self.filled_bytes..self.capacity_bytes;
        let copied = bytes.len().min(room.len());
        let start = room.start;
        self.as_mut_slice()[start..start + copied].copy_from_slice(&bytes[..copied]);
        self.filled_bytes += copied;
        copied
    }

    /// The filled bytes as one slice to share and clone without copying. The buffer goes home with the last clone.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Where the buffer begins. The address stays the same for as long as the lease lives, wherever the lease moves: it
    /// points into the arena's map and not into this value.
    pub(crate) fn start(&self) -> *mut u8 {
        self.shared.map.as_mut_ptr().wrapping_add(self.offset_bytes)
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.filled()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.take_home(self.index);
    }
}
