//! How many requests may be under way to an endpoint: found out by trying, as TCP finds its window.
//!
//! It begins moderate, and as long as the service keeps up each answer allows one request more, so that it doubles with
//! every round trip. At the first sign of overload (503 SlowDown, 429, a request that times out) it is halved, and from then
//! on grows by one request for each full round of answers. A sign of overload counts once for all requests that were under
//! way together: they tell of the same moment.
//!
//! The limit is shared by the run's shards and kept as each shard's share, in one word that is read for a request and
//! written when it changes. What is under way is counted by each shard for itself, so no lock is taken and nothing is
//! written that another core reads for every request.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ropeway_s3proto::error::Class;
use tokio::sync::Notify;

use super::{Cause, Failure};

/// Requests of one shard that may be under way at first: what a small service takes without complaint, and enough to fill
/// a gigabit at a few milliseconds.
const START: u32 = 8;

/// One endpoint's limit, shared by all shards.
#[derive(Debug)]
pub struct Pace {
    shards: u32,
    /// The epoch in the upper half, which a cut ends, and one shard's share in the lower: both change in one step.
    state: AtomicU64,
    most: u32,
    lowest: AtomicU32,
    cuts: AtomicU64,
}

/// Where an endpoint's limit stands, over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceNow {
    /// Requests that may be under way.
    pub limit: u32,
    /// The least that it has been since the start.
    pub lowest: u32,
    /// How often it was halved.
    pub cuts: u64,
}

impl Pace {
    /// For `shards` shards, each of which never has more than `most` requests under way.
    pub fn new(shards: usize, most: usize) -> Pace {
        let (shards, most) = (shards.max(1) as u32, most.max(1) as u32);
        let share = START.min(most);
        Pace {
            shards,
            state: AtomicU64::new(u64::from(share)),
            most,
            lowest: AtomicU32::new(share),
            cuts: AtomicU64::new(0),
        }
    }

    /// Where it stands.
    pub fn now(&self) -> PaceNow {
        let (_, share) = self.read();
        let lowest = self.lowest.load(Ordering::Relaxed);
        PaceNow { limit: share * self.shards, lowest: lowest * self.shards, cuts: self.cuts.load(Ordering::Relaxed) }
    }

    fn read(&self) -> (u32, u32) {
        let state = self.state.load(Ordering::Relaxed);
        ((state >> 32) as u32, state as u32)
    }

    /// Whether the service has complained yet.
    fn is_cut(&self) -> bool {
        self.read().0 > 0
    }

    /// One request more for each shard, unless the limit was cut since `epoch`.
    fn grow(&self, epoch: u32) {
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let share = state as u32;
            ((state >> 32) as u32 == epoch && share < self.most).then_some(state + 1)
        });
    }

    /// Halves the limit, unless it was cut since `epoch`: then this is the same overload that another request met.
    fn cut(&self, epoch: u32) {
        let cut = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let share = (state as u32 / 2).max(1);
            ((state >> 32) as u32 == epoch).then_some((u64::from(epoch.wrapping_add(1)) << 32) | u64::from(share))
        });
        if let Ok(before) = cut {
            self.lowest.fetch_min((before as u32 / 2).max(1), Ordering::Relaxed);
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One shard's way through an endpoint's limit.
#[derive(Debug)]
pub(super) struct Gate {
    pace: Arc<Pace>,
    under_way: Cell<u32>,
    /// Answers since the limit last grew by them.
    answers: Cell<u32>,
    waiting: Cell<u32>,
    /// Told once for each place that has become free while somebody waits. One who is told and gives up passes it on.
    freed: Notify,
}

/// Leave for one request; dropped, the next may go.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    epoch: u32,
}

/// What became of a request, as far as the service's load is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// It answered.
    Bearable,
    /// It said that this is too much, or did not answer in time.
    TooMuch,
    /// Nothing can be learnt: the connection broke, or the request never went out.
    Unknown,
}

impl Load {
    /// What one try's failure, or its success, says of the service's load.
    pub(super) fn shown_by(failure: Option<&Failure>) -> Load {
        match failure {
            None => Load::Bearable,
            // Some services say so when they could not take the body in time.
            Some(Failure::Service(error)) if error.class() == Class::Throttle || error.code == "RequestTimeout" => {
                Load::TooMuch
            }
            Some(Failure::Service(_) | Failure::Changed(_)) => Load::Bearable,
            Some(Failure::Transport { cause: Cause::Silence, .. }) => Load::TooMuch,
            Some(Failure::Transport { .. } | Failure::Protocol(_) | Failure::Request(_) | Failure::Keys(_)) => {
                Load::Unknown
            }
        }
    }
}

impl Gate {
    pub(super) fn new(pace: Arc<Pace>) -> Gate {
        let (under_way, answers, waiting) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Gate { pace, under_way, answers, waiting, freed: Notify::new() }
    }

    /// Waits until one more request may be under way.
    pub(super) async fn pass(&self) -> Pass<'_> {
        loop {
            let (epoch, share) = self.pace.read();
            if self.under_way.get() < share {
                self.under_way.set(self.under_way.get() + 1);
                return Pass { gate: self, epoch };
            }
            let _waiting = Waiting::begin(&self.waiting);
            self.freed.notified().await;
        }
    }

    /// Wakes as many as may go now; a shard that grew by another's answers admits several at once.
    fn admit(&self) {
        let free = self.pace.read().1.saturating_sub(self.under_way.get());
        (0..free.min(self.waiting.get())).for_each(|_| self.freed.notify_one());
    }
}

/// Counts one who waits for as long as it does.
struct Waiting<'a>(&'a Cell<u32>);

impl Waiting<'_> {
    fn begin(count: &Cell<u32>) -> Waiting<'_> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pass<'_> {
    /// Says how it went, from which the limit learns.
    pub(super) fn learn(&self, load: Load) {
        match load {
            Load::Bearable => self.answered(),
            Load::TooMuch => self.gate.pace.cut(self.epoch),
            Load::Unknown => {}
        }
    }

    /// Until the first cut each answer counts; afterwards a whole round of them, and every shard's rounds together.
    fn answered(&self) {
        let pace = &self.gate.pace;
        let round = if pace.is_cut() { pace.read().1 * pace.shards } else { pace.shards };
        let answers = self.gate.answers.get() + 1;
        if answers < round {
            return self.gate.answers.set(answers);
        }
        self.gate.answers.set(0);
        pace.grow(self.epoch);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.under_way.set(self.gate.under_way.get() - 1);
        self.gate.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn gate(shards: usize, most: usize) -> Gate {
        Gate::new(Arc::new(Pace::new(shards, most)))
    }

    fn answer(gate: &Gate, load: Load) {
        ready(gate.pass()).expect("the gate is open").learn(load);
    }

    #[test]
    fn it_starts_moderate_and_doubles_with_every_round_until_the_cap() {
        let gate = gate(1, 40);
        assert_eq!(gate.pace.now().limit, 8);
        (0..8).for_each(|_| answer(&gate, Load::Bearable));
        assert_eq!(gate.pace.now().limit, 16);
        (0..100).for_each(|_| answer(&gate, Load::Bearable));
        assert_eq!(gate.pace.now(), PaceNow { limit: 40, lowest: 8, cuts: 0 });
    }

    #[test]
    fn a_cut_halves_once_for_all_that_were_under_way_together() {
        let gate = gate(2, 32);
        let under_way: Vec<_> = (0..8).map(|_| ready(gate.pass()).expect("eight may go")).collect();
        assert!(ready(gate.pass()).is_none(), "the ninth waits");
        under_way.iter().for_each(|pass| pass.learn(Load::TooMuch));
        assert_eq!(gate.pace.now(), PaceNow { limit: 8, lowest: 8, cuts: 1 });
        drop(under_way);
        answer(&gate, Load::TooMuch);
        assert_eq!(gate.pace.now(), PaceNow { limit: 4, lowest: 4, cuts: 2 });
    }

    #[test]
    fn after_a_cut_it_grows_by_one_for_a_round() {
        let gate = gate(1, 32);
        answer(&gate, Load::TooMuch);
        assert_eq!(gate.pace.now().limit, 4);
        (0..3).for_each(|_| answer(&gate, Load::Bearable));
        assert_eq!(gate.pace.now().limit, 4);
        answer(&gate, Load::Bearable);
        assert_eq!(gate.pace.now().limit, 5);
    }

    #[test]
    fn an_answer_from_before_a_cut_does_not_undo_it() {
        let gate = gate(1, 32);
        let (early, late) = (ready(gate.pass()).expect("open"), ready(gate.pass()).expect("open"));
        late.learn(Load::TooMuch);
        (0..10).for_each(|_| early.learn(Load::Bearable));
        assert_eq!(gate.pace.now().limit, 4);
    }

    #[test]
    fn it_never_closes_and_broken_connections_teach_nothing() {
        let gate = gate(1, 32);
        (0..20).for_each(|_| answer(&gate, Load::TooMuch));
        assert_eq!(gate.pace.now(), PaceNow { limit: 1, lowest: 1, cuts: 20 });
        answer(&gate, Load::Unknown);
        assert_eq!(gate.pace.now().limit, 1);
    }

    /// Two that wait and one place: given up by the first after it was told, it must go to the second.
    #[tokio::test(flavor = "current_thread")]
    async fn a_place_that_nobody_takes_goes_to_the_next() {
        let gate = gate(1, 1);
        let only = gate.pass().await;
        let (told, second_told) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let mut first = Box::pin(gate.pass());
        let mut second = Box::pin(gate.pass());
        assert!(!poll(&mut first, &told) && !poll(&mut second, &second_told));
        drop(only);
        assert!(told.0.load(Ordering::Relaxed) && !second_told.0.load(Ordering::Relaxed));
        drop(first);
        assert!(second_told.0.load(Ordering::Relaxed), "nobody told the second");
        assert!(poll(&mut second, &second_told));
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn poll<T>(future: &mut Pin<Box<impl Future<Output = T>>>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(woken.clone());
        future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }
}
