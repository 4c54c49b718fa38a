//! A bound on how many of this core's tasks do something at the same time. With one permit it is a lock that may be held
//! across an await.

use std::cell::Cell;
use std::rc::Rc;

use ringlog_reactor::Notify;

use crate::lazy_notify::LazyNotify;

#[derive(Clone)]
pub(crate) struct Permits {
    free: Rc<Cell<usize>>,
    freed: Notify,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Permits {
        Permits { free: Rc::new(Cell::new(count)), freed: Notify::new() }
    }

    /// Waits for a permit; it is given back when it is dropped.
    pub(crate) async fn acquire(&self) -> Permit {
        loop {
            let freed = self.freed.notified();
            if self.free.get() > 0 {
                self.free.set(self.free.get() - 1);
                return Permit { of: self.clone() };
            }
            freed.await;
        }
    }
}

pub(crate) struct Permit {
    of: Permits,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.free.set(self.of.free.get() + 1);
        self.of.freed.notify_all();
    }
}

/// Who works in a partition's folder. After [`Activity::close`] nobody begins to, so the folder can be removed.
#[derive(Default)]
pub(crate) struct Activity {
    working: Cell<usize>,
    closed: Cell<bool>,
    ended: LazyNotify,
}

impl Activity {
    /// Begins to work in the folder, unless it is closed.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Working> {
        if self.closed.get() {
            return None;
        }
        self.working.set(self.working.get() + 1);
        Some(Working { of: Rc::clone(self) })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }

    /// Waits until those who are in have left.
    pub(crate) async fn left(&self) {
        loop {
            let ended = self.ended.notified();
            if self.working.get() == 0 {
                return;
            }
            ended.await;
        }
    }
}

pub(crate) struct Working {
    of: Rc<Activity>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.of.working.set(self.of.working.get() - 1);
        self.of.ended.notify_all();
    }
}
