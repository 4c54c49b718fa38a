//! A glommio executor, with the timers of its rings.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio_ng::timer::Timer;
use glommio_ng::{LocalExecutorBuilder, Placement, spawn_local};
use ringlog_reactor::WaitPolicy;

use super::clock::now_ns;

/// How long tasks that are ready run before the rings are looked at. glommio's own 100 ms are longer than a whole burst
/// of records takes, and a task that polls for a due time is always ready.
const LOOK_AT_RINGS: Duration = Duration::from_micros(50);

pub fn run<F: Future>(wait: WaitPolicy, main: F) -> io::Result<F::Output> {
    let spin = match wait {
        WaitPolicy::Spin(spin) => spin,
        _ => Duration::ZERO,
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(LOOK_AT_RINGS)
        .spin_before_park(spin)
        .make()
        // Its error is not `Sync`.
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(executor.run(main))
}

pub fn spawn(task: impl Future<Output = ()> + 'static) {
    spawn_local(task).detach();
}

pub async fn sleep_until(due_ns: u64) {
    loop {
        match due_ns.saturating_sub(now_ns()) {
            0 => return,
            left => Timer::new(Duration::from_nanos(left)).await,
        };
    }
}
