//! The MD5 streams of one core, brought together so that a kernel's lanes are full.
//!
//! Who hashes, and when: nobody waits in [`Md5Lane::push`]; bytes gather in their lanes, and one task of the core works on
//! them in rounds of some 0.2 ms, yielding to the executor between two of them. It begins when nothing more is gained by
//! waiting: when a kernel's width of lanes have bytes, when all lanes there are have bytes, when there are so few that one
//! alone is as quick, or when somebody waits for a lane. In the last case it first lets the executor turn until a turn brings
//! no further lane. So lanes never wait for a clock, and none waits for a lane that may itself be waiting for a buffer.
//!
//! Who waits for a digest only when it must, and not when the bytes have come, finds company: parts and small objects are
//! pushed before they are sent, and their digests wanted when the service has answered; by then the others that are under way
//! have theirs in their lanes too.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use super::md5_kernel::{self, BLOCK_BYTES, Kernel, LANES_MAX, Md5State, START};

/// Blocks that each lane takes in one round: 64 KiB. 16 lanes of AVX-512 take 0.16 ms for it, 32 lanes 0.19 ms, 8 lanes of
/// AVX2 0.2 ms and a single stream 0.09 ms.
const ROUND_BLOCKS: usize = (64 << 10) / BLOCK_BYTES;

/// The MD5 streams of one core. Clones are handles of the same lanes; none leaves its thread.
#[derive(Clone, Debug)]
pub struct Md5Lanes {
    shared: Rc<RefCell<Shared>>,
}

/// One stream: bytes go in, in order, and an MD5 comes out. Dropped, it is forgotten with all that it holds.
#[derive(Debug)]
pub struct Md5Lane {
    lanes: Md5Lanes,
    index: usize,
}

#[derive(Debug)]
struct Shared {
    /// The narrowest first.
    kernels: Vec<Kernel>,
    /// By the index in their lane; those of `free` belong to nobody.
    streams: Vec<Stream>,
    free: Vec<usize>,
    /// The streams with a whole block to hash, in the order of their turns.
    ready: VecDeque<usize>,
    /// How many of those somebody waits for.
    wanted: usize,
    /// Counts streams that became ready.
    arrivals: u64,
    /// The task that hashes is under way.
    driving: bool,
    /// How many streams each step of a kernel had.
    #[cfg(test)]
    steps: Vec<usize>,
}

#[derive(Debug)]
struct Stream {
    state: Md5State,
    /// What came and is not a whole block yet.
    partial: [u8; BLOCK_BYTES],
    partial_bytes: usize,
    /// All that came.
    len_bytes: u64,
    /// Whole blocks at the front, unless the stream has none.
    chunks: VecDeque<Bytes>,
    is_ready: bool,
    is_wanted: bool,
    waker: Option<Waker>,
}

impl Md5Lanes {
    /// No lanes yet; they will be hashed by the best that this machine has.
    pub fn new() -> Md5Lanes {
        Md5Lanes::with_kernels(Kernel::of_this_machine())
    }

    /// No lanes yet; they will be hashed by these kernels. They are of this machine, the narrowest first, and
    /// [`Kernel::SCALAR`] is among them.
    pub fn with_kernels(kernels: Vec<Kernel>) -> Md5Lanes {
        assert_eq!(kernels.first(), Some(&Kernel::SCALAR), "some streams are alone");
        let shared = Shared {
            kernels,
            streams: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            wanted: 0,
            arrivals: 0,
            driving: false,
            #[cfg(test)]
            steps: Vec::new(),
        };
        Md5Lanes { shared: Rc::new(RefCell::new(shared)) }
    }

    /// A stream whose bytes will come. To be called when their buffer is in hand, before they are read into it: the lanes
    /// count on company that is announced.
    pub fn lane(&self) -> Md5Lane {
        let mut shared = self.shared.borrow_mut();
        let index = shared.free.pop().unwrap_or_else(|| {
            shared.streams.push(Stream::new());
            shared.streams.len() - 1
        });
        Md5Lane { lanes: self.clone(), index }
    }

    /// Starts the task that hashes, if there is reason to hash and it is not under way.
    fn stir(&self) {
        let mut shared = self.shared.borrow_mut();
        if !shared.driving && shared.is_worth_a_round() {
            shared.driving = true;
            tokio::task::spawn_local(drive(self.shared.clone()));
        }
    }
}

impl Default for Md5Lanes {
    fn default() -> Self {
        Md5Lanes::new()
    }
}

impl Md5Lane {
    /// Takes in the next bytes of the stream. They are not copied but held until they are hashed, which
    /// [`drained`](Self::drained) and [`finish`](Self::finish) bring about.
    ///
    /// # Panics
    /// Outside a local set of tokio's, such as [`crate::runtime::block_on`] runs.
    pub fn push(&mut self, bytes: Bytes) {
        self.lanes.shared.borrow_mut().push(self.index, bytes);
        self.lanes.stir();
    }

    /// Waits until the lane holds none of the bytes that it was given.
    pub async fn drained(&mut self) {
        if self.lanes.shared.borrow_mut().drain_alone(self.index) {
            return;
        }
        poll_fn(|cx| self.poll_drained(cx)).await;
    }

    /// Waits until all bytes are hashed, and gives their MD5.
    pub async fn finish(mut self) -> [u8; 16] {
        self.drained().await;
        self.lanes.shared.borrow().streams[self.index].digest()
    }

    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lanes.shared.borrow_mut().want(self.index, cx.waker()) {
            return Poll::Ready(());
        }
        self.lanes.stir();
        Poll::Pending
    }
}

impl Drop for Md5Lane {
    fn drop(&mut self) {
        // The others may now be all there are; who wants them will say so. No task is begun here, where the executor itself
        // may be ending.
        self.lanes.shared.borrow_mut().forget(self.index);
    }
}

/// Hashes in rounds while there is reason to.
async fn drive(shared: Rc<RefCell<Shared>>) {
    loop {
        // A turn of the executor between two rounds; and as long as each brings another lane, one more.
        loop {
            let arrivals = shared.borrow().arrivals;
            tokio::task::yield_now().await;
            let shared = shared.borrow();
            if shared.arrivals == arrivals || shared.is_full() {
                break;
            }
        }
        let mut shared = shared.borrow_mut();
        if !shared.is_worth_a_round() {
            shared.driving = false;
            return;
        }
        shared.round();
    }
}

impl Shared {
    /// Lanes that exist, whether they have bytes or not.
    fn open(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    /// Whether waiting for more lanes gains nothing, or somebody waits for one.
    fn is_worth_a_round(&self) -> bool {
        !self.ready.is_empty() && (self.wanted > 0 || self.is_full() || self.is_alone())
    }

    /// Whether all lanes that exist are ready, or as many as the widest kernel takes that they could ever fill.
    fn is_full(&self) -> bool {
        let open = self.open();
        let widest = self.kernels.iter().map(|kernel| kernel.width()).filter(|&width| width <= open).max();
        self.ready.len() >= open || widest.is_some_and(|width| width > 1 && self.ready.len() >= width)
    }

    /// Whether so few lanes exist that each is hashed alone, company or not.
    fn is_alone(&self) -> bool {
        let open = self.open();
        !self.kernels[1..].iter().any(|kernel| kernel.streams_min() <= open)
    }

    fn push(&mut self, index: usize, bytes: Bytes) {
        let stream = &mut self.streams[index];
        stream.len_bytes += bytes.len() as u64;
        stream.chunks.push_back(bytes);
        if !stream.is_ready {
            stream.settle();
            if !stream.chunks.is_empty() {
                stream.is_ready = true;
                self.ready.push_back(index);
                self.arrivals += 1;
            }
        }
    }

    /// Hashes a lane at once if none else could come into it and the work is small: no task is begun for a lone small
    /// object. Says whether the lane is drained.
    fn drain_alone(&mut self, index: usize) -> bool {
        let held_bytes: usize = self.streams[index].chunks.iter().map(Bytes::len).sum();
        if held_bytes > 0 && !self.driving && self.open() == 1 && held_bytes <= ROUND_BLOCKS * BLOCK_BYTES {
            self.round();
        }
        !self.streams[index].is_ready
    }

    /// Notes who waits for a lane, and lets it have the next turn. Says whether it is drained already.
    fn want(&mut self, index: usize, waker: &Waker) -> bool {
        let stream = &mut self.streams[index];
        if !stream.is_ready {
            return true;
        }
        match &mut stream.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        if !stream.is_wanted {
            stream.is_wanted = true;
            self.wanted += 1;
            let turn = self.ready.iter().position(|&other| other == index).expect("a ready stream has its turn");
            self.ready.remove(turn);
            self.ready.push_front(index);
        }
        false
    }

    fn forget(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if stream.is_ready {
            self.ready.retain(|&other| other != index);
            self.wanted -= usize::from(stream.is_wanted);
        }
        stream.reset();
        self.free.push(index);
    }

    /// Advances as many ready streams as the kernels take, each by [`ROUND_BLOCKS`] at most. A stream that has no more
    /// leaves its place to the next one.
    fn round(&mut self) {
        let width_max = self.kernels.last().expect("there is the scalar one").width();
        let mut active = VecDeque::with_capacity(width_max);
        let mut blocks_left = ROUND_BLOCKS;
        while blocks_left > 0 {
            while active.len() < width_max
                && let Some(index) = self.ready.pop_front()
            {
                active.push_back(index);
            }
            if active.is_empty() {
                break;
            }
            let (kernel, count) = self.kernel_for(active.len());
            blocks_left -= self.step(kernel, &active.make_contiguous()[..count], blocks_left);
            // Those that had no place in this step are the first in the next.
            active.rotate_left(count);
            active.retain(|&index| {
                let stream = &mut self.streams[index];
                if stream.chunks.is_empty() {
                    stream.is_ready = false;
                    self.wanted -= usize::from(std::mem::take(&mut stream.is_wanted));
                    if let Some(waker) = stream.waker.take() {
                        waker.wake();
                    }
                }
                stream.is_ready
            });
        }
        for index in active {
            match self.streams[index].is_wanted {
                true => self.ready.push_front(index),
                false => self.ready.push_back(index),
            }
        }
    }

    /// The kernel for a number of ready streams, and how many of them it takes.
    fn kernel_for(&self, ready: usize) -> (Kernel, usize) {
        let kernel = self.kernels.iter().rev().find(|kernel| kernel.streams_min() <= ready);
        let kernel = *kernel.expect("the scalar one takes any number");
        (kernel, ready.min(kernel.width()))
    }

    /// Advances these streams by what the one with the least whole blocks in a piece has, `blocks_max` at most, and says by
    /// how many.
    fn step(&mut self, kernel: Kernel, indices: &[usize], blocks_max: usize) -> usize {
        #[cfg(test)]
        self.steps.push(indices.len());
        let whole = |&index: &usize| self.streams[index].chunks[0].len() / BLOCK_BYTES;
        let blocks = indices.iter().map(whole).min().unwrap_or(0).min(blocks_max);
        let (mut states, mut inputs) = ([START; LANES_MAX], [&[][..]; LANES_MAX]);
        for (lane, &index) in indices.iter().enumerate() {
            states[lane] = self.streams[index].state;
            inputs[lane] = &self.streams[index].chunks[0][..blocks * BLOCK_BYTES];
        }
        kernel.advance(&mut states[..indices.len()], &inputs[..indices.len()]);
        for (state, &index) in states.iter().zip(indices) {
            let stream = &mut self.streams[index];
            stream.state = *state;
            stream.chunks[0].advance(blocks * BLOCK_BYTES);
            stream.settle();
        }
        blocks
    }
}

impl Stream {
    fn new() -> Stream {
        Stream {
            state: START,
            partial: [0; BLOCK_BYTES],
            partial_bytes: 0,
            len_bytes: 0,
            chunks: VecDeque::new(),
            is_ready: false,
            is_wanted: false,
            waker: None,
        }
    }

    /// As new; the room for chunks is kept.
    fn reset(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        *self = Stream { chunks, ..Stream::new() };
        self.chunks.clear();
    }

    /// Takes in what is not a run of whole blocks in one piece: the ends of chunks, and the blocks that lie across two. Either
    /// no chunk is left, or the first one begins with a block.
    fn settle(&mut self) {
        while let Some(chunk) = self.chunks.front_mut() {
            if self.partial_bytes == 0 && chunk.len() >= BLOCK_BYTES {
                return;
            }
            let taken = chunk.len().min(BLOCK_BYTES - self.partial_bytes);
            self.partial[self.partial_bytes..self.partial_bytes + taken].copy_from_slice(&chunk[..taken]);
            self.partial_bytes += taken;
            chunk.advance(taken);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            if self.partial_bytes == BLOCK_BYTES {
                md5_kernel::compress_one(&mut self.state, &self.partial);
                self.partial_bytes = 0;
            }
        }
    }

    /// The MD5 of all that came, which has been hashed but for the last incomplete block: RFC 1321 §3.1 and §3.2.
    fn digest(&self) -> [u8; 16] {
        assert!(self.chunks.is_empty(), "a stream is drained before it is finished");
        let mut padding = [0; 2 * BLOCK_BYTES];
        padding[..self.partial_bytes].copy_from_slice(&self.partial[..self.partial_bytes]);
        padding[self.partial_bytes] = 0x80;
        let end = if self.partial_bytes < BLOCK_BYTES - 8 { BLOCK_BYTES } else { 2 * BLOCK_BYTES };
        padding[end - 8..end].copy_from_slice(&self.len_bytes.wrapping_mul(8).to_le_bytes());
        let mut state = self.state;
        md5_kernel::compress_one(&mut state, &padding[..end]);
        md5_kernel::digest(&state)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::super::md5::md5;
    use super::*;
    use crate::runtime::{Backend, block_on};

    fn content(length: usize, seed: u8) -> Bytes {
        (0..length).map(|at| (at * 7 + at / 256) as u8 ^ seed).collect::<Vec<_>>().into()
    }

    /// The kernels by which the tests hash: each width alone with the scalar one, and all together.
    fn kernel_sets() -> Vec<Vec<Kernel>> {
        let all = Kernel::of_this_machine();
        let mut sets = vec![vec![Kernel::SCALAR], all.clone()];
        sets.extend(all[1..].iter().map(|&kernel| vec![Kernel::SCALAR, kernel]));
        sets
    }

    #[test]
    fn the_suite_of_rfc_1321_comes_out() {
        let table: [(&str, u128); 7] = [
            ("", 0xd41d8cd98f00b204e9800998ecf8427e),
            ("a", 0x0cc175b9c0f1b6a831c399e269772661),
            ("abc", 0x900150983cd24fb0d6963f7d28e17f72),
            ("message digest", 0xf96b697d7cb7938d525a2f31aaf161d0),
            ("abcdefghijklmnopqrstuvwxyz", 0xc3fcd3d76192e4007dfb496cca67e13b),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xd174ab98d277d9f5a5611c2c9f419d9f),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                0x57edf4a22be3c955ac49da2e2107b67a,
            ),
        ];
        for kernels in kernel_sets() {
            block_on(Backend::Pool, async {
                let lanes = Md5Lanes::with_kernels(kernels);
                let mut open = Vec::new();
                for (text, digest) in table {
                    let mut lane = lanes.lane();
                    lane.push(Bytes::from_static(text.as_bytes()));
                    open.push((lane, digest));
                }
                for (lane, digest) in open {
                    assert_eq!(lane.finish().await, digest.to_be_bytes());
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn streams_of_every_length_about_the_edges_of_blocks_are_md5() {
        for kernels in kernel_sets() {
            block_on(Backend::Pool, async {
                let lanes = Md5Lanes::with_kernels(kernels);
                let mut open = Vec::new();
                for length in (0..=130).chain([4095, 4096, 4097, 70_000]) {
                    let mut lane = lanes.lane();
                    lane.push(content(length, length as u8));
                    open.push((lane, length));
                }
                for (lane, length) in open {
                    assert_eq!(lane.finish().await, md5(&content(length, length as u8)), "{length}");
                }
                assert_eq!(lanes.shared.borrow().open(), 0);
            })
            .unwrap();
        }
    }

    /// What one stream does between two others' moves.
    #[derive(Clone, Debug)]
    enum Act {
        Push(usize),
        Drain,
        Yield,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => prop_oneof![0usize..200, 0usize..9000, Just(64), Just(200_000)].prop_map(Act::Push),
            1 => Just(Act::Drain),
            1 => Just(Act::Yield),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

        /// Streams push, wait, end and are dropped in any order; every digest is right and nothing waits for ever.
        #[test]
        fn any_streams_in_any_order_are_md5(
            streams in prop::collection::vec((prop::collection::vec(act(), 0..8), any::<bool>()), 1..50),
            which in any::<prop::sample::Index>(),
        ) {
            let sets = kernel_sets();
            let kernels = sets[which.index(sets.len())].clone();
            block_on(Backend::Pool, async {
                let lanes = Md5Lanes::with_kernels(kernels);
                let tasks: Vec<_> = streams.into_iter().enumerate().map(|(number, (acts, finishes))| {
                    let lanes = lanes.clone();
                    tokio::task::spawn_local(async move {
                        let (mut lane, mut whole) = (lanes.lane(), Vec::new());
                        for act in acts {
                            match act {
                                Act::Push(length) => {
                                    let bytes = content(length, number as u8);
                                    whole.extend_from_slice(&bytes);
                                    lane.push(bytes);
                                }
                                Act::Drain => lane.drained().await,
                                Act::Yield => tokio::task::yield_now().await,
                            }
                        }
                        if finishes {
                            assert_eq!(lane.finish().await, md5(&whole));
                        }
                    })
                }).collect();
                for task in tasks {
                    task.await.unwrap();
                }
                let shared = lanes.shared.borrow();
                assert_eq!((shared.open(), shared.ready.len(), shared.wanted), (0, 0, 0));
                assert!(shared.streams.iter().all(|stream| stream.chunks.is_empty()), "no buffer is kept");
            }).unwrap();
        }
    }

    /// The streams of each step of a run in which `count` tasks hash `objects` small objects each, as workers do that wait
    /// for an answer between a push and its digest.
    fn steps_of_workers(count: usize, objects: usize, length: usize) -> Vec<usize> {
        block_on(Backend::Pool, async {
            let lanes = Md5Lanes::new();
            let answered = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..count)
                .map(|number| {
                    let (lanes, answered) = (lanes.clone(), answered.clone());
                    tokio::task::spawn_local(async move {
                        for _ in 0..objects {
                            let mut lane = lanes.lane();
                            lane.push(content(length, number as u8));
                            // The service answers one after the other.
                            while answered.get() % count != number {
                                tokio::task::yield_now().await;
                            }
                            answered.set(answered.get() + 1);
                            assert_eq!(lane.finish().await, md5(&content(length, number as u8)));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            std::mem::take(&mut lanes.shared.borrow_mut().steps)
        })
        .unwrap()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
    fn small_objects_of_many_workers_are_hashed_in_company() {
        if Kernel::of_this_machine().len() == 1 {
            println!("skipped: this machine has no kernel but the scalar one");
            return;
        }
        let steps = steps_of_workers(16, 10, 10 << 10);
        let hashed: usize = steps.iter().sum();
        assert!(hashed >= 160 && hashed >= 6 * steps.len(), "{hashed} streams in {} steps: {steps:?}", steps.len());
    }

    #[test]
    fn one_stream_alone_is_hashed_without_waiting_for_company() {
        let steps = steps_of_workers(1, 3, 10 << 10);
        assert_eq!(steps, [1, 1, 1]);
    }

    #[test]
    fn a_lane_that_is_announced_and_has_no_bytes_keeps_nobody_waiting() {
        block_on(Backend::Pool, async {
            let lanes = Md5Lanes::new();
            let silent: Vec<_> = (0..20).map(|_| lanes.lane()).collect();
            let mut lane = lanes.lane();
            lane.push(content(300_000, 1));
            assert_eq!(lane.finish().await, md5(&content(300_000, 1)));
            drop(silent);
        })
        .unwrap();
    }

    #[test]
    fn a_lane_that_is_dropped_lets_go_of_its_bytes() {
        block_on(Backend::Pool, async {
            let lanes = Md5Lanes::new();
            let _silent = (lanes.lane(), lanes.lane(), lanes.lane());
            let bytes = content(1_000_000, 1);
            let mut lane = lanes.lane();
            lane.push(bytes.clone());
            assert!(!bytes.is_unique());
            let mut other = lanes.lane();
            other.push(content(500_000, 2));
            let finished = tokio::task::spawn_local(other.finish());
            tokio::task::yield_now().await;
            drop(lane);
            assert!(bytes.is_unique());
            assert_eq!(finished.await.unwrap(), md5(&content(500_000, 2)));
        })
        .unwrap();
    }

    #[test]
    fn bytes_are_let_go_of_once_they_are_hashed() {
        block_on(Backend::Pool, async {
            let lanes = Md5Lanes::new();
            let (first, second) = (content(100_001, 1), content(77, 2));
            let mut lane = lanes.lane();
            lane.push(first.clone());
            lane.push(second.clone());
            lane.drained().await;
            assert!(first.is_unique() && second.is_unique());
            assert_eq!(lane.finish().await, md5(&[first, second].concat()));
        })
        .unwrap();
    }

    #[test]
    fn a_full_company_is_hashed_though_nobody_waits() {
        block_on(Backend::Pool, async {
            let lanes = Md5Lanes::new();
            let bytes = content(200_000, 3);
            let mut open: Vec<_> = (0..16).map(|_| lanes.lane()).collect();
            open.iter_mut().for_each(|lane| lane.push(bytes.clone()));
            while !bytes.is_unique() {
                tokio::task::yield_now().await;
            }
            drop(open);
        })
        .unwrap();
    }
}
