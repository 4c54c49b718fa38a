//! What those tasks share that write large batches past the journal.

use std::cell::Cell;

#[derive(Default)]
pub(crate) struct DirectWriter {
    /// Partitions that bypass the journal.
    pub(crate) active: Cell<usize>,
    pub(crate) bytes_since_checkpoint: Cell<u64>,
}
