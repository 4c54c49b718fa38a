//! Bounded queues from any thread to one core.
//!
//! The data goes through a bounded `flume` queue. Its wakers are those of the executor, which rings the core's
//! doorbell only when that core sleeps: a busy receiver costs its senders no system call.

use std::fmt;

/// A queue for at most `capacity` values (at least one). May be made on any thread.
///
/// The receiver may be moved to the core that will read it. Senders may be used on any thread and any runtime.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = flume::bounded(capacity.max(1));
    (Sender { queue: sender }, Receiver { queue: receiver })
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
}

impl<T> Sender<T> {
    /// Puts `value` in if there is room now.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.queue.try_send(value).map_err(|error| match error {
            flume::TrySendError::Full(value) => TrySendError::Full(value),
            flume::TrySendError::Disconnected(value) => TrySendError::Closed(value),
        })
    }

    /// Puts `value` in, waiting for room. Works under any runtime. Dropped early, the value was not put in.
    pub async fn send(&self, value: T) -> Result<(), Closed<T>> {
        self.queue.send_async(value).await.map_err(|error| Closed(error.0))
    }

    /// Puts `value` in, blocking this thread until there is room. Not for a core's thread.
    pub fn send_blocking(&self, value: T) -> Result<(), Closed<T>> {
        self.queue.send(value).map_err(|error| Closed(error.0))
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.queue.is_disconnected()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

/// Takes values out, on one core.
pub struct Receiver<T> {
    queue: flume::Receiver<T>,
}

impl<T> Receiver<T> {
    /// The next value; `None` once all senders are gone and the queue is empty. Safe to drop at any time.
    pub async fn recv(&self) -> Option<T> {
        self.queue.recv_async().await.ok()
    }

    /// The next value, if one is there now.
    pub fn try_recv(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}
