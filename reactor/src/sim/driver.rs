//! Plays operations in a simulated world.
//!
//! Invariant: every operation is either among the world's events, or blocked on exactly one socket, or about to be
//! completed. So each completes, unless it waits for something that never comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::RawFd;
use std::rc::Rc;

use super::files;
use super::net::{PACKET_NANOS, Progress};
use super::world::{OpenFile, World};
use crate::descriptor::Descriptor;
use crate::op::{Completion, Entry, Item, Op};
use crate::pool::RecvBuf;
use crate::slab::{Key, Slab};

pub(crate) struct SimDriver {
    world: Rc<World>,
    /// The open file that an operation was started on.
    targets: BTreeMap<Key, OpenFile>,
    /// Asked to end early.
    cancelled: BTreeSet<Key>,
    /// Cancelled while they were blocked: they end now.
    ending: VecDeque<Key>,
}

impl SimDriver {
    pub(super) fn new(world: Rc<World>) -> SimDriver {
        SimDriver { world, targets: BTreeMap::new(), cancelled: BTreeSet::new(), ending: VecDeque::new() }
    }

    pub(crate) fn world(&self) -> Rc<World> {
        Rc::clone(&self.world)
    }

    pub(crate) fn start(&mut self, key: Key, op: &mut Op) {
        let least = if socket_of(op).is_some() { PACKET_NANOS } else { files::least_nanos(op) };
        if let Some(fd) = files::descriptor(op)
            && let Ok(file) = self.world.file(fd)
        {
            self.targets.insert(key, file);
        }
        self.world.schedule(key, least);
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.cancelled.insert(key);
        // If it is blocked nothing else will look at it. If it is not, it is looked at twice, which does no harm.
        self.ending.push_back(key);
    }

    pub(crate) fn close(&mut self, fd: RawFd) {
        self.world.close(fd);
    }

    /// The process is over: writes in flight are left to the page cache.
    pub(crate) fn begin_drain(&mut self, ops: &mut Slab<Entry>) {
        for key in ops.keys() {
            if let Some(entry) = ops.get_mut(key)
                && let Some(target) = self.targets.remove(&key)
            {
                files::leave_behind(&self.world, &entry.op, target);
            }
        }
        self.world.process_ends();
        self.cancelled.clear();
        self.ending.clear();
    }

    pub(crate) fn next_completion(&mut self, ops: &mut Slab<Entry>) -> Option<Completion> {
        while let Some(key) = self.ending.pop_front() {
            let Some(entry) = ops.get_mut(key) else { continue };
            let blocked =
                socket_of(&entry.op).is_some_and(|fd| self.world.net().borrow_mut().unblock(fd, key));
            if blocked {
                return Some(self.finish(key, -libc::ECANCELED));
            }
        }
        while let Some(key) = self.world.pop_due() {
            let Some(entry) = ops.get_mut(key) else { continue };
            if let Some(completion) = self.look_at(key, &mut entry.op) {
                self.world.note(self.world.nanos());
                self.world.note(completion.result as u64);
                return Some(completion);
            }
        }
        None
    }

    fn finish(&mut self, key: Key, result: i32) -> Completion {
        self.cancelled.remove(&key);
        self.targets.remove(&key);
        Completion { key, result, more: false, item: None }
    }

    /// Another result of a multishot operation, which goes on.
    fn go_on(&mut self, key: Key, result: i32, item: Item) -> Completion {
        self.world.schedule(key, PACKET_NANOS);
        Completion { key, result, more: true, item: Some(item) }
    }

    fn look_at(&mut self, key: Key, op: &mut Op) -> Option<Completion> {
        let target = self.targets.get(&key).copied().ok_or(libc::EBADF);
        if let Some(result) = files::perform(&self.world, op, target) {
            return Some(self.finish(key, result));
        }
        if self.cancelled.contains(&key) {
            return Some(self.finish(key, -libc::ECANCELED));
        }
        let fd = socket_of(op).expect("an operation is one on files or on a socket");
        let world = Rc::clone(&self.world);
        let (progress, woken) = {
            let mut net = world.net().borrow_mut();
            match op {
                Op::AcceptMany { .. } => (net.accept(fd).map(Step::Accepted), Vec::new()),
                Op::ReceiveMany { .. } => {
                    let (progress, woken) = net.receive(fd, usize::MAX, world.random());
                    (progress.map(Step::Received), woken)
                }
                Op::Receive { len, .. } => {
                    let (progress, woken) = net.receive(fd, *len as usize, world.random());
                    (progress.map(Step::Received), woken)
                }
                Op::Send { data, .. } => {
                    let (progress, woken) = net.send(fd, data.remaining());
                    (progress.map(Step::Sent), woken)
                }
                Op::Connect { to, .. } => match net.connect(fd, world.new_fd(), *to) {
                    Ok(woken) => (Progress::Done(Step::Sent(0)), woken),
                    Err(errno) => (Progress::Failed(errno), Vec::new()),
                },
                _ => unreachable!("files were dealt with above"),
            }
        };
        world.wake(woken);
        match progress {
            Progress::Blocked => {
                world.net().borrow_mut().block(fd, key);
                None
            }
            Progress::Failed(errno) => Some(self.finish(key, -errno)),
            Progress::Done(step) => Some(self.take_step(key, op, step)),
        }
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
