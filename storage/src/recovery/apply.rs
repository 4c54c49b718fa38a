//! The second pass: whole frames into segments, by the same way as in operation.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::journals::{FrameAt, Journals, OldJournal};
use super::plan::{FrameEntry, FrameItem, Plan, read_frame};
use super::summary::RecoverySummary;
use crate::checkpoint::sync_all;
use crate::error::{RecoveryError, StoreError};
use crate::format::envelope::{ENVELOPE_BYTES, EntryKind, Envelope};
use crate::limits::SYNCS_IN_FLIGHT;
use crate::parallel::in_parallel;
use crate::partition::Partition;
use crate::partition_folders;
use crate::partition_id::PartitionId;

use bytes::Bytes;
use ringlog_reactor::sim::{mutant, reached};

type Partitions = BTreeMap<PartitionId, Rc<Partition>>;

/// Puts everything the journals have beyond the checkpoints into segments, and syncs these.
pub(super) async fn apply(
    journals: &Journals,
    plan: &Plan,
    partitions: &Partitions,
    summary: &mut RecoverySummary,
) -> Result<(), RecoveryError> {
    for (journal, frames) in journals.journals.iter().zip(&plan.frames) {
        for frames in frames.chunk_by(|one, next| one.file == next.file) {
            apply_file(journal, frames, partitions, summary).await?;
        }
    }
    if mutant("replayed-unsynced") {
        return Ok(());
    }
    sync_all(partitions.values().filter(|partition| partition.is_unsynced())).await?;
    Ok(())
}

/// Replays the frames of one file. Their entries share its memory, so they are flushed before the next file is loaded.
async fn apply_file(
    journal: &OldJournal,
    frames: &[FrameAt],
    partitions: &Partitions,
    summary: &mut RecoverySummary,
) -> Result<(), RecoveryError> {
    let Some(first) = frames.first() else { return Ok(()) };
    let mut image = journal.load(first.file).await?;
    let mut read = Vec::with_capacity(frames.len());
    for frame in frames {
        let bytes = image.get(frame.offset as usize..).unwrap_or_default();
        let items = read_frame(journal.checkpoint.journal, bytes, frame.sequence);
        let items = items.map_err(|error| changed(journal, frame, error.to_string()))?;
        // The first pass has followed the marks: the partitions were opened at them.
        let entries = items.into_iter().filter_map(FrameItem::into_entry);
        read.push((frame, entries.collect::<Vec<_>>()));
    }
    for (frame, entries) in &read {
        entries.iter().for_each(|entry| leave_unproven(entry, &mut image[frame.offset as usize..]));
    }
    let image = image.freeze();
    for (frame, entries) in read {
        let before = summary.replayed_batches;
        for entry in &entries {
            apply_entry(journal, frame, entry, &image, partitions, summary)?;
        }
        if summary.replayed_batches > before {
            reached("frame replayed");
            summary.replayed_frames += 1;
        }
    }
    // Segments that begin, or end, wait for syncs: several partitions wait at the same time.
    let unflushed: Vec<_> =
        partitions.values().filter(|partition| partition.has_unflushed()).cloned().collect();
    if let Some(first) = unflushed.first() {
        partition_folders::make(first.shared(), unflushed.iter().map(|partition| &**partition)).await?;
    }
    let flush = |partition: Rc<Partition>| async move {
        partition.flush().await?;
        partition.drop_flushed_tail();
        Ok(())
    };
    Ok(in_parallel(SYNCS_IN_FLIGHT, unflushed.iter(), flush).await?)
}

/// Puts the kind into an entry of a frame that does not prove that the journal had it on stable storage: that is not known here.
fn leave_unproven(FrameEntry { at, entry, .. }: &FrameEntry, frame: &mut [u8]) {
    let (front, rest) = frame[*at..].split_at_mut(ENVELOPE_BYTES);
    let prefix = rest.first_chunk().expect("the entry was decoded");
    front.copy_from_slice(
        &Envelope::of(entry.id(), EntryKind::Unproven, entry.envelope.length, prefix).encode(),
    );
}

fn apply_entry(
    journal: &OldJournal,
    frame: &FrameAt,
    FrameEntry { at, entry, sound }: &FrameEntry,
    image: &Bytes,
    partitions: &Partitions,
    summary: &mut RecoverySummary,
) -> Result<(), RecoveryError> {
    let Some(partition) = partitions.get(&entry.id()).filter(|partition| partition.quarantined().is_none())
    else {
        return Ok(());
    };
    let header = &entry.header;
    if header.next_offset() <= partition.log_end() {
        return Ok(());
    }
    // The first pass has seen both; the medium may give other bytes now.
    if header.base_offset != partition.log_end() || !sound {
        return Err(changed(journal, frame, format!("the batch at offset {}", header.base_offset)));
    }
    let from = frame.offset as usize + at;
    let bytes = image.slice(from..from + entry.len());
    partition.push_recovered(header.base_offset, header.last_offset(), header.max_timestamp, bytes);
    summary.replayed_batches += 1;
    summary.replayed_records += header.record_count.unsigned_abs() as u64;
    summary.replayed_bytes += u64::from(entry.envelope.length);
    Ok(())
}

fn changed(journal: &OldJournal, frame: &FrameAt, what: String) -> RecoveryError {
    let error =
        io::Error::new(io::ErrorKind::InvalidData, format!("read differently the second time: {what}"));
    StoreError::io("reading", &journal.files[frame.file])(error).into()
}
