//! The driver's timers: one timer of the runtime, set for the soonest of them.
//!
//! Invariant: a timer never fires early. How late it fires is the runtime's matter: tokio's clock ticks in milliseconds.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ringlog_reactor::{Instant, now};

use crate::driver::lock::Lock;
use crate::driver::notify::Notify;

#[derive(Default)]
pub(crate) struct Timers {
    state: Lock<State>,
    /// There is another soonest deadline, or this is the end.
    pub changed: Notify,
}

#[derive(Default)]
struct State {
    last_id: u64,
    /// Soonest first; equal deadlines in the order they were set.
    waiting: BTreeMap<(Instant, u64), Waker>,
    ended: bool,
}

/// When the keeper of the timers must look again, if they do not change before.
pub(crate) enum Look {
    At(Instant),
    WhenChanged,
    NeverAgain,
}

impl Timers {
    /// Waits until `deadline`.
    pub fn sleep_until(self: &Arc<Self>, deadline: Instant) -> Sleep {
        Sleep { timers: Arc::clone(self), deadline, id: None }
    }

    /// Wakes who is due.
    pub fn fire(&self) -> Look {
        loop {
            let due = {
                let mut state = self.state.lock();
                if state.ended {
                    return Look::NeverAgain;
                }
                match state.waiting.first_entry() {
                    None => return Look::WhenChanged,
                    Some(first) if first.key().0 > now() => return Look::At(first.key().0),
                    Some(first) => first.remove(),
                }
            };
            due.wake();
        }
    }

    /// Lets the keeper go.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    fn set(&self, deadline: Instant, id: Option<u64>, waker: Waker) -> u64 {
        let mut state = self.state.lock();
        let id = id.unwrap_or_else(|| {
            state.last_id += 1;
            state.last_id
        });
        let replaced = state.waiting.insert((deadline, id), waker);
        let is_first = state.waiting.first_key_value().is_some_and(|(key, _)| *key == (deadline, id));
        drop(state);
        if is_first && replaced.is_none() {
            self.changed.notify_all();
        }
        id
    }
}

/// See [`Timers::sleep_until`].
#[must_use = "a future does nothing unless it is awaited"]
pub(crate) struct Sleep {
    timers: Arc<Timers>,
    deadline: Instant,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if now() >= self.deadline {
            return Poll::Ready(());
        }
        let id = self.timers.set(self.deadline, self.id, context.waker().clone());
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.timers.state.lock().waiting.remove(&(self.deadline, id));
            drop(waker);
        }
    }
}
