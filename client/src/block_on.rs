//! Waiting for a future from blocking code: the calling thread is parked until the future's waker unparks it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unparker(Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end on the calling thread, which sleeps while there is nothing to do.
///
/// Every future of this crate can be waited for in this way; no runtime is needed. Do not call it from
/// inside an async task: it blocks that task's whole thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparker(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake-up between poll and park is not lost: unpark leaves a token that makes park return at once.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_another_thread_completes_is_waited_for() {
        let (sender, receiver) = flume::bounded(1);
        let other = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver.recv_async()), Ok(7));
        assert!(other.join().is_ok());
    }
}
