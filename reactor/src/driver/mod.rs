//! The seam between a core and what carries out its operations.

use std::os::fd::RawFd;
use std::rc::Rc;

use crate::op::{Completion, Entry, Op};
use crate::sim::{Machine, SimDriver};
use crate::slab::{Key, Slab};

mod scratch;
pub(crate) mod uring;

pub(crate) use uring::Uring;

/// The real ring, or a simulated machine.
pub(crate) enum Driver {
    Uring(Box<Uring>),
    Sim(SimDriver),
}

impl Driver {
    pub(crate) fn machine(&self) -> Option<Rc<Machine>> {
        match self {
            Driver::Uring(_) => None,
            Driver::Sim(sim) => Some(sim.machine()),
        }
    }

    /// A simulated operation's time has come: it is looked at by the next completion.
    pub(crate) fn due(&mut self, key: Key) {
        if let Driver::Sim(sim) = self {
            sim.due(key);
        }
    }

    /// Whether simulated operations were cancelled that have not ended yet.
    pub(crate) fn has_ending(&self) -> bool {
        matches!(self, Driver::Sim(sim) if sim.has_ending())
    }

    /// Begins `op`, which stays where it is until its last completion.
    pub(crate) fn start(&mut self, key: Key, op: &mut Op) {
        match self {
            Driver::Uring(uring) => uring.start(key, op),
            Driver::Sim(sim) => sim.start(key, op),
        }
    }

    /// Asks for an early end of `key`; it completes in any case.
    pub(crate) fn cancel(&mut self, key: Key) {
        match self {
            Driver::Uring(uring) => uring.cancel(key),
            Driver::Sim(sim) => sim.cancel(key),
        }
    }

    /// Closes `fd` after what was started before.
    pub(crate) fn close(&mut self, fd: RawFd) {
        match self {
            Driver::Uring(uring) => uring.close(fd),
            Driver::Sim(sim) => sim.close(fd),
        }
    }

    /// Collects what has completed, without a system call.
    pub(crate) fn reap(&mut self) {
        match self {
            Driver::Uring(uring) => uring.reap(),
            Driver::Sim(_) => {}
        }
    }

    /// The next collected completion, its operation brought up to date.
    pub(crate) fn next_completion(&mut self, ops: &mut Slab<Entry>) -> Option<Completion> {
        match self {
            Driver::Uring(uring) => uring.next_completion(ops),
            Driver::Sim(sim) => sim.next_completion(ops),
        }
    }

    /// The core ends: nothing new will be started.
    pub(crate) fn begin_drain(&mut self, ops: &mut Slab<Entry>) {
        match self {
            Driver::Uring(uring) => uring.begin_drain(),
            Driver::Sim(sim) => sim.begin_drain(ops),
        }
    }

    /// Waits for some completions. True once nothing is in flight.
    pub(crate) fn drain_turn(&mut self) -> bool {
        match self {
            Driver::Uring(uring) => uring.drain_turn(),
            Driver::Sim(_) => true,
        }
    }
}
