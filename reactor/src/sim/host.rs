//! A simulated machine and the process on it: started, killed, paused, without power.
//!
//! Invariant: one process at a time runs on a host. When it ends, its tasks are dropped with its core as the current one,
//! and before anything else the network has let go of it: a destructor can tell nobody anything that a killed process
//! could not.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::disk::SimDisk;
use super::machine::Machine;
use super::process::{End, Process};
use super::world::World;

/// The port that is given out first where none was asked for.
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// One life of a process on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessId {
    pub(super) host: u32,
    pub(super) life: u32,
}

/// A machine: its disk, its clock, and the process that runs on it.
pub(super) struct HostState {
    pub(super) index: u32,
    pub(super) name: Box<str>,
    pub(super) ip: IpAddr,
    pub(super) disk: SimDisk,
    pub(super) clock_skew_ms: Cell<i64>,
    process: RefCell<Option<Rc<Process>>>,
    /// How many processes have run on it.
    lives: Cell<u32>,
    /// How many files and folders its process may have open.
    pub(super) open_files: Cell<usize>,
    /// The process is stopped until then, in nanoseconds.
    paused_until: Cell<u64>,
    ports_used: Cell<u16>,
    panic: RefCell<Option<String>>,
    /// Those who wait for the end of the process.
    waiting: RefCell<Vec<Waker>>,
}

impl HostState {
    pub(super) fn new(index: u32, name: &str, ip: IpAddr, disk: SimDisk) -> HostState {
        HostState {
            index,
            name: name.into(),
            ip,
            disk,
            clock_skew_ms: Cell::new(0),
            process: RefCell::default(),
            lives: Cell::new(0),
            open_files: Cell::new(usize::MAX),
            paused_until: Cell::new(0),
            ports_used: Cell::new(0),
            panic: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// A port that nobody uses, or nobody has used for long.
    pub(super) fn new_port(&self) -> u16 {
        let used = self.ports_used.get();
        self.ports_used.set(used.wrapping_add(1));
        FIRST_EPHEMERAL_PORT + used % (u16::MAX - FIRST_EPHEMERAL_PORT)
    }

    pub(super) fn process(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone()
    }

    /// Calls `f` with the process, if one runs.
    pub(super) fn with_process<R>(&self, f: impl FnOnce(&Process) -> R) -> Option<R> {
        self.process.borrow().as_deref().map(f)
    }

    /// The process that runs, if it is still that life.
    pub(super) fn process_of(&self, id: ProcessId) -> Option<Rc<Process>> {
        self.process().filter(|process| process.id() == id)
    }

    /// Until when the process is stopped, if it is at `now`.
    pub(super) fn paused(&self, now: u64) -> Option<u64> {
        Some(self.paused_until.get()).filter(|&until| until > now)
    }

    /// Boots a process with `main`, or, with none, one whose main future somebody else polls.
    pub(super) fn boot(
        self: &Rc<Self>,
        world: &Rc<World>,
        main: Option<impl Future<Output = ()> + 'static>,
    ) -> Rc<Process> {
        assert!(self.process.borrow().is_none(), "a process runs on {} already", self.name);
        self.lives.set(self.lives.get() + 1);
        self.paused_until.set(0);
        self.panic.take();
        let id = ProcessId { host: self.index, life: self.lives.get() };
        let machine = Rc::new(Machine::new(Rc::clone(world), Rc::clone(self), id));
        let process = Rc::new(Process::new(machine, id, main));
        *self.process.borrow_mut() = Some(Rc::clone(&process));
        world.net(|net| net.power_returns(self.index));
        process
    }

    /// The process is over, and its core has dealt with that by itself.
    pub(super) fn forget_process(&self) {
        let process = self.process.take();
        drop(process);
    }

    /// Ends the process, if one runs.
    pub(super) fn end(&self, world: &World, end: End) {
        if let Some(process) = self.process() {
            if process.defers(&end) {
                return;
            }
            self.process.take();
            world.tell(&self.name, || end.to_string());
            world.net(|net| match end {
                End::PowerFailed => net.vanish(process.id()),
                _ => net.process_ends(process.id()),
            });
            process.tear_down();
        }
        match end {
            End::PowerFailed => {
                world.net(|net| net.power_fails(self.index));
                self.disk.crash();
            }
            End::Panicked(message) => *self.panic.borrow_mut() = Some(message),
            End::Returned | End::Killed => {}
        }
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

/// A machine in a simulation ([`Simulation::host`](super::Simulation::host)). Clones are handles to the same one. They may be
/// used inside the simulation's tasks, and between its runs.
#[derive(Clone)]
pub struct Host {
    pub(super) world: Rc<World>,
    pub(super) state: Rc<HostState>,
}

impl Host {
    /// Switches the machine on, if it is not, and starts a process: a core of its own, whose main future is what `make`
    /// gives. All its tasks end with that future. A panic of any of them ends the process, and nothing else.
    ///
    /// # Panics
    /// If a process runs on it already.
    pub fn start<M, F>(&self, make: M)
    where
        M: FnOnce() -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.state.boot(&self.world, Some(async move { make().await }));
        self.world.tell(&self.state.name, || "starts a process".to_owned());
    }

    /// Whether a process runs on it. One that is paused does.
    pub fn is_running(&self) -> bool {
        self.state.process.borrow().is_some()
    }

    /// Waits until the process that runs at this call has ended in any way.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let state = Rc::clone(&self.state);
        let life = state.process().map(|process| process.id());
        poll_fn(move |cx| {
            if life.is_none_or(|life| state.process_of(life).is_none()) {
                return Poll::Ready(());
            }
            state.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// What the last process said when it panicked, if that is how it ended.
    pub fn panicked(&self) -> Option<String> {
        self.state.panic.borrow().clone()
    }

    /// The process is gone at once (SIGKILL), wherever its tasks are. What it had written stays in the page cache, writes in
    /// flight may get there, and its peers see its connections closed. A process that kills itself is gone at its next
    /// await.
    pub fn kill(&self) {
        self.state.end(&self.world, End::Killed);
    }

    /// The same after so many more polls of this process's tasks. Over all counts, this kills it at every await.
    pub fn kill_after(&self, polls: u64) {
        self.state.with_process(|process| process.end_after(polls, End::Killed));
    }

    /// The power fails: the process is gone, of what was not synced any part is lost ([`SimDisk::crash`]), and its peers
    /// hear nothing at all. The next [`start`](Host::start) brings the machine back.
    pub fn power_off(&self) {
        self.state.end(&self.world, End::PowerFailed);
    }

    /// The same after so many more polls of the process's tasks.
    pub fn power_off_after(&self, polls: u64) {
        self.state.with_process(|process| process.end_after(polls, End::PowerFailed));
    }

    /// Stops the process for so long (SIGSTOP): none of its tasks is polled and none of its timers fires. Its operations in
    /// flight go on, and what is sent to it queues up.
    pub fn pause(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.state.paused_until.set(self.world.nanos().saturating_add(nanos));
        self.world.tell(&self.state.name, || format!("is paused for {duration:?}"));
    }

    /// Puts the wall clock this far off the true time. The monotonic clock stays right.
    pub fn set_clock_skew(&self, ms: i64) {
        self.state.clock_skew_ms.set(ms);
        self.world.tell(&self.state.name, || format!("has its wall clock {ms} ms off"));
    }

    /// Lets a process have so many files and folders open, and no more: opening another fails with `EMFILE`. What is open stays so.
    /// Sockets are not counted.
    pub fn set_open_files(&self, limit: usize) {
        self.state.open_files.set(limit);
    }

    /// The machine's disk.
    pub fn disk(&self) -> SimDisk {
        self.state.disk.clone()
    }

    /// The machine's address.
    pub fn ip(&self) -> IpAddr {
        self.state.ip
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.state.name)
            .field("ip", &self.state.ip)
            .finish_non_exhaustive()
    }
}
