//! The world that a driver lives in. Nothing outside this folder knows which it is.
//!
//! All of a driver's own tasks run in one task of that world (`tasks`), share one of its timers (`timers`), and reach the network
//! through a carrier for each connection, which moves bytes between a socket of that world and the `Link`. What the carriers of
//! the reactor and of glommio hold must stay on its thread; everything else may move.

#[cfg(feature = "glommio")]
mod glommio;
mod reactor;
mod tasks;
mod timers;
#[cfg(feature = "tokio")]
mod tokio;

use std::future::{Future, poll_fn};
#[cfg(any(feature = "tokio", feature = "glommio"))]
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
#[cfg(any(feature = "tokio", feature = "glommio"))]
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use ringlog_reactor::{Instant, now};

use super::link::Link;
use super::{DriverConfig, Engine};
use crate::command::{Line, Orders};
use crate::error::ConnectError;
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

/// Starts a driver. The line is its only entrance; it ends when the last one is dropped.
pub(crate) fn start(driver: Driver, spin: Duration, config: DriverConfig) -> Result<Line, ConnectError> {
    let (line, orders) = Line::new();
    match driver {
        Driver::Thread => reactor::start(spin, config, orders)?,
        #[cfg(feature = "tokio")]
        Driver::Tokio => tokio::start(config, orders)?,
        #[cfg(feature = "glommio")]
        Driver::Glommio => glommio::start(config, orders)?,
    }
    Ok(line)
}

/// Slices in one send.
#[cfg(any(feature = "tokio", feature = "glommio"))]
const SLICES: usize = 64;
/// Where received bytes stand until the session has them.
#[cfg(any(feature = "tokio", feature = "glommio"))]
const RECEIVE_BYTES: usize = 64 << 10;

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
    fn new(world: World) -> Arc<Self> {
        Arc::new(Self { world, tasks: Arc::default(), timers: Arc::default() })
    }

    /// Runs a driver to its end; then, or when this future is dropped, all its tasks are dropped.
    async fn run(self: Arc<Self>, config: DriverConfig, orders: Orders) {
        let _closing = Closing(&self);
        let runtime = Arc::clone(&self);
        self.tasks.spawn(async move {
            Engine::run(&runtime, config, orders).await;
            runtime.tasks.end();
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

    /// Connects, and carries the link's bytes until either side ends it.
    pub fn carry(self: &Arc<Self>, address: SocketAddr, link: Arc<Link>) {
        match self.world {
            World::Reactor => reactor::carry(address, link),
            #[cfg(feature = "tokio")]
            World::Tokio => tokio::carry(self, address, link),
            #[cfg(feature = "glommio")]
            World::Glommio => glommio::carry(address, link),
        }
    }
}

/// Runs `future` unless the link ends first: neither a connection that is never made nor a peer that takes no bytes may hold a
/// socket longer than that.
async fn while_alive<F: Future>(link: &Link, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut ended = pin!(link.ended());
    poll_fn(|context| match ended.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

/// What the reactor's sockets have as well: a peer that vanished is noticed after 90 seconds of silence.
#[cfg(any(feature = "tokio", feature = "glommio"))]
fn keepalive() -> socket2::TcpKeepalive {
    let second = Duration::from_secs(1);
    socket2::TcpKeepalive::new().with_time(60 * second).with_interval(10 * second).with_retries(3)
}

/// Sends all of `output` through a socket's vectored write, and leaves it empty.
#[cfg(any(feature = "tokio", feature = "glommio"))]
async fn gather(
    output: &mut Vec<bytes::Bytes>,
    mut poll_write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
) -> io::Result<()> {
    let (mut first, mut skip) = (0, 0);
    while first < output.len() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = SLICES.min(output.len() - first);
        for (slice, bytes) in slices.iter_mut().zip(&output[first..]) {
            *slice = IoSlice::new(bytes);
        }
        slices[0] = IoSlice::new(&output[first][skip..]);
        let sent = poll_fn(|context| poll_write(context, &slices[..count])).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        skip += sent;
        while first < output.len() && skip >= output[first].len() {
            skip -= output[first].len();
            first += 1;
        }
    }
    output.clear();
    Ok(())
}

/// Lets the keeper of the timers go with the driver.
struct Closing<'a>(&'a Runtime);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.tasks.end();
        self.0.timers.end();
    }
}
