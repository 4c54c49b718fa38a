//! Simulated machines: one thread, a virtual clock, disks that forget what was not synced, a network between the machines,
//! and executors that pick tasks by a seed.
//!
//! The crates above run in it unchanged. [`Simulation::run`] runs a main future on a machine of its own; from there
//! [`Simulation::host`] makes others, whose processes are started and killed ([`Host`]). Each process has a core of its
//! own; [`launch`](crate::launch) adds another core's tasks to the process it is called in.
//!
//! Invariant: a run is a function of its seed, its disks and what it is asked to do. Nothing here reads a clock, an
//! entropy source or the order of a hash map, so the same seed gives the same [`Simulation::trace_hash`].
//!
//! Time passes only between polls, and jumps to the next event when no task can run. When there is no next event
//! either, everybody waits for everybody: the run panics and says so.
//!
//! # Map
//! - `world` is the clock, the choices and the pending events; `trace` is what has happened; `marks` is what the code
//!   under test says of itself.
//! - `host` is a machine, `process` a core on it, `machine` what that core has of it; `schedule` lets them take turns.
//! - `driver` plays operations: `files` on the `disk`, the others on the `net`; `describe` puts them into words.

mod describe;
mod disk;
mod driver;
mod files;
mod host;
mod machine;
mod marks;
mod net;
mod process;
mod schedule;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

pub use disk::{DiskFaults, SimDisk};
pub(crate) use driver::SimDriver;
pub use host::Host;
pub(crate) use machine::Machine;
pub use marks::{mutant, note, reached};
pub use net::SimNet;
use world::World;

/// The address of the machine that [`Simulation::run`] runs its main future on.
pub const MAIN_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));

/// See the head of this module.
pub struct Simulation {
    world: Rc<World>,
    main: Host,
}

impl Simulation {
    /// A world with one machine that has an empty disk.
    pub fn new(seed: u64) -> Simulation {
        Simulation::with_disk(seed, SimDisk::new(seed))
    }

    /// A world with one machine, started again on a disk that was there before.
    pub fn with_disk(seed: u64, disk: SimDisk) -> Simulation {
        let world = Rc::new(World::new(seed));
        let state = world.add_host("main", MAIN_IP, disk);
        Simulation { main: Host { world: Rc::clone(&world), state }, world }
    }

    /// Another machine. Nothing runs on it yet.
    ///
    /// # Panics
    /// If a machine has that address already.
    pub fn host(&self, name: &str, ip: IpAddr, disk: SimDisk) -> Host {
        let state = self.world.add_host(name, ip, disk);
        Host { world: Rc::clone(&self.world), state }
    }

    /// The network between the machines: to inject faults.
    pub fn network(&self) -> SimNet {
        SimNet { world: Rc::clone(&self.world) }
    }

    /// The main machine's disk: to inject faults, to crash it, and to start another machine on it.
    pub fn disk(&self) -> SimDisk {
        self.main.disk()
    }

    /// Runs `main` to its end. All other tasks of its process are dropped then, as if the process were killed: what they
    /// had written is in the page cache, and stays there unless the power fails too ([`Simulation::crash`]). The processes
    /// of other hosts stand still until the next run.
    ///
    /// # Panics
    /// If no task can run and nothing is pending, if a task of the main process panics, or if this thread is a core
    /// already.
    pub fn run<F: Future>(&self, main: F) -> F::Output {
        self.run_for(u64::MAX, main).expect("a run without an end comes to none but its own")
    }

    /// The same, ended after `polls` polls of tasks at the latest, over all processes: `None` then. Over all counts, this
    /// stops a lone process at every await.
    ///
    /// # Panics
    /// As [`Simulation::run`].
    pub fn run_for<F: Future>(&self, polls: u64, main: F) -> Option<F::Output> {
        self.run_watched(polls, || (), main)
    }

    /// The same. `after_poll` is called after each poll of a task: what it looks at is seen in every state in which a
    /// crash can find it.
    ///
    /// # Panics
    /// As [`Simulation::run`].
    pub fn run_watched<F: Future>(&self, polls: u64, after_poll: impl FnMut(), main: F) -> Option<F::Output> {
        schedule::run(&self.world, &self.main.state, polls, main, after_poll)
    }

    /// The main machine's power fails: of what was not synced, any part may be lost. Call it between runs.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// Every connection that is open now is reset: both ends get `ECONNRESET`.
    pub fn reset_connections(&self) {
        self.world.net(|net| net.reset_all());
    }

    /// Sums up every choice made and every completion seen so far. Two runs from the same seed that differ in this
    /// are not deterministic.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace().hash()
    }

    /// From now on keeps the last `count` events in words, which costs time: for a run that is replayed to be read.
    pub fn keep_events(&self, count: usize) {
        self.world.trace().keep(count);
    }

    /// The events kept, the newest last: virtual time, host, what happened, and what came of it.
    pub fn last_events(&self) -> Vec<String> {
        self.world.trace().lines()
    }

    /// Puts a line of the test's own among the events, and into their hash. Inside tasks [`note`] does the same.
    pub fn note(&self, text: &str) {
        self.world.remark("main", text);
    }

    /// How often each rare state was reached so far ([`reached`]).
    pub fn reached(&self) -> BTreeMap<&'static str, u64> {
        self.world.marks()
    }

    /// Asks the code under test for a known bug ([`mutant`]), or for none.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&self, name: Option<&'static str>) {
        self.world.set_mutant(name);
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // A process holds its world, so it would never be freed. After a panic its state is not worth the risk.
        if !std::thread::panicking() {
            schedule::end_all(&self.world);
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("nanos", &self.world.nanos()).finish_non_exhaustive()
    }
}
