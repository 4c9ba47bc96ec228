//! Keys that run out, renewed while a run is under way: by one thread for all shards, before they expire.
//!
//! The thread gets new keys when two thirds of the old ones' life, or all but five minutes of it, have passed, and
//! publishes them. A shard that signs looks no further than at the second in which its own copy is due; only then does it
//! take the published keys. Where a service refuses keys that should still be good, shards ask the thread for others; the
//! first one to ask is answered by the source, all others by what the first one brought.

mod carrier;
mod chain;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ropeway_io::runtime::{Backend, block_on};
use ropeway_s3proto::sign::Credentials;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use carrier::Carrier;
pub use chain::{Chain, ChainError, Start};

use super::send::system_unix_s;

/// What signs requests.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Nothing: requests go unsigned.
    None,
    /// The same keys to the end.
    Fixed(Credentials),
    /// Keys that a thread renews.
    Renewed(Arc<Keyring>),
}

/// Keys as their source hands them out.
#[derive(Debug)]
pub struct Issued {
    /// The keys.
    pub credentials: Credentials,
    /// When they expire, in seconds since 1970; None if never.
    pub expires_at_s: Option<i64>,
}

/// Where new keys come from.
pub trait Source {
    /// Why there are none.
    type Error: fmt::Display;
    /// Gets new keys.
    fn issue(&mut self) -> impl Future<Output = Result<Issued, Self::Error>>;
}

/// Keys as the shards take them.
#[derive(Debug)]
pub struct Edition {
    /// Counts up.
    pub(super) number: u64,
    pub(super) credentials: Credentials,
    /// From this second on, a shard looks for newer ones.
    pub(super) due_at_s: i64,
    /// From this second on, they are not to be used.
    pub(super) ends_at_s: i64,
}

/// The way to the thread that renews the keys. The thread ends when nobody has the keyring any more.
pub struct Keyring {
    asks: mpsc::Sender<Ask>,
    latest: watch::Receiver<Arc<Edition>>,
}

/// A shard's wish for keys other than those it has.
struct Ask {
    held: u64,
    answer: oneshot::Sender<Result<Arc<Edition>, Arc<str>>>,
}

/// Shards that may wait for the thread; when it is full, they wait to ask.
const ASKS_WAITING: usize = 64;

/// Keys are renewed so long before they expire, or at a third of their life if that is less.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// A request needs some time to arrive: in these last seconds, or a tenth of their life, keys are not used.
const UNUSED_BEFORE: Duration = Duration::from_secs(5);

/// After a renewal in time failed, the next one is tried so much later; the old keys are still good.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Within this time of a failure, who asks is told of it, and the source is left in peace.
const FAILURE_IS_NEWS: Duration = Duration::from_secs(1);

/// A timer that is not set for longer needs no thought about how long one may be set.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(86_400);

/// Keys that were got because a service refused the ones before, and are refused as well, are not replaced sooner: else each
/// object of a run would cost a question to the source.
const PAUSE_BETWEEN_REFUSALS: Duration = Duration::from_secs(30);

impl Keyring {
    /// Starts the thread with the source that `make` makes on it, and waits for the first keys.
    ///
    /// # Errors
    /// What the source says; or that there can be no thread.
    pub async fn start<S: Source>(
        make: impl FnOnce() -> S + Send + 'static,
    ) -> Result<Arc<Keyring>, KeyringError<S::Error>>
    where
        S::Error: Send + 'static,
    {
        let (asks, asked) = mpsc::channel(ASKS_WAITING);
        let (ready, first) = oneshot::channel();
        let run = move || {
            // What the libraries below have to say may hold a secret, and no wish for details may bring it to light.
            let _silence = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::new());
            let ended = block_on(Backend::Pool, serve(make, ready, asked));
            debug_assert!(ended.is_ok(), "the thread needs timers and sockets, which every shard needs too");
        };
        thread::Builder::new().name("keyring".to_owned()).spawn(run).map_err(KeyringError::Thread)?;
        match first.await {
            Ok(Ok(latest)) => Ok(Arc::new(Keyring { asks, latest })),
            Ok(Err(error)) => Err(KeyringError::Source(error)),
            Err(_) => Err(KeyringError::Thread(std::io::Error::other("it ended at once"))),
        }
    }

    /// The keys as they are now.
    pub(super) fn latest(&self) -> Arc<Edition> {
        self.latest.borrow().clone()
    }

    /// Keys other than those of this number, from the source if need be.
    pub(super) async fn other_than(&self, held: u64) -> Result<Arc<Edition>, Arc<str>> {
        let (answer, answered) = oneshot::channel();
        let gone = || Arc::from("the thread that renews the keys has ended");
        self.asks.send(Ask { held, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("latest", &*self.latest.borrow()).finish()
    }
}

/// Why there are no keys to begin with.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError<E> {
    /// The source has none.
    #[error("{0}")]
    Source(E),
    /// The system gives no thread.
    #[error("the thread that renews the keys cannot start: {0}")]
    Thread(std::io::Error),
}

type Ready<E> = oneshot::Sender<Result<watch::Receiver<Arc<Edition>>, E>>;

/// The thread's life.
async fn serve<S: Source>(make: impl FnOnce() -> S, ready: Ready<S::Error>, mut asks: mpsc::Receiver<Ask>) {
    let mut source = make();
    let first = match source.issue().await {
        Ok(first) => first,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let (publish, latest) = watch::channel(Arc::new(Edition::new(1, first, system_unix_s())));
    if ready.send(Ok(latest)).is_err() {
        return;
    }
    let mut next_look = Instant::now() + publish.borrow().time_left(system_unix_s());
    let mut refused_at: Option<Instant> = None;
    let mut failed: Option<(Instant, Arc<str>)> = None;
    loop {
        let ask = tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => Some(ask),
                None => return,
            },
            () = tokio::time::sleep_until(next_look) => None,
        };
        let current = publish.borrow().clone();
        let (mut asker, mut refused) = (None, false);
        if let Some(ask) = ask {
            // They were renewed meanwhile, or have to be; or somebody refuses them that should not.
            if current.number > ask.held {
                ask.answer(Ok(current));
                continue;
            }
            if let Some((at, text)) = &failed
                && at.elapsed() < FAILURE_IS_NEWS
            {
                ask.answer(Err(text.clone()));
                continue;
            }
            if system_unix_s() < current.ends_at_s {
                if refused_at.is_some_and(|at| at.elapsed() < PAUSE_BETWEEN_REFUSALS) {
                    ask.answer(Err("the service refuses the new keys as well".into()));
                    continue;
                }
                refused = true;
            }
            asker = Some(ask);
        }
        match source.issue().await {
            Ok(issued) => {
                failed = None;
                if refused {
                    refused_at = Some(Instant::now());
                }
                let edition = Arc::new(Edition::new(current.number + 1, issued, system_unix_s()));
                next_look = Instant::now() + edition.time_left(system_unix_s());
                publish.send_replace(edition.clone());
                if let Some(ask) = asker {
                    ask.answer(Ok(edition));
                }
            }
            Err(error) => {
                next_look = Instant::now() + PAUSE_AFTER_FAILURE;
                let text: Arc<str> = error.to_string().into();
                if let Some(ask) = asker {
                    ask.answer(Err(text.clone()));
                }
                failed = Some((Instant::now(), text));
            }
        }
    }
}

impl Ask {
    fn answer(self, answer: Result<Arc<Edition>, Arc<str>>) {
        // Whoever asked may have been stopped.
        let _ = self.answer.send(answer);
    }
}

impl Edition {
    fn new(number: u64, issued: Issued, now_s: i64) -> Edition {
        let Issued { credentials, expires_at_s } = issued;
        let Some(expires_at_s) = expires_at_s else {
            return Edition { number, credentials, due_at_s: i64::MAX, ends_at_s: i64::MAX };
        };
        let life_s = expires_at_s.saturating_sub(now_s).max(0);
        let before = |before: Duration, share: i64| (before.as_secs() as i64).min(life_s / share);
        let due_at_s = expires_at_s - before(RENEWED_BEFORE, 3);
        Edition { number, credentials, due_at_s, ends_at_s: expires_at_s - before(UNUSED_BEFORE, 10) }
    }

    /// Until they are due.
    fn time_left(&self, now_s: i64) -> Duration {
        Duration::from_secs(self.due_at_s.saturating_sub(now_s).max(0) as u64).min(LOOK_AT_LEAST_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use ropeway_s3proto::sign::Secret;

    use super::*;

    /// Counts how often it was asked, and fails when told to.
    struct Counter {
        asked: Arc<AtomicU64>,
        fails_from: u64,
        life_s: Option<i64>,
    }

    impl Source for Counter {
        type Error = String;

        async fn issue(&mut self) -> Result<Issued, String> {
            let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
            // Others have the time to ask meanwhile.
            tokio::task::yield_now().await;
            if number >= self.fails_from {
                return Err(format!("no keys at question {number}"));
            }
            let secret_access_key = Secret::new("s");
            let credentials =
                Credentials { access_key_id: format!("K{number}"), secret_access_key, session_token: None };
            Ok(Issued { credentials, expires_at_s: self.life_s.map(|life_s| system_unix_s() + life_s) })
        }
    }

    fn with<T>(fails_from: u64, life_s: Option<i64>, test: impl AsyncFnOnce(Arc<Keyring>) -> T) -> (T, u64) {
        let asked: Arc<AtomicU64> = Arc::default();
        let counter = Counter { asked: asked.clone(), fails_from, life_s };
        let run = async { test(Keyring::start(move || counter).await.expect("first keys")).await };
        (block_on(Backend::Pool, run).expect("a runtime"), asked.load(Ordering::Acquire))
    }

    #[test]
    fn many_that_are_refused_cost_one_question() {
        let (numbers, asked) = with(u64::MAX, None, async |keyring| {
            let asks = (0..50).map(|_| keyring.other_than(1));
            let answers = futures_util::future::join_all(asks).await;
            answers.into_iter().map(|answer| answer.expect("keys").number).collect::<Vec<_>>()
        });
        assert_eq!((numbers, asked), (vec![2; 50], 2));
    }

    #[test]
    fn keys_that_are_refused_again_are_not_replaced_again() {
        let (answers, asked) = with(u64::MAX, None, async |keyring| {
            let second = keyring.other_than(1).await.map(|edition| edition.number);
            (second, keyring.other_than(2).await.map(|edition| edition.number))
        });
        assert_eq!(answers.0.as_ref().ok(), Some(&2));
        assert!(answers.1.is_err_and(|text| text.contains("as well")));
        assert_eq!(asked, 2);
    }

    #[test]
    fn a_source_that_fails_is_not_asked_by_everybody() {
        let (answers, asked) = with(2, None, async |keyring| {
            let asks = (0..50).map(|_| keyring.other_than(1));
            futures_util::future::join_all(asks).await
        });
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|text| text.contains("no keys"))));
        assert!(asked < 50, "{asked} questions");
    }

    #[test]
    fn expired_keys_are_renewed_whoever_asks() {
        // They are expired when they come, so each of them is replaced as soon as it is looked at.
        let (number, _) = with(u64::MAX, Some(-1), async |keyring| {
            let held = keyring.latest().number;
            keyring.other_than(held).await.expect("keys").number > held
        });
        assert!(number);
    }

    #[test]
    fn keys_are_due_before_they_expire() {
        let edition = |life_s: i64| {
            let credentials =
                Credentials { access_key_id: "K".into(), secret_access_key: Secret::new("s"), session_token: None };
            let edition = Edition::new(1, Issued { credentials, expires_at_s: Some(1_000_000 + life_s) }, 1_000_000);
            (edition.due_at_s - 1_000_000, edition.ends_at_s - 1_000_000)
        };
        for (life_s, due_at_s, ends_at_s) in [
            (43_200, 42_900, 43_195),
            (3_600, 3_300, 3_595),
            (900, 600, 895),
            (300, 200, 295),
            (30, 20, 27),
            (0, 0, 0),
            (-5, -5, -5),
        ] {
            assert_eq!(edition(life_s), (due_at_s, ends_at_s), "{life_s}");
        }
    }

    #[test]
    fn keys_that_never_expire_are_never_due() {
        let ((due, ends), asked) = with(u64::MAX, None, async |keyring| {
            let latest = keyring.latest();
            (latest.due_at_s, latest.ends_at_s)
        });
        assert_eq!((due, ends, asked), (i64::MAX, i64::MAX, 1));
    }

    #[test]
    fn a_keyring_says_nothing_of_its_keys() {
        let (said, _) =
            with(u64::MAX, None, async |keyring| format!("{:?} {keyring:?}", Keys::Renewed(keyring.clone())));
        assert!(!said.contains("\"s\""), "{said}");
    }
}
