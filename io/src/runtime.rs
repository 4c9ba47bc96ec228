//! The executor of one core: a tokio current-thread runtime with a set of local tasks, with or without a ring beside it.
//! Tokio's sockets and timers work the same in both, so nothing above needs to know which one it runs on.
//!
//! Two things about the ring are settled here and nowhere else:
//!
//! * The ring is built without `SINGLE_ISSUER` and `DEFER_TASKRUN`. tokio-uring submits in a way that never runs
//!   deferred completions, and with those flags every read hangs.
//! * When the main future ends, the local tasks are dropped while the ring still turns, and the end waits until the
//!   kernel has answered every abandoned operation. tokio-uring, dropped with operations under way, frees the buffers of
//!   abandoned ones before the kernel has let go of them; here none is left by then.

use std::io;

use tokio::task::LocalSet;

/// What carries file operations on a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring, through tokio-uring. Linux alone.
    Uring,
    /// A small pool of threads that block in `pread` and `pwrite`. Any system.
    Pool,
    /// Direct I/O on a glommio executor beside each core's own, everything else as with the pool. Linux alone.
    #[cfg(all(target_os = "linux", feature = "glommio"))]
    Glommio,
}

/// Threads per core that may block in file calls when there is no ring. Enough to keep a disk's queue busy from each
/// core, few enough that 64 cores stay within a thousand threads and their stacks.
const POOL_THREADS_MAX: usize = 8;

/// Runs `future` to its end on this thread, with local tasks (`tokio::task::spawn_local`), tokio sockets and timers.
/// Local tasks still running when it ends are dropped; file operations they left behind are waited for.
///
/// # Errors
/// When the runtime or the ring cannot be built; [`crate::probe`] says why in words.
pub fn block_on<F: Future>(backend: Backend, future: F) -> io::Result<F::Output> {
    match backend {
        Backend::Uring => ring::block_on(future),
        Backend::Pool => pool_block_on(future),
        #[cfg(all(target_os = "linux", feature = "glommio"))]
        Backend::Glommio => pool_block_on(future),
    }
}

fn pool_block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(POOL_THREADS_MAX).build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

#[cfg(target_os = "linux")]
pub(crate) use ring::Flight;
#[cfg(target_os = "linux")]
pub(crate) use ring::ring_settings;

#[cfg(target_os = "linux")]
mod ring {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::pin::pin;
    use std::task::{Poll, Waker};

    use tokio::task::LocalSet;

    /// One entry. A second submission finds the queue full and thereby forces the first one into the kernel, which is
    /// what the guard in `file::uring` relies upon.
    pub(super) const SUBMISSION_ENTRIES: u32 = 1;

    /// Completions that may wait to be read. Parts in flight per core are some tens, each with one companion no-op;
    /// this leaves room for hundreds, at 16 bytes apiece. More than that is kept by the kernel, only slower.
    const COMPLETION_ENTRIES: u32 = 1024;

    /// How Ropeway's rings are built. Never with `SINGLE_ISSUER` or `DEFER_TASKRUN`: see the head of this module.
    pub(crate) fn ring_settings() -> io_uring::Builder {
        let mut settings = tokio_uring::uring_builder();
        settings.setup_cqsize(COMPLETION_ENTRIES);
        settings
    }

    pub(super) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
        let mut builder = tokio_uring::builder();
        builder.entries(SUBMISSION_ENTRIES).uring_builder(&ring_settings());
        let runtime = tokio_uring::Runtime::new(&builder)?;
        let outcome = runtime.block_on(async {
            // A set of our own inside tokio-uring's, because ours can be dropped while the ring still turns.
            let tasks = LocalSet::new();
            let outcome = tasks.run_until(caught(future)).await;
            drop(tasks);
            landed().await;
            outcome
        });
        Ok(outcome.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Runs `future`, turning its panic into a value: even then the operations under way are waited for.
    async fn caught<F: Future>(future: F) -> std::thread::Result<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    }

    thread_local! {
        static FLIGHTS: Flights = const { Flights { airborne: Cell::new(0), last_landing: RefCell::new(None) } };
    }

    struct Flights {
        airborne: Cell<usize>,
        last_landing: RefCell<Option<Waker>>,
    }

    /// Held by every operation from before its submission until the kernel has answered it.
    #[derive(Debug)]
    pub(crate) struct Flight(());

    impl Flight {
        pub(crate) fn begin() -> Flight {
            FLIGHTS.with(|flights| flights.airborne.set(flights.airborne.get() + 1));
            Flight(())
        }
    }

    impl Drop for Flight {
        fn drop(&mut self) {
            FLIGHTS.with(|flights| {
                flights.airborne.set(flights.airborne.get() - 1);
                if flights.airborne.get() == 0
                    && let Some(waker) = flights.last_landing.take()
                {
                    waker.wake();
                }
            });
        }
    }

    /// Waits until the kernel has answered every operation of this thread.
    async fn landed() {
        poll_fn(|cx| {
            FLIGHTS.with(|flights| match flights.airborne.get() {
                0 => Poll::Ready(()),
                _ => {
                    flights.last_landing.replace(Some(cx.waker().clone()));
                    Poll::Pending
                }
            })
        })
        .await;
    }
}

#[cfg(not(target_os = "linux"))]
mod ring {
    use std::io;

    pub(super) fn block_on<F: Future>(_future: F) -> io::Result<F::Output> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring exists on Linux alone; use the thread pool"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::rc::Rc;

    /// The backends this machine can run, for tests that must hold on each.
    pub(crate) fn backends() -> Vec<Backend> {
        let mut backends = vec![Backend::Pool];
        if crate::probe::probe().uring.is_ok() {
            backends.push(Backend::Uring);
            // glommio needs a ring too.
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            backends.push(Backend::Glommio);
        }
        backends
    }

    #[test]
    fn futures_and_outputs_may_be_local_and_tasks_spawn_on_every_backend() {
        for backend in backends() {
            let output = block_on(backend, async {
                let local = Rc::new(20);
                let task = tokio::task::spawn_local({
                    let local = local.clone();
                    async move { *local + 1 }
                });
                Rc::new(*local + task.await.unwrap())
            });
            assert_eq!(*output.unwrap(), 41, "{backend:?}");
        }
    }

    #[test]
    fn tokio_sockets_work_on_every_backend() {
        for backend in backends() {
            block_on(backend, async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let accepted = tokio::task::spawn_local(async move { listener.accept().await.unwrap().1 });
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                assert_eq!(accepted.await.unwrap(), stream.local_addr().unwrap(), "{backend:?}");
            })
            .unwrap();
        }
    }

    #[test]
    fn a_panic_in_the_main_future_comes_out_as_itself() {
        for backend in backends() {
            let panic = std::panic::catch_unwind(|| block_on(backend, async { panic!("as itself") })).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"as itself"), "{backend:?}");
        }
    }

    /// With either flag tokio-uring never sees a completion. The kernel accepts `DEFER_TASKRUN` only together with
    /// `SINGLE_ISSUER`, so the absence of the second proves the absence of both.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_ring_never_defers_task_work() {
        if crate::probe::probe().uring.is_err() {
            return;
        }
        let ring = ring_settings().build(ring::SUBMISSION_ENTRIES).unwrap();
        let ring: io_uring::IoUring = ring;
        assert!(!ring.params().is_setup_single_issuer());
        assert_eq!(ring.params().sq_entries(), ring::SUBMISSION_ENTRIES);
        assert!(ring.params().cq_entries() >= 1024);
    }
}
