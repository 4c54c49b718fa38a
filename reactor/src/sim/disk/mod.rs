//! The simulated disk: `tree` has folders and files, `content` their bytes, `io` reads and writes them, and `faults` is
//! what goes wrong.

mod content;
mod faults;
mod io;
mod tree;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

pub(super) use self::content::PAGE;
pub use self::faults::DiskFaults;
use self::tree::Node;
pub(super) use self::tree::{Disk, Inode};

/// An errno.
pub(super) type Errno = i32;

/// How much a disk has in all.
const TOTAL_BYTES: u64 = 1 << 40;

/// A disk that outlives the machines that use it. Clones are handles to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<Disk>>,
}

impl SimDisk {
    /// An empty disk; its crashes are drawn from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(Disk::new(seed))) }
    }

    /// The power fails: every write that was not synced is kept, lost, or torn at sectors of 512 bytes; every change
    /// of a folder that was not synced is kept or lost. Call it while no simulation runs on the disk.
    pub fn crash(&self) {
        self.state.borrow_mut().crash();
    }

    /// The next write fails with `errno`, after any part of it was written.
    pub fn fail_next_write(&self, errno: i32) {
        self.state.borrow_mut().faults.next_write = Some(errno);
    }

    /// The next sync of a file or folder fails with `errno`. What it should have saved is lost in the next crash,
    /// even if a later sync succeeds.
    pub fn fail_next_sync(&self, errno: i32) {
        self.fail_sync_after(0, errno);
    }

    /// The same of a later one, behind `others` that do not fail.
    pub fn fail_sync_after(&self, others: u64, errno: i32) {
        self.state.borrow_mut().faults.next_sync = Some((others, errno));
    }

    /// Whether such a sync is still to come.
    pub fn has_sync_to_fail(&self) -> bool {
        self.state.borrow().faults.next_sync.is_some()
    }

    /// The next read fails with `errno`.
    pub fn fail_next_read(&self, errno: i32) {
        self.state.borrow_mut().faults.next_read = Some(errno);
    }

    /// While full, whatever needs new space fails with `ENOSPC`: new files and folders, and growing a file.
    pub fn set_full(&self, full: bool) {
        self.state.borrow_mut().faults.full = full;
    }

    /// Flips one bit of the byte at `offset` of the file at `path`, in memory and on the disk. False if there is no
    /// such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> bool {
        let mut disk = self.state.borrow_mut();
        let Ok(inode) = disk.find(path.as_ref()) else { return false };
        match disk.nodes.get_mut(&inode) {
            Some(Node::File(content)) if offset < content.len() => {
                content.flip_bit(offset, bit);
                true
            }
            _ => false,
        }
    }

    /// From now on the disk fails by chance, as `faults` says. The default ends all of it; damage that was done stays.
    pub fn set_faults(&self, faults: DiskFaults) {
        let mut disk = self.state.borrow_mut();
        let growth = faults.full_after_bytes.map(|bytes| disk.used_bytes + bytes);
        disk.limit_bytes = growth.into_iter().chain(faults.capacity_bytes).min();
        disk.faults.plan = faults;
    }

    /// Every file there is now, with its length, in the order of their paths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.state.borrow().files();
        files.into_iter().map(|(path, _, len)| (path, len)).collect()
    }

    /// Waits until so many more folder entries have been made, renamed or removed.
    pub async fn folders_changed(&self, more: u64) {
        let until = self.state.borrow().changed + more;
        poll_fn(|cx| {
            let mut disk = self.state.borrow_mut();
            if disk.changed >= until {
                return Poll::Ready(());
            }
            disk.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Another disk with the same content, and without a fault. The next crash leaves the same of both.
    pub fn copy(&self) -> SimDisk {
        let mut copy = self.state.borrow().clone();
        copy.faults = copy.faults.without_plan();
        copy.limit_bytes = None;
        copy.waiting.clear();
        SimDisk { state: Rc::new(RefCell::new(copy)) }
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Disk) -> R) -> R {
        f(&mut self.state.borrow_mut())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("nodes", &self.state.borrow().nodes.len()).finish_non_exhaustive()
    }
}
