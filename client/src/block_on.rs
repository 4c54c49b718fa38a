//! Waiting for a future from blocking code: the calling thread is parked until the future's waker unparks it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use ringlog_reactor::{Instant, now};

/// A thread that waits. The flag tells a wake-up that is meant for this wait from others that unpark the thread.
struct Unparker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs `future` to its end on the calling thread, which sleeps while there is nothing to do.
///
/// Every future of this crate can be waited for in this way; no runtime is needed. Do not call it from
/// inside an async task: it blocks that task's whole thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    wait(future, None).expect("without a time-out it waits until the future is ready")
}

/// As [`block_on`], but waits at most for `timeout`. `None`: the time has passed, and the future was dropped.
pub fn block_on_timeout<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    wait(future, Some(timeout))
}

fn wait<F: Future>(future: F, timeout: Option<Duration>) -> Option<F::Output> {
    let unparker = Arc::new(Unparker { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unparker));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    // What the first look at the future takes is not waited.
    let mut deadline: Option<Instant> = None;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // A wake-up between the look at the flag and the park is not lost: unpark leaves a token that makes park return at once.
        while !unparker.woken.swap(false, Ordering::Acquire) {
            let Some(timeout) = timeout else {
                thread::park();
                continue;
            };
            let now = now();
            let deadline = *deadline.get_or_insert(now + timeout);
            if deadline <= now {
                return None;
            }
            thread::park_timeout(deadline - now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_ends_a_wait_and_not_what_is_ready() {
        let never = std::future::pending::<()>();
        assert_eq!(block_on_timeout(Duration::from_millis(1), never), None);
        assert_eq!(block_on_timeout(Duration::ZERO, std::future::ready(7)), Some(7));
    }

    #[test]
    fn a_future_that_another_thread_completes_is_waited_for() {
        let (sender, receiver) = flume::bounded(1);
        let other = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver.recv_async()), Ok(7));
        assert!(other.join().is_ok());
    }

    #[test]
    fn a_wait_inside_another_does_not_eat_its_wake_up() {
        let (outer_sender, outer) = flume::bounded(1);
        let (inner_sender, inner) = flume::bounded(1);
        let mut first = true;
        let result = block_on(async {
            let mut outer = std::pin::pin!(outer.recv_async());
            std::future::poll_fn(|context| {
                let state = outer.as_mut().poll(context);
                if std::mem::take(&mut first) {
                    // The outer future is woken while the inner one is waited for.
                    let (outer_sender, inner_sender) = (outer_sender.clone(), inner_sender.clone());
                    thread::spawn(move || outer_sender.send(1).and_then(|()| inner_sender.send(2)));
                    assert_eq!(block_on(inner.recv_async()), Ok(2));
                }
                state
            })
            .await
        });
        assert_eq!(result, Ok(1));
    }
}
