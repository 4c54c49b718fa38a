//! What segments prove of themselves: how far a log went when no checkpoint says it, and that the end of a journal is lost.
//!
//! Rules:
//! - A segment behind which another begins was sealed: all of it is the log's. Of the last one everything is that follows on what
//!   is before it and is sound: a start cuts off what stands behind the end of a segment before anything is written there.
//! - What is in a segment through the journal was on stable storage in the journal before. What went past it proves nothing of
//!   itself, but may tell how far everything before it was; so does a segment's header. If the journal ends before, its end is
//!   lost.

use std::path::PathBuf;

use ringlog_reactor::sim::{mutant, reached};

use super::places::{Place, read_front};
use super::summary::RecoverySummary;
use crate::error::{RecoveryError, StoreError};
use crate::format::checkpoint::PartitionPoint;
use crate::format::envelope::EntryKind;
use crate::format::identity::ActiveSegment;
use crate::format::segment::SegmentHeader;
use crate::layout;
use crate::limits::{BLOCK_BYTES, round_up_position};
use crate::partition::{Partition, Shared};
use crate::reading::{check_kind, tried};
use crate::segment::WalkedEntry;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The end of what stands in a segment.
struct Stands {
    position: u64,
    next_offset: i64,
}

/// A place that shows how far the log was on stable storage.
struct Proof {
    path: PathBuf,
    position: u64,
    durable_end: i64,
}

impl Place {
    /// Takes the partition as its segments show it, to the last batch that follows on the one before it.
    pub(super) async fn take_from_segments(&mut self, shared: &Shared) {
        for found in self.found.clone().into_iter().rev() {
            let base_offset = found.base_offset;
            let mut end = Some(Stands { position: BLOCK, next_offset: base_offset });
            let mut is_whole = true;
            let mut see = |entry: &WalkedEntry| {
                is_whole &= entry.sound;
                if is_whole {
                    end = Some(Stands { position: entry.end, next_offset: entry.header.next_offset() });
                }
            };
            let segment = self.segment(base_offset, shared);
            if check_kind(found.kind).is_err() || segment.file().await.is_err() {
                continue;
            }
            // What cannot be read ends the log.
            let _ = segment.walk_on(BLOCK, base_offset, &mut see).await;
            let Some(end) = end.filter(|end| end.next_offset >= self.point.next_offset) else { continue };
            let bytes = round_up_position(end.position);
            self.point.active = Some(ActiveSegment { base_offset, bytes });
            self.point.next_offset = end.next_offset;
            self.sort_found();
            return;
        }
    }

    /// Looks for entries behind `end`, where the log ends with all that the journals have, that had been on stable storage.
    pub(super) async fn find_lost_end(
        &mut self,
        end: i64,
        shared: &Shared,
        summary: &mut RecoverySummary,
    ) -> Result<(), RecoveryError> {
        if self.is_quarantined() || mutant("lost-end-ignored") {
            return Ok(());
        }
        let leftover = self
            .point
            .active
            .filter(|active| self.found(active.base_offset).is_some_and(|found| found.bytes > active.bytes));
        let leftover = leftover.map(|active| (active.base_offset, active.bytes, self.point.next_offset));
        let unknown = self.unknown.iter().map(|base| (*base, BLOCK, *base));
        for (base_offset, position, offset) in leftover.into_iter().chain(unknown).collect::<Vec<_>>() {
            let path = layout::segment_file(&self.dir, base_offset);
            let proof = match self.proof(base_offset, position, offset, shared).await {
                Ok(proof) => proof.filter(|proof| proof.durable_end > end),
                Err(error) => {
                    let reason = StoreError::unreadable("reading", &path, error)?;
                    self.damaged(path, reason, summary);
                    return Ok(());
                }
            };
            let Some(Proof { path, position, durable_end }) = proof else { continue };
            reached("lost end of a journal proven by a segment");
            let reason = format!(
                "offsets {end} to {} were on stable storage, and the journal does not have them: its end is lost",
                durable_end - 1
            );
            summary.journal_damaged = true;
            self.damaged_at(path, position, reason, summary);
            self.take_from_segments(shared).await;
            return Ok(());
        }
        Ok(())
    }

    /// What the entries of a segment from `position` on prove, where that of `offset` is.
    async fn proof(
        &self,
        base_offset: i64,
        position: u64,
        offset: i64,
        shared: &Shared,
    ) -> std::io::Result<Option<Proof>> {
        let path = layout::segment_file(&self.dir, base_offset);
        let (_, front) = tried(|| read_front(&path)).await?;
        // Where the header was never written, nothing is.
        let Ok(header) = SegmentHeader::decode(&front) else { return Ok(None) };
        if (header.id, header.base_offset) != (self.spec.id, base_offset) {
            return Ok(None);
        }
        let mut best = Proof { path, position: 0, durable_end: header.durable_end.unwrap_or(0) };
        let mut see = |entry: &WalkedEntry| {
            let durable_end = match entry.kind {
                EntryKind::Journaled => entry.header.next_offset(),
                EntryKind::BypassedNext => entry.header.base_offset,
                EntryKind::Unproven => return,
            };
            if entry.sound && durable_end > best.durable_end {
                (best.position, best.durable_end) = (entry.position, durable_end);
            }
        };
        self.segment(base_offset, shared).walk_on(position, offset, &mut see).await?;
        Ok(Some(best))
    }

    /// A segment of which only what it holds says where it ends.
    fn segment(&self, base_offset: i64, shared: &Shared) -> std::rc::Rc<crate::segment::Segment> {
        let bytes = self.found(base_offset).map_or(BLOCK, |found| found.bytes);
        let active = Some(ActiveSegment { base_offset, bytes });
        let point = PartitionPoint { active, next_offset: i64::MAX, ..PartitionPoint::new(self.spec.id) };
        let partition = Partition::at_rest(self.spec.clone(), &point, &[], shared.clone());
        partition.active_segment().expect("it was given one")
    }
}
