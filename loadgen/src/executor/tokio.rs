//! A current-thread tokio runtime, whose sleeps are timerfds: absolute, on `CLOCK_MONOTONIC`, in nanoseconds.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;

use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime;
use ::tokio::task::LocalSet;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::clock::now_ns;

thread_local! {
    /// Timers that nobody sleeps on; as many as there ever were sleepers at once.
    static IDLE: RefCell<Vec<AsyncFd<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

pub fn run<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let output = LocalSet::new().block_on(&runtime, main);
    let entered = runtime.enter();
    IDLE.take();
    drop(entered);
    Ok(output)
}

pub fn spawn(task: impl Future<Output = ()> + 'static) {
    ::tokio::task::spawn_local(task);
}

pub async fn sleep_until(due_ns: u64) {
    while now_ns() < due_ns {
        let timer = match IDLE.with_borrow_mut(Vec::pop) {
            Some(timer) => timer,
            None => new_timer().expect("a thread may have a timer for each sleeper"),
        };
        set(&timer, due_ns).expect("a timer of this process can be set");
        let fired = timer.readable().await;
        // Setting it again clears what it has counted, so it need not be read.
        if let Ok(mut ready) = fired {
            ready.clear_ready();
        }
        IDLE.with_borrow_mut(|idle| idle.push(timer));
    }
}

#[expect(
    deprecated,
    reason = "sound for a descriptor that is owned; its successor is unsafe, which this crate forbids"
)]
fn new_timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

fn set(timer: &AsyncFd<OwnedFd>, due_ns: u64) -> io::Result<()> {
    let due = Timespec { tv_sec: (due_ns / 1_000_000_000) as i64, tv_nsec: (due_ns % 1_000_000_000) as _ };
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(
        timer.get_ref(),
        TimerfdTimerFlags::ABSTIME,
        &Itimerspec { it_interval: once, it_value: due },
    )?;
    Ok(())
}
