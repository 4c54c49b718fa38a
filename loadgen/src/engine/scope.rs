//! Ending tasks of a worker from outside: a guarded future is dropped when its scope ends.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A group of tasks that end together. Clones are handles to the same group.
#[derive(Clone, Default)]
pub struct Scope {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: Cell<bool>,
    wakers: RefCell<Vec<Option<Waker>>>,
}

impl Scope {
    /// Ends every guarded future at its next poll, and wakes them all for that.
    pub fn end(&self) {
        self.shared.ended.set(true);
        let wakers = self.shared.wakers.take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The output of `future`, or none if the scope ended first.
    pub fn guard<F: Future>(&self, future: F) -> Guarded<F> {
        let mut wakers = self.shared.wakers.borrow_mut();
        wakers.push(None);
        Guarded { shared: Rc::clone(&self.shared), slot: wakers.len() - 1, future: Some(Box::pin(future)) }
    }
}

/// See [`Scope::guard`].
pub struct Guarded<F> {
    shared: Rc<Shared>,
    slot: usize,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.ended.get() {
            self.future = None;
        }
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if let Some(slot) = self.shared.wakers.borrow_mut().get_mut(self.slot) {
            match slot {
                Some(waker) => waker.clone_from(context.waker()),
                None => *slot = Some(context.waker().clone()),
            }
        }
        Poll::Pending
    }
}
