//! What those tasks share that write large batches past the journal, and what the store tells of their batches.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::partition::Partition;

#[derive(Default)]
pub(crate) struct DirectWriter {
    /// Partitions that bypass the journal.
    pub(crate) active: Cell<usize>,
    pub(crate) bytes_since_checkpoint: Cell<u64>,
    /// Partitions of which something that went past the journal has become durable, or was refused.
    settled: RefCell<Vec<Rc<Partition>>>,
    /// How often batches were taken out of the log again.
    pub(crate) refusals: Cell<u64>,
}

impl DirectWriter {
    /// Has the store tell of a partition.
    pub(crate) fn note_settled(&self, partition: &Rc<Partition>) {
        if !partition.bypass_noted.replace(true) {
            self.settled.borrow_mut().push(Rc::clone(partition));
        }
    }

    /// The same of batches that have left the log.
    pub(crate) fn note_refused(&self, partition: &Rc<Partition>) {
        self.refusals.set(self.refusals.get() + 1);
        self.note_settled(partition);
    }

    /// The partitions noted since the last call.
    pub(crate) fn take_settled(&self) -> Vec<Rc<Partition>> {
        let taken = self.settled.take();
        taken.iter().for_each(|partition| partition.bypass_noted.set(false));
        taken
    }
}
