//! The core of this thread: what ties executor, timers, operations and driver together.
//!
//! Invariants:
//! - No cell of a core stays borrowed while foreign code runs: wakers are woken, and values dropped, outside.
//! - A core is current whenever its tasks are polled or dropped, and while its last operations complete. A real core is
//!   so all its life; the cores of a simulation take turns.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::clock::{Instant, Random, now};
use crate::driver::Driver;
use crate::executor::Executor;
use crate::op::{Aftermath, Entry, Event, Op};
use crate::shared::Shared;
use crate::sim::Machine;
use crate::slab::{Key, Slab};
use crate::timer::Timers;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Calls `f` with the current core.
///
/// # Panics
/// If this thread is no core: the reactor's API must be used inside `run`, `launch` or a simulation.
pub(crate) fn with<R>(f: impl FnOnce(&Core) -> R) -> R {
    try_with(f).expect("this must be called on a core: inside run, launch or a simulation")
}

/// Calls `f` with the current core, if there is one.
pub(crate) fn try_with<R>(f: impl FnOnce(&Core) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_deref().map(f)).ok().flatten()
}

/// Makes `core` this thread's core until the result is dropped.
///
/// # Panics
/// If the thread is a core already.
pub(crate) fn enter(core: Rc<Core>) -> Entered {
    CURRENT.with(|current| {
        let mut current = current.borrow_mut();
        assert!(current.is_none(), "this thread is a core already");
        *current = Some(Rc::clone(&core));
    });
    Entered { core }
}

/// The current core of this thread; its end is the end of all tasks and operations.
pub(crate) struct Entered {
    core: Rc<Core>,
}

impl Entered {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.core.end();
        let core = CURRENT.with(|current| current.borrow_mut().take());
        drop(core);
    }
}

/// Calls `f` with `core` as this thread's core, whichever it was before: the cores of a simulation take turns.
pub(crate) fn visit<R>(core: &Rc<Core>, f: impl FnOnce() -> R) -> R {
    let before = CURRENT.with(|current| current.replace(Some(Rc::clone(core))));
    let _back = Back { before };
    f()
}

/// Puts back the core that was current before, after a panic too.
struct Back {
    before: Option<Rc<Core>>,
}

impl Drop for Back {
    fn drop(&mut self) {
        let before = self.before.take();
        let visited = CURRENT.with(|current| current.replace(before));
        drop(visited);
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Core {
    id: u64,
    shared: Arc<Shared>,
    executor: Executor,
    timers: RefCell<Timers>,
    ops: RefCell<Slab<Entry>>,
    driver: RefCell<Driver>,
    /// Descriptors to close; kept apart because descriptors are dropped in all sorts of places.
    closing: RefCell<Vec<RawFd>>,
    random: Random,
    machine: Option<Rc<Machine>>,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, driver: Driver) -> Core {
        let machine = driver.machine();
        let random = match &machine {
            Some(machine) => Random::new(machine.world().random().next()),
            None => Random::from_entropy(),
        };
        Core {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            shared,
            executor: Executor::default(),
            timers: RefCell::default(),
            ops: RefCell::default(),
            driver: RefCell::new(driver),
            closing: RefCell::default(),
            random,
            machine,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn timers(&self) -> &RefCell<Timers> {
        &self.timers
    }

    pub(crate) fn driver(&self) -> &RefCell<Driver> {
        &self.driver
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.next()
    }

    /// The simulated machine this core runs on, if it is none of the real ones.
    pub(crate) fn machine(&self) -> Option<&Rc<Machine>> {
        self.machine.as_ref()
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn simulated_nanos(&self) -> Option<u64> {
        self.machine.as_ref().map(|machine| machine.world().nanos())
    }

    /// Starts an operation.
    pub(crate) fn start(&self, op: Op) -> Key {
        let mut ops = self.ops.borrow_mut();
        let key = ops.insert(Entry::new(op));
        let entry = ops.get_mut(key).expect("it was inserted just now");
        self.driver.borrow_mut().start(key, &mut entry.op);
        key
    }

    pub(crate) fn poll_single(&self, key: Key, cx: &Context<'_>) -> Poll<(i32, Op)> {
        let waker = cx.waker().clone();
        let mut ops = self.ops.borrow_mut();
        let entry = ops.get_mut(key).expect("an operation stays in the table until it is taken");
        let Some(result) = entry.outcome() else {
            let replaced = entry.wait(waker);
            drop(ops);
            drop(replaced);
            return Poll::Pending;
        };
        let entry = ops.remove(key).expect("it was found just now");
        Poll::Ready((result, entry.into_op()))
    }

    pub(crate) fn poll_event(&self, key: Key, cx: &Context<'_>) -> Poll<Event> {
        let waker = cx.waker().clone();
        let mut ops = self.ops.borrow_mut();
        let entry = ops.get_mut(key).expect("an operation stays in the table until it is taken");
        if let Some(item) = entry.next_item() {
            return Poll::Ready(Event::Item(item));
        }
        if let Some(result) = entry.outcome() {
            let ended = ops.remove(key);
            drop(ops);
            drop(ended);
            return Poll::Ready(Event::Ended(result));
        }
        let replaced = entry.wait(waker);
        drop(ops);
        drop(replaced);
        Poll::Pending
    }

    /// Stops `key` early if that is possible. It stays in the table until it has ended and was looked at.
    pub(crate) fn cancel(&self, key: Key) {
        let begin = self.ops.borrow_mut().get_mut(key).is_some_and(Entry::begin_cancel);
        if begin {
            self.driver.borrow_mut().cancel(key);
        }
    }

    /// Nobody waits for `key` any more: stops it if that is possible, and forgets it when it has completed.
    pub(crate) fn abandon(&self, key: Key) {
        let mut ops = self.ops.borrow_mut();
        let Some(entry) = ops.get_mut(key) else { return };
        let (completed, waker, unread) = entry.abandon();
        let cancel = entry.begin_cancel();
        let finished = if completed { ops.remove(key) } else { None };
        drop(ops);
        drop((finished, waker, unread));
        if cancel {
            self.driver.borrow_mut().cancel(key);
        }
    }

    pub(crate) fn close_later(&self, fd: RawFd) {
        self.closing.borrow_mut().push(fd);
    }

    /// Hands the descriptors dropped so far to the driver.
    pub(crate) fn close_dropped(&self) {
        let mut closing = self.closing.borrow_mut();
        if closing.is_empty() {
            return;
        }
        let mut driver = self.driver.borrow_mut();
        closing.drain(..).for_each(|fd| driver.close(fd));
    }

    /// Wakes what the driver has completed. True if there was anything.
    pub(crate) fn complete(&self) -> bool {
        self.driver.borrow_mut().reap();
        let mut any = false;
        while let Some(aftermath) = self.complete_next() {
            any = true;
            drop(aftermath.refused);
            if let Some(waker) = aftermath.waker {
                waker.wake();
            }
        }
        any
    }

    fn complete_next(&self) -> Option<Aftermath> {
        let mut ops = self.ops.borrow_mut();
        let mut driver = self.driver.borrow_mut();
        let completion = driver.next_completion(&mut ops)?;
        let key = completion.key;
        // The entry of every completion is there: an operation is taken out only after its last one.
        let entry = ops.get_mut(key).expect("an operation stays in the table until its last completion");
        let aftermath = entry.apply(completion);
        if aftermath.cancel {
            driver.cancel(key);
        }
        let finished = if aftermath.remove { ops.remove(key) } else { None };
        drop((ops, driver));
        drop(finished);
        Some(aftermath)
    }

    /// Wakes the timers whose time has come.
    pub(crate) fn fire_timers(&self) {
        if self.next_deadline().is_none() {
            return;
        }
        let now = now();
        loop {
            let due = self.timers.borrow_mut().pop_due(now);
            let Some(waker) = due else { return };
            waker.wake();
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow().next_deadline()
    }

    /// Whether a turn would find closes or completions to deal with, as far as the core knows by itself.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.closing.borrow().is_empty() || self.driver.borrow().has_ending()
    }

    /// Drops every task and ends every operation. The core must be current.
    pub(crate) fn end(&self) {
        self.executor.drop_all(&self.shared);
        self.drain();
    }

    /// Stops everything that is in flight and waits for its end, so that memory and ring may be freed.
    fn drain(&self) {
        let keys = self.ops.borrow().keys();
        for key in keys {
            self.cancel(key);
        }
        self.driver.borrow_mut().begin_drain(&mut self.ops.borrow_mut());
        self.close_dropped();
        loop {
            let drained = self.driver.borrow_mut().drain_turn();
            self.complete();
            self.close_dropped();
            if drained && self.closing.borrow().is_empty() {
                return;
            }
        }
    }
}
