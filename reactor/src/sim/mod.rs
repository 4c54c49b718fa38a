//! A simulated machine.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;

use crate::clock::Random;
use crate::descriptor::Descriptor;
use crate::fs::{DirEntry, Space};
use crate::op::{Completion, Entry, Op};
use crate::slab::{Key, Slab};

pub(crate) struct World {
    random: Random,
}

impl World {
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }
    pub(crate) fn nanos(&self) -> u64 {
        0
    }
    pub(crate) fn truncate(&self, _fd: RawFd, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn list(&self, _path: &Path) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn try_lock(&self, _path: &Path) -> bool {
        false
    }
    pub(crate) fn unlock(&self, _path: &Path) {}
    pub(crate) fn space(&self) -> Space {
        Space { free_bytes: 0, total_bytes: 0 }
    }
    pub(crate) fn listen(&self, _address: SocketAddr) -> io::Result<(Descriptor, SocketAddr)> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn peer_addr(&self, _fd: RawFd) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn socket(&self) -> Descriptor {
        Descriptor::new(crate::descriptor::FIRST_SIMULATED)
    }
    pub(crate) fn shutdown(&self, _fd: RawFd) {}
}

pub(crate) struct SimDriver {
    world: Rc<World>,
    done: VecDeque<Completion>,
}

impl SimDriver {
    pub(crate) fn world(&self) -> Rc<World> {
        Rc::clone(&self.world)
    }
    pub(crate) fn start(&mut self, key: Key, _op: &mut Op) {
        self.done.push_back(Completion { key, result: -libc::ENOSYS, more: false, item: None });
    }
    pub(crate) fn cancel(&mut self, _key: Key) {}
    pub(crate) fn close(&mut self, _fd: RawFd) {}
    pub(crate) fn next_completion(&mut self, _ops: &mut Slab<Entry>) -> Option<Completion> {
        self.done.pop_front()
    }
    pub(crate) fn begin_drain(&mut self) {}
}
