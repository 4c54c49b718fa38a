//! Where producers and consumers run: one thread with one executor, and the most precise timer that it has.
//!
//! The timer decides whether the generator can tell the truth, so it is never the runtime's coarse one.

mod clock;
#[cfg(feature = "glommio")]
mod glommio;
mod reactor;
mod tokio;

pub use clock::now_ns;

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;

use ringlog_reactor::WaitPolicy;

/// Which executor a worker thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// A core of `ringlog_reactor`, with the timers of its ring (nanoseconds).
    Reactor,
    /// A current-thread tokio runtime with local tasks; sleeps by a timerfd of its own, since tokio's timer has whole
    /// milliseconds.
    Tokio,
    /// A glommio executor, with the timers of its rings.
    #[cfg(feature = "glommio")]
    Glommio,
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Executor::Reactor => "reactor",
            Executor::Tokio => "tokio",
            #[cfg(feature = "glommio")]
            Executor::Glommio => "glommio",
        })
    }
}

thread_local! {
    static CURRENT: Cell<Option<Executor>> = const { Cell::new(None) };
}

impl Executor {
    /// Runs `main` to its end on this thread.
    ///
    /// # Errors
    /// If the executor cannot be set up.
    pub fn run<F: Future>(self, wait: WaitPolicy, main: F) -> io::Result<F::Output> {
        // A timer may fire this late, by default 50 µs: more than a whole ack takes.
        if let Some(least) = std::num::NonZeroU64::new(1) {
            rustix::thread::set_current_timer_slack(Some(least))?;
        }
        CURRENT.set(Some(self));
        let output = match self {
            Executor::Reactor => reactor::run(wait, main),
            Executor::Tokio => tokio::run(main),
            #[cfg(feature = "glommio")]
            Executor::Glommio => glommio::run(wait, main),
        };
        CURRENT.set(None);
        output
    }

    fn current() -> Executor {
        CURRENT.get().expect("called on a worker thread")
    }
}

/// Waits until [`now_ns`] is `due_ns`; never ends early.
///
/// # Panics
/// Outside [`Executor::run`].
pub async fn sleep_until(due_ns: u64) {
    match Executor::current() {
        Executor::Reactor => reactor::sleep_until(due_ns).await,
        Executor::Tokio => tokio::sleep_until(due_ns).await,
        #[cfg(feature = "glommio")]
        Executor::Glommio => glommio::sleep_until(due_ns).await,
    }
}

/// Starts a task on this thread. Dropping what is returned lets it run on.
///
/// # Panics
/// Outside [`Executor::run`].
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Spawned<T> {
    let (done, output) = flume::bounded(1);
    let task = async move {
        // Nobody may want the output.
        let _ = done.send(future.await);
    };
    match Executor::current() {
        Executor::Reactor => reactor::spawn(task),
        Executor::Tokio => tokio::spawn(task),
        #[cfg(feature = "glommio")]
        Executor::Glommio => glommio::spawn(task),
    }
    Spawned { output }
}

/// A task; see [`spawn`].
#[must_use = "join a task to learn what came of it"]
#[derive(Debug)]
pub struct Spawned<T> {
    output: flume::Receiver<T>,
}

impl<T> Spawned<T> {
    /// Its output; none if it panicked or its executor ended.
    pub async fn join(self) -> Option<T> {
        self.output.recv_async().await.ok()
    }
}

/// Lets others run once.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
