//! The tasks of one core.
//!
//! Invariants:
//! - A task's future is polled and dropped on the thread of its core, whoever wakes it. A wake from another thread
//!   only carries the task into [`Shared`].
//! - When a core ends, it drops the futures of all its tasks before it lets go of anything else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use crate::core;
use crate::shared::Shared;
use crate::slab::{Key, Slab};

#[derive(Default)]
pub(crate) struct Executor {
    ready: RefCell<VecDeque<Runnable>>,
    /// One waker for each task whose future is alive, so that the end of the core can reach them all.
    alive: RefCell<Slab<Waker>>,
}

impl Executor {
    fn push(&self, runnable: Runnable) {
        self.ready.borrow_mut().push_back(runnable);
    }

    pub(crate) fn pop(&self) -> Option<Runnable> {
        self.ready.borrow_mut().pop_front()
    }

    /// Takes any ready task out: the simulation's choice.
    pub(crate) fn pick(&self, index: usize) -> Option<Runnable> {
        self.ready.borrow_mut().swap_remove_back(index)
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Takes the tasks that other threads woke.
    pub(crate) fn accept(&self, shared: &Shared) {
        shared.take_woken(&mut self.ready.borrow_mut());
    }

    /// Drops every task. Called on the core's thread, which is still the current core.
    pub(crate) fn drop_all(&self, shared: &Shared) {
        loop {
            self.accept(shared);
            while let Some(runnable) = self.pop() {
                drop(runnable);
            }
            let alive = self.alive.borrow().keys();
            if alive.is_empty() {
                return;
            }
            for key in alive {
                let waker = self.alive.borrow_mut().get_mut(key).map(|waker| waker.clone());
                waker.inspect(Waker::wake_by_ref);
            }
            if self.ready() == 0 {
                // Another thread has claimed the wake-up of each and is about to put it into `shared`.
                std::thread::yield_now();
            }
        }
    }
}

/// Counts a task as alive until its future is dropped.
struct Alive {
    key: Rc<RefCell<Option<Key>>>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let Some(key) = self.key.borrow_mut().take() else { return };
        let waker = core::try_with(|core| core.executor().alive.borrow_mut().remove(key));
        drop(waker);
    }
}

/// Starts a task on the current core. It begins to run in a later step of the loop, not inside this call.
///
/// # Panics
/// If this thread is no core.
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    core::with(|core| {
        let shared = Arc::clone(core.shared());
        let schedule = move |runnable| schedule(&shared, runnable);
        let alive = Alive { key: Rc::new(RefCell::new(None)) };
        let slot = Rc::clone(&alive.key);
        let tracked = async move {
            let _alive = alive;
            future.await
        };
        // SAFETY: the four conditions of `spawn_unchecked`. (1) The future may be `!Send`, so its `Runnable` must
        // be run and dropped on this thread: `schedule` puts it either into this thread's queue or into `Shared`,
        // whose content only this core takes out, and `drop_all` empties both on this thread before the core
        // ends; it returns only when no future is alive, and without a live future there is no more `Runnable`.
        // (2) The future is `'static`. (3) `schedule` captures only an `Arc<Shared>`, which is `Send + Sync`, and
        // (4) is `'static`.
        let (runnable, task) = unsafe { async_task::spawn_unchecked(tracked, schedule) };
        let key = core.executor().alive.borrow_mut().insert(runnable.waker());
        *slot.borrow_mut() = Some(key);
        core.executor().push(runnable);
        Task { inner: task, local: PhantomData }
    })
}

/// Queues a woken task: directly on its own thread, through [`Shared`] from any other.
fn schedule(shared: &Arc<Shared>, runnable: Runnable) {
    let mut runnable = Some(runnable);
    core::try_with(|core| {
        if Arc::ptr_eq(core.shared(), shared)
            && let Some(runnable) = runnable.take()
        {
            core.executor().push(runnable);
        }
    });
    if let Some(runnable) = runnable {
        shared.inject(runnable);
    }
}

/// A spawned task. Await it for its output; drop it to cancel the task; [`detach`](Task::detach) it to let it run.
#[derive(Debug)]
#[must_use = "dropping a task cancels it: await it or detach it"]
pub struct Task<T> {
    inner: async_task::Task<T>,
    local: PhantomData<Rc<()>>,
}

impl<T> Task<T> {
    /// Lets the task run on by itself until it, or the core, ends.
    pub fn detach(self) {
        self.inner.detach();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// Stops the task and waits until its future is dropped; its output, if it had already ended.
    pub async fn cancel(self) -> Option<T> {
        self.inner.cancel().await
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Lets every task that is ready now go first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
