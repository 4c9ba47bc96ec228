//! The arena of one core: one anonymous map, advised to use huge pages where the large buffers lie. A direct read into
//! huge pages costs a fifth of one into small pages. Pages are touched only when a buffer is first used, so an arena that
//! is larger than the work costs no memory (with huge pages, in steps of 2 MiB).
//!
//! Who owns what: the free lists and the queue of waiters belong to the core that made the arena and are plain cells. A
//! buffer may be dropped on any thread (whoever holds the last clone of a body), so its index goes home through a
//! lock-free queue with room for every buffer there is, and wakes one waiter if there is any. The owner empties that queue
//! when it next wants a buffer. On the path of a buffer there is no lock, and the atomics are contended only in the moment
//! in which another thread really gives one back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use memmap2::{MmapOptions, MmapRaw};

use super::Lease;

/// The size of a huge page on the processors that matter; large buffers start at a multiple of it.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Buffers start at multiples of this, which direct reads and writes require.
const ALIGN_BYTES: usize = 4096;

/// How an arena is cut. A count of zero leaves that size out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaLayout {
    /// Capacity of a large buffer (one part).
    pub large_bytes: usize,
    /// How many large buffers.
    pub large_count: usize,
    /// Capacity of a small buffer (one small object).
    pub small_bytes: usize,
    /// How many small buffers.
    pub small_count: usize,
}

/// The buffers of one core. Clones are handles of the same arena; none leaves its thread.
#[derive(Clone, Debug)]
pub struct Arena {
    local: Rc<Local>,
}

impl Arena {
    /// Reserves the address range of `layout`; memory follows as buffers are first used.
    ///
    /// # Errors
    /// When the layout is beyond what the system can map.
    pub fn new(layout: ArenaLayout) -> io::Result<Arena> {
        assert!(layout.small_count == 0 || layout.large_count == 0 || layout.small_bytes <= layout.large_bytes);
        let plan = Plan::of(layout).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let map = MmapRaw::from(MmapOptions::new().len(plan.map_bytes).map_anon()?);
        // The kernel aligns a map to small pages; the plan has one huge page to spare for the rest.
        let shift = map.as_ptr().align_offset(HUGE_PAGE_BYTES);
        #[cfg(target_os = "linux")]
        if plan.large.count > 0
            && let Err(error) = map.advise_range(memmap2::Advice::HugePage, shift, plan.large.span_bytes())
        {
            tracing::debug!(%error, "huge pages are not to be had; large buffers use small pages");
        }
        let count = plan.large.count + plan.small.count;
        let shared = Shared { map, returns: ArrayQueue::new(count.max(1)), waiting: AtomicWaker::new() };
        let large = Class::new(plan.large, shift, 0);
        let small = Class::new(plan.small, shift, plan.large.count);
        Ok(Arena { local: Rc::new(Local { shared: Arc::new(shared), large, small }) })
    }

    /// A buffer of at least `bytes_needed`, of the smallest size that holds it; waits for one, first come, first served.
    /// This wait is all the backpressure a transfer needs.
    ///
    /// # Panics
    /// When no buffer of this arena is that large: the caller cut its parts wrongly.
    pub async fn lease(&self, bytes_needed: usize) -> Lease {
        if let Some(lease) = self.try_lease(bytes_needed) {
            return lease;
        }
        let turn = Turn::join(&self.local, self.local.size_for(bytes_needed));
        poll_fn(|cx| turn.poll(cx)).await
    }

    /// A buffer as from [`lease`](Self::lease) if one is free and nobody waits for it.
    ///
    /// # Panics
    /// When no buffer of this arena is that large.
    pub fn try_lease(&self, bytes_needed: usize) -> Option<Lease> {
        let size = self.local.size_for(bytes_needed);
        self.local.collect();
        let class = self.local.class(size);
        if !class.waiters.borrow().is_empty() {
            return None;
        }
        let index = class.free.borrow_mut().pop()?;
        Some(self.local.lend(class, index))
    }

    /// How many large buffers are free now.
    pub fn free_large(&self) -> usize {
        self.local.collect();
        self.local.large.free.borrow().len()
    }

    /// How many small buffers are free now.
    pub fn free_small(&self) -> usize {
        self.local.collect();
        self.local.small.free.borrow().len()
    }
}

/// What threads share: the memory, and the way home.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) map: MmapRaw,
    returns: ArrayQueue<u32>,
    waiting: AtomicWaker,
}

impl Shared {
    /// Sends a buffer home, from any thread.
    pub(super) fn take_home(&self, index: u32) {
        self.returns.push(index).expect("the queue has room for every buffer, and each is out at most once");
        self.waiting.wake();
    }
}

#[derive(Clone, Copy, Debug)]
enum Size {
    Small,
    Large,
}

#[derive(Debug)]
struct Local {
    shared: Arc<Shared>,
    large: Class,
    small: Class,
}

/// The buffers of one size. A waiter is in `waiters` until it is granted a buffer; while anybody waits, `free` is empty
/// after every [`Local::collect`].
#[derive(Debug)]
struct Class {
    capacity_bytes: usize,
    stride_bytes: usize,
    first_offset_bytes: usize,
    first_index: usize,
    free: RefCell<Vec<u32>>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Cell<Option<u32>>,
    waker: RefCell<Option<Waker>>,
}

impl Class {
    fn new(extent: Extent, shift: usize, first_index: usize) -> Class {
        let indices = first_index as u32..(first_index + extent.count) as u32;
        Class {
            capacity_bytes: extent.capacity_bytes,
            stride_bytes: extent.stride_bytes,
            first_offset_bytes: shift + extent.offset_bytes,
            first_index,
            // Reversed, and used as a stack: a buffer used before is used again before an untouched one costs memory.
            free: RefCell::new(indices.rev().collect()),
            waiters: RefCell::default(),
        }
    }

    /// Hands free buffers to waiters in the order in which they came.
    fn grant(&self) {
        let mut free = self.free.borrow_mut();
        let mut waiters = self.waiters.borrow_mut();
        while !free.is_empty()
            && let Some(waiter) = waiters.pop_front()
        {
            waiter.granted.set(free.pop());
            wake(&waiter);
        }
    }
}

fn wake(waiter: &Waiter) {
    if let Some(waker) = waiter.waker.take() {
        waker.wake();
    }
}

impl Local {
    fn size_for(&self, bytes_needed: usize) -> Size {
        let small = &self.small;
        let large = &self.large;
        if small.exists() && bytes_needed <= small.capacity_bytes {
            Size::Small
        } else {
            assert!(
                large.exists() && bytes_needed <= large.capacity_bytes,
                "no buffer of this arena holds {bytes_needed} bytes"
            );
            Size::Large
        }
    }

    fn class(&self, size: Size) -> &Class {
        match size {
            Size::Small => &self.small,
            Size::Large => &self.large,
        }
    }

    fn lend(&self, class: &Class, index: u32) -> Lease {
        let offset = class.first_offset_bytes + (index as usize - class.first_index) * class.stride_bytes;
        Lease::new(self.shared.clone(), index, offset, class.capacity_bytes)
    }

    /// Takes in what came home and hands it to those who wait.
    fn collect(&self) {
        while let Some(index) = self.shared.returns.pop() {
            let is_large = (index as usize) < self.small.first_index;
            let class = if is_large { &self.large } else { &self.small };
            class.free.borrow_mut().push(index);
        }
        self.large.grant();
        self.small.grant();
    }

    /// One waiter listens for returns on behalf of all. When it leaves, the next one must be polled to take its place.
    fn pass_the_ear(&self) {
        for class in [&self.large, &self.small] {
            if let Some(next) = class.waiters.borrow().front() {
                return wake(next);
            }
        }
    }
}

impl Class {
    fn exists(&self) -> bool {
        self.stride_bytes > 0
    }
}

/// A place in the queue for one size. Dropped early, it gives up its place, or the buffer it was granted.
struct Turn<'a> {
    local: &'a Local,
    class: &'a Class,
    waiter: Rc<Waiter>,
}

impl<'a> Turn<'a> {
    fn join(local: &'a Local, size: Size) -> Turn<'a> {
        let class = local.class(size);
        let waiter = Rc::new(Waiter::default());
        class.waiters.borrow_mut().push_back(waiter.clone());
        Turn { local, class, waiter }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Lease> {
        self.waiter.waker.replace(Some(cx.waker().clone()));
        // Registered before looking: a buffer that comes home between the look and the sleep then wakes this waiter.
        self.local.shared.waiting.register(cx.waker());
        self.local.collect();
        match self.waiter.granted.take() {
            Some(index) => Poll::Ready(self.local.lend(self.class, index)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.class.waiters.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(index) = self.waiter.granted.take() {
            self.class.free.borrow_mut().push(index);
            self.class.grant();
        }
        self.local.pass_the_ear();
    }
}

/// Where the buffers of one size lie, from the aligned start of the map.
#[derive(Clone, Copy, Debug)]
struct Extent {
    offset_bytes: usize,
    capacity_bytes: usize,
    stride_bytes: usize,
    count: usize,
}

impl Extent {
    fn span_bytes(&self) -> usize {
        self.stride_bytes * self.count
    }
}

/// The arithmetic of a layout: large buffers first, small ones from the next huge page on, so that no advice given for
/// the large ones covers a small one.
struct Plan {
    large: Extent,
    small: Extent,
    map_bytes: usize,
}

impl Plan {
    fn of(layout: ArenaLayout) -> Option<Plan> {
        let large = Extent::of(0, layout.large_bytes, layout.large_count)?;
        let small_offset = large.span_bytes().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
        let small = Extent::of(small_offset, layout.small_bytes, layout.small_count)?;
        let map_bytes = small_offset.checked_add(small.span_bytes())?.checked_add(HUGE_PAGE_BYTES)?;
        u32::try_from(large.count.checked_add(small.count)?).ok()?;
        Some(Plan { large, small, map_bytes })
    }
}

impl Extent {
    fn of(offset_bytes: usize, capacity_bytes: usize, count: usize) -> Option<Extent> {
        let stride_bytes = if count == 0 { 0 } else { capacity_bytes.max(1).checked_next_multiple_of(ALIGN_BYTES)? };
        stride_bytes.checked_mul(count)?;
        Some(Extent { offset_bytes, capacity_bytes, stride_bytes, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Backend, block_on};
    use bytes::Bytes;
    use proptest::prelude::*;

    const LAYOUT: ArenaLayout = ArenaLayout { large_bytes: 100_000, large_count: 3, small_bytes: 1000, small_count: 4 };

    #[test]
    fn buffers_are_aligned_apart_and_of_the_smallest_size_that_holds() {
        let arena = Arena::new(LAYOUT).unwrap();
        let mut leases: Vec<Lease> = (0..3).map(|_| arena.try_lease(1001).unwrap()).collect();
        leases.extend((0..4).map(|_| arena.try_lease(1000).unwrap()));
        assert_eq!((arena.free_large(), arena.free_small()), (0, 0));
        assert!(arena.try_lease(0).is_none() && arena.try_lease(100_000).is_none());
        assert_eq!(leases[0].start().align_offset(HUGE_PAGE_BYTES), 0);
        let mut ranges: Vec<_> = leases.iter().map(|lease| lease.as_slice().as_ptr_range()).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.iter().all(|range| range.start.align_offset(ALIGN_BYTES) == 0));
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(leases.iter().all(|lease| lease.as_slice().iter().all(|&byte| byte == 0)));
    }

    #[test]
    #[should_panic(expected = "no buffer of this arena holds 100001 bytes")]
    fn more_than_a_large_buffer_is_the_callers_mistake() {
        Arena::new(LAYOUT).unwrap().try_lease(100_001);
    }

    #[test]
    fn a_layout_beyond_all_bounds_is_an_error_and_not_a_panic() {
        let layout = ArenaLayout { large_bytes: usize::MAX / 2, large_count: 3, small_bytes: 1, small_count: 0 };
        assert_eq!(Arena::new(layout).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn a_lease_takes_what_fits_and_counts_it() {
        let arena = Arena::new(LAYOUT).unwrap();
        let mut lease = arena.try_lease(10).unwrap();
        assert_eq!(lease.extend_from_slice(&[7; 990]), 990);
        assert_eq!(lease.extend_from_slice(&[8; 990]), 10);
        assert_eq!(lease.extend_from_slice(&[9; 990]), 0);
        assert_eq!((lease.len(), lease.filled()[989], lease.filled()[990]), (1000, 7, 8));
        let bytes = lease.freeze();
        let part = bytes.slice(985..995);
        drop(bytes);
        assert_eq!(arena.free_small(), 3, "a slice keeps the buffer");
        assert_eq!(&part[..], [7, 7, 7, 7, 7, 8, 8, 8, 8, 8]);
        drop(part);
        assert_eq!(arena.free_small(), 4);
    }

    #[test]
    fn a_buffer_outlives_its_arena() {
        let arena = Arena::new(LAYOUT).unwrap();
        let mut lease = arena.try_lease(10).unwrap();
        drop(arena);
        lease.extend_from_slice(b"still here");
        assert_eq!(&lease.freeze()[..], b"still here");
    }

    #[derive(Clone, Debug)]
    enum Act {
        Lease(bool),
        Freeze(prop::sample::Index),
        Clone(prop::sample::Index),
        DropHere(prop::sample::Index),
        DropElsewhere(prop::sample::Index),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => any::<bool>().prop_map(Act::Lease),
            2 => any::<prop::sample::Index>().prop_map(Act::Freeze),
            2 => any::<prop::sample::Index>().prop_map(Act::Clone),
            2 => any::<prop::sample::Index>().prop_map(Act::DropHere),
            2 => any::<prop::sample::Index>().prop_map(Act::DropElsewhere),
        ]
    }

    fn take<T>(items: &mut Vec<T>, index: prop::sample::Index) -> Option<T> {
        (!items.is_empty()).then(|| items.swap_remove(index.index(items.len())))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

        /// Random leases, freezes, clones and drops, some on another thread, against a count; every buffer carries a
        /// number of its own, so two holders of one buffer would show.
        #[test]
        fn no_buffer_is_lost_or_lent_twice(acts in prop::collection::vec(act(), 0..200)) {
            let arena = Arena::new(LAYOUT).unwrap();
            let (elsewhere, incoming) = std::sync::mpsc::channel::<Bytes>();
            let (dropped, drops) = std::sync::mpsc::channel();
            let other = std::thread::spawn(move || incoming.into_iter().for_each(|bytes| {
                drop(bytes);
                dropped.send(()).unwrap();
            }));
            // The frozen ones with the number they carry and the references that share them.
            let (mut leases, mut frozen) = (Vec::<(u32, Lease)>::new(), Vec::<(u32, Bytes)>::new());
            for (number, act) in (0u32..).zip(acts) {
                match act {
                    Act::Lease(large) => if let Some(mut lease) = arena.try_lease(if large { 5000 } else { 5 }) {
                        lease.extend_from_slice(&number.to_le_bytes());
                        leases.push((number, lease));
                    },
                    Act::Freeze(index) => if let Some((number, lease)) = take(&mut leases, index) {
                        frozen.push((number, lease.freeze()));
                    },
                    Act::Clone(index) => if !frozen.is_empty() {
                        frozen.push(frozen[index.index(frozen.len())].clone());
                    },
                    Act::DropHere(index) => { take(&mut leases, index); },
                    Act::DropElsewhere(index) => if let Some((_, bytes)) = take(&mut frozen, index) {
                        elsewhere.send(bytes).unwrap();
                        drops.recv().unwrap();
                    },
                }
                prop_assert!(leases.iter().all(|(number, lease)| lease.filled() == number.to_le_bytes()));
                prop_assert!(frozen.iter().all(|(number, bytes)| bytes[..] == number.to_le_bytes()));
                let shared: std::collections::HashSet<u32> = frozen.iter().map(|(number, _)| *number).collect();
                let held = leases.len() + shared.len();
                prop_assert_eq!(held + arena.free_large() + arena.free_small(), 7);
            }
            drop((leases, frozen, elsewhere));
            other.join().unwrap();
            prop_assert_eq!((arena.free_large(), arena.free_small()), (3, 4));
        }
    }

    #[test]
    fn thousands_of_buffers_come_home_from_several_threads_and_wake_who_waits() {
        const ROUNDS: usize = if cfg!(miri) { 20 } else { 5000 };
        let (senders, threads): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (sender, incoming) = std::sync::mpsc::channel::<(usize, Bytes)>();
                let check = |(round, bytes): (usize, Bytes)| assert_eq!(bytes[..], round.to_le_bytes());
                (sender, std::thread::spawn(move || incoming.into_iter().for_each(check)))
            })
            .unzip();
        block_on(Backend::Pool, async {
            let arena = Arena::new(LAYOUT).unwrap();
            let tasks: Vec<_> = (0..8)
                .map(|task| {
                    let (arena, senders) = (arena.clone(), senders.clone());
                    tokio::task::spawn_local(async move {
                        for round in (task..ROUNDS).step_by(8) {
                            let mut lease = arena.lease(if round % 3 == 0 { 8 } else { 8000 }).await;
                            lease.extend_from_slice(&round.to_le_bytes());
                            let bytes = lease.freeze();
                            senders[round % 3].send((round, bytes.clone())).unwrap();
                            senders[(round + 1) % 3].send((round, bytes)).unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            drop(senders);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!((arena.free_large(), arena.free_small()), (3, 4));
        })
        .unwrap();
    }

    #[test]
    fn who_comes_first_is_served_first_and_nobody_overtakes() {
        block_on(Backend::Pool, async {
            let arena = Arena::new(ArenaLayout { large_count: 1, ..LAYOUT }).unwrap();
            let held = arena.lease(5000).await;
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..4)
                .map(|number| {
                    let (arena, order) = (arena.clone(), order.clone());
                    tokio::task::spawn_local(async move {
                        let lease = arena.lease(5000).await;
                        order.borrow_mut().push(number);
                        tokio::task::yield_now().await;
                        drop(lease);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            drop(held);
            assert!(arena.try_lease(5000).is_none(), "the buffer is granted to the first waiter");
            assert!(arena.try_lease(5).is_some(), "the other size has none");
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.borrow(), [0, 1, 2, 3]);
            assert_eq!(arena.free_large(), 1);
        })
        .unwrap();
    }

    /// The waiter that listens for all may be dropped, before it is granted a buffer or after.
    #[test]
    fn a_waiter_that_gives_up_hands_on_its_place() {
        block_on(Backend::Pool, async {
            let arena = Arena::new(ArenaLayout { large_count: 1, ..LAYOUT }).unwrap();
            for granted_first in [false, true] {
                let held = arena.lease(5000).await.freeze();
                let tasks: Vec<_> = (0..3)
                    .map(|_| {
                        let arena = arena.clone();
                        tokio::task::spawn_local(async move { drop(arena.lease(5000).await) })
                    })
                    .collect();
                tokio::task::yield_now().await;
                let [first, second, last] = <[_; 3]>::try_from(tasks).unwrap();
                if granted_first {
                    drop(held);
                    assert_eq!(arena.free_large(), 0, "granted to the first");
                    first.abort();
                } else {
                    // The last one polled is the one that listens.
                    last.abort();
                    first.abort();
                    tokio::task::yield_now().await;
                    std::thread::spawn(move || drop(held)).join().unwrap();
                }
                second.await.unwrap();
                assert!(first.await.is_err_and(|error| error.is_cancelled()));
                assert_eq!(last.await.is_err(), !granted_first);
                assert_eq!(arena.free_large(), 1);
            }
        })
        .unwrap();
    }
}
