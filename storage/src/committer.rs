//! What the commit task has: the journal in memory, its files, and who waits for them.

use std::cell::RefCell;

use ringlog_reactor::Notify;

use crate::journal::Journal;
use crate::journal_files::JournalFiles;

pub(crate) struct Committer {
    pub(crate) journal: RefCell<Journal>,
    pub(crate) files: JournalFiles,
    /// There is something to commit, or the store is closing.
    pub(crate) wake: Notify,
    /// A commit has ended, the disk is full, or the store has failed.
    pub(crate) committed: Notify,
    /// An append that was refused may succeed now.
    pub(crate) room: Notify,
}

impl Committer {
    pub(crate) fn new(journal: Journal, file_bytes: u64) -> Committer {
        Committer {
            journal: RefCell::new(journal),
            files: JournalFiles::new(file_bytes),
            wake: Notify::new(),
            committed: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Has everything appended so far committed now.
    pub(crate) fn hurry(&self) {
        if self.journal.borrow_mut().hurry() {
            self.wake.notify_all();
        }
    }
}
