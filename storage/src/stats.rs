//! Counters: what has happened since the start. Tests assert through them that rare states were reached.

use std::cell::Cell;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened in a store since its start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct StoreStats { $($(#[$doc])* pub $name: u64,)* }

        /// The running counters behind [`StoreStats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Cell<u64>,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> StoreStats {
                StoreStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

stats! {
    /// Batches appended.
    appends,
    /// Bytes of the batches appended.
    appended_bytes,
    /// Batches that went past the journal, straight into a segment.
    bypasses,
    /// Bytes of runs of such batches written, padding included.
    bypassed_bytes,
    /// Marks put into the journal.
    marks,
    /// Batches that were to go past the journal and were put into it, because nothing large came with them.
    put_back,
    /// Frames made durable.
    commits,
    /// Frames that were written while another was under way.
    overlapped_commits,
    /// Bytes written to the journal, padding included.
    committed_bytes,
    /// Appends refused because log memory or the journal was full.
    refused_full,
    /// Journal files written from their start again.
    recycles,
    /// Journal files made.
    journal_files_made,
    /// Writes into segments.
    flushes,
    /// Bytes written into segments, padding included.
    flushed_bytes,
    /// Segments sealed because they were full.
    rolls,
    /// Files removed because their records need not be kept.
    retired_files,
    /// Checkpoints completed.
    checkpoints,
    /// Chunks of log memory given up.
    evictions,
    /// Bytes of log memory held now.
    tail_bytes,
    /// Reads of segments.
    cold_reads,
    /// Bytes of segments read.
    cold_bytes,
    /// Reads answered by what an earlier cold read had left.
    cached_reads,
    /// Segment indexes rebuilt by scanning.
    index_rebuilds,
    /// Segment indexes loaded from their files.
    index_loads,
    /// Damaged places found by reads.
    corrupt_reads,
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

/// Counts one.
pub(crate) fn count(counter: &Cell<u64>) {
    add(counter, 1);
}
