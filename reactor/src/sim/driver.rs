//! Plays the operations of one process in the simulated world.
//!
//! Invariant: every operation is either among the world's events, or blocked on exactly one socket, or about to be
//! completed. So each completes, unless it waits for something that never comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::RawFd;
use std::rc::Rc;

use super::describe::describe;
use super::files;
use super::machine::{Machine, OpenFile};
use super::net::{PACKET_NANOS, Progress};
use super::world::Event;
use crate::descriptor::Descriptor;
use crate::op::{Completion, Entry, Item, Op};
use crate::pool::RecvBuf;
use crate::slab::{Key, Slab};

pub(crate) struct SimDriver {
    machine: Rc<Machine>,
    /// Their time has come.
    due: VecDeque<Key>,
    /// The open file that an operation was started on.
    targets: BTreeMap<Key, OpenFile>,
    /// Asked to end early.
    cancelled: BTreeSet<Key>,
    /// Cancelled while they were blocked: they end now.
    ending: VecDeque<Key>,
    /// How often a connect has had no answer.
    unanswered: BTreeMap<Key, u32>,
}

/// How often a connect is tried (Linux's `tcp_syn_retries`): with pauses of 1, 2, 4, … seconds, 127 in all.
const CONNECT_TRIES: u32 = 7;

impl SimDriver {
    pub(super) fn new(machine: Rc<Machine>) -> SimDriver {
        SimDriver {
            machine,
            due: VecDeque::new(),
            targets: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            ending: VecDeque::new(),
            unanswered: BTreeMap::new(),
        }
    }

    pub(crate) fn machine(&self) -> Rc<Machine> {
        Rc::clone(&self.machine)
    }

    pub(crate) fn due(&mut self, key: Key) {
        self.due.push_back(key);
    }

    pub(crate) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    pub(crate) fn start(&mut self, key: Key, op: &mut Op) {
        let least = match op {
            Op::Connect { to, .. } => PACKET_NANOS + self.machine.round_trip(*to),
            _ if socket_of(op).is_some() => PACKET_NANOS,
            _ => files::least_nanos(&self.machine, op),
        };
        if let Some(fd) = files::descriptor(op)
            && let Ok(file) = self.machine.file(fd)
        {
            self.targets.insert(key, file);
        }
        self.machine.schedule(key, least);
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.cancelled.insert(key);
        // If it is blocked nothing else will look at it. If it is not, it is looked at twice, which does no harm.
        self.ending.push_back(key);
    }

    pub(crate) fn close(&mut self, fd: RawFd) {
        self.machine.close(fd);
    }

    /// The process is over: writes in flight are left to the page cache.
    pub(crate) fn begin_drain(&mut self, ops: &mut Slab<Entry>) {
        for key in ops.keys() {
            if let Some(entry) = ops.get_mut(key)
                && let Some(target) = self.targets.remove(&key)
            {
                files::leave_behind(&self.machine, &entry.op, target);
            }
        }
        self.machine.process_ends();
        self.due.clear();
        self.cancelled.clear();
        self.ending.clear();
    }

    pub(crate) fn next_completion(&mut self, ops: &mut Slab<Entry>) -> Option<Completion> {
        while let Some(key) = self.ending.pop_front() {
            let Some(entry) = ops.get_mut(key) else { continue };
            let this = self.machine.op(key);
            let blocked =
                socket_of(&entry.op).is_some_and(|fd| self.machine.world().net(|net| net.unblock(fd, this)));
            if blocked || self.unanswered.contains_key(&key) {
                return Some(self.finish(key, -libc::ECANCELED));
            }
        }
        while let Some(key) = self.due.pop_front() {
            let Some(entry) = ops.get_mut(key) else { continue };
            let target = self.targets.get(&key).copied();
            if let Some(completion) = self.look_at(key, &mut entry.op, target) {
                self.trace(&entry.op, target, &completion);
                return Some(completion);
            }
        }
        None
    }

    fn trace(&self, op: &Op, target: Option<OpenFile>, completion: &Completion) {
        let world = self.machine.world();
        world.trace().word(world.nanos());
        world.trace().word(u64::from(self.machine.process().host));
        world.trace().word(completion.result as u64);
        world.tell(self.machine.host_name(), || describe(&self.machine, op, target, completion.result));
        if target.is_some()
            && let Some(lie) = self.machine.disk().with(|disk| disk.take_lie())
        {
            world.tell(self.machine.host_name(), || format!("has a disk that {lie}"));
        }
    }

    fn finish(&mut self, key: Key, result: i32) -> Completion {
        self.cancelled.remove(&key);
        self.targets.remove(&key);
        self.unanswered.remove(&key);
        Completion { key, result, more: false, item: None }
    }

    /// Another result of a multishot operation, which goes on.
    fn go_on(&mut self, key: Key, result: i32, item: Item) -> Completion {
        self.machine.schedule(key, PACKET_NANOS);
        Completion { key, result, more: true, item: Some(item) }
    }

    fn look_at(&mut self, key: Key, op: &mut Op, target: Option<OpenFile>) -> Option<Completion> {
        if let Some(result) = files::perform(&self.machine, op, target.ok_or(libc::EBADF)) {
            return Some(self.finish(key, result));
        }
        if self.cancelled.contains(&key) {
            return Some(self.finish(key, -libc::ECANCELED));
        }
        let fd = socket_of(op).expect("an operation is one on files or on a socket");
        let world = self.machine.world();
        let random = world.random();
        let progress = match op {
            Op::AcceptMany { .. } => world.net(|net| net.accept(fd)).map(Step::Accepted),
            Op::ReceiveMany { .. } => {
                world.net(|net| net.receive(fd, usize::MAX, random)).map(Step::Received)
            }
            Op::Receive { len, .. } => {
                world.net(|net| net.receive(fd, *len as usize, random)).map(Step::Received)
            }
            Op::Send { data, .. } => world.net(|net| net.send(fd, data.remaining())).map(Step::Sent),
            Op::Connect { to, .. } => match self.machine.connect(fd, *to) {
                Progress::Blocked => self.try_again(key),
                progress => progress.map(|()| Step::Sent(0)),
            },
            _ => unreachable!("files were dealt with above"),
        };
        match progress {
            Progress::Blocked => {
                let this = self.machine.op(key);
                self.machine.world().net(|net| net.block(fd, this));
                None
            }
            Progress::NotBefore(time) => {
                self.machine.world().schedule_at(time, Event::Operation(self.machine.op(key)));
                None
            }
            Progress::Failed(errno) => Some(self.finish(key, -errno)),
            Progress::Done(step) => Some(self.take_step(key, op, step)),
        }
    }

    /// Nobody has answered a connect.
    fn try_again(&mut self, key: Key) -> Progress<Step> {
        let tries = self.unanswered.entry(key).or_insert(0);
        if *tries == CONNECT_TRIES {
            return Progress::Failed(libc::ETIMEDOUT);
        }
        let pause = 1_000_000_000 << *tries;
        *tries += 1;
        Progress::NotBefore(self.machine.world().nanos() + pause)
    }

    fn take_step(&mut self, key: Key, op: &mut Op, step: Step) -> Completion {
        match step {
            Step::Sent(bytes) => self.finish(key, bytes as i32),
            Step::Accepted(fd) => self.go_on(key, fd, Item::Socket(Descriptor::new(fd))),
            Step::Received(bytes) => {
                let len = bytes.len() as i32;
                match op {
                    Op::Receive { buf, .. } => {
                        buf.extend_from_slice(&bytes);
                        self.finish(key, len)
                    }
                    _ if bytes.is_empty() => self.finish(key, 0),
                    _ => self.go_on(key, len, Item::Received(RecvBuf::owned(bytes))),
                }
            }
        }
    }
}

/// What an operation on a socket achieved.
enum Step {
    Accepted(RawFd),
    Received(bytes::Bytes),
    Sent(usize),
}

impl<T> Progress<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Progress::Done(value) => Progress::Done(f(value)),
            Progress::Blocked => Progress::Blocked,
            Progress::NotBefore(time) => Progress::NotBefore(time),
            Progress::Failed(errno) => Progress::Failed(errno),
        }
    }
}

fn socket_of(op: &Op) -> Option<RawFd> {
    match op {
        Op::Connect { fd, .. }
        | Op::AcceptMany { fd }
        | Op::ReceiveMany { fd }
        | Op::Receive { fd, .. }
        | Op::Send { fd, .. } => Some(*fd),
        _ => None,
    }
}
