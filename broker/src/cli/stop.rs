//! What ends `produce` and `consume` before they are done: a signal, a reader of standard output that is gone, a record
//! that failed.
//!
//! Invariants:
//! - The first signal lets the command bring to an end what it has begun: acks are awaited, what was read is printed. A
//!   second one ends the process at once, and so does the end of the grace, where the command has one.
//! - The first reason is the one that counts.

use std::future::poll_fn;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use ringlog_reactor::now;
use ringlog_reactor::signal::{self, Signal};
use ringlog_reactor::stdio;

use super::failure::Failure;

/// Signals so soon after the first one are the same wish: timeout(1) sends one to the process and one to its group.
const SAME_SIGNAL_WITHIN: Duration = Duration::from_millis(300);

/// Why a command stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user, or the system, wants it.
    Signal(Signal),
    /// What reads our output is gone.
    OutputClosed,
    /// A record was not acknowledged.
    RecordFailed,
}

/// Shared between the thread that works and those that watch.
#[derive(Clone, Default)]
pub struct Stop {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    waker: Option<Waker>,
}

impl Stop {
    /// Watches for signals from now on. Call it before any thread is started. With a grace, the process ends so long after the
    /// first signal, whatever it is doing then.
    pub fn at_signals(grace: Option<Duration>) -> Result<Stop, Failure> {
        let failure = |error| Failure::said(format!("cannot watch for signals: {error}"));
        signal::block_termination().map_err(failure)?;
        let stop = Stop::default();
        let raised = stop.clone();
        let watch = move || {
            let Ok(first) = signal::wait_for_termination() else { return };
            let first_at = now();
            raised.raise(Reason::Signal(first));
            if let Some(grace) = grace {
                let end = move || {
                    thread::sleep(grace);
                    process::exit(first.exit_code().into());
                };
                // Without a thread for it there is no grace, and a second signal still works.
                let _ = thread::Builder::new().name("grace".to_owned()).spawn(end);
            }
            while let Ok(second) = signal::wait_for_termination() {
                if now() - first_at > SAME_SIGNAL_WITHIN {
                    process::exit(second.exit_code().into());
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failure)?;
        Ok(stop)
    }

    /// Watches for the end of what reads our standard output, from now on: a command that has nothing to print does not
    /// notice it otherwise.
    pub fn when_output_closes(&self) -> Result<(), Failure> {
        let stop = self.clone();
        let watch = move || {
            if stdio::wait_until_output_closes().is_ok() {
                stop.raise(Reason::OutputClosed);
            }
        };
        let started = thread::Builder::new().name("output".to_owned()).spawn(watch);
        started.map(drop).map_err(|error| Failure::said(format!("cannot start a thread: {error}")))
    }

    /// Says that the command must stop.
    pub fn raise(&self, reason: Reason) {
        let waker = {
            let mut state = self.lock();
            state.reason.get_or_insert(reason);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Why the command must stop, if it must.
    pub fn reason(&self) -> Option<Reason> {
        self.lock().reason
    }

    /// Waits for a reason to stop. One waits at a time.
    pub async fn raised(&self) -> Reason {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.reason {
                Some(reason) => Poll::Ready(reason),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for `future`, or for a reason to stop, which comes first if both are there.
pub async fn unless_stopped<F: Future>(stop: &Stop, future: F) -> Result<F::Output, Reason> {
    let mut future = std::pin::pin!(future);
    let mut raised = std::pin::pin!(stop.raised());
    poll_fn(|context| {
        if let Poll::Ready(reason) = raised.as_mut().poll(context) {
            return Poll::Ready(Err(reason));
        }
        future.as_mut().poll(context).map(Ok)
    })
    .await
}
