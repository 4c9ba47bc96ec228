//! The end of a run before its time: first no new work, then, when patience ends, nothing at all.
//!
//! Each shard has its own [`Stop`], raised by a message like any other, so that looking at it before every object touches
//! no memory that another core writes.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Error;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The run goes on.
    NotYet,
    /// No new work; what is under way may finish.
    Draining,
    /// What is under way is dropped.
    Abandoned,
}

/// One shard's view of the run's end.
#[derive(Debug, Clone)]
pub struct Stop(Rc<State>);

#[derive(Debug)]
struct State {
    ending: Cell<Ending>,
    raised: Notify,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop(Rc::new(State { ending: Cell::new(Ending::NotYet), raised: Notify::new() }))
    }
}

impl Stop {
    /// Goes on to `ending`, never back.
    pub fn raise(&self, ending: Ending) {
        self.0.ending.set(self.0.ending.get().max(ending));
        self.0.raised.notify_waiters();
    }

    /// Whether no new work should begin.
    pub fn asked(&self) -> bool {
        self.0.ending.get() > Ending::NotYet
    }

    /// Waits until the end has come at least so far.
    pub async fn reached(&self, ending: Ending) {
        while self.0.ending.get() < ending {
            self.0.raised.notified().await;
        }
    }

    /// Waits for `pause` before something new is begun, or gives [`Error::Stopped`] if nothing new is to begin.
    pub(super) async fn unless_asked(&self, pause: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = pause => Ok(()),
            () = self.reached(Ending::Draining) => Err(Error::Stopped),
        }
    }

    /// `work`, or [`Error::Stopped`] if patience ends first.
    pub async fn or_abandon<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.reached(Ending::Abandoned) => Err(Error::Stopped),
        }
    }
}
