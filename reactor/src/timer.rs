//! Timers of one core.
//!
//! Invariant: a timer never fires early. It fires in the first turn of the loop after its deadline.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::{Instant, now};
use crate::core;

/// The timers that wait, soonest first; equal deadlines in the order they were set.
#[derive(Default)]
pub(crate) struct Timers {
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
}

impl Timers {
    /// Sets the waker of timer `id`, or of a new timer.
    fn set(&mut self, deadline: Instant, id: Option<u64>, waker: Waker) -> (u64, Option<Waker>) {
        let id = id.unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id
        });
        (id, self.waiting.insert((deadline, id), waker))
    }

    fn is_set(&self, deadline: Instant, id: u64) -> bool {
        self.waiting.contains_key(&(deadline, id))
    }

    fn remove(&mut self, deadline: Instant, id: u64) -> Option<Waker> {
        self.waiting.remove(&(deadline, id))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes out one timer whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let entry = self.waiting.first_entry()?;
        if entry.key().0 <= now { Some(entry.remove()) } else { None }
    }
}

/// Waits for `duration`. Must be awaited on a core.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now() + duration)
}

/// Waits until `deadline`. Must be awaited on a core.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, id: None, core: None, local: PhantomData }
}

/// See [`sleep`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    deadline: Instant,
    id: Option<u64>,
    /// The core on which `id` was given.
    core: Option<u64>,
    local: PhantomData<Rc<()>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let (id, core, replaced) = core::with(|core| {
            let id = self.id.filter(|_| self.core == Some(core.id()));
            let (id, replaced) = core.timers().borrow_mut().set(self.deadline, id, waker);
            (id, core.id(), replaced)
        });
        drop(replaced);
        self.id = Some(id);
        self.core = Some(core);
        Poll::Pending
    }
}

impl Sleep {
    /// Whether it waits among the timers.
    fn is_set(&self) -> bool {
        let Some(id) = self.id else { return false };
        core::with(|core| self.core == Some(core.id()) && core.timers().borrow().is_set(self.deadline, id))
    }

    fn forget(&mut self) {
        let (Some(id), Some(owner)) = (self.id.take(), self.core.take()) else { return };
        let removed = core::try_with(|core| {
            if core.id() == owner { core.timers().borrow_mut().remove(self.deadline, id) } else { None }
        });
        drop(removed);
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Bounds how long each of many futures may take, one after the other, with one timer for all of them: most end long before
/// it would fire, and then it is neither set nor taken back for them. For use in one task.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    /// Set for some earlier future, so it fires no later than the limit of the one that runs.
    alarm: Sleep,
}

impl Watchdog {
    /// Every future may take this long.
    pub fn new(limit: Duration) -> Watchdog {
        Watchdog { limit, alarm: sleep(limit) }
    }

    /// Runs `future` as [`timeout`] does.
    pub async fn watch<F: Future>(&mut self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut end = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let end = *end.get_or_insert_with(|| now() + self.limit);
            if self.alarm.is_set() {
                return Poll::Pending;
            }
            while Pin::new(&mut self.alarm).poll(cx).is_ready() {
                if self.alarm.deadline >= end {
                    return Poll::Ready(Err(Elapsed));
                }
                self.alarm = sleep_until(end);
            }
            Poll::Pending
        })
        .await
    }
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Runs `future` for at most `duration`; then it is dropped and the answer is [`Elapsed`]. If both are ready in
/// the same poll, the future wins.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(duration));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Simulation;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_watchdog_gives_each_future_the_whole_limit() {
        Simulation::new(1).run(async {
            let mut watchdog = Watchdog::new(LIMIT);
            // The timer that was set for the first fires in the middle of the second.
            for seconds in [6, 9, 9] {
                assert_eq!(watchdog.watch(sleep(Duration::from_secs(seconds))).await, Ok(()));
            }
            sleep(LIMIT * 5).await;
            assert_eq!(watchdog.watch(sleep(Duration::from_secs(9))).await, Ok(()));
        });
    }

    #[test]
    fn a_watchdog_ends_the_future_that_takes_too_long() {
        Simulation::new(1).run(async {
            let mut watchdog = Watchdog::new(LIMIT);
            assert_eq!(watchdog.watch(sleep(LIMIT / 2)).await, Ok(()));
            assert_eq!(watchdog.watch(sleep(LIMIT * 2)).await, Err(Elapsed));
            assert_eq!(watchdog.watch(std::future::ready(7)).await, Ok(7));
            assert_eq!(watchdog.watch(std::future::pending::<()>()).await, Err(Elapsed));
        });
    }
}
