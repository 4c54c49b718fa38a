//! Starting a core and turning its loop.
//!
//! One turn: take what other threads woke, poll what is ready, fire timers, and enter the kernel at most once to
//! submit what the tasks asked for. With nothing left to poll, wait as the policy says.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::clock::{Instant, now};
use crate::core::{self, Core};
use crate::driver::uring::RingSize;
use crate::driver::{Driver, Uring};
use crate::executor::spawn;
use crate::pool::Pool;
use crate::shared::{MainWaker, Shared};
use crate::sys;

/// How a core is set up. `CoreConfig::default()` is good for all but name and CPU.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The name of a launched core's thread, as `top -H` shows it (15 bytes).
    pub name: String,
    /// The CPU to pin the thread to; `None` leaves it to the kernel.
    pub cpu: Option<usize>,
    /// What to do when there is nothing to do.
    pub wait: WaitPolicy,
    /// Submissions the ring takes in one system call.
    pub submission_entries: u32,
    /// Completions the ring holds; more are kept by the kernel, at a cost.
    pub completion_entries: u32,
    /// Receive buffers shared by all sockets of the core: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// The size of one of them, in bytes.
    pub receive_buffer_bytes: u32,
}

impl Default for CoreConfig {
    fn default() -> Self {
        CoreConfig {
            name: "core".to_owned(),
            cpu: None,
            wait: WaitPolicy::Block,
            submission_entries: 512,
            completion_entries: 4096,
            receive_buffers: 256,
            receive_buffer_bytes: 16 << 10,
        }
    }
}

/// What an idle core does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitPolicy {
    /// Sleeps in the kernel: no CPU when idle.
    #[default]
    Block,
    /// Polls for this long, then sleeps.
    Spin(Duration),
    /// Polls for ever. It takes a whole CPU, but for what others on it need.
    Busy,
}

/// Polls per turn before the kernel is entered again: bounds how long a completion waits behind ready tasks.
const POLLS_PER_TURN: usize = 256;

/// How often a core that has something to do yields its CPU; one that spins for something to do yields in each round. The
/// kernel's workers, which complete synced writes, may be bound to it, and a thread that hardly sleeps is not preempted for them
/// before the scheduler's next tick: up to 4 ms. With nobody waiting it costs one system call. Whether a wait has slept is not
/// known, so this goes by time alone.
const YIELD_EVERY: Duration = Duration::from_micros(100);

/// Makes this thread a core until `main` ends, and returns its output. Tasks that are left are dropped, and
/// operations in flight run to their end, before it returns.
///
/// # Errors
/// If the ring cannot be set up or entered, the CPU cannot be pinned, or the thread is a core already.
///
/// # Panics
/// If `main` or a task panics.
pub fn run<F: Future>(config: CoreConfig, main: F) -> io::Result<F::Output> {
    if core::try_with(|_| ()).is_some() {
        return Err(io::Error::other("this thread is a core already"));
    }
    if let Some(cpu) = config.cpu {
        sys::pin_to_cpu(cpu)?;
    }
    check_pool(&config)?;
    let doorbell = sys::eventfd()?;
    let shared = Arc::new(Shared::new(Some(doorbell)));
    let doorbell = shared.doorbell().expect("it was put there just now");
    let size = RingSize { submissions: config.submission_entries, completions: config.completion_entries };
    let pool = Pool::new(config.receive_buffers, config.receive_buffer_bytes);
    let driver = Driver::Uring(Box::new(Uring::new(size, pool, doorbell)?));
    let entered = core::enter(Rc::new(Core::new(shared, driver)));
    // Declared after `entered`, so dropped before it: the core outlives the future.
    let mut main = pin!(main);
    let waker = Arc::new(MainWaker::new(Arc::clone(entered.core().shared())));
    let main_waker = Waker::from(Arc::clone(&waker));
    let mut context = Context::from_waker(&main_waker);
    let core = entered.core();
    let mut share = CpuShare::new();
    loop {
        core.executor().accept(core.shared());
        if waker.take()
            && let Poll::Ready(output) = main.as_mut().poll(&mut context)
        {
            return Ok(output);
        }
        poll_ready(core);
        core.fire_timers();
        core.close_dropped();
        if core.executor().ready() > 0 || waker.is_woken() || core.shared().is_pending() {
            uring(core, Uring::poke)?;
        } else {
            idle(core, config.wait, &mut share)?;
        }
        share.give();
        core.complete();
    }
}

/// When the core last yielded its CPU.
struct CpuShare {
    given: Instant,
}

impl CpuShare {
    fn new() -> CpuShare {
        CpuShare { given: now() }
    }

    /// Yields the CPU if that is due.
    fn give(&mut self) {
        if self.given.elapsed() >= YIELD_EVERY {
            self.give_now();
        }
    }

    fn give_now(&mut self) {
        sys::yield_cpu();
        self.given = now();
    }
}

fn check_pool(config: &CoreConfig) -> io::Result<()> {
    let count = config.receive_buffers;
    if count.is_power_of_two() && config.receive_buffer_bytes > 0 {
        return Ok(());
    }
    let words = format!("receive buffers: {count} of {} bytes", config.receive_buffer_bytes);
    Err(io::Error::new(io::ErrorKind::InvalidInput, words))
}

fn poll_ready(core: &Core) {
    for _ in 0..POLLS_PER_TURN {
        let Some(runnable) = core.executor().pop() else { return };
        runnable.run();
    }
}

fn uring<R>(core: &Core, f: impl FnOnce(&mut Uring) -> R) -> R {
    match &mut *core.driver().borrow_mut() {
        Driver::Uring(uring) => f(uring),
        Driver::Sim(_) => unreachable!("a simulated core is turned by its simulation"),
    }
}

/// There is nothing to poll: waits for a completion, a timer or a wake-up.
fn idle(core: &Core, policy: WaitPolicy, share: &mut CpuShare) -> io::Result<()> {
    let spin_for = match policy {
        WaitPolicy::Block => Duration::ZERO,
        WaitPolicy::Spin(limit) => limit,
        WaitPolicy::Busy => Duration::MAX,
    };
    if !spin_for.is_zero() && spin(core, spin_for, share)? {
        return Ok(());
    }
    block(core)
}

/// Polls until something happens (true) or the time is up (false).
fn spin(core: &Core, limit: Duration, share: &mut CpuShare) -> io::Result<bool> {
    let end = now() + limit;
    loop {
        let completed = uring(core, |uring| uring.poke().map(|()| uring.has_completions()))?;
        let time = now();
        let timer_due = core.next_deadline().is_some_and(|deadline| deadline <= time);
        if completed || timer_due || core.shared().is_pending() {
            return Ok(true);
        }
        if time >= end {
            return Ok(false);
        }
        // There is nothing to do here, and perhaps for a worker of the kernel that a completion waits for.
        share.give_now();
    }
}

fn block(core: &Core) -> io::Result<()> {
    let limit = core.next_deadline().map(|deadline| deadline - now());
    if limit == Some(Duration::ZERO) || !core.shared().fall_asleep() {
        return uring(core, Uring::poke);
    }
    let waited = uring(core, |uring| uring.wait(limit));
    core.shared().awake();
    waited
}

/// A core panicked; it was ended in order, and this is what it said.
#[derive(Debug, thiserror::Error)]
#[error("a core panicked: {message}")]
pub struct CorePanic {
    message: String,
}

impl CorePanic {
    fn new(payload: &(dyn Any + Send)) -> CorePanic {
        CorePanic { message: panic_message(payload) }
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| "no message".to_owned())
}

/// Starts another core and calls `make` on it for its main future.
///
/// In a simulation the future becomes a task of the same world instead of a thread.
///
/// # Errors
/// If the thread or its ring cannot be set up. Waits for that set-up: start-up only.
pub fn launch<M, F>(config: CoreConfig, make: M) -> io::Result<CoreThread>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    if core::try_with(Core::is_simulated) == Some(true) {
        let (ended, end) = flume::bounded(1);
        spawn(async move {
            make().await;
            // Nobody may be left to be told.
            let _ = ended.send(Ok(()));
        })
        .detach();
        return Ok(CoreThread { end, thread: None });
    }
    let (started, start) = flume::bounded(1);
    let (ended, end) = flume::bounded(1);
    let thread = thread::Builder::new().name(config.name.clone()).spawn(move || {
        let ready = started.clone();
        let body = move || {
            run(config, async move {
                // `launch` waits for this word, or for an error.
                let _ = ready.send(Ok(()));
                make().await;
            })
        };
        let result = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let panic = CorePanic { message: error.to_string() };
                let _ = started.try_send(Err(error));
                Err(panic)
            }
            Err(payload) => Err(CorePanic::new(&*payload)),
        };
        let _ = ended.send(result);
    })?;
    match start.recv() {
        Ok(Ok(())) => Ok(CoreThread { end, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the core ended before it started")),
    }
}

/// A core started by [`launch`]. Dropping it lets the core run on.
#[must_use = "join a core to learn how it ended"]
pub struct CoreThread {
    end: flume::Receiver<Result<(), CorePanic>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl CoreThread {
    /// Waits until the core's main future has ended and the core is torn down. For use on a core.
    ///
    /// # Errors
    /// If the core panicked, or its ring failed.
    pub async fn join(self) -> Result<(), CorePanic> {
        let result = self.end.recv_async().await;
        self.finish(result.ok())
    }

    /// The same for a plain thread. It must not be called on a core's thread, which it blocks.
    ///
    /// # Errors
    /// If the core panicked, or its ring failed.
    pub fn join_blocking(self) -> Result<(), CorePanic> {
        let result = self.end.recv();
        self.finish(result.ok())
    }

    fn finish(self, result: Option<Result<(), CorePanic>>) -> Result<(), CorePanic> {
        // The thread has said its last word, so this takes no time worth mentioning.
        let joined = self.thread.map_or(Ok(()), thread::JoinHandle::join);
        match (result, joined) {
            (Some(result), _) => result,
            (None, Err(payload)) => Err(CorePanic::new(&*payload)),
            (None, Ok(())) => Err(CorePanic { message: "the core was dropped".to_owned() }),
        }
    }
}

impl fmt::Debug for CoreThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreThread").field("ended", &!self.end.is_empty()).finish_non_exhaustive()
    }
}
