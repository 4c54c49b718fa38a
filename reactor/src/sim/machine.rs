//! What one process has of the machine it runs on: open files, locks, sockets, and the clocks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{Errno, Inode, SimDisk};
use super::host::{HostState, ProcessId};
use super::net::Progress;
use super::world::{OpRef, World};
use crate::descriptor::Descriptor;
use crate::fs::{DirEntry, Space};
use crate::slab::Key;

/// Virtual time starts here on the wall clock: 14 November 2023.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// See the head of this file. A process that is started again gets a new one.
pub(crate) struct Machine {
    world: Rc<World>,
    host: Rc<HostState>,
    process: ProcessId,
    files: RefCell<BTreeMap<RawFd, OpenFile>>,
    locks: RefCell<BTreeSet<PathBuf>>,
}

/// An open file or folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFile {
    pub(super) inode: Inode,
    /// Opened with `O_DIRECT`: its reads and writes must be aligned.
    pub(super) direct: bool,
}

impl Machine {
    pub(super) fn new(world: Rc<World>, host: Rc<HostState>, process: ProcessId) -> Machine {
        Machine { world, host, process, files: RefCell::default(), locks: RefCell::default() }
    }

    pub(crate) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(super) fn process(&self) -> ProcessId {
        self.process
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.host.disk
    }

    pub(crate) fn host_name(&self) -> &str {
        &self.host.name
    }

    /// Has `key` looked at after a time between `least` and twice that, in nanoseconds.
    pub(super) fn schedule(&self, key: Key, least: u64) {
        self.world.schedule(self.op(key), least);
    }

    pub(super) fn op(&self, key: Key) -> OpRef {
        OpRef { process: self.process, key }
    }

    /// The process is gone: so are its descriptors, locks and connections.
    pub(super) fn process_ends(&self) {
        self.files.borrow_mut().clear();
        self.locks.borrow_mut().clear();
        self.world.net(|net| net.process_ends(self.process));
        self.world.forget_events(self.process);
    }

    /// Fails when as many files are open as may be.
    pub(super) fn check_open_files(&self) -> Result<(), Errno> {
        if self.files.borrow().len() < self.host.open_files.get() { Ok(()) } else { Err(libc::EMFILE) }
    }

    pub(super) fn add_file(&self, file: OpenFile) -> Descriptor {
        let fd = self.world.new_fd();
        self.files.borrow_mut().insert(fd, file);
        Descriptor::new(fd)
    }

    pub(super) fn file(&self, fd: RawFd) -> Result<OpenFile, Errno> {
        self.files.borrow().get(&fd).copied().ok_or(libc::EBADF)
    }

    pub(super) fn close(&self, fd: RawFd) {
        if self.files.borrow_mut().remove(&fd).is_none() {
            self.world.net(|net| net.close(fd));
        }
    }

    /// Connects `fd` to whoever listens at `to`. Blocked if there is no answer.
    pub(super) fn connect(&self, fd: RawFd, to: SocketAddr) -> Progress<()> {
        let Some(there) = self.world.route(self.process.host, to.ip()) else {
            return Progress::Failed(libc::EHOSTUNREACH);
        };
        let here = if there == self.process.host { to.ip() } else { self.host.ip };
        let from = SocketAddr::new(here, self.host.new_port());
        let accepted = self.world.new_fd();
        self.world.net(|net| net.connect((fd, accepted), self.process, from, there, to))
    }

    /// How long a packet to `to` and its answer take beyond the usual.
    pub(super) fn round_trip(&self, to: SocketAddr) -> u64 {
        let here = self.process.host;
        self.world.route(here, to.ip()).map_or(0, |there| self.world.net(|net| net.round_trip(here, there)))
    }

    // What follows is called by the upper layers directly, where the real core makes a plain system call.

    pub(crate) fn wall_clock_ms(&self) -> i64 {
        EPOCH_MS + (self.world.nanos() / 1_000_000) as i64 + self.host.clock_skew_ms.get()
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let may = self.check_open_files();
        may.and_then(|()| self.disk().with(|disk| disk.list(path))).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn space(&self) -> Space {
        self.disk().with(|disk| disk.space())
    }

    pub(crate) fn try_lock(&self, path: &Path) -> io::Result<bool> {
        let opened = self.disk().with(|disk| disk.open(path, libc::O_RDWR | libc::O_CREAT));
        opened.map_err(io::Error::from_raw_os_error)?;
        Ok(self.locks.borrow_mut().insert(path.to_path_buf()))
    }

    pub(crate) fn unlock(&self, path: &Path) {
        self.locks.borrow_mut().remove(path);
    }

    pub(crate) fn listen(&self, mut address: SocketAddr) -> io::Result<(Descriptor, SocketAddr)> {
        if self.world.route(self.process.host, address.ip()) != Some(self.process.host) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        if address.port() == 0 {
            address.set_port(self.host.new_port());
        }
        let fd = self.world.new_fd();
        let listening = self.world.net(|net| net.listen(fd, self.process, address));
        listening.map_err(io::Error::from_raw_os_error)?;
        Ok((Descriptor::new(fd), address))
    }

    pub(crate) fn socket(&self) -> Descriptor {
        Descriptor::new(self.world.new_fd())
    }

    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        self.world.net(|net| net.peer_addr(fd)).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn shutdown(&self, fd: RawFd) {
        self.world.net(|net| net.shutdown(fd));
    }
}
