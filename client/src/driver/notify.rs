//! Waking the driver's tasks, under any runtime.
//!
//! Invariant: a [`Notified`] resolves for every [`Notify::notify_all`] after its *creation*, polled or not. So
//! "make the future, check the condition, await" cannot lose a wake-up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::lock::Lock;

/// Wakes all who wait.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many times everybody was notified.
    round: u64,
    last_id: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Notify {
    /// Nobody waits yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves every [`Notified`] made so far.
    pub fn notify_all(&self) {
        let mut woken = {
            let mut state = self.state.lock();
            state.round += 1;
            if state.waiting.is_empty() {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        // Outside the lock: a waker may run code that comes back here.
        woken.drain(..).for_each(|(_, waker)| waker.wake());
        let mut state = self.state.lock();
        if state.waiting.capacity() == 0 {
            // The next one who waits needs no memory of its own.
            state.waiting = woken;
        }
    }

    /// A future that resolves at the next [`notify_all`](Notify::notify_all) after this call.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, round: self.state.lock().round, id: None }
    }
}

/// See [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    round: u64,
    id: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.notify.state.lock();
        if state.round != this.round {
            this.id = None;
            return Poll::Ready(());
        }
        match this.id {
            Some(id) => {
                let mine = state.waiting.iter_mut().find(|(other, _)| *other == id);
                mine.into_iter().for_each(|(_, waker)| waker.clone_from(context.waker()));
            }
            None => {
                state.last_id += 1;
                let id = state.last_id;
                state.waiting.push((id, context.waker().clone()));
                this.id = Some(id);
            }
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.notify.state.lock().waiting.retain(|(other, _)| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(notified: &mut Notified<'_>) -> Poll<()> {
        Pin::new(notified).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_notice_between_creation_and_the_first_poll_is_not_lost() {
        let notify = Notify::new();
        let mut notified = notify.notified();
        notify.notify_all();
        assert!(poll(&mut notified).is_ready());
        assert!(poll(&mut notify.notified()).is_pending());
    }

    #[test]
    fn one_who_does_not_wait_any_more_is_forgotten() {
        let notify = Notify::new();
        let (mut gone, mut stays) = (notify.notified(), notify.notified());
        assert!(poll(&mut gone).is_pending() && poll(&mut stays).is_pending());
        drop(gone);
        assert_eq!(notify.state.lock().waiting.len(), 1);
        notify.notify_all();
        assert!(poll(&mut stays).is_ready());
    }
}
