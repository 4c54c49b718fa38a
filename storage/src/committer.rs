//! What the commit task has: the journal in memory, its files, and who waits for them.

use std::cell::RefCell;
use std::rc::Rc;

use ringlog_reactor::Notify;
use ringlog_reactor::sim::mutant;

use crate::journal::Journal;
use crate::journal_files::JournalFiles;
use crate::partition::Partition;

pub(crate) struct Committer {
    pub(crate) journal: RefCell<Journal>,
    pub(crate) files: JournalFiles,
    /// There is something to commit, or the store is closing.
    pub(crate) wake: Notify,
    /// A commit has ended, the disk is full, or the store has failed.
    pub(crate) committed: Notify,
    /// An append that was refused may succeed now.
    pub(crate) room: Notify,
    /// Partitions of which something has become durable, or was refused.
    advanced: RefCell<Vec<Rc<Partition>>>,
}

impl Committer {
    pub(crate) fn new(journal: Journal, file_bytes: u64) -> Committer {
        Committer {
            journal: RefCell::new(journal),
            files: JournalFiles::new(file_bytes),
            wake: Notify::new(),
            committed: Notify::new(),
            room: Notify::new(),
            advanced: RefCell::default(),
        }
    }

    /// Has [`Store::advanced`](crate::Store::advanced) tell of a partition. The caller wakes those who wait.
    pub(crate) fn note_advanced(&self, partition: &Rc<Partition>) {
        if !partition.advance_noted.replace(true) {
            self.advanced.borrow_mut().push(Rc::clone(partition));
        }
    }

    /// The partitions noted since the last call.
    pub(crate) fn take_advanced(&self) -> Vec<Rc<Partition>> {
        let taken = self.advanced.take();
        if !mutant("advance-untold") {
            taken.iter().for_each(|partition| partition.advance_noted.set(false));
        }
        taken
    }

    /// Has everything appended so far committed now.
    pub(crate) fn hurry(&self) {
        if self.journal.borrow_mut().hurry() {
            self.wake.notify_all();
        }
    }
}
