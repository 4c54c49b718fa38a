//! What a store's tasks share: a part for each concern, with its own wake-ups.
//!
//! Invariant: no borrow of a `RefCell` is held across an await; whoever is woken finds all of them free.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use ringlog_reactor::sim::reached;

use crate::committer::Committer;
use crate::config::StoreConfig;
use crate::direct_writer::DirectWriter;
use crate::error::AppendError;
use crate::flusher::Flusher;
use crate::health::HealthState;
use crate::journal::{Journal, NoRoom};
use crate::layout;
use crate::partition::{Partition, Shared};
use crate::partition_id::PartitionId;
use crate::stats::{add, count};

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    /// The folder of this shard's journal and checkpoint.
    pub(crate) dir: PathBuf,
    pub(crate) partitions: RefCell<BTreeMap<PartitionId, Rc<Partition>>>,
    pub(crate) shared: Shared,
    pub(crate) committer: Committer,
    pub(crate) flusher: Flusher,
    pub(crate) direct: DirectWriter,
    pub(crate) health: HealthState,
    /// Appends are refused from now on.
    pub(crate) closing: Cell<bool>,
    /// The tasks end.
    pub(crate) closed: Cell<bool>,
}

impl Inner {
    pub(crate) fn new(
        config: StoreConfig,
        journal: Journal,
        partitions: BTreeMap<PartitionId, Rc<Partition>>,
        shared: Shared,
    ) -> Inner {
        let dir = layout::shard_dir(&config.data_dir, config.epoch, config.shard);
        let committer = Committer::new(journal, config.journal_file_bytes);
        let flusher = Flusher::new(&dir);
        let held_up = vec![shared.agenda.wake().clone(), committer.committed.clone(), committer.room.clone()];
        let others = vec![committer.wake.clone(), flusher.wake.clone()];
        Inner {
            health: HealthState::new(config.shard, held_up, others),
            dir,
            config,
            partitions: RefCell::new(partitions),
            shared,
            committer,
            flusher,
            direct: DirectWriter::default(),
            closing: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    /// Has the flusher say whether the disk is still full, if it was.
    pub(crate) fn look_for_space(&self) {
        if self.health.is_disk_full() {
            self.flusher.request_checkpoint();
        }
    }

    /// Makes room in the journal for an entry of `need` bytes.
    pub(crate) fn make_room(&self, need: usize) -> Result<(), AppendError> {
        let room = self.committer.journal.borrow_mut().make_room(need, &self.committer.files);
        match room {
            Ok(evicted) => {
                add(&self.shared.counters.evictions, evicted);
                Ok(())
            }
            Err(reason) => {
                reached("append waits for room");
                count(&self.shared.counters.refused_full);
                if matches!(reason, NoRoom::Files) {
                    reached("append waits for a journal file");
                }
                if !matches!(reason, NoRoom::Queue) {
                    self.flusher.request_checkpoint();
                }
                // What was open is sealed now, and must be committed for room to come.
                self.committer.wake.notify_all();
                Err(AppendError::Full)
            }
        }
    }
}
