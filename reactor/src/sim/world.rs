//! What all machines of one simulation share: clock, choices, pending events, the network between them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::disk::SimDisk;
use super::host::{HostState, ProcessId};
use super::net::Net;
use super::trace::Trace;
use crate::clock::Random;
use crate::descriptor::FIRST_SIMULATED;
use crate::slab::Key;

/// See the head of this file.
pub(crate) struct World {
    nanos: Cell<u64>,
    random: Random,
    trace: Trace,
    next_fd: Cell<RawFd>,
    net: RefCell<Net>,
    hosts: RefCell<Vec<Rc<HostState>>>,
    /// By their time, and a number that keeps equal times apart.
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    last_event: Cell<u64>,
    marks: RefCell<BTreeMap<&'static str, u64>>,
    #[cfg(feature = "mutants")]
    mutant: Cell<Option<&'static str>>,
}

/// An operation of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpRef {
    pub(super) process: ProcessId,
    pub(super) key: Key,
}

/// What happens at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// An operation gets on.
    Operation(OpRef),
    /// A socket whose peer is silent is looked at.
    Watch(RawFd),
    /// A socket's peer says that it knows nothing of the connection.
    Refuse(RawFd),
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            nanos: Cell::new(1_000_000_000),
            random: Random::new(seed),
            trace: Trace::new(),
            next_fd: Cell::new(FIRST_SIMULATED),
            net: RefCell::new(Net::new(seed)),
            hosts: RefCell::default(),
            events: RefCell::default(),
            last_event: Cell::new(0),
            marks: RefCell::default(),
            #[cfg(feature = "mutants")]
            mutant: Cell::new(None),
        }
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.nanos.get()
    }

    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Puts what happened on `host` into words, if anybody wants to read them.
    pub(super) fn tell(&self, host: &str, what: impl FnOnce() -> String) {
        if self.trace.is_kept() {
            let seconds = self.nanos.get() as f64 / 1e9;
            self.trace.line(format!("{seconds:.6} s {host} {}", what()));
        }
    }

    /// A line of the test's own.
    pub(crate) fn remark(&self, host: &str, text: &str) {
        self.trace.text(text);
        self.tell(host, || format!("says: {text}"));
    }

    pub(crate) fn reach(&self, mark: &'static str) {
        *self.marks.borrow_mut().entry(mark).or_default() += 1;
    }

    pub(super) fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.marks.borrow().clone()
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn mutant(&self) -> Option<&'static str> {
        self.mutant.get()
    }

    #[cfg(feature = "mutants")]
    pub(super) fn set_mutant(&self, name: Option<&'static str>) {
        self.mutant.set(name);
    }

    /// Picks one of `choices`.
    pub(super) fn choose(&self, choices: usize) -> usize {
        let choice = self.random.below(choices as u64);
        self.trace.word(choice);
        choice as usize
    }

    /// Lets up to `nanos` pass.
    pub(super) fn pass(&self, nanos: u64) {
        self.nanos.set(self.nanos.get() + self.random.below(nanos));
    }

    /// Jumps to `nanos`, if that is not over.
    pub(super) fn jump_to(&self, nanos: u64) {
        self.nanos.set(self.nanos.get().max(nanos));
    }

    /// Has an operation looked at after a time between `least` and twice that, in nanoseconds.
    pub(super) fn schedule(&self, op: OpRef, least: u64) {
        let due = self.nanos.get() + least + self.random.below(least.max(1));
        self.schedule_at(due, Event::Operation(op));
    }

    pub(super) fn schedule_at(&self, due: u64, event: Event) {
        self.last_event.set(self.last_event.get() + 1);
        self.events.borrow_mut().insert((due, self.last_event.get()), event);
    }

    pub(super) fn next_event(&self) -> Option<u64> {
        self.events.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// An event whose time has come.
    pub(super) fn pop_due(&self) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        let first = events.first_entry()?;
        if first.key().0 <= self.nanos.get() { Some(first.remove()) } else { None }
    }

    /// Forgets what `process` waited for.
    pub(super) fn forget_events(&self, process: ProcessId) {
        let is_other = |event: &Event| !matches!(event, Event::Operation(op) if op.process == process);
        self.events.borrow_mut().retain(|_, event| is_other(event));
    }

    pub(super) fn new_fd(&self) -> RawFd {
        let fd = self.next_fd.get();
        self.next_fd.set(fd + 1);
        fd
    }

    /// Does something with the network, and has the operations looked at again for which that changed something, after
    /// the time a packet takes.
    pub(super) fn net<R>(&self, f: impl FnOnce(&mut Net) -> R) -> R {
        let mut net = self.net.borrow_mut();
        net.set_time(self.nanos.get());
        let result = f(&mut net);
        for op in net.take_woken() {
            self.schedule(op, super::net::PACKET_NANOS);
        }
        for (time, event) in net.take_timed() {
            self.schedule_at(time, event);
        }
        result
    }

    pub(super) fn add_host(&self, name: &str, ip: IpAddr, disk: SimDisk) -> Rc<HostState> {
        let mut hosts = self.hosts.borrow_mut();
        assert!(hosts.iter().all(|host| host.ip != ip), "two hosts have the address {ip}");
        let host = Rc::new(HostState::new(hosts.len() as u32, name, ip, disk));
        hosts.push(Rc::clone(&host));
        host
    }

    /// The hosts, one after the other. None is borrowed meanwhile.
    pub(super) fn host(&self, index: usize) -> Option<Rc<HostState>> {
        self.hosts.borrow().get(index).cloned()
    }

    /// Calls `f` with each host. `f` must not add one.
    pub(super) fn for_each_host(&self, f: impl FnMut(&Rc<HostState>)) {
        self.hosts.borrow().iter().for_each(f);
    }

    /// The host with the address `ip`.
    ///
    /// # Panics
    /// If there is none: a test that names it is wrong.
    pub(super) fn host_at(&self, ip: IpAddr) -> u32 {
        let hosts = self.hosts.borrow();
        hosts
            .iter()
            .find(|host| host.ip == ip)
            .unwrap_or_else(|| panic!("no host has the address {ip}"))
            .index
    }

    /// The host that `from` reaches by `ip`.
    pub(super) fn route(&self, from: u32, ip: IpAddr) -> Option<u32> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        self.hosts.borrow().iter().find(|host| host.ip == ip).map(|host| host.index)
    }
}
