//! From the tail into segments.
//!
//! Invariants:
//! - One flush of a partition runs at a time: the caller holds the shard's flush lock, under which several partitions may be flushed.
//! - Only durable entries are flushed, so segments hold nothing that may not be read.
//! - What is to be synced is noted before the sync begins: bytes written meanwhile wait for the next.

use std::rc::Rc;

use ringlog_reactor::sim::reached;

use super::Partition;
use crate::error::StoreError;
use crate::limits::FLUSH_WRITE_BYTES;
use crate::partition_folders;
use crate::segment::{FlushEntry, Segment};
use crate::stats::count;

impl Partition {
    /// Writes everything that is durable now into segments.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let Some(_working) = self.activity.enter() else { return Ok(()) };
        self.learn_age().await;
        let until = self.durable_end.get();
        while self.flushed_end.get() < until && !self.is_deleted() {
            self.flush_once(until).await?;
        }
        Ok(())
    }

    /// Whether the next flush has to begin a segment.
    pub(crate) fn must_roll(&self) -> bool {
        let first = self.next_entries(self.durable_end.get(), None).pop();
        first.is_some_and(|first| self.segment_with_room(&first).is_none())
    }

    /// Begins the segment that the next flush needs. The caller holds the flush lock.
    pub(crate) async fn roll_for_flush(&self) -> Result<(), StoreError> {
        let Some(_working) = self.activity.enter() else { return Ok(()) };
        if self.is_deleted() || !self.must_roll() {
            return Ok(());
        }
        self.roll().await.map(drop)
    }

    async fn flush_once(&self, until: i64) -> Result<(), StoreError> {
        let Some(first) = self.next_entries(until, None).pop() else { return Ok(()) };
        let segment = self.segment_for(&first).await?;
        let entries = self.next_entries(until, Some(&segment));
        let Some(last) = entries.last() else { return Ok(()) };
        let next_offset = last.last_offset + 1;
        segment.append(&entries).await?;
        if self.is_deleted() {
            return Ok(());
        }
        self.tail.borrow_mut().flushed(entries.len());
        self.flushed_end.set(next_offset);
        self.unsynced.set(true);
        self.grown.set(true);
        self.unflushed_since.set(self.shared.agenda.now_ms());
        Ok(())
    }

    /// The entries of the next write: as many as one write takes and `segment` has room for, but the first in any case.
    /// Only the first without a segment.
    fn next_entries(&self, until: i64, segment: Option<&Segment>) -> Vec<FlushEntry> {
        let segment_bytes = self.segment_bytes();
        let from = segment.map_or(0, Segment::written);
        let mut position = from;
        self.tail.borrow().to_flush(until, |entry| {
            let first = position == from;
            let room = segment.is_some_and(|segment| {
                ((position - from) as usize) < FLUSH_WRITE_BYTES
                    && segment.has_room(position, entry, segment_bytes)
            });
            // A few bytes of padding inside the write are left out here; the segment's size is a soft bound.
            position += entry.bytes.len() as u64;
            first || room
        })
    }

    /// The segment that takes an entry: the active one, or the next if that is full.
    async fn segment_for(&self, entry: &FlushEntry) -> Result<Rc<Segment>, StoreError> {
        match self.segment_with_room(entry) {
            Some(active) => Ok(active),
            None => self.roll().await,
        }
    }

    fn segment_with_room(&self, entry: &FlushEntry) -> Option<Rc<Segment>> {
        let has_room = |active: &Rc<Segment>| {
            !active.is_sealed()
                && !self.is_too_old(active)
                && active.has_room(active.written(), entry, self.segment_bytes())
        };
        self.active_segment().filter(has_room)
    }

    /// Seals the active segment, if there is one, and begins the next behind all that is flushed.
    pub(super) async fn roll(&self) -> Result<Rc<Segment>, StoreError> {
        let active = self.active_segment();
        if let Some(active) = active.filter(|active| !active.is_sealed()) {
            reached("segment rolled");
            active.seal().await?;
            count(&self.shared.counters.rolls);
            self.keep_open(&active);
        }
        partition_folders::make(&self.shared, std::iter::once(self)).await?;
        let durable_end = (!self.is_replayed.get()).then(|| self.durable_end.get());
        let base_offset = self.flushed_end.get();
        let segment = Rc::new(Segment::create(self.segment_context(), base_offset, durable_end).await?);
        if self.has_unflushed() {
            segment.begun_at(self.unflushed_since.get());
        }
        self.segments.borrow_mut().push(Rc::clone(&segment));
        self.unsynced.set(true);
        self.note_rolled();
        Ok(segment)
    }

    /// Begins a new segment, whose header is on stable storage when this returns. The caller holds the flush lock.
    pub(crate) async fn roll_for_bypass(&self) -> Result<(), StoreError> {
        self.roll().await?;
        self.sync().await
    }

    /// Whether a sync would change what a checkpoint can say.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced.get() && !self.is_deleted()
    }

    /// Waits until all that is flushed now is on stable storage.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let Some(_working) = self.activity.enter() else { return Ok(()) };
        let Some(active) = self.active_segment() else { return Ok(()) };
        let point = (self.flushed_end.get(), Some(active.point()));
        active.sync().await?;
        // A bypass may have got further meanwhile, with syncs of its own.
        if self.synced.get().0 <= point.0 {
            self.synced.set(point);
        }
        self.unsynced.set(false);
        Ok(())
    }

    /// Whether anything was flushed since the start.
    pub(crate) fn has_grown(&self) -> bool {
        self.grown.get()
    }

    /// Writes the active segment's index, so that the next start need not scan it.
    pub(crate) async fn save_index(&self) {
        let active = self.active_segment();
        if let Some(active) = active.filter(|active| !active.is_sealed()) {
            active.save_index().await;
        }
    }

    /// Forgets the entries in memory that recovery has flushed.
    pub(crate) fn drop_flushed_tail(&self) {
        self.tail.borrow_mut().evict_chunk(0);
        self.is_replayed.set(false);
    }
}
