//! A simulated machine: one thread, a virtual clock, a disk that forgets what was not synced, a network of loopback
//! addresses, and an executor that picks tasks by a seed.
//!
//! The crates above run in it unchanged. [`launch`](crate::launch) adds another core's tasks to the same world.
//!
//! Invariant: a run is a function of its seed, its disk and its main future. Nothing here reads a clock, an entropy
//! source or the order of a hash map, so the same seed gives the same [`Simulation::trace_hash`].
//!
//! Time passes only between polls, and jumps to the next event when no task can run. When there is no next event
//! either, everybody waits for everybody: the run panics and says so.

mod content;
mod disk;
mod driver;
mod files;
mod net;
mod world;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::core::{self, Core};
use crate::driver::Driver;
use crate::shared::{MainWaker, Shared};

pub use disk::SimDisk;
pub(crate) use driver::SimDriver;
pub(crate) use world::World;

/// One poll takes at most this long on the virtual clock, in nanoseconds.
const MAX_POLL_NANOS: u64 = 2_000;

/// See the head of this module.
pub struct Simulation {
    world: Rc<World>,
}

impl Simulation {
    /// A machine with an empty disk.
    pub fn new(seed: u64) -> Simulation {
        Simulation::with_disk(seed, SimDisk::new(seed))
    }

    /// A machine started again on a disk that was there before.
    pub fn with_disk(seed: u64, disk: SimDisk) -> Simulation {
        Simulation { world: Rc::new(World::new(seed, disk)) }
    }

    /// The machine's disk: to inject faults, to crash it, and to start another machine on it.
    pub fn disk(&self) -> SimDisk {
        self.world.disk().clone()
    }

    /// Runs `main` to its end. All other tasks are dropped then, as if the process were killed: what they had
    /// written is in the page cache, and stays there unless the power fails too ([`Simulation::crash`]).
    ///
    /// # Panics
    /// If no task can run and nothing is pending, if a task panics, or if this thread is a core already.
    pub fn run<F: Future>(&self, main: F) -> F::Output {
        self.run_for(u64::MAX, main).expect("a run without an end comes to none but its own")
    }

    /// The same, killed after `polls` polls of tasks at the latest: `None` then. Over all counts, this stops the
    /// program at every await.
    ///
    /// # Panics
    /// As [`Simulation::run`].
    pub fn run_for<F: Future>(&self, polls: u64, main: F) -> Option<F::Output> {
        let driver = Driver::Sim(SimDriver::new(Rc::clone(&self.world)));
        let core = Rc::new(Core::new(Arc::new(Shared::new(None)), driver));
        let entered = core::enter(core);
        // Declared after `entered`, so dropped before it: the core outlives the future.
        let mut main = pin!(main);
        let waker = Arc::new(MainWaker::new(Arc::clone(entered.core().shared())));
        let main_waker = Waker::from(Arc::clone(&waker));
        let mut context = Context::from_waker(&main_waker);
        let core = entered.core();
        let mut polled = 0;
        loop {
            core.executor().accept(core.shared());
            let tasks = core.executor().ready();
            let choices = tasks + usize::from(waker.is_woken());
            if choices == 0 {
                self.world.sleep_until_something(core.next_deadline());
            } else if polled == polls {
                return None;
            } else {
                polled += 1;
                let choice = self.world.choose(choices);
                match core.executor().pick(choice) {
                    Some(runnable) => {
                        runnable.run();
                    }
                    None => {
                        waker.take();
                        if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
                            return Some(output);
                        }
                    }
                }
                self.world.pass(MAX_POLL_NANOS);
            }
            core.fire_timers();
            core.close_dropped();
            core.complete();
        }
    }

    /// The power fails: of what was not synced, any part may be lost. Call it between runs.
    pub fn crash(&self) {
        self.world.disk().crash();
    }

    /// Every connection that is open now is reset: both ends get `ECONNRESET`.
    pub fn reset_connections(&self) {
        self.world.reset_connections();
    }

    /// Sums up every choice made and every completion seen so far. Two runs from the same seed that differ in this
    /// are not deterministic.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("nanos", &self.world.nanos()).finish_non_exhaustive()
    }
}
