//! How an application's thread says "look at this handle's shared state" to the driver, without memory of its own per ring.
//!
//! A handle has at most one ring under way, and one more as it is dropped, so what is gathered here is bounded by the handles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Identifies a producer or consumer within its client.
pub(crate) type HandleId = u64;

#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rung: Vec<HandleId>,
    waker: Option<Waker>,
    removed: bool,
}

impl Doorbell {
    /// False: nobody will ever answer.
    pub fn ring(&self, id: HandleId) -> bool {
        let mut state = self.lock();
        if state.removed {
            return false;
        }
        state.rung.push(id);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Ready when somebody has rung.
    pub fn poll_rung(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.rung.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Puts all who rang into `rung`, which is empty.
    pub fn take_rung(&self, rung: &mut Vec<HandleId>) {
        std::mem::swap(&mut self.lock().rung, rung);
    }

    /// Nobody answers any more.
    pub fn remove(&self) {
        let mut state = self.lock();
        state.removed = true;
        state.rung.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and the state is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the engine look at a handle, from inside.
#[derive(Clone)]
pub(crate) struct Bell {
    pub id: HandleId,
    pub doorbell: Arc<Doorbell>,
}

impl Bell {
    pub fn ring(&self) {
        self.doorbell.ring(self.id);
    }
}

/// What a handle and the driver share.
pub(crate) trait Shared {
    /// The application has let go of its handle. True: the driver is to look.
    fn release(&self) -> bool;
}
