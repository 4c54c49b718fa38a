//! What those have who write the segments and the checkpoint: the flush task, retention, and whoever makes room.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringlog_reactor::Notify;

use crate::partition::Partition;
use crate::partition_id::PartitionId;
use crate::permits::Permits;
use crate::reserve::Reserve;

pub(crate) struct Flusher {
    /// Something is to be flushed, a checkpoint is due, or the store is closing.
    pub(crate) wake: Notify,
    /// Held by whoever flushes or checkpoints, be it several partitions at the same time.
    pub(crate) lock: Permits,
    pub(crate) checkpoint_due: Cell<bool>,
    /// The first frame that the last checkpoint still needs.
    pub(crate) journal_from: Cell<u64>,
    /// Kept for a full disk.
    pub(crate) reserve: Reserve,
    /// Files that retention has let go, until a checkpoint has the new start offsets and they are removed.
    pub(crate) expired: RefCell<Vec<PathBuf>>,
    /// Partitions with unflushed entries.
    pub(crate) dirty: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    /// Partitions with so much unflushed that they do not wait for a checkpoint.
    pub(crate) eager: RefCell<VecDeque<Rc<Partition>>>,
}

impl Flusher {
    /// Of the shard whose journal and checkpoint stand in `dir`.
    pub(crate) fn new(dir: &Path) -> Flusher {
        Flusher {
            wake: Notify::new(),
            lock: Permits::new(1),
            checkpoint_due: Cell::new(false),
            journal_from: Cell::new(1),
            reserve: Reserve::of(dir),
            expired: RefCell::default(),
            dirty: RefCell::default(),
            eager: RefCell::default(),
        }
    }

    pub(crate) fn request_checkpoint(&self) {
        if !self.checkpoint_due.replace(true) {
            self.wake.notify_all();
        }
    }

    /// Notes that a partition has unflushed entries.
    pub(crate) fn note_dirty(&self, partition: &Rc<Partition>) {
        self.dirty.borrow_mut().insert(partition.id(), Rc::clone(partition));
        partition.note_unflushed();
    }

    /// Has a partition flushed before the next checkpoint.
    pub(crate) fn flush_soon(&self, partition: &Rc<Partition>) {
        if !partition.flush_queued.replace(true) {
            self.eager.borrow_mut().push_back(Rc::clone(partition));
            self.wake.notify_all();
        }
    }
}
