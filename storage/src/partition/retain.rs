//! What is old enough to go: whole segments, oldest first.
//!
//! Invariants:
//! - Only sealed segments go, and the last one stays: a checkpoint always has an active segment to name.
//! - A segment that the next checkpoint would name stays: what is synced is looked at first.
//! - The start offset moves first, and is in a checkpoint before a file is removed: a crash in between leaves files
//!   below the start, which the next round removes.

use std::path::PathBuf;
use std::rc::Rc;

use ringlog_reactor::sim::reached;

use super::Partition;
use crate::error::StoreError;
use crate::layout;
use crate::segment::Segment;

impl Partition {
    /// Moves the start offset behind the segments that the partition's settings let go, and forgets these. Returns the
    /// files to remove once a checkpoint has the new start, which needs no flush. The caller holds the flush lock.
    pub(crate) async fn retain(&self, now_ms: i64) -> Result<Vec<PathBuf>, StoreError> {
        let Some(_working) = self.activity.enter() else { return Ok(Vec::new()) };
        if self.quarantined().is_some() {
            return Ok(Vec::new());
        }
        let expired = self.expired(now_ms).await;
        let Some(last) = expired.last() else { return Ok(Vec::new()) };
        let named = self.synced.get().1.map_or(0, |active| active.base_offset);
        if named < last.end_offset() {
            // The next checkpoint must name a segment that stays.
            self.sync().await?;
        }
        reached("retention let segments go");
        self.start.set(last.end_offset().max(self.start.get()));
        self.segments.borrow_mut().drain(..expired.len());
        self.changed.notify_all();
        let files = expired
            .iter()
            .flat_map(|segment| [segment.path(), layout::index_file(&self.dir, segment.base_offset())]);
        Ok(files.collect())
    }

    /// The oldest segments that may go.
    async fn expired(&self, now_ms: i64) -> Vec<Rc<Segment>> {
        let segments = self.segments();
        let mut kept_bytes: u64 = segments.iter().map(|segment| segment.written()).sum();
        let mut expired = Vec::new();
        for segment in segments.iter().take(segments.len().saturating_sub(1)) {
            kept_bytes -= segment.written();
            let too_many = self.spec.config.retention_bytes.is_some_and(|limit| kept_bytes >= limit);
            let gone = segment.end_offset() <= self.start.get();
            // A bypass may have written more than a mark tells of yet.
            let durable = segment.end_offset() <= self.durable_end.get();
            if !durable || !(gone || too_many || self.is_expired(segment, now_ms).await) {
                break;
            }
            expired.push(Rc::clone(segment));
        }
        expired
    }

    /// Whether every record of a segment is older than the partition keeps them. A segment that cannot be read, or whose
    /// records tell no time, stays.
    async fn is_expired(&self, segment: &Segment, now_ms: i64) -> bool {
        let Some(keep_ms) = self.spec.config.retention_ms else { return false };
        let oldest = now_ms.saturating_sub(i64::try_from(keep_ms).unwrap_or(i64::MAX));
        self.keep_open(segment);
        segment.newest_timestamp().await.is_ok_and(|newest| (0..oldest).contains(&newest))
    }

    /// Whether nobody writes into its segments.
    fn is_at_rest(&self) -> bool {
        !self.has_unflushed() && !self.is_bypassing()
    }

    /// Begins a new segment if the last one, all of it, is old enough to go: a partition that gets no more records must
    /// not keep its last ones for ever.
    pub(crate) async fn roll_if_expired(&self, now_ms: i64) -> Result<(), StoreError> {
        let Some(_working) = self.activity.enter() else { return Ok(()) };
        if self.quarantined().is_some() {
            return Ok(());
        }
        let last = self.segments.borrow().last().cloned();
        match last {
            Some(last) if last.end_offset() > last.base_offset() && self.is_at_rest() => {
                if self.is_expired(&last, now_ms).await {
                    reached("last segment expired");
                    self.roll().await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
