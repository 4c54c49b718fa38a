//! What is old enough to go: whole segments, oldest first.
//!
//! Invariants:
//! - Only sealed segments go, and the last one stays: a checkpoint always has an active segment to name.
//! - A segment that the next checkpoint would name stays: what is synced is looked at first.
//! - The start offset moves first, and is in a checkpoint before a file is removed: a crash in between leaves files
//!   below the start, which the next round removes.
//! - A record goes by its own time within bounds: one from before 1970 does not count, and none is later than the
//!   last write into its segment. So one record cannot keep what stands with it and behind it.
//! - With `retention.ms` nothing is in the journal alone, and no segment takes records, for longer than a grain
//!   ([`grain_ms`]) and a round: what stands together goes together, so this bounds how much longer a record stays.

use std::path::PathBuf;
use std::rc::Rc;

use ringlog_reactor::sim::{mutant, reached};

use super::Partition;
use crate::agenda::NEVER;
use crate::error::StoreError;
use crate::layout;
use crate::limits::{MIN_RETENTION_GRAIN_MS, RETENTION_GRAINS, RETENTION_RETRY_MS};
use crate::segment::{Segment, SegmentError};

/// For how long records are gathered in one segment, of a partition that keeps them for `keep_ms`.
fn grain_ms(keep_ms: i64) -> i64 {
    (keep_ms / RETENTION_GRAINS).max(MIN_RETENTION_GRAIN_MS)
}

impl Partition {
    /// How long records are kept, in milliseconds.
    fn keep_ms(&self) -> Option<i64> {
        self.spec.config.retention_ms.map(|keep| i64::try_from(keep).unwrap_or(NEVER))
    }

    /// Notes that the partition holds something from now on that a segment does not hold.
    pub(crate) fn note_unflushed(&self) {
        let now_ms = self.shared.agenda.now_ms();
        self.unflushed_since.set(now_ms);
        if let Some(keep_ms) = self.keep_ms() {
            self.put_down(now_ms.saturating_add(grain_ms(keep_ms)));
        }
    }

    /// Notes that a segment was begun, and the one before it sealed.
    pub(super) fn note_rolled(&self) {
        if self.spec.config.retention_bytes.is_some() {
            self.shared.agenda.put_soon(self.id(), &self.retention_due);
        }
    }

    /// Has retention look at the partition in its next round, if it holds anything that may go.
    pub(crate) fn note_recovered(&self) {
        let config = &self.spec.config;
        let may_go = config.retention_ms.is_some() || config.retention_bytes.is_some();
        if may_go && !self.segments.borrow().is_empty() {
            self.put_down(i64::MIN);
        }
    }

    fn put_down(&self, at_ms: i64) {
        self.shared.agenda.put(self.id(), &self.retention_due, at_ms);
    }

    /// Notes that the partition was taken from the agenda.
    pub(crate) fn taken_from_agenda(&self) {
        self.retention_due.set(NEVER);
    }

    /// Whether what is in the journal alone is to be flushed, because it may be time for it to go.
    pub(crate) fn is_unflushed_for_long(&self, now_ms: i64) -> bool {
        let since = self.unflushed_since.get();
        let flush = |keep_ms: i64| since.saturating_add(grain_ms(keep_ms)) <= now_ms;
        self.has_unflushed()
            && !self.is_bypassing()
            && self.keep_ms().is_some_and(flush)
            && !mutant("quiet-partitions-unflushed")
    }

    /// Whether a segment that is written has taken records for long enough.
    pub(crate) fn is_too_old(&self, active: &Segment) -> bool {
        let Some(keep_ms) = self.keep_ms() else { return false };
        let holds_records = active.end_offset() > active.base_offset();
        let begun = active.begun_ms();
        holds_records
            && begun
                .is_some_and(|begun| begun.saturating_add(grain_ms(keep_ms)) <= self.shared.agenda.now_ms())
    }

    /// Finds out since when the active segment takes records, if an earlier start began it: with what comes now, those would stay for
    /// longer than they may.
    pub(super) async fn learn_age(&self) {
        if self.keep_ms().is_none() || self.is_replayed.get() || mutant("age-unlearned") {
            return;
        }
        let unknown = |active: &Rc<Segment>| active.begun_ms().is_none() && !active.is_sealed();
        if let Some(active) = self.active_segment().filter(unknown)
            && let Err(error) = active.last_write_ms().await
        {
            tracing::debug!(partition = %self.id(), %error, "the age of a segment is not known yet");
        }
    }

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
        let start = last.end_offset() + i64::from(mutant("start-offset-one-too-late"));
        self.start.set(start.max(self.start.get()));
        self.segments.borrow_mut().drain(..expired.len());
        self.changed.notify_all();
        let files = expired
            .iter()
            .flat_map(|segment| [segment.path(), layout::index_file(&self.dir(), segment.base_offset())]);
        Ok(files.collect())
    }

    /// The oldest segments that may go.
    async fn expired(&self, now_ms: i64) -> Vec<Rc<Segment>> {
        let segments = self.segments();
        let mut kept_bytes: u64 = segments.iter().map(|segment| segment.written()).sum();
        let mut expired = Vec::new();
        for segment in segments.iter().take(segments.len().saturating_sub(1)) {
            kept_bytes -= segment.written();
            let counted = if mutant("retention-one-too-early") { segment.written() } else { 0 };
            let too_many =
                self.spec.config.retention_bytes.is_some_and(|limit| kept_bytes + counted >= limit);
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

    /// Whether every record of a segment is older than the partition keeps them. A segment that cannot be read stays.
    async fn is_expired(&self, segment: &Segment, now_ms: i64) -> bool {
        self.expiry(segment).await.is_ok_and(|expiry| expiry < now_ms)
    }

    /// The time after which a segment may go; [`NEVER`] while it must stay.
    async fn expiry(&self, segment: &Segment) -> Result<i64, SegmentError> {
        let Some(keep_ms) = self.keep_ms() else { return Ok(NEVER) };
        let keep_ms = if mutant("retention-keeps-half-the-time") { keep_ms / 2 } else { keep_ms };
        self.keep_open(segment);
        let Some(newest) = segment.newest_timestamp().await? else { return Ok(NEVER) };
        let written = segment.last_write_ms().await?;
        let newest = match newest {
            newest if mutant("future-times-believed") => newest,
            ..0 => written,
            newest => newest.min(written),
        };
        Ok(newest.saturating_add(keep_ms))
    }

    /// Puts the partition down for the time when something of it may go next.
    pub(crate) async fn plan_retention(&self, now_ms: i64) {
        let Some(keep_ms) = self.keep_ms() else { return };
        if self.quarantined().is_some() || self.is_deleted() {
            return;
        }
        let mut next = NEVER;
        if self.has_unflushed() || self.is_bypassing() {
            next = self.unflushed_since.get().saturating_add(grain_ms(keep_ms));
        }
        let oldest = self.segments().into_iter().find(|segment| segment.end_offset() > segment.base_offset());
        if let Some(oldest) = oldest {
            // A segment whose file cannot be read now is looked at again; a damaged one is not.
            let expiry = self.expiry(&oldest).await.unwrap_or(now_ms);
            next = next.min(expiry.saturating_add(1));
        }
        self.put_down(next.max(now_ms.saturating_add(RETENTION_RETRY_MS)));
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
