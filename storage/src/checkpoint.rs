//! The flush task: entries into segments, and checkpoints, after which journal files are free again.
//!
//! Invariants:
//! - The order of a checkpoint: segment data written, segment data synced, both copies of the checkpoint replaced, journal files
//!   freed.
//! - A checkpoint frees frames only up to the one that was durable when it began, and everything durable then is flushed and
//!   synced by it.
//! - A full disk, and too many open files, are waited out; every other failure is final.

use std::rc::Rc;

use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{now, sleep, timeout, yield_now};

use crate::checkpoint_file;
use crate::error::StoreError;
use crate::format::checkpoint::Checkpoint;
use crate::format::identity::JournalIdentity;
use crate::inner::Inner;
use crate::journal_files::{self, JournalFile};
use crate::limits::{DISK_FULL_PAUSE, FLUSHES_IN_FLIGHT, SYNCS_IN_FLIGHT};
use crate::parallel::in_parallel;
use crate::partition::Partition;
use crate::partition_folders;
use crate::stats::count;

/// Flushes and checkpoints until the store has failed or is closed.
pub(crate) async fn run(inner: Rc<Inner>) {
    while !inner.closed.get() && inner.health.failure().is_none() {
        let wake = inner.flusher.wake.notified();
        if !inner.flusher.checkpoint_due.get() && inner.flusher.eager.borrow().is_empty() {
            wake.await;
            continue;
        }
        let lock = inner.flusher.lock.acquire().await;
        let result = flush_round(&inner).await;
        drop(lock);
        if !settle(&inner, result).await {
            return;
        }
        // Whoever waits for the lock gets it before the next round, which may be due already.
        yield_now().await;
    }
}

/// Draws the conclusions from an attempt. False when there must be no other.
pub(crate) async fn settle(inner: &Inner, result: Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => {
            inner.health.set_disk_full(false);
            inner.committer.room.notify_all();
            true
        }
        Err(error) if error.is_disk_full() => {
            inner.health.set_disk_full(true);
            // What was to be done is still to be done.
            inner.flusher.checkpoint_due.set(true);
            pause(inner).await;
            true
        }
        Err(error) if error.is_out_of_descriptors() || mutant("retry-after-failed-sync") => {
            tracing::warn!(shard = inner.config.shard, %error, "a flush waits for a file descriptor");
            inner.flusher.checkpoint_due.set(true);
            pause(inner).await;
            true
        }
        Err(error) => {
            inner.health.fail(error.to_string());
            false
        }
    }
}

/// Waits before what failed is tried again. Closing the store ends it early; other wake-ups do not, or a full disk would be tried,
/// and complained about, as often as there is work.
async fn pause(inner: &Inner) {
    let until = now() + DISK_FULL_PAUSE;
    while !inner.closed.get() && inner.health.failure().is_none() {
        let wake = inner.flusher.wake.notified();
        let left = until.saturating_since(now());
        if left.is_zero() || timeout(left, wake).await.is_err() {
            return;
        }
    }
}

async fn flush_round(inner: &Rc<Inner>) -> Result<(), StoreError> {
    inner.health.check()?;
    if inner.flusher.checkpoint_due.get() {
        return checkpoint(inner, false).await;
    }
    let next = inner.flusher.eager.borrow_mut().pop_front();
    let Some(partition) = next else { return Ok(()) };
    partition.flush_queued.set(false);
    flush(inner, &partition).await
}

pub(crate) async fn flush(inner: &Inner, partition: &Rc<Partition>) -> Result<(), StoreError> {
    partition.flush().await?;
    if !partition.has_unflushed() || mutant("flushed-taken-for-clean") {
        inner.flusher.dirty.borrow_mut().remove(&partition.id());
    }
    inner.committer.room.notify_all();
    Ok(())
}

/// Makes everything durable now stand in synced segments, says so in the checkpoint file, and frees the journal up to
/// there. The caller holds the flush lock, and may have waited for it while the one before it failed: a sync that failed
/// must not be tried again, because it could falsely succeed.
pub(crate) async fn checkpoint(inner: &Rc<Inner>, clean: bool) -> Result<(), StoreError> {
    inner.health.check()?;
    inner.flusher.checkpoint_due.set(false);
    let upto = {
        let mut journal = inner.committer.journal.borrow_mut();
        journal.memory().take_growth();
        inner.direct.bytes_since_checkpoint.set(0);
        journal.durable()
    };
    flush_all(inner).await?;
    let partitions: Vec<_> = inner.partitions.borrow().values().cloned().collect();
    sync_all(partitions.iter().filter(|partition| partition.is_unsynced())).await?;
    let upto =
        if mutant("journal-freed-too-far") { inner.committer.journal.borrow().durable() } else { upto };
    if mutant("drop-journal-before-checkpoint") {
        inner.committer.files.free_upto(upto);
    }
    let clean = clean || mutant("checkpoint-says-clean");
    let journal_from = upto.0 + if mutant("checkpoint-skips-a-frame") { 2 } else { 1 };
    write(inner, clean, journal_from).await?;
    inner.committer.files.free_upto(upto);
    reached("checkpoint made");
    count(&inner.shared.counters.checkpoints);
    Ok(())
}

/// Makes the start offsets durable, without a flush: it says what is synced now, and needs as much of the journal as the
/// checkpoint before it. So it needs no space but its own, which is reserved. The caller holds the flush lock.
pub(crate) async fn checkpoint_starts(inner: &Rc<Inner>) -> Result<(), StoreError> {
    inner.health.check()?;
    write(inner, false, inner.flusher.journal_from.get()).await?;
    reached("checkpoint of start offsets made");
    Ok(())
}

async fn write(inner: &Rc<Inner>, clean: bool, journal_from: u64) -> Result<(), StoreError> {
    let journal = inner.committer.journal.borrow().identity();
    let partitions: Vec<_> = inner.partitions.borrow().values().map(|partition| partition.point()).collect();
    let (dir, checkpoint) = (&inner.dir, &Checkpoint { journal, clean, journal_from, partitions });
    let replaced = inner.shared.descriptors.with_one(|| checkpoint_file::write(dir, checkpoint)).await;
    replaced.map_err(StoreError::io("replacing the checkpoint in", dir))?;
    inner.flusher.journal_from.set(journal_from);
    Ok(())
}

/// Flushes what is durable now. Where there is no space for new segments, it flushes what needs none first.
async fn flush_all(inner: &Rc<Inner>) -> Result<(), StoreError> {
    let dirty: Vec<_> = inner.flusher.dirty.borrow().values().cloned().collect();
    let (full, others): (Vec<_>, Vec<_>) = dirty.into_iter().partition(|partition| partition.must_roll());
    flush_in_groups(inner, &others, false).await?;
    flush_in_groups(inner, &full, true).await
}

/// What is flushed stays open until it is synced, as far as there are descriptors: of more partitions than that, a group is
/// synced before the next is flushed. Without that one sync would be waited for after the other.
async fn flush_in_groups(inner: &Rc<Inner>, all: &[Rc<Partition>], full: bool) -> Result<(), StoreError> {
    let at_once = (inner.shared.descriptors.limit() / 2).max(1);
    for group in all.chunks(at_once) {
        if full {
            // A segment that begins costs syncs, which are waited for. A thousand partitions that are new, or full, at the same
            // time would hold the checkpoint up for as long as the journal lasts.
            make_folders(inner, group).await?;
            let roll = |partition: Rc<Partition>| async move { partition.roll_for_flush().await };
            in_parallel(SYNCS_IN_FLIGHT, group.iter(), roll).await?;
        }
        flush_each(inner, group).await?;
        if all.len() > at_once {
            reached("flushed in groups");
            sync_all(group.iter().filter(|partition| partition.is_unsynced())).await?;
        }
    }
    Ok(())
}

async fn make_folders(inner: &Inner, group: &[Rc<Partition>]) -> Result<(), StoreError> {
    let working = group.iter().filter_map(|partition| Some((partition.activity().enter()?, partition)));
    let working: Vec<_> = working.collect();
    partition_folders::make(&inner.shared, working.iter().map(|(_, partition)| &***partition)).await
}

/// Flushes one partition after the other, which holds commits up the least. But when the journal is about to run full, commits will wait
/// for the checkpoint, and it has to be over soon.
async fn flush_each(inner: &Rc<Inner>, partitions: &[Rc<Partition>]) -> Result<(), StoreError> {
    let mut left = partitions.iter();
    while !inner.committer.files.are_short() {
        let Some(partition) = left.next() else { return Ok(()) };
        flush(inner, partition).await?;
    }
    in_parallel(FLUSHES_IN_FLIGHT, left, |partition| {
        let inner = Rc::clone(inner);
        async move { flush(&inner, &partition).await }
    })
    .await
}

/// Syncs the partitions' active segments, several at a time.
pub(crate) async fn sync_all<'a>(
    partitions: impl Iterator<Item = &'a Rc<Partition>>,
) -> Result<(), StoreError> {
    let sync = |partition: Rc<Partition>| async move { partition.sync().await };
    in_parallel(SYNCS_IN_FLIGHT, partitions, sync).await
}

/// Writes the first checkpoint of an epoch: nothing of its journal is needed yet.
pub(crate) async fn write_first(
    dir: &std::path::Path,
    journal: JournalIdentity,
    partitions: impl Iterator<Item = &Rc<Partition>>,
) -> Result<(), StoreError> {
    let partitions = partitions.map(|partition| partition.point()).collect();
    let checkpoint = Checkpoint { journal, clean: false, journal_from: 1, partitions };
    let replaced = checkpoint_file::write(dir, &checkpoint).await;
    replaced.map_err(StoreError::io("replacing the checkpoint in", dir))
}

/// Makes the journal files that are still missing. A full disk is waited out: the journal gets by with fewer.
pub(crate) async fn make_files(inner: Rc<Inner>, from: u32) {
    let (mut number, mut is_told) = (from, false);
    while number < inner.config.journal_files && !inner.closing.get() && inner.health.failure().is_none() {
        match make_file(&inner, number).await {
            Ok(file) => {
                count(&inner.shared.counters.journal_files_made);
                inner.committer.files.add(file);
                inner.committer.room.notify_all();
                number += 1;
            }
            Err(error) if error.can_be_waited_out() => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(shard = inner.config.shard, %error, "a journal file could not be made yet");
                }
                sleep(DISK_FULL_PAUSE).await;
            }
            Err(error) => inner.health.fail(error.to_string()),
        }
    }
}

async fn make_file(inner: &Inner, number: u32) -> Result<JournalFile, StoreError> {
    let file = journal_files::make(&inner.dir, number, inner.config.journal_file_bytes).await?;
    let _lock = inner.flusher.lock.acquire().await;
    journal_files::name(&inner.dir, number).await?;
    Ok(file)
}
