//! The part of a core that other threads touch: the queue of tasks they woke, and the doorbell.
//!
//! Invariant (no lost wake-up): a waker first queues the task, then sets `pending`, then reads `sleeping`; the
//! core first sets `sleeping`, then reads `pending`, then sleeps. All four are `SeqCst`, so at least one of the
//! two sees the other: either the core does not sleep, or the waker rings.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use async_task::Runnable;

use crate::sys;

pub(crate) struct Shared {
    /// Tasks woken by other threads. They are only carried here: the owner alone runs and drops them.
    woken: Mutex<Vec<Runnable>>,
    /// Something happened that the core has not looked at: `woken` is not empty, or its main future was woken.
    pending: AtomicBool,
    /// The core is about to sleep, or sleeps, in the kernel.
    sleeping: AtomicBool,
    /// An eventfd that the core's ring reads; a simulated core has none, for it never sleeps.
    doorbell: Option<OwnedFd>,
}

impl Shared {
    pub(crate) fn new(doorbell: Option<OwnedFd>) -> Shared {
        Shared {
            woken: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            doorbell,
        }
    }

    pub(crate) fn doorbell(&self) -> Option<RawFd> {
        self.doorbell.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Hands a task to the core from another thread.
    pub(crate) fn inject(&self, runnable: Runnable) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(runnable);
        self.alert();
    }

    /// Makes the core look at what is pending, ringing only if it sleeps.
    fn alert(&self) {
        self.pending.store(true, SeqCst);
        if self.sleeping.swap(false, SeqCst)
            && let Some(doorbell) = &self.doorbell
        {
            sys::ring_eventfd(doorbell);
        }
    }

    /// Whether the core may sleep now; if so it counts as sleeping until [`Shared::awake`].
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        if self.pending.load(SeqCst) {
            self.sleeping.store(false, SeqCst);
            return false;
        }
        true
    }

    pub(crate) fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Moves the tasks woken since the last call to `ready`.
    pub(crate) fn take_woken(&self, ready: &mut VecDeque<Runnable>) {
        // Cleared before the queue is read: what comes after is seen next time.
        if self.pending.load(SeqCst) && self.pending.swap(false, SeqCst) {
            ready.extend(self.woken.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        }
    }
}

/// The waker of the future that was given to `run`.
pub(crate) struct MainWaker {
    woken: AtomicBool,
    shared: Arc<Shared>,
}

impl MainWaker {
    /// Born woken: the first poll needs no cause.
    pub(crate) fn new(shared: Arc<Shared>) -> MainWaker {
        MainWaker { woken: AtomicBool::new(true), shared }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(SeqCst)
    }

    pub(crate) fn take(&self) -> bool {
        self.woken.swap(false, SeqCst)
    }
}

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        self.shared.alert();
    }
}
