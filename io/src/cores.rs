//! One thread per core, pinned, and the mailboxes between them. A shard never moves to another core, so its ring, its
//! buffers and its sockets stay in that core's caches.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

/// One core this process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(core_affinity::CoreId);

impl CoreId {
    /// The operating system's number of this core; not consecutive when the affinity mask has holes.
    pub fn index(self) -> usize {
        self.0.id
    }
}

/// The cores that the affinity mask (`taskset`, cpusets, Slurm) leaves to this process. Empty where the system does not
/// say; then threads run unpinned and [`std::thread::available_parallelism`] gives their number.
pub fn available() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(CoreId).collect()
}

/// Starts a thread called `name` and pins it to `core` before `body` runs. A core that refuses the pin (it was taken
/// offline, or the system has no pinning) costs speed and not correctness, so the thread then runs where it may.
///
/// # Errors
/// When the system starts no further thread.
pub fn spawn_pinned<T: Send + 'static>(
    core: Option<CoreId>,
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name).spawn(move || {
        if let Some(core) = core
            && !core_affinity::set_for_current(core.0)
        {
            tracing::debug!(core = core.index(), "the thread could not be pinned to its core and runs unpinned");
        }
        body()
    })
}

/// A bounded mailbox between cores. The bound is the backpressure: a sender whose receiver lags waits, instead of
/// letting a queue grow. Choose a capacity of at least the number of senders when two cores mail each other, so that
/// neither waits for room in the other's box while its own fills.
pub fn mailbox<M>(capacity: usize) -> (Sender<M>, Receiver<M>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Sender { inner: sender }, Receiver { inner: receiver })
}

/// The end of a [`mailbox`] that any core may clone and send on.
#[derive(Debug)]
pub struct Sender<M> {
    inner: mpsc::Sender<M>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender { inner: self.inner.clone() }
    }
}

impl<M> Sender<M> {
    /// Delivers `message`, waiting for room.
    ///
    /// # Errors
    /// Gives the message back when the receiver is gone.
    pub async fn send(&self, message: M) -> Result<(), M> {
        self.inner.send(message).await.map_err(|refused| refused.0)
    }

    /// Delivers `message` only if there is room now.
    ///
    /// # Errors
    /// Gives the message back, saying whether waiting could help.
    pub fn try_send(&self, message: M) -> Result<(), Refused<M>> {
        self.inner.try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(message) => Refused::Full(message),
            mpsc::error::TrySendError::Closed(message) => Refused::Closed(message),
        })
    }

    /// Delivers `message` from a thread that runs no executor, blocking it until there is room.
    ///
    /// # Errors
    /// Gives the message back when the receiver is gone.
    pub fn blocking_send(&self, message: M) -> Result<(), M> {
        self.inner.blocking_send(message).map_err(|refused| refused.0)
    }
}

/// Why [`Sender::try_send`] did not deliver; the message comes back inside.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<M> {
    /// The box is full; the receiver may make room.
    Full(M),
    /// The receiver is gone.
    Closed(M),
}

/// The end of a [`mailbox`] that one core reads.
#[derive(Debug)]
pub struct Receiver<M> {
    inner: mpsc::Receiver<M>,
}

impl<M> Receiver<M> {
    /// The next message, or `None` once every sender is gone and the box is empty.
    pub async fn recv(&mut self) -> Option<M> {
        self.inner.recv().await
    }

    /// A message that has already arrived.
    pub fn try_recv(&mut self) -> Option<M> {
        self.inner.try_recv().ok()
    }

    /// The next message, for a thread that runs no executor; blocks it. `None` once every sender is gone.
    pub fn blocking_recv(&mut self) -> Option<M> {
        self.inner.blocking_recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_named_and_runs_on_its_core_alone() {
        let core = available().last().copied();
        let seen = spawn_pinned(core, "shard-7".into(), || {
            (std::thread::current().name().map(str::to_owned), core_affinity::get_core_ids())
        })
        .unwrap()
        .join()
        .unwrap();
        assert_eq!(seen.0.as_deref(), Some("shard-7"));
        #[cfg(target_os = "linux")]
        assert_eq!(seen.1.unwrap(), vec![core.unwrap().0]);
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, mut receiver) = mailbox(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(Refused::Full(2)));
        assert_eq!(receiver.try_recv(), Some(1));
        drop(receiver);
        assert_eq!(sender.try_send(3), Err(Refused::Closed(3)));
        assert_eq!(sender.blocking_send(4), Err(4));
    }

    #[test]
    fn messages_cross_threads_in_order() {
        let (sender, mut receiver) = mailbox(2);
        let reader = spawn_pinned(None, "reader".into(), move || {
            let mut got = Vec::new();
            while let Some(message) = receiver.blocking_recv() {
                got.push(message);
            }
            got
        })
        .unwrap();
        (0..100).for_each(|message| sender.blocking_send(message).unwrap());
        drop(sender);
        assert_eq!(reader.join().unwrap(), (0..100).collect::<Vec<_>>());
    }
}
