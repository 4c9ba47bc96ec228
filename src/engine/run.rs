//! The whole run, from settings to summary.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ropeway_io::buf::{Arena, ArenaLayout};
use ropeway_io::cores::{self, Receiver, Sender};
use ropeway_io::file::Files;
use ropeway_io::hash::Md5Lanes;
use ropeway_io::probe;
use ropeway_io::runtime::{Backend, block_on};
use tokio::sync::{Notify, mpsc};

use super::attributes;
use super::budget::{Budget, BudgetError};
use super::deletes::{self, LastPhase, Recorded};
use super::job::Remembered;
use super::live::Piece;
use super::plan_file;
use super::preflight::{self, Paces, Ready, Refusal};
use super::report;
use super::shard::{self, Message, Orders, Outstanding, ShardSetup, Token, Told, Work};
use super::trust::Trust;
use crate::entry::ContentBy;
use crate::error::ExitCode;
use crate::journal::RunEnd;
use crate::plan::compare::{Direction, Rule};
use crate::report::tally::Published;
use crate::report::{Concurrency, Counts, EndedEarly, Event, Note, Observer, Phase, Progress, Summary};
use crate::settings::{self, Check, Overwrite, Place, SyncSettings, Task, Versions};
use crate::transfer::delete::Eraser;
use crate::transfer::{Board, Ending, Integrity, Kit, Limited, Restarts, Resume, Sizes, Stop};

/// Why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A side is of no use, or the two of them together.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The limits cannot work together.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The machine does not allow what was asked for.
    #[error("{0}")]
    Machine(String),
}

impl Error {
    /// What the process should say to whoever started it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Refused(refusal) => refusal.exit_code,
            Error::Budget(_) => ExitCode::Usage,
            Error::Machine(_) => ExitCode::Configuration,
        }
    }
}

/// Asks a run to end before its time, from any thread or signal handler.
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    signal: AtomicI32,
    asked: Notify,
}

impl StopHandle {
    /// Asks; `signal` is reported in the summary and decides the exit code.
    pub fn stop(&self, signal: i32) {
        self.0.signal.store(signal, Ordering::Release);
        self.0.asked.notify_one();
    }

    /// Waits, on this thread, until the end is asked for, and says by which signal.
    pub fn wait(&self) -> i32 {
        block_on(Backend::Pool, self.asked()).unwrap_or(0)
    }

    /// By which signal the end was asked for, if it was.
    pub(super) fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    pub(super) async fn asked(&self) -> i32 {
        loop {
            if let Some(signal) = self.signal() {
                return signal;
            }
            self.0.asked.notified().await;
        }
    }
}

/// What is under way when a run is asked to end has this long to arrive.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Batches of events that may wait for the observer; when it is slower than the run, the run waits for it.
const TOLD_WAITING: usize = 64;

/// Syncs the source to the target, on as many cores as the settings say, and returns when all is done or the run was
/// stopped. Single objects that fail are in the summary, not in the error.
pub fn run(settings: &SyncSettings, stop: &StopHandle, observer: &mut dyn Observer) -> Result<Summary, Error> {
    let started = Instant::now();
    let planned = settings.from_plan.as_deref().map(|plan| plan_file::settings_of(plan, settings)).transpose()?;
    let settings = planned.as_ref().unwrap_or(settings);
    let budget = Budget::new(&settings.limits)?;
    let (backend, fell_back) = probe::choose(settings.io).map_err(Error::Machine)?;
    if let Some(reason) = fell_back {
        observer.note(Note::Detail, &format!("io_uring is not used: {reason}"));
    }
    observer.note(Note::Detail, &format!("limits: {budget}"));
    let mut remembered = Remembered::open(settings, observer)?;
    let control = async {
        let looked = tokio::select! {
            ready = preflight::look(settings, &budget) => ready.map(Ok),
            // Nothing has been begun, so there is nothing to end.
            signal = stop.asked() => Ok(Err(stopped_before_the_start(settings, signal, started.elapsed()))),
        };
        let ready = match looked {
            Ok(Ok(ready)) => ready,
            Ok(Err(summary)) => {
                remembered.finish(RunEnd::Early, observer).await;
                return Ok(summary);
            }
            Err(refusal) => {
                remembered.finish(RunEnd::Early, observer).await;
                return Err(refusal.into());
            }
        };
        if remembered.resume == Resume::Afresh {
            remembered.sweep(&ready.open_target(remembered.run_tag())?, observer).await;
        }
        let limited = Limited::new(settings.rates.objects_per_s, settings.rates.bytes_per_s);
        let last_phase = last_phase(settings, &ready, started, &limited)?;
        let shards = Shards::start(settings, &ready, budget, backend, &remembered, &limited)?;
        let mut control = Control {
            settings,
            started,
            observer,
            shards,
            paces: ready.paces.clone(),
            remembered,
            fatal: None,
            failures: 0,
            warnings: 0,
            direct_refused: false,
        };
        let signal = control.watch(stop).await;
        for side in ready.sides_with_opaque_etags() {
            let text = format!("the {side}'s ETags look like MD5s and are none; the checksums alone were compared");
            control.observer.note(Note::Detail, &text);
        }
        if let Some(reason) = ready.copies_refusal() {
            let text = format!(
                "the target's service does not copy from this source by itself, so the objects went through this machine: {reason}"
            );
            control.warn(&text);
        }
        Ok(control.finish(signal, &ready, last_phase, stop).await)
    };
    block_on(Backend::Pool, control).map_err(|error| Error::Machine(format!("the control thread: {error}")))?
}

/// Prepares for what is to be deleted, if anything may be.
fn last_phase(
    settings: &SyncSettings,
    ready: &Ready,
    started: Instant,
    limited: &Limited,
) -> Result<Option<LastPhase>, Error> {
    if !settings.deletes.any() {
        return Ok(None);
    }
    let (source, target) = ready.openers(None);
    let if_match = settings.attributes.overwrite == Overwrite::IfUnchanged;
    let open = || Ok::<_, std::io::Error>(Eraser::new(source.open()?, target.open()?).only_unchanged(if_match));
    let eraser = if settings.dry_run { Ok(None) } else { open().map(Some) };
    let eraser = eraser.map_err(|error| Error::Machine(format!("a side cannot be opened: {error}")))?;
    let (rules, progress_interval) = (settings.deletes, settings.progress_interval);
    let planned = settings.from_plan.is_some();
    let (paces, limited) = (ready.paces.clone(), limited.clone());
    Ok(Some(LastPhase { rules, eraser, started, planned, progress_interval, paces, limited }))
}

/// What a shard leaves behind.
type ShardEnd = std::io::Result<(Counts, Recorded)>;

/// The shards' threads, and the ways to reach them.
struct Shards {
    threads: Vec<JoinHandle<ShardEnd>>,
    mailboxes: Vec<Sender<Message>>,
    published: Vec<Arc<Published>>,
    outstanding: Arc<Outstanding>,
    trust: Arc<Trust>,
    told: mpsc::Receiver<Told>,
}

impl Shards {
    fn start(
        settings: &SyncSettings,
        ready: &Ready,
        budget: Budget,
        backend: Backend,
        remembered: &Remembered,
        limited: &Limited,
    ) -> Result<Shards, Error> {
        let outstanding: Arc<Outstanding> = Arc::default();
        let (told_sender, told) = mpsc::channel(TOLD_WAITING);
        let capacity = shard::mailbox_capacity(budget.shards);
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            (0..budget.shards).map(|_| cores::mailbox::<Message>(capacity)).unzip();
        let published: Vec<Arc<Published>> = (0..budget.shards).map(|_| Arc::default()).collect();
        let orders = Orders {
            direction: ready.direction,
            rule: rule(settings.integrity.check),
            ignores_target: settings.integrity.ignore_target_listing,
            head_each_target: settings.integrity.head_each_target,
            task: settings.task,
            versions: settings.versions,
            dry_run: settings.dry_run,
            deletes: settings.deletes,
            events: settings.events,
            workers: budget.workers,
            list_threads: budget.list_threads,
            sync_tags: settings.attributes.sync_tags && ready.direction == Direction::BucketToBucket,
            quiet_about_archived: settings.attributes.quiet_about_archived,
        };
        let trust = Arc::new(Trust::new(settings));
        // What lists in no order, is one object, or is a plan, is gone through as one; so it is with a single lister, since that
        // is the remedy where the order turned out not to be one.
        let one =
            !trust.may_cut() || ready.sides.single.is_some() || ready.sides.plan.is_some() || budget.list_threads == 1;
        let pieces = if one { vec![Piece::default()] } else { remembered.pieces() };
        let mut first: Vec<Vec<_>> = mailboxes.iter().map(|_| Vec::new()).collect();
        for (number, piece) in pieces.into_iter().enumerate() {
            first[number % budget.shards].push((piece, Token::new(&outstanding)));
        }
        // A shard that has nothing, as all but one have at the first run, asks the others for their share.
        for (mailbox, ranges) in mailboxes.iter().zip(first).filter(|(_, ranges)| !ranges.is_empty()) {
            if mailbox.try_send(Message::Work(0, Work::Ranges(ranges))).is_err() {
                unreachable!("an empty mailbox takes a message");
            }
        }
        let cores = cores::available();
        let mut threads = Vec::with_capacity(budget.shards);
        for (id, mailbox) in receivers.into_iter().enumerate() {
            let setup = ShardSetup {
                id,
                orders,
                filters: settings.filters.clone(),
                trust: trust.clone(),
                published: published[id].clone(),
                peers: mailboxes.clone(),
                outstanding: outstanding.clone(),
                told: told_sender.clone(),
            };
            let make = ShardMaker { settings, ready, budget, backend, remembered, limited };
            let core = cores.get(id % cores.len().max(1)).copied();
            let thread = cores::spawn_pinned(core, format!("shard-{id}"), make.thread(setup, mailbox));
            threads.push(thread.map_err(|error| Error::Machine(format!("a thread cannot start: {error}")))?);
        }
        Ok(Shards { threads, mailboxes, published, outstanding, trust, told })
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for mailbox in &self.mailboxes {
            // A shard that is gone needs no telling.
            let _ = mailbox.try_send(message());
        }
    }

    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.published.iter().for_each(|published| sum += published.counts());
        sum.settle();
        sum
    }
}

/// What a shard's thread is made from.
struct ShardMaker<'a> {
    settings: &'a SyncSettings,
    ready: &'a Ready,
    budget: Budget,
    backend: Backend,
    remembered: &'a Remembered,
    limited: &'a Limited,
}

impl ShardMaker<'_> {
    /// The thread's whole life. Its files, buffers and connections are made on it, and never leave it.
    fn thread(&self, setup: ShardSetup, mailbox: Receiver<Message>) -> impl FnOnce() -> ShardEnd + Send + 'static {
        let (source, target) = self.ready.openers(self.remembered.run_tag());
        let (journal, resume) = (self.remembered.journal(), self.remembered.resume);
        let sides = self.ready.sides.clone();
        let (budget, backend, direct_io) = (self.budget, self.backend, self.settings.direct_io);
        let (integrity, attributes) = (integrity(&self.settings.integrity), attributes::for_transfers(self.settings));
        let marks_origins = self.settings.versions == Versions::All;
        let limited = self.limited.clone();
        let patience = self.settings.patience;
        let restarts = Restarts { max: patience.restarts_max, pause: patience.restart_pause };
        let sizes = Sizes {
            multipart_threshold_bytes: self.settings.limits.multipart_threshold_bytes,
            part_bytes: self.settings.limits.part_bytes,
            buffer_bytes: budget.large_bytes,
        };
        move || {
            let _alarm = Alarm(setup.told.clone());
            block_on(backend, async move {
                let arena = Arena::new(ArenaLayout {
                    large_bytes: budget.large_bytes as usize,
                    large_count: budget.large_count,
                    small_bytes: budget.small_bytes as usize,
                    small_count: budget.small_count,
                })?;
                let kit = Kit {
                    shard: setup.id,
                    files: Files::new(backend).with_direct_io(direct_io),
                    arena,
                    lanes: Md5Lanes::new(),
                    integrity,
                    marks_origins,
                    attributes,
                    source: source.open()?,
                    target: target.open()?,
                    sizes,
                    limited,
                    restarts,
                    board: Board::new(budget.parts),
                    moved_bytes: Default::default(),
                    journal,
                    resume,
                    resumed_bytes: Default::default(),
                    kept_objects: Default::default(),
                    left_behind: Default::default(),
                    stop: Stop::default(),
                };
                Ok(shard::run(setup, kit, sides, mailbox).await)
            })?
        }
    }
}

/// The rule of a check.
fn rule(check: Check) -> Rule {
    match check {
        Check::Newer => Rule::Newer,
        Check::Size => Rule::Size,
        Check::ETag => Rule::Content(ContentBy::ETag),
        Check::NewerAndETag => Rule::NewerContent(ContentBy::ETag),
        Check::Checksum(algorithm) => Rule::Content(ContentBy::Checksum(algorithm)),
        Check::NewerAndChecksum(algorithm) => Rule::NewerContent(ContentBy::Checksum(algorithm)),
    }
}

/// What transfers have to know of it.
fn integrity(settings: &settings::Integrity) -> Integrity {
    Integrity {
        etags: settings.verify_etags,
        of_parts: settings.verify_multipart,
        upload_with: settings.upload_with,
        full_object: settings.full_object,
        uploaded_checksums: settings.verify_checksums,
        source_checksum_expected: settings.source_checksum_expected,
        content_md5: settings.content_md5,
        keep_parts: settings.auto_chunksize,
    }
}

/// Tells the control thread when a shard panics: others may wait for what it was to do.
struct Alarm(mpsc::Sender<Told>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.blocking_send(Told::Fatal {
                text: "a shard panicked".to_owned(),
                code: ExitCode::Bug,
                objects: 0,
            });
        }
    }
}

/// The control thread's view of a run.
struct Control<'a> {
    settings: &'a SyncSettings,
    started: Instant,
    observer: &'a mut dyn Observer,
    shards: Shards,
    paces: Paces,
    remembered: Remembered,
    fatal: Option<(String, ExitCode)>,
    failures: u64,
    /// Things about the whole run that were said as warnings.
    warnings: u64,
    /// Whether it was said that direct I/O was refused: every shard finds it out for itself.
    direct_refused: bool,
}

impl Control<'_> {
    /// Passes on what the shards tell until no work is left, or the run is asked to end and has ended. Returns the signal
    /// that asked, if one did.
    async fn watch(&mut self, stop: &StopHandle) -> Option<i32> {
        let outstanding = self.shards.outstanding.clone();
        let mut progress = tokio::time::interval(self.settings.progress_interval);
        progress.tick().await;
        let mut signal = None;
        let mut deadline = None;
        loop {
            let stopping = signal.is_some() || self.fatal.is_some();
            if stopping && deadline.is_none() {
                self.shards.tell_all(|| Message::Ending(Ending::Draining));
                deadline = Some(tokio::time::Instant::now() + PATIENCE);
            }
            tokio::select! {
                () = outstanding.finished.notified() => break,
                Some(told) = self.shards.told.recv() => self.hear(told),
                asked = stop.asked(), if signal.is_none() => signal = Some(asked),
                _ = progress.tick() => self.show_progress(stopping),
                () = sleep_until(deadline) => {
                    self.shards.tell_all(|| Message::Ending(Ending::Abandoned));
                    deadline = Some(tokio::time::Instant::now() + Duration::from_secs(3_600));
                }
            }
        }
        self.shards.tell_all(|| Message::Finished);
        // Shards flush their last events before they end, and end only when those are taken.
        while let Some(told) = self.shards.told.recv().await {
            self.hear(told);
        }
        signal
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Events(events) => events.iter().for_each(|event| {
                self.observer.event(event);
                self.heed_warning(event);
            }),
            // The first one says it; the others say the same.
            Told::Fatal { text, code, objects } => {
                if self.fatal.is_none() {
                    self.failures += objects;
                    self.fatal = Some((text, code));
                }
            }
            Told::DirectIoRefused(reason) => {
                if !std::mem::replace(&mut self.direct_refused, true) {
                    let text = format!("direct I/O is not used for some large files: {reason}");
                    self.observer.note(Note::Detail, &text);
                }
            }
            Told::RangeFailed(error) => {
                self.failures += 1;
                let key = String::new();
                self.observer.event(&Event::Failed { key, error });
            }
        }
    }

    /// Ends the run at the first warning, if that is wished.
    fn heed_warning(&mut self, event: &Event) {
        if let Event::Warned { key, reason } = event
            && self.settings.warnings_are_errors
        {
            let text = || format!("`{key}`: {reason} (a warning, which --warn-as-error makes an error)");
            self.fatal.get_or_insert_with(|| (text(), ExitCode::SomeFailed));
        }
    }

    fn warn(&mut self, text: &str) {
        self.warnings += 1;
        self.observer.note(Note::Warning, text);
    }

    fn show_progress(&mut self, stopping: bool) {
        self.remembered.tell_trouble(self.observer);
        let (counts, elapsed) = (self.shards.counts(), self.started.elapsed());
        let phase = match self.settings.task {
            Task::Sync => Phase::Copying,
            Task::Verify(_) | Task::Report(_) => Phase::Comparing,
        };
        self.observer.progress(&Progress { counts, elapsed, stopping, phase, concurrency: self.paces.now() });
    }

    async fn finish(
        mut self,
        signal: Option<i32>,
        ready: &Ready,
        last_phase: Option<LastPhase>,
        stop: &StopHandle,
    ) -> Summary {
        let (mut counts, mut recorded) = (Counts::default(), Vec::new());
        let mut fatal = self.fatal;
        for thread in self.shards.threads {
            match thread.join() {
                Ok(Ok((shard, lists))) => {
                    counts += shard;
                    recorded.push(lists);
                }
                Ok(Err(error)) => {
                    let text = format!("a shard could not start: {error}");
                    fatal.get_or_insert((text, ExitCode::Configuration));
                }
                Err(_) => fatal = Some(("a shard panicked: a mistake in Ropeway".to_owned(), ExitCode::Bug)),
            }
        }
        counts.settle();
        if let Some(side) = self.shards.trust.may_have_gaps() {
            self.failures += 1;
            let error = format!(
                "the {side} turned out not to list in key order after parts of it had been listed side by side, so keys may have \
                 been missed; run the same command again with --list-threads 1"
            );
            self.observer.event(&Event::Failed { key: String::new(), error });
        }
        counts.failed_objects += self.failures;
        counts.warnings += self.warnings;
        let whole = signal.is_none() && fatal.is_none() && self.failures == 0;
        // A plan says nothing of what else was left unfinished.
        let complete = whole && self.settings.from_plan.is_none();
        if complete && let Ok(target) = ready.open_target(self.remembered.run_tag()) {
            self.remembered.sweep(&target, self.observer).await;
        }
        if let (Place::Bucket(_), 0, true) = (&self.settings.source, counts.source_listed, whole) {
            // A bucket has no directories, so a mistyped prefix looks like an empty one.
            let text = format!("there is nothing under the source `{}`; check its prefix", self.settings.source);
            self.observer.note(Note::Warning, &text);
            counts.warnings += 1;
        }
        let deleted = match last_phase {
            Some(phase) if signal.is_none() && fatal.is_none() => {
                phase.run(recorded, &mut counts, self.failures > 0, stop, self.observer).await
            }
            _ => deletes::Ended::default(),
        };
        // With it the job is given free, so it comes after the last change.
        let end = if complete { RunEnd::Complete } else { RunEnd::Early };
        counts.warnings += self.remembered.finish(end, self.observer).await;
        let signal = signal.or(deleted.signal);
        let fatal = fatal.or(deleted.fatal);
        let ended_early = match (signal, fatal) {
            (Some(signal), _) => Some(EndedEarly::Signal(signal)),
            (None, Some((error, code))) => Some(EndedEarly::Fatal { error, exit_code: code.number() }),
            (None, None) => None,
        };
        let exit_code = match &ended_early {
            Some(EndedEarly::Signal(signal)) => ExitCode::of_signal(*signal).number(),
            Some(EndedEarly::Fatal { exit_code, .. }) => *exit_code,
            None if counts.differences > 0 => ExitCode::Differences.number(),
            None if counts.failed_objects > 0 => ExitCode::SomeFailed.number(),
            None if deleted.withheld.as_ref().is_some_and(|withheld| withheld.is_refusal()) => {
                ExitCode::Unsafe.number()
            }
            None if counts.warnings + counts.unverifiable_objects + report::out_of_sync(&counts) > 0 => {
                match self.settings.warnings_are_errors {
                    true => ExitCode::SomeFailed.number(),
                    false => ExitCode::Warnings.number(),
                }
            }
            None => ExitCode::Done.number(),
        };
        if let Task::Report(_) = self.settings.task {
            self.observer.event(&report::totals(&counts));
        }
        let elapsed_ms = self.started.elapsed().as_millis() as u64;
        let peak_memory_bytes = probe::peak_memory_bytes();
        Summary {
            counts,
            elapsed_ms,
            peak_memory_bytes,
            concurrency: self.paces.now(),
            dry_run: self.settings.dry_run,
            compared: matches!(self.settings.task, Task::Verify(_)),
            reported: matches!(self.settings.task, Task::Report(_)),
            deletes_withheld: deleted.withheld.map(|withheld| withheld.to_string()),
            ended_early,
            exit_code,
        }
    }
}

/// Of a run that a signal ended while its sides were looked at.
fn stopped_before_the_start(settings: &SyncSettings, signal: i32, elapsed: Duration) -> Summary {
    Summary {
        counts: Counts::default(),
        elapsed_ms: elapsed.as_millis() as u64,
        peak_memory_bytes: probe::peak_memory_bytes(),
        concurrency: Concurrency::default(),
        dry_run: settings.dry_run,
        compared: matches!(settings.task, Task::Verify(_)),
        reported: matches!(settings.task, Task::Report(_)),
        deletes_withheld: None,
        ended_early: Some(EndedEarly::Signal(signal)),
        exit_code: ExitCode::of_signal(signal).number(),
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
