//! What the last cold reads left in memory, per shard: a reader that goes on from where it was needs no index, and often no
//! disk.
//!
//! Invariant: `bytes` is what the runs keep, and at most `READ_CACHE_BYTES` but for a single larger run.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use ringlog_reactor::sim::mutant;

use crate::limits::{MAX_COLD_READS, MAX_READ_SLICES, READ_CACHE_BYTES};
use crate::partition_id::PartitionId;
use crate::permits::{Permit, Permits};
use crate::read_batches::ReadBatches;
use crate::segment::ReadRun;

struct Kept {
    id: PartitionId,
    segment_base: i64,
    run: ReadRun,
}

impl Kept {
    fn next_offset(&self) -> Option<i64> {
        self.run.entries.last().map(|entry| entry.last_offset + 1)
    }

    fn holds(&self, id: PartitionId, offset: i64) -> bool {
        let first = self.run.entries.first().map(|entry| entry.base_offset);
        self.id == id
            && first.is_some_and(|first| first <= offset)
            && self.next_offset().is_some_and(|next| offset < next)
    }
}

pub(crate) struct ReadCache {
    /// The run kept last is at the back.
    runs: RefCell<VecDeque<Kept>>,
    bytes: Cell<usize>,
    reading: Permits,
}

impl ReadCache {
    pub(crate) fn new() -> ReadCache {
        ReadCache { runs: RefCell::default(), bytes: Cell::new(0), reading: Permits::new(MAX_COLD_READS) }
    }

    /// Waits until another cold read may begin.
    pub(crate) async fn permit(&self) -> Permit {
        self.reading.acquire().await
    }

    pub(crate) fn keep(&self, id: PartitionId, segment_base: i64, run: ReadRun) {
        let mut runs = self.runs.borrow_mut();
        self.bytes.set(self.bytes.get() + run.bytes);
        runs.push_back(Kept { id, segment_base, run });
        while self.bytes.get() > READ_CACHE_BYTES && runs.len() > 1 {
            let Some(oldest) = runs.pop_front() else { return };
            self.bytes.set(self.bytes.get() - oldest.run.bytes);
        }
    }

    /// Batches from the one that holds `offset` on, if it is kept, and before `until`: a run that a bypass is writing behind may
    /// hold what is not durable yet.
    pub(crate) fn read(
        &self,
        id: PartitionId,
        offset: i64,
        until: i64,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        let runs = self.runs.borrow();
        let kept = runs.iter().rev().find(|kept| kept.holds(id, offset))?;
        let entries = &kept.run.entries;
        let first = entries.partition_point(|entry| entry.last_offset < offset);
        let mut read = ReadBatches::empty(offset);
        let until = if mutant("cache-past-high-watermark") { i64::MAX } else { until };
        for entry in entries[first..].iter().take_while(|entry| entry.base_offset < until) {
            let full = read.bytes + entry.batch.len() > max_bytes || read.batches.len() == MAX_READ_SLICES;
            if full && !read.batches.is_empty() {
                break;
            }
            read.push(entry.batch.clone(), entry.last_offset + 1);
        }
        Some(read)
    }

    /// Where in a segment the batch at `offset` begins, if the one before it was read last.
    pub(crate) fn position_after(&self, id: PartitionId, segment_base: i64, offset: i64) -> Option<u64> {
        let runs = self.runs.borrow();
        let before = |kept: &&Kept| {
            kept.id == id && kept.segment_base == segment_base && kept.next_offset() == Some(offset)
        };
        runs.iter().rev().find(before).map(|kept| kept.run.next_position)
    }

    /// Forgets a partition.
    pub(crate) fn forget(&self, id: PartitionId) {
        let mut runs = self.runs.borrow_mut();
        runs.retain(|kept| kept.id != id);
        self.bytes.set(runs.iter().map(|kept| kept.run.bytes).sum());
    }
}
