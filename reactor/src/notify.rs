//! Waking within one core.
//!
//! Invariant: a [`Notified`] resolves for every [`Notify::notify_all`] after its *creation*, polled or not. So
//! "make the future, check the condition, await" cannot lose a wake-up.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::slab::{Key, Slab};

#[derive(Default)]
struct State {
    /// How many times everybody was notified.
    round: u64,
    waiting: Slab<Waker>,
    /// Empty; its memory is that of the last round.
    spare: Vec<Waker>,
}

/// Wakes all who wait, on one core. Clones are handles to the same thing.
#[derive(Clone, Default)]
pub struct Notify {
    state: Rc<RefCell<State>>,
}

impl Notify {
    /// Nobody waits yet.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Resolves every [`Notified`] made so far.
    pub fn notify_all(&self) {
        let mut woken = {
            let state = &mut *self.state.borrow_mut();
            state.round += 1;
            if state.waiting.is_empty() {
                return;
            }
            state.waiting.take_all(&mut state.spare);
            std::mem::take(&mut state.spare)
        };
        // Outside the borrow: a waker may run code that comes back here.
        woken.drain(..).for_each(Waker::wake);
        self.state.borrow_mut().spare = woken;
    }

    /// A future that resolves at the next [`notify_all`](Notify::notify_all) after this call.
    pub fn notified(&self) -> Notified {
        Notified { state: Rc::clone(&self.state), round: self.state.borrow().round, registered: None }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Notify").field("round", &state.round).field("waiting", &state.waiting.len()).finish()
    }
}

/// See [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Notified {
    state: Rc<RefCell<State>>,
    round: u64,
    registered: Option<Key>,
}

impl Future for Notified {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let waker = cx.waker().clone();
        let mut state = this.state.borrow_mut();
        if state.round != this.round {
            this.registered = None;
            return Poll::Ready(());
        }
        match this.registered.and_then(|key| state.waiting.get_mut(key)) {
            Some(slot) => *slot = waker,
            None => this.registered = Some(state.waiting.insert(waker)),
        }
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        if let Some(key) = self.registered {
            let waker = self.state.borrow_mut().waiting.remove(key);
            drop(waker);
        }
    }
}

impl fmt::Debug for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").field("round", &self.round).finish_non_exhaustive()
    }
}
