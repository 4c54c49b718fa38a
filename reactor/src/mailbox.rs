//! Bounded queues from any thread to one core.
//!
//! The data goes through a bounded `flume` queue. Its wakers are those of the executor, which rings the core's
//! doorbell only when that core sleeps: a busy receiver costs its senders no system call.
//!
//! Invariant: once the receiver is gone, no value stays in the queue. A value may hold the way back to one who waits
//! for an answer, and only its drop tells that one that there will be none.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A queue for at most `capacity` values (at least one). May be made on any thread.
///
/// The receiver may be moved to the core that will read it. Senders may be used on any thread and any runtime.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = flume::bounded(capacity.max(1));
    let outlet = Arc::new(Outlet { queue: receiver, closed: AtomicBool::new(false) });
    (Sender { queue: sender, outlet: Arc::clone(&outlet) }, Receiver { outlet })
}

/// The receiving end of a queue. Senders share it, because one that puts a value in while the receiver goes must
/// take it out again: `flume` would keep it until the last sender goes.
struct Outlet<T> {
    queue: flume::Receiver<T>,
    closed: AtomicBool,
}

impl<T> Outlet<T> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.drain_if_closed();
    }

    /// Called after every change that may leave a value behind. The queue's lock orders the two sides: either the
    /// receiver's drain finds a sender's value, or that sender sees here that it is closed.
    fn drain_if_closed(&self) {
        while self.is_closed() && self.queue.try_recv().is_ok() {}
    }
}

/// The value could not be put in; here it is again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// No room now: wait with [`Sender::send`], or shed load.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone for good.
    #[error("the mailbox is closed")]
    Closed(T),
}

/// The receiver is gone for good; here is the value again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is closed")]
pub struct Closed<T>(pub T);

/// Puts values in, from any thread.
pub struct Sender<T> {
    queue: flume::Sender<T>,
    outlet: Arc<Outlet<T>>,
}

impl<T> Sender<T> {
    /// Puts `value` in if there is room now. A value whose receiver goes before it has taken it is dropped.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(value));
        }
        let sent = self.queue.try_send(value).map_err(|error| match error {
            flume::TrySendError::Full(value) => TrySendError::Full(value),
            flume::TrySendError::Disconnected(value) => TrySendError::Closed(value),
        });
        self.outlet.drain_if_closed();
        sent
    }

    /// Puts `value` in, waiting for room. Works under any runtime. Dropped early, the value was not put in. If the
    /// receiver goes meanwhile, the value is dropped.
    pub async fn send(&self, value: T) -> Result<(), Closed<T>> {
        if self.is_closed() {
            return Err(Closed(value));
        }
        let sent = self.queue.send_async(value).await.map_err(|error| Closed(error.0));
        self.outlet.drain_if_closed();
        sent
    }

    /// Puts `value` in as [`send`](Sender::send) does, blocking this thread until there is room. Not for a core's
    /// thread.
    pub fn send_blocking(&self, value: T) -> Result<(), Closed<T>> {
        if self.is_closed() {
            return Err(Closed(value));
        }
        let sent = self.queue.send(value).map_err(|error| Closed(error.0));
        self.outlet.drain_if_closed();
        sent
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.outlet.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), outlet: Arc::clone(&self.outlet) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

/// Takes values out, on one core. What is in the queue when it is dropped is dropped with it.
pub struct Receiver<T> {
    outlet: Arc<Outlet<T>>,
}

impl<T> Receiver<T> {
    /// The next value; `None` once all senders are gone and the queue is empty. Safe to drop at any time.
    pub async fn recv(&self) -> Option<T> {
        self.outlet.queue.recv_async().await.ok()
    }

    /// The next value, if one is there now.
    pub fn try_recv(&self) -> Option<T> {
        self.outlet.queue.try_recv().ok()
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.outlet.queue.len()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.outlet.queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.outlet.close();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queued", &self.outlet.queue.len()).finish_non_exhaustive()
    }
}
