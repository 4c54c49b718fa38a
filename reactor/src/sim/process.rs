//! A process of a simulated machine: a core of its own, which takes turns with the others.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use super::driver::SimDriver;
use super::host::ProcessId;
use super::machine::Machine;
use crate::clock::Instant;
use crate::core::{self, Core};
use crate::driver::Driver;
use crate::runtime::panic_message;
use crate::shared::{MainWaker, Shared};
use crate::slab::Key;

type Main = Pin<Box<dyn Future<Output = ()>>>;

/// How a process ends.
#[derive(Debug, Clone)]
pub(super) enum End {
    Returned,
    Killed,
    PowerFailed,
    Panicked(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Returned => f.write_str("has no process any more: it ended by itself"),
            End::Killed => f.write_str("has its process killed"),
            End::PowerFailed => f.write_str("has no power any more"),
            End::Panicked(message) => write!(f, "has its process panic: {message}"),
        }
    }
}

/// See the head of this file.
pub(super) struct Process {
    id: ProcessId,
    core: Rc<Core>,
    /// None for the process whose main future the caller of the simulation holds.
    main: RefCell<Option<Main>>,
    woken: Arc<MainWaker>,
    waker: Waker,
    /// How many more polls it may have, and what happens then.
    budget: RefCell<Option<(u64, End)>>,
    /// One of its tasks runs right now, so it cannot be torn down.
    is_polled: Cell<bool>,
    /// It is to end as soon as that task lets go.
    doomed: RefCell<Option<End>>,
}

impl Process {
    pub(super) fn new(
        machine: Rc<Machine>,
        id: ProcessId,
        main: Option<impl Future<Output = ()> + 'static>,
    ) -> Process {
        let core = Core::new(Arc::new(Shared::new(None)), Driver::Sim(SimDriver::new(machine)));
        let woken = Arc::new(MainWaker::new(Arc::clone(core.shared())));
        Process {
            id,
            core: Rc::new(core),
            main: RefCell::new(main.map(|main| Box::pin(main) as Main)),
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            budget: RefCell::default(),
            is_polled: Cell::new(false),
            doomed: RefCell::default(),
        }
    }

    pub(super) fn id(&self) -> ProcessId {
        self.id
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// How many of its tasks can run, the main future among them.
    pub(super) fn ready(&self) -> usize {
        self.core.executor().accept(self.core.shared());
        self.core.executor().ready() + usize::from(self.woken.is_woken())
    }

    /// Takes one of them out; `None` is the main future.
    pub(super) fn pick(&self, choice: usize) -> Option<Runnable> {
        let picked = self.core.executor().pick(choice);
        if picked.is_none() {
            self.woken.take();
        }
        picked
    }

    /// Runs one task. If that, or what was asked of the process meanwhile, is its end: how it ends.
    pub(super) fn poll(&self, task: Option<Runnable>) -> Option<End> {
        if let Some(end) = self.spend() {
            core::visit(&self.core, || drop(task));
            return Some(end);
        }
        self.is_polled.set(true);
        let polled = core::visit(&self.core, || {
            catch_unwind(AssertUnwindSafe(|| match task {
                Some(task) => {
                    task.run();
                    false
                }
                None => self.poll_main(),
            }))
        });
        self.is_polled.set(false);
        match polled {
            Err(panic) => Some(End::Panicked(panic_message(&*panic as &(dyn Any + Send)))),
            Ok(true) => Some(End::Returned),
            Ok(false) => self.doomed.take(),
        }
    }

    /// True once the main future has ended.
    fn poll_main(&self) -> bool {
        let mut main = self.main.borrow_mut();
        let Some(future) = main.as_mut() else { return false };
        future.as_mut().poll(&mut self.context()) == Poll::Ready(())
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Takes one poll off the budget; its end if none is left.
    fn spend(&self) -> Option<End> {
        let mut budget = self.budget.borrow_mut();
        let (left, _) = budget.as_mut()?;
        if *left == 0 {
            return budget.take().map(|(_, end)| end);
        }
        *left -= 1;
        None
    }

    pub(super) fn end_after(&self, polls: u64, end: End) {
        *self.budget.borrow_mut() = Some((polls, end));
    }

    /// Whether it cannot end right now, because one of its tasks asks for it. It ends when that task lets go.
    pub(super) fn defers(&self, end: &End) -> bool {
        if self.is_polled.get() {
            *self.doomed.borrow_mut() = Some(end.clone());
        }
        self.is_polled.get()
    }

    /// Fires timers, closes what was dropped, and ends what was cancelled.
    pub(super) fn settle(&self, now: u64, paused: bool) {
        let due = !paused && self.next_deadline().is_some_and(|deadline| deadline <= now);
        if !due && !self.core.is_unsettled() {
            return;
        }
        core::visit(&self.core, || {
            if due {
                self.core.fire_timers();
            }
            self.core.close_dropped();
            self.core.complete();
        });
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.core.next_deadline().map(Instant::as_nanos)
    }

    /// An operation gets on.
    pub(super) fn complete(&self, key: Key) {
        core::visit(&self.core, || {
            self.core.driver().borrow_mut().due(key);
            self.core.complete();
        });
    }

    /// Drops everything. Only for a process that its host has let go of.
    pub(super) fn tear_down(&self) {
        core::visit(&self.core, || {
            let main = self.main.take();
            drop(main);
            self.core.end();
        });
    }
}
