//! What the tasks of one simulated machine share: clock, choices, pending events, disk and network.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::disk::{Errno, Inode, SimDisk};
use super::net::Net;
use crate::clock::{Instant, Random};
use crate::descriptor::{Descriptor, FIRST_SIMULATED};
use crate::fs::{DirEntry, Space};
use crate::slab::Key;

/// See the head of this file.
pub(crate) struct World {
    nanos: Cell<u64>,
    random: Random,
    trace: Cell<u64>,
    disk: SimDisk,
    next_fd: Cell<RawFd>,
    files: RefCell<BTreeMap<RawFd, OpenFile>>,
    net: RefCell<Net>,
    locks: RefCell<BTreeSet<PathBuf>>,
    /// Operations by the time they get on, and a number that keeps equal times apart.
    events: RefCell<BTreeMap<(u64, u64), Key>>,
    last_event: Cell<u64>,
}

/// An open file or folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFile {
    pub(super) inode: Inode,
    /// Opened with `O_DIRECT`: its reads and writes must be aligned.
    pub(super) direct: bool,
}

impl World {
    pub(super) fn new(seed: u64, disk: SimDisk) -> World {
        World {
            nanos: Cell::new(1_000_000_000),
            random: Random::new(seed),
            // The offset basis of FNV-1a.
            trace: Cell::new(0xCBF2_9CE4_8422_2325),
            disk,
            next_fd: Cell::new(FIRST_SIMULATED),
            files: RefCell::default(),
            net: RefCell::default(),
            locks: RefCell::default(),
            events: RefCell::default(),
            last_event: Cell::new(0),
        }
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.nanos.get()
    }

    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn net(&self) -> &RefCell<Net> {
        &self.net
    }

    /// Notes something that happened (FNV-1a, word by word).
    pub(super) fn note(&self, word: u64) {
        self.trace.set((self.trace.get() ^ word).wrapping_mul(0x0100_0000_01B3));
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    /// Picks one of `choices`.
    pub(super) fn choose(&self, choices: usize) -> usize {
        let choice = self.random.below(choices as u64);
        self.note(choice);
        choice as usize
    }

    /// Lets up to `nanos` pass.
    pub(super) fn pass(&self, nanos: u64) {
        self.nanos.set(self.nanos.get() + self.random.below(nanos));
    }

    /// Nobody can run: jumps to the next event or timer.
    pub(super) fn sleep_until_something(&self, timer: Option<Instant>) {
        let event = self.events.borrow().keys().next().map(|(nanos, _)| *nanos);
        let timer = timer.map(Instant::as_nanos);
        let next = event.into_iter().chain(timer).min();
        let next =
            next.expect("the simulation is stuck: no task can run, and no timer or operation is pending");
        self.nanos.set(self.nanos.get().max(next));
    }

    /// Has `key` looked at after a time between `least` and twice that, in nanoseconds.
    pub(super) fn schedule(&self, key: Key, least: u64) {
        let due = self.nanos.get() + least + self.random.below(least.max(1));
        self.last_event.set(self.last_event.get() + 1);
        self.events.borrow_mut().insert((due, self.last_event.get()), key);
    }

    /// An operation whose time has come.
    pub(super) fn pop_due(&self) -> Option<Key> {
        let mut events = self.events.borrow_mut();
        let first = events.first_entry()?;
        if first.key().0 <= self.nanos.get() { Some(first.remove()) } else { None }
    }

    /// The process is gone: so are its descriptors, locks and connections.
    pub(super) fn process_ends(&self) {
        self.events.borrow_mut().clear();
        self.files.borrow_mut().clear();
        self.locks.borrow_mut().clear();
        *self.net.borrow_mut() = Net::default();
    }

    pub(super) fn new_fd(&self) -> RawFd {
        let fd = self.next_fd.get();
        self.next_fd.set(fd + 1);
        fd
    }

    pub(super) fn add_file(&self, file: OpenFile) -> Descriptor {
        let fd = self.new_fd();
        self.files.borrow_mut().insert(fd, file);
        Descriptor::new(fd)
    }

    pub(super) fn file(&self, fd: RawFd) -> Result<OpenFile, Errno> {
        self.files.borrow().get(&fd).copied().ok_or(libc::EBADF)
    }

    pub(super) fn close(&self, fd: RawFd) {
        if self.files.borrow_mut().remove(&fd).is_none() {
            let woken = self.net.borrow_mut().close(fd);
            self.wake(woken);
        }
    }

    /// Has the operations that wait on sockets looked at again, after the time a packet takes.
    pub(super) fn wake(&self, woken: Vec<Key>) {
        woken.into_iter().for_each(|key| self.schedule(key, super::net::PACKET_NANOS));
    }

    pub(super) fn reset_connections(&self) {
        let woken = self.net.borrow_mut().reset_all();
        self.wake(woken);
    }

    // What follows is called by the upper layers directly, where the real core makes a plain system call.

    pub(crate) fn truncate(&self, fd: RawFd, len: u64) -> io::Result<()> {
        let result = self.file(fd).and_then(|file| self.disk.with(|disk| disk.truncate(file.inode, len)));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.with(|disk| disk.list(path)).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn space(&self) -> Space {
        self.disk.with(|disk| disk.space())
    }

    pub(crate) fn try_lock(&self, path: &Path) -> io::Result<bool> {
        let opened = self.disk.with(|disk| disk.open(path, libc::O_RDWR | libc::O_CREAT));
        opened.map_err(io::Error::from_raw_os_error)?;
        Ok(self.locks.borrow_mut().insert(path.to_path_buf()))
    }

    pub(crate) fn unlock(&self, path: &Path) {
        self.locks.borrow_mut().remove(path);
    }

    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<(Descriptor, SocketAddr)> {
        let fd = self.new_fd();
        let local = self.net.borrow_mut().listen(fd, address).map_err(io::Error::from_raw_os_error)?;
        Ok((Descriptor::new(fd), local))
    }

    pub(crate) fn socket(&self) -> Descriptor {
        let fd = self.new_fd();
        Descriptor::new(fd)
    }

    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        self.net.borrow().peer_addr(fd).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn shutdown(&self, fd: RawFd) {
        let woken = self.net.borrow_mut().shutdown(fd);
        self.wake(woken);
    }
}
