//! The driver's tasks: all of them run inside one task of the runtime that the driver lives on, so no two of them run at once,
//! whatever that runtime does, and they end together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;

use crate::driver::lock::Lock;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) struct Tasks {
    inlet: Lock<Inlet>,
}

#[derive(Default)]
struct Inlet {
    added: Vec<Boxed>,
    /// Of the task that runs them.
    waker: Option<Waker>,
    ended: bool,
}

/// Cancels its task when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it cancels the task"]
pub(crate) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tasks {
    /// Starts a task that runs until it ends, or all do.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut inlet = self.inlet.lock();
        if inlet.ended {
            return;
        }
        inlet.added.push(Box::pin(future));
        let waker = inlet.waker.take();
        drop(inlet);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Starts a task that ends with its handle.
    pub fn spawn_cancellable(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let (handle, registration) = AbortHandle::new_pair();
        let task = Abortable::new(future, registration);
        self.spawn(async move {
            // Cancelled or at its end: it is over.
            let _ = task.await;
        });
        Task(handle)
    }

    /// Runs what is spawned until `end` is called, or this future is dropped; then the rest is dropped.
    pub async fn run(&self) {
        let mut all = FuturesUnordered::new();
        let closing = EndOnDrop(self);
        poll_fn(|context| self.poll(&mut all, context)).await;
        drop(closing);
    }

    /// Ends all tasks.
    pub fn end(&self) {
        let (left, waker) = {
            let mut inlet = self.inlet.lock();
            inlet.ended = true;
            (std::mem::take(&mut inlet.added), inlet.waker.take())
        };
        drop(left);
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, all: &mut FuturesUnordered<Boxed>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            {
                let mut inlet = self.inlet.lock();
                if inlet.ended {
                    return Poll::Ready(());
                }
                all.extend(inlet.added.drain(..));
                if !inlet.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    inlet.waker = Some(context.waker().clone());
                }
            }
            let ended = matches!(all.poll_next_unpin(context), Poll::Ready(Some(())));
            let inlet = self.inlet.lock();
            if !ended && !inlet.ended && inlet.added.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

/// Tasks spawned after the end would be kept by nobody.
struct EndOnDrop<'a>(&'a Tasks);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
