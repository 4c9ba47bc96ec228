//! One core's loop: it lists and compares the key ranges it owns, carries out what that implies, gives work to shards that
//! have none, and asks for work when it has none itself.
//!
//! Everything here is touched by one thread. What crosses between shards are messages that carry work, and each piece of
//! work that crosses holds a [`Token`]; the run is over when no token is left.
//!
//! An idle shard, or one with idle listers and nothing that it could share among them, says [`Message::Hungry`] to all
//! others, once. A busy one remembers who is hungry and gives, in this order, parts of a large object, a key range that
//! nobody lists yet, or half of its waiting actions. Of ranges it lists several at a time, and while a lister has nothing to
//! do, here or at a hungry peer, the busiest of them is cut.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ropeway_io::cores::{Receiver, Refused, Sender};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::deletes::{Recorded, Recorder, listed};
use super::filters::{self, ShardFilters};
use super::live::{self, Live, Piece};
use super::trust::Trust;
use super::{range, versions};
use crate::entry::{Action, EntryRef, Existing, Reason, SideName};
use crate::plan::compare::{Direction, Rule, Verdict, compare};
use crate::report::tally::{Published, Tally, add};
use crate::report::{Counts, Event};
use crate::settings::{Deletes, Events, Filters, Task, Versions};
use crate::transfer::{
    self, Ending, Kit, Lacks, LeftAlone, PartsJob, PartsReturned, Proof, Receipt, Settled, Side, Unproven,
};

/// What one shard says to another, and the control thread to all.
pub(super) enum Message {
    /// The shard of this number has nothing to do, or too little.
    Hungry(usize),
    /// Work to be done here, from the shard of this number.
    Work(usize, Work),
    /// Parts that were given away have been carried.
    Returned(PartsReturned),
    /// The run is ending before its time.
    Ending(Ending),
    /// There is no work left anywhere.
    Finished,
}

/// Work that can go from one shard to another.
pub(super) enum Work {
    /// Parts of the key space, to be listed, compared and synced.
    Ranges(Vec<(Piece, Token)>),
    /// Actions of somebody else's range.
    Actions(VecDeque<Action>, Token),
    /// Parts of somebody else's large object.
    Parts(PartsJob, Token),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Ranges(ranges) => write!(f, "{} key ranges", ranges.len()),
            Work::Actions(actions, _) => write!(f, "{} actions", actions.len()),
            Work::Parts(job, _) => write!(f, "{} parts", job.len()),
        }
    }
}

/// A piece of work that the run waits for.
pub(super) struct Token(Arc<Outstanding>);

/// How many pieces of work there are, over all shards. It changes when work crosses between shards, not for each object.
#[derive(Default)]
pub(super) struct Outstanding {
    tokens: AtomicUsize,
    /// Told when the last token is gone.
    pub(super) finished: Notify,
}

impl Token {
    pub(super) fn new(outstanding: &Arc<Outstanding>) -> Token {
        outstanding.tokens.fetch_add(1, Ordering::Relaxed);
        Token(outstanding.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.tokens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.finished.notify_one();
        }
    }
}

/// What a shard tells the control thread.
pub(super) enum Told {
    /// Things that happened, in batches.
    Events(Vec<Event>),
    /// Something after which nothing can succeed.
    Fatal {
        /// What happened, and what to do about it.
        text: String,
        /// The exit code for it.
        code: crate::error::ExitCode,
        /// Objects that failed by it, of which only the first is named.
        objects: u64,
    },
    /// Direct I/O was refused to a large file, for this reason.
    DirectIoRefused(String),
    /// A listing ended before its end, so that a part of the key space was not looked at.
    RangeFailed(String),
}

/// How actions are found and carried out; the same on all shards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders {
    pub(super) direction: Direction,
    pub(super) rule: Rule,
    /// What the target's listing shows decides nothing.
    pub(super) ignores_target: bool,
    /// What the target has is asked for right before each transfer.
    pub(super) head_each_target: bool,
    pub(super) task: Task,
    pub(super) versions: Versions,
    pub(super) dry_run: bool,
    pub(super) deletes: Deletes,
    pub(super) events: Events,
    pub(super) workers: usize,
    /// Ranges listed at a time, over all shards.
    pub(super) list_threads: usize,
    /// Tags of objects that need no copying are compared, too.
    pub(super) sync_tags: bool,
    /// Archived objects are left out without a warning.
    pub(super) quiet_about_archived: bool,
}

impl Orders {
    /// Whether a side is listed with all versions of its objects.
    pub(super) fn lists_versions(&self, side: SideName) -> bool {
        match self.versions {
            Versions::Latest => false,
            Versions::All => true,
            Versions::At(_) => side == SideName::Source,
        }
    }
}

/// One core's share of the run.
pub(super) struct Shard {
    pub(super) id: usize,
    pub(super) kit: Rc<Kit>,
    pub(super) orders: Orders,
    pub(super) filters: ShardFilters,
    pub(super) sides: range::Sides,
    pub(super) trust: Arc<Trust>,
    pub(super) tally: Tally,
    /// What the last phase is to delete.
    pub(super) recorder: Recorder,
    published: Arc<Published>,
    peers: Vec<Sender<Message>>,
    outstanding: Arc<Outstanding>,
    told: mpsc::Sender<Told>,
    queue: RefCell<VecDeque<Queued>>,
    /// Told when the queue has become longer, or closed.
    queue_changed: Notify,
    /// Told when the queue has become shorter, or closed.
    queue_has_room: Notify,
    closed: Cell<bool>,
    /// The ranges being listed here.
    live: RefCell<Vec<Rc<Live>>>,
    listers_idle: Cell<usize>,
    /// Somebody asked since a range was last cut: whatever else was given, a tail keeps a shard busy for longer.
    cut_wanted: Cell<bool>,
    /// Pieces that cutters are looking for.
    pieces_coming: Cell<usize>,
    /// Told when there may be something to cut.
    cut_news: Notify,
    ranges_waiting: RefCell<VecDeque<(Piece, Token)>>,
    /// Ranges that an earlier run has been through: their turn comes when all others here have been listed.
    ranges_for_later: RefCell<VecDeque<(Piece, Token)>>,
    range_arrived: Notify,
    /// Part jobs of other shards under way here.
    helping: Cell<usize>,
    /// Peers that know that there is nothing to do here, and have not answered with work since.
    asked: RefCell<Vec<bool>>,
    /// Shards that have nothing to do, as far as is known here.
    hungry: RefCell<VecDeque<usize>>,
    events: RefCell<Vec<Event>>,
}

/// An action waiting for a worker, with its share of the token under which it came.
struct Queued {
    action: Action,
    token: Rc<Token>,
}

/// What a shard needs to begin.
pub(super) struct ShardSetup {
    pub(super) id: usize,
    pub(super) orders: Orders,
    /// This shard's own: clones of a pattern share nothing that threads would have to take turns at.
    pub(super) filters: Filters,
    pub(super) trust: Arc<Trust>,
    pub(super) published: Arc<Published>,
    pub(super) peers: Vec<Sender<Message>>,
    pub(super) outstanding: Arc<Outstanding>,
    pub(super) told: mpsc::Sender<Told>,
}

/// Actions that wait per worker: enough that none is idle while a page is on its way, few enough that a listing of a
/// billion keys stays a page long.
const QUEUE_PER_WORKER: usize = 8;

/// Actions given to an idle shard at a time.
const ACTIONS_GIVEN_MAX: usize = 64;

/// Ranges of a shard that are being cut at a time: while one answers slowly, the next busiest is not left to wait.
const CUTTERS: usize = 4;

/// Part jobs of others that a shard carries at a time: one under way and one to follow it.
const HELPING_MAX: usize = 2;

/// Events are sent in batches of this many, or when the shard publishes its counters.
const EVENTS_BATCH: usize = 64;

/// How often a shard shows its counters.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// Messages that may wait in a shard's mailbox: of each peer one word of hunger, and for each of our own such words one
/// piece of work; for the parts given away, at most [`HELPING_MAX`] jobs come back from each; and the control thread's.
pub(super) fn mailbox_capacity(shards: usize) -> usize {
    shards * (2 + HELPING_MAX) + 8
}

/// Works until the run is over, and returns what was counted, and what is to be deleted.
pub(super) async fn run(
    setup: ShardSetup,
    kit: Kit,
    sides: range::Sides,
    mut mailbox: Receiver<Message>,
) -> (Counts, Recorded) {
    let shard = Rc::new(Shard::new(setup, kit, sides));
    let mut tasks = JoinSet::new();
    for _ in 0..shard.orders.workers {
        tasks.spawn_local(shard.clone().work());
    }
    for _ in 0..shard.listers_of(shard.id) {
        tasks.spawn_local(range::list_ranges(shard.clone()));
    }
    for _ in 0..CUTTERS {
        tasks.spawn_local(shard.clone().cut_ranges());
    }
    let mut publish = tokio::time::interval(PUBLISH_INTERVAL);
    loop {
        tokio::select! {
            message = mailbox.recv() => match message {
                Some(Message::Finished) | None => break,
                Some(message) => shard.hear(message, &mut tasks),
            },
            () = shard.kit.board.news() => shard.share(),
            _ = publish.tick() => shard.publish().await,
            Some(ended) = tasks.join_next() => pass_on_panic(ended),
        }
    }
    // The last token of the run may have gone in a panic.
    while let Some(ended) = tasks.try_join_next() {
        pass_on_panic(ended);
    }
    shard.close();
    shard.publish().await;
    (shard.counts(), shard.recorder.take())
}

/// A task that panicked takes its shard with it: the run must not look complete.
fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Shard {
    fn new(setup: ShardSetup, kit: Kit, sides: range::Sides) -> Shard {
        let ShardSetup { id, orders, filters, trust, published, peers, outstanding, told } = setup;
        let shards = peers.len();
        Shard {
            id,
            kit: Rc::new(kit),
            orders,
            sides,
            trust,
            tally: Tally::default(),
            recorder: Recorder::new(orders.deletes, &filters),
            filters: ShardFilters::new(filters),
            published,
            peers,
            outstanding,
            told,
            queue: RefCell::default(),
            queue_changed: Notify::new(),
            queue_has_room: Notify::new(),
            closed: Cell::new(false),
            live: RefCell::default(),
            listers_idle: Cell::new(0),
            cut_wanted: Cell::new(false),
            pieces_coming: Cell::new(0),
            cut_news: Notify::new(),
            ranges_waiting: RefCell::default(),
            ranges_for_later: RefCell::default(),
            range_arrived: Notify::new(),
            helping: Cell::new(0),
            asked: RefCell::new(vec![false; shards]),
            hungry: RefCell::default(),
            events: RefCell::default(),
        }
    }

    fn hear(self: &Rc<Self>, message: Message, tasks: &mut JoinSet<()>) {
        match message {
            Message::Hungry(peer) => {
                let mut hungry = self.hungry.borrow_mut();
                if !hungry.contains(&peer) {
                    hungry.push_back(peer);
                }
                drop(hungry);
                self.cut_wanted.set(self.listers_of(peer) > 0);
                self.share();
                self.cut_news.notify_one();
            }
            Message::Work(from, work) => {
                tracing::debug!(shard = self.id, from, work = %work, "took over work");
                self.asked.borrow_mut()[from] = false;
                // Work that comes after the end of the run goes with its token.
                if !self.closed.get() {
                    self.accept(work, tasks);
                }
            }
            Message::Returned(parts) => self.kit.board.returned(parts),
            Message::Ending(ending) => {
                self.kit.stop.raise(ending);
                self.close();
            }
            Message::Finished => unreachable!("the loop ends with it"),
        }
    }

    fn accept(self: &Rc<Self>, work: Work, tasks: &mut JoinSet<()>) {
        match work {
            Work::Ranges(ranges) => ranges.into_iter().for_each(|(piece, token)| self.own_range(piece, token)),
            Work::Actions(actions, token) => {
                let token = Rc::new(token);
                let queued = actions.into_iter().map(|action| Queued { action, token: token.clone() });
                self.queue.borrow_mut().extend(queued);
                self.queue_changed.notify_waiters();
            }
            Work::Parts(job, token) => {
                self.helping.set(self.helping.get() + 1);
                let shard = self.clone();
                tasks.spawn_local(async move {
                    let returned = transfer::help(&shard.kit, job).await;
                    shard.helping.set(shard.helping.get() - 1);
                    shard.send(returned.owner, Message::Returned(returned));
                    shard.ask_if_idle();
                    drop(token);
                });
                // While one job is under way the next may come.
                self.ask_if_idle();
            }
        }
    }

    fn own_range(&self, piece: Piece, token: Token) {
        let queue = if piece.is_done { &self.ranges_for_later } else { &self.ranges_waiting };
        queue.borrow_mut().push_back((piece, token));
        self.range_arrived.notify_one();
    }

    /// The next range to list, or None at the end of the run. It is under way until [`Shard::ended`].
    pub(super) async fn next_range(&self) -> Option<(Rc<Live>, Token)> {
        loop {
            if self.closed.get() {
                return None;
            }
            if let Some((piece, token)) = self.take_range() {
                let live = Rc::new(Live::new(piece));
                self.live.borrow_mut().push(live.clone());
                return Some((live, token));
            }
            self.ask_if_idle();
            self.listers_idle.set(self.listers_idle.get() + 1);
            self.cut_news.notify_one();
            self.range_arrived.notified().await;
            self.listers_idle.set(self.listers_idle.get() - 1);
        }
    }

    /// A range is no longer listed here.
    pub(super) fn ended(&self, range: &Rc<Live>) {
        range.ended();
        self.live.borrow_mut().retain(|live| !Rc::ptr_eq(live, range));
        if !self.ranges_for_later.borrow().is_empty() {
            self.range_arrived.notify_one();
        }
    }

    fn take_range(&self) -> Option<(Piece, Token)> {
        let next = self.ranges_waiting.borrow_mut().pop_front();
        let all_listed = next.is_none() && self.live.borrow().is_empty();
        if all_listed { self.ranges_for_later.borrow_mut().pop_front() } else { next }
    }

    /// The ranges being listed here.
    pub(super) fn live(&self) -> Ref<'_, Vec<Rc<Live>>> {
        self.live.borrow()
    }

    /// One of the two sides.
    pub(super) fn side(&self, side: SideName) -> &Side {
        match side {
            SideName::Source => &self.kit.source,
            SideName::Target => &self.kit.target,
        }
    }

    /// How many ranges a shard may list at a time; none, if there are more shards than ranges.
    fn listers_of(&self, shard: usize) -> usize {
        let (all, shards) = (self.orders.list_threads, self.peers.len());
        all / shards + usize::from(shard < all % shards)
    }

    /// How many ranges more could be listed, here and by hungry peers, than there are or soon will be.
    pub(super) fn pieces_wanted(&self) -> usize {
        if self.closed.get() || !self.trust.may_cut() {
            return 0;
        }
        let peers = self.hungry.borrow().iter().map(|peer| self.listers_of(*peer)).sum::<usize>();
        let wanted = self.listers_idle.get() + peers.max(usize::from(self.cut_wanted.get()));
        wanted.saturating_sub(self.ranges_waiting.borrow().len() + self.pieces_coming.get())
    }

    /// A range has come further, which may have made it worth cutting.
    pub(super) fn range_has_news(&self) {
        if self.pieces_wanted() > 0 {
            self.cut_news.notify_one();
        }
    }

    /// A cutter: as long as there are listers with nothing to do, it takes their share from the busiest range.
    async fn cut_ranges(self: Rc<Self>) {
        while !self.closed.get() {
            let wanted = self.pieces_wanted();
            let search = if wanted > 0 { live::choose(&self, wanted) } else { None };
            let Some(search) = search else {
                if self.listers_idle.get() > 0 && self.pieces_coming.get() == 0 {
                    // What is listed here is not worth cutting, and elsewhere something may be.
                    self.ask_if(true);
                }
                self.cut_news.notified().await;
                continue;
            };
            let wanted = search.wanted();
            self.pieces_coming.set(self.pieces_coming.get() + wanted);
            let pieces = search.cut(&self).await;
            self.pieces_coming.set(self.pieces_coming.get() - wanted);
            self.offer_ranges(pieces);
        }
    }

    /// Adds an action, waiting while enough others wait. Gives it up when the run is ending.
    pub(super) async fn enqueue(&self, action: Action, token: &Rc<Token>) {
        while self.queue.borrow().len() >= QUEUE_PER_WORKER * self.orders.workers && !self.closed.get() {
            self.queue_has_room.notified().await;
        }
        if !self.closed.get() {
            self.queue.borrow_mut().push_back(Queued { action, token: token.clone() });
            self.queue_changed.notify_one();
            if !self.hungry.borrow().is_empty() {
                self.share();
            }
        }
    }

    async fn dequeue(&self) -> Option<Queued> {
        loop {
            if self.closed.get() {
                return None;
            }
            let queued = self.queue.borrow_mut().pop_front();
            match queued {
                Some(queued) => {
                    self.queue_has_room.notify_one();
                    return Some(queued);
                }
                None => {
                    self.ask_if_idle();
                    self.queue_changed.notified().await;
                }
            }
        }
    }

    /// A worker: one object after the other.
    async fn work(self: Rc<Self>) {
        while let Some(Queued { action, token }) = self.dequeue().await {
            self.carry_out(&action).await;
            drop(token);
        }
    }

    async fn carry_out(&self, action: &Action) {
        match self.orders.task {
            Task::Sync => {}
            Task::Verify(depth) => return super::verify::content(self, depth, action).await,
            Task::Report(report) => return super::report::compared(self, report, action).await,
        }
        if self.sides.plan.is_some()
            && let Err(error) = transfer::compare::still_as_planned(&self.kit, action).await
        {
            return self.failed(action, error).await;
        }
        if let Some(history) = &action.history {
            return versions::carry_out(self, action, history).await;
        }
        if action.reason == Reason::Tags {
            return self.carry_out_tags(action).await;
        }
        let looked_again;
        let action = match self.orders.head_each_target {
            false => action,
            true => match self.look_again(action).await {
                Ok(Some(now)) => {
                    looked_again = now;
                    &looked_again
                }
                Ok(None) => return self.settled(action).await,
                Err(error) => return self.failed(action, error).await,
            },
        };
        let settled = match transfer::settled(&self.kit, action).await {
            Ok(Settled::Undecided(reason)) => {
                let reason = format!("copied, since it cannot be told whether it has changed: {reason}");
                self.warn(action.entry.key.as_bytes(), reason).await;
                Ok(false)
            }
            settled => settled.map(|settled| settled == Settled::Yes),
        };
        match settled {
            Ok(true) => self.settled(action).await,
            Ok(false) if self.filters.asks() && filters::leave_out(self, action).await => {}
            Ok(false) if self.orders.dry_run => {
                self.planned(action).await;
                self.recorder.would_be_copied(&action.entry);
            }
            Ok(false) => match self.transfer(action).await {
                Ok(receipt) => self.transferred(action, receipt).await,
                Err(error) => self.failed(action, error).await,
            },
            Err(error) => self.failed(action, error).await,
        }
    }

    /// What is to be done in view of what the target has now; None if nothing is.
    async fn look_again(&self, action: &Action) -> Result<Option<Action>, transfer::Error> {
        let entry = &action.entry;
        let existing = transfer::compare::look_at_target(&self.kit, &entry.key).await?;
        let source = EntryRef {
            key: entry.key.as_bytes(),
            size_bytes: entry.size_bytes,
            modified_ns: entry.modified_ns,
            etag: entry.etag.as_ref(),
            versions: &[],
        };
        let target = existing.as_ref().map(|existing| EntryRef {
            key: source.key,
            size_bytes: existing.size_bytes,
            modified_ns: existing.modified_ns,
            etag: existing.etag.as_ref(),
            versions: &[],
        });
        // Nothing can have changed between two empty ones.
        let both_empty = target.is_some_and(|target| (source.size_bytes, target.size_bytes) == (0, 0));
        let reason = match compare(self.orders.rule, self.orders.direction, source, target) {
            _ if both_empty => return Ok(None),
            Verdict::Skip => return Ok(None),
            Verdict::Copy(reason) => reason,
            Verdict::AskStoredTime(file_ns) => Reason::UnlessStoredTimeIs(file_ns),
            Verdict::AskContent(by) => Reason::UnlessSame(by),
        };
        Ok(Some(Action { entry: entry.clone(), reason, existing, history: None }))
    }

    pub(super) async fn transfer(&self, action: &Action) -> Result<Receipt, transfer::Error> {
        let transfer = transfer::transfer(&self.kit, action);
        match self.orders.events.spans {
            true => {
                transfer
                    .instrument(tracing::info_span!(target: "ropeway::spans", "object", key = %action.entry.key))
                    .await
            }
            false => transfer.await,
        }
    }

    /// Makes the tags of an object equal that needs no copying.
    async fn carry_out_tags(&self, action: &Action) {
        let outcome = match self.orders.dry_run {
            true => transfer::tags_differ(&self.kit, action).await,
            false => transfer::sync_tags(&self.kit, action).await,
        };
        match outcome {
            Ok(false) => self.settled(action).await,
            Ok(true) => {
                self.take_out_of_plan(action.entry.size_bytes);
                add(&self.tally.retagged_objects, 1);
                if self.orders.dry_run {
                    self.planned(action).await;
                } else if self.orders.events.transferred {
                    self.event(Event::Retagged { key: action.entry.key.to_string() }).await;
                }
            }
            Err(error) => self.failed(action, error).await,
        }
    }

    /// A dry run says what it would do.
    pub(super) async fn planned(&self, action: &Action) {
        let (key, size_bytes) = (action.entry.key.to_string(), action.entry.size_bytes);
        let source = listed(&Existing::from(&action.entry));
        let target = action.existing.as_ref().map(listed);
        self.event(Event::Planned { key, size_bytes, reason: action.reason.word(), source, target }).await;
    }

    /// What was planned turned out to be done.
    pub(super) async fn settled(&self, action: &Action) {
        let size_bytes = action.entry.size_bytes;
        self.take_out_of_plan(size_bytes);
        add(&self.tally.skipped_objects, 1);
        if self.orders.events.skipped {
            self.event(Event::Skipped { key: action.entry.key.to_string(), size_bytes }).await;
        }
    }

    pub(super) fn take_out_of_plan(&self, size_bytes: u64) {
        add(&self.tally.settled_objects, 1);
        add(&self.tally.settled_bytes, size_bytes);
    }

    pub(super) async fn failed(&self, action: &Action, error: transfer::Error) {
        if matches!(error, transfer::Error::Stopped) {
            return;
        }
        if let Some(reason) = error.left_alone() {
            self.settled(action).await;
            if !(reason == LeftAlone::Archived && self.orders.quiet_about_archived) {
                self.warn(action.entry.key.as_bytes(), format!("left out: {error}")).await;
            }
            return;
        }
        if error.ends_the_run() {
            // Others under way fail in the same way; the first is named, for all of them.
            let code = super::preflight::exit_code_of(&error);
            let text = format!("`{}`: {error}", action.entry.key);
            self.tell(Told::Fatal { text, code, objects: 1 }).await;
        } else {
            add(&self.tally.failed_objects, 1);
            self.event(Event::Failed { key: action.entry.key.to_string(), error: error.to_string() }).await;
        }
    }

    pub(super) async fn transferred(&self, action: &Action, receipt: Receipt) {
        add(&self.tally.transferred_objects, 1);
        add(&self.tally.transferred_bytes, receipt.size_bytes);
        self.recorder.copied(&action.entry, &receipt, self.orders.direction == Direction::LocalToLocal);
        let key = || action.entry.key.to_string();
        match receipt.proof {
            Proof::Checksum => self.verified(1, 0),
            Proof::ETag => self.verified(0, 1),
            Proof::ChecksumAndETag => self.verified(1, 1),
            Proof::None(Unproven::Local) => {}
            // As the person wants it: counted, and no warning.
            Proof::None(Unproven::TurnedOff) => add(&self.tally.unverified, 1),
            Proof::None(reason @ (Unproven::NoChecksum | Unproven::PartSizeUnknown)) => {
                add(&self.tally.unverified, 1);
                add(&self.tally.warnings, 1);
                let reason = format!("copied, but not verified: {}", reason.reason());
                self.event(Event::Warned { key: key(), reason }).await;
            }
        }
        self.lacking(action, receipt.lacks).await;
        if self.orders.events.transferred {
            let crc64nvme = receipt.crc64nvme.map(|crc| ropeway_s3proto::checksum::Crc64Nvme(crc).to_base64());
            let verified_by = receipt.proof.names();
            let (size_bytes, reason, etag) = (receipt.size_bytes, action.reason.word(), receipt.etag);
            self.event(Event::Transferred { key: key(), size_bytes, reason, verified_by, crc64nvme, etag }).await;
        }
    }

    /// Says that a checksum that was asked for is not there.
    async fn lacking(&self, action: &Action, Lacks { at_source, at_target }: Lacks) {
        if at_source {
            let reason = "copied, but the source has no checksum to compare it with".to_owned();
            self.warn(action.entry.key.as_bytes(), reason).await;
        }
        if let Some(algorithm) = at_target {
            let reason = format!("copied, but the target does not keep the {algorithm} that it was sent with");
            self.warn(action.entry.key.as_bytes(), reason).await;
        }
    }

    /// Counts an object that was verified, by the one, the other or both.
    fn verified(&self, by_checksum: u64, by_etag: u64) {
        add(&self.tally.verified, 1);
        add(&self.tally.verified_checksum, by_checksum);
        add(&self.tally.verified_etag, by_etag);
    }

    /// Tells the observer, in batches.
    pub(super) async fn event(&self, event: Event) {
        let full = {
            let mut events = self.events.borrow_mut();
            events.push(event);
            events.len() >= EVENTS_BATCH
        };
        if full {
            self.flush_events().await;
        }
    }

    /// Something that the person should know, for which this key is an example.
    pub(super) async fn warn(&self, key: &[u8], reason: String) {
        add(&self.tally.warnings, 1);
        self.event(Event::Warned { key: String::from_utf8_lossy(key).into_owned(), reason }).await;
    }

    /// Tells the control thread at once.
    pub(super) async fn tell(&self, told: Told) {
        let _ = self.told.send(told).await;
    }

    async fn flush_events(&self) {
        let events = self.events.take();
        if !events.is_empty() {
            let _ = self.told.send(Told::Events(events)).await;
        }
    }

    async fn publish(&self) {
        self.tally.moved_bytes.set(self.kit.moved_bytes.get());
        self.tally.resumed_bytes.set(self.kit.resumed_bytes.get());
        self.tally.kept_objects.set(self.kit.kept_objects.get());
        let clients = [&self.kit.source, &self.kit.target].into_iter().filter_map(transfer::Side::client);
        let (requests, retries) =
            clients.fold((0, 0), |(a, b), client| (a + client.requests.get(), b + client.retries.get()));
        self.tally.requests.set(requests);
        self.tally.retries.set(retries);
        self.tally.publish(&self.published);
        let left_behind = self.kit.left_behind.take();
        for (key, reason) in left_behind {
            add(&self.tally.warnings, 1);
            self.event(Event::Warned { key, reason }).await;
        }
        if let Some(reason) = self.kit.files.take_direct_refusal() {
            self.tell(Told::DirectIoRefused(reason)).await;
        }
        self.flush_events().await;
    }

    fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// No further action is begun here.
    fn close(&self) {
        self.closed.set(true);
        self.queue.borrow_mut().clear();
        self.ranges_waiting.borrow_mut().clear();
        self.ranges_for_later.borrow_mut().clear();
        self.queue_changed.notify_waiters();
        self.queue_has_room.notify_waiters();
        self.cut_news.notify_waiters();
        self.range_arrived.notify_waiters();
    }

    /// Asks the others for work when there is none here.
    fn ask_if_idle(&self) {
        self.ask_if(self.live.borrow().is_empty());
    }

    /// Asks the others for work if there is nothing to carry out here, and nothing to be shared of what is listed: each of
    /// them once, until it has answered.
    fn ask_if(&self, nothing_to_share: bool) {
        let idle = nothing_to_share
            && self.queue.borrow().is_empty()
            && self.ranges_waiting.borrow().is_empty()
            && self.ranges_for_later.borrow().is_empty()
            && self.helping.get() < HELPING_MAX
            && !self.closed.get();
        if !idle {
            return;
        }
        for peer in (0..self.peers.len()).filter(|peer| *peer != self.id) {
            let told = std::mem::replace(&mut self.asked.borrow_mut()[peer], true);
            if !told {
                self.send(peer, Message::Hungry(self.id));
            }
        }
    }

    /// Gives work to those who have none, as long as there is some to spare.
    fn share(&self) {
        // Who has waited longest is served first, unless what there is to spare is nothing for it.
        let mut index = 0;
        while !self.closed.get() {
            let Some(peer) = self.hungry.borrow().get(index).copied() else { return };
            match self.spare_work(peer) {
                Some(work) => {
                    self.hungry.borrow_mut().remove(index);
                    self.send(peer, Message::Work(self.id, work));
                }
                None => index += 1,
            }
        }
    }

    /// Offers tails of a live range to the next listers that have nothing to do, here or elsewhere.
    pub(super) fn offer_ranges(&self, pieces: impl IntoIterator<Item = Piece>) {
        self.cut_wanted.set(false);
        pieces.into_iter().for_each(|piece| self.own_range(piece, Token::new(&self.outstanding)));
        self.share();
    }

    fn spare_work(&self, peer: usize) -> Option<Work> {
        if let Some(job) = self.kit.board.give() {
            return Some(Work::Parts(job, Token::new(&self.outstanding)));
        }
        // One for each of its listers, and half of what there is for those here that are as idle.
        let mut waiting = self.ranges_waiting.borrow_mut();
        let ours = self.listers_idle.get().min(waiting.len() / 2);
        let kept = waiting.len().saturating_sub(self.listers_of(peer)).max(ours);
        if kept < waiting.len() {
            return Some(Work::Ranges(waiting.split_off(kept).into()));
        }
        drop(waiting);
        let mut queue = self.queue.borrow_mut();
        let number = (queue.len() / 2).min(ACTIONS_GIVEN_MAX);
        if number == 0 {
            return None;
        }
        // Made before the queue lets go of its own, so that the run never seems to be over in between.
        let token = Token::new(&self.outstanding);
        let kept = queue.len() - number;
        let actions = queue.split_off(kept).into_iter().map(|queued| queued.action).collect();
        self.queue_has_room.notify_waiters();
        Some(Work::Actions(actions, token))
    }

    fn send(&self, peer: usize, message: Message) {
        match self.peers[peer].try_send(message) {
            Ok(()) => {}
            // It panicked, and the run ends with its panic.
            Err(Refused::Closed(_)) => tracing::debug!(peer, "a shard no longer takes messages"),
            Err(Refused::Full(_)) => panic!("a mailbox holds all that its peers may owe it"),
        }
    }
}
