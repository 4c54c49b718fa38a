//! The world that a driver lives in. Nothing outside this folder knows which it is.
//!
//! All of a driver's own tasks run in one task of that world (`tasks`), share one of its timers (`timers`), and reach the network
//! through a carrier for each connection, which moves bytes between a socket of that world and a [`Transport`]. What the carriers of
//! the reactor and of glommio hold must stay on its thread; everything else may move.

mod carry;
#[cfg(feature = "glommio")]
mod glommio;
mod reactor;
mod tasks;
mod timers;
#[cfg(feature = "tokio")]
mod tokio;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ringlog_reactor::{Instant, now};

use crate::error::ConnectError;
pub(crate) use carry::{Ended, Transport};
pub(crate) use tasks::Task;
use tasks::Tasks;
use timers::{Sleep, Timers};

/// Where a client's connections live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// On a background thread of the client's own: works under every runtime and without one, at the price of two wake-ups of
    /// sleeping threads for each record that is waited for.
    #[default]
    Thread,
    /// As a task of the tokio runtime in which `connect` is called; no other thread takes part.
    ///
    /// That is so on a current-thread runtime, on a `LocalRuntime` and in a `LocalSet` of either. It works on a multi-threaded
    /// runtime as well, where the task is one of the workers' and is best used from tasks that were spawned there: the root future
    /// of `#[tokio::main]` runs on a thread of its own. The client works as long as the runtime is driven. The runtime needs both
    /// its I/O and its time driver, as after `enable_all`.
    #[cfg(feature = "tokio")]
    Tokio,
    /// As a task of the glommio executor in which `connect` is called; no other thread takes part.
    ///
    /// The client works as long as the executor runs. The crate is `glommio-ng`, the maintained continuation of `glommio`: an executor of
    /// the old crate is none. Outside of an executor `connect` fails, after glommio has reported a panic on standard error; where
    /// panics abort, so does this, for glommio cannot be asked otherwise.
    #[cfg(feature = "glommio")]
    Glommio,
}

/// Starts a driver: what `serve` makes runs in its world to its end.
pub(crate) fn start<F>(
    driver: Driver,
    spin: Duration,
    serve: impl FnOnce(Arc<Runtime>) -> F,
) -> Result<(), ConnectError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let world = match driver {
        Driver::Thread => World::Reactor,
        #[cfg(feature = "tokio")]
        Driver::Tokio => World::Tokio,
        #[cfg(feature = "glommio")]
        Driver::Glommio => World::Glommio,
    };
    let runtime = Arc::new(Runtime { world, tasks: Arc::default(), timers: Arc::default() });
    let timers = Arc::clone(&runtime.timers);
    #[cfg(feature = "tokio")]
    let tasks = Arc::clone(&runtime.tasks);
    let main = Arc::clone(&runtime).run(serve(runtime));
    match driver {
        Driver::Thread => reactor::start(spin, timers, main),
        #[cfg(feature = "tokio")]
        Driver::Tokio => tokio::start(&tasks, timers, main),
        #[cfg(feature = "glommio")]
        Driver::Glommio => glommio::start(timers, main),
    }
}

enum World {
    Reactor,
    #[cfg(feature = "tokio")]
    Tokio,
    #[cfg(feature = "glommio")]
    Glommio,
}

/// What a driver may ask of its world.
pub(crate) struct Runtime {
    world: World,
    tasks: Arc<Tasks>,
    timers: Arc<Timers>,
}

/// The time was up first.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl Runtime {
    /// Runs a driver to its end; then, or when this future is dropped, all its tasks are dropped.
    async fn run(self: Arc<Self>, main: impl Future<Output = ()> + Send + 'static) {
        let _closing = Closing(&self);
        let tasks = Arc::clone(&self.tasks);
        self.tasks.spawn(async move {
            main.await;
            tasks.end();
        });
        self.tasks.run().await;
    }

    /// Starts a task that runs until it ends, or the driver does.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(future);
    }

    /// Starts a task that ends with its handle.
    pub fn spawn_cancellable(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        self.tasks.spawn_cancellable(future)
    }

    /// Waits for `duration`.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(now() + duration)
    }

    /// Waits until `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        self.timers.sleep_until(deadline)
    }

    /// Runs `future` for at most `duration`; then it is dropped. If both are ready, the future wins.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut limit = pin!(self.sleep(duration));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => limit.as_mut().poll(context).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// Connects, and carries the bytes of `transport` until either side ends it.
    pub fn carry(&self, address: SocketAddr, transport: Arc<impl Transport>) {
        match self.world {
            World::Reactor => reactor::carry(address, transport),
            #[cfg(feature = "tokio")]
            World::Tokio => tokio::carry(&self.tasks, address, transport),
            #[cfg(feature = "glommio")]
            World::Glommio => glommio::carry(address, transport),
        }
    }
}

/// Lets the keeper of the timers go with the driver.
struct Closing<'a>(&'a Runtime);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.tasks.end();
        self.0.timers.end();
    }
}
