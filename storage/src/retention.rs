//! The retention task: now and then, what is older or more than a partition keeps goes.
//!
//! Invariants:
//! - What frees space waits for no space: start offsets are made durable without a flush, from a reserve where the disk is full.
//! - A partition of which nothing may go costs a round nothing: the agenda has those that are due.
//! - A file is removed only after a checkpoint has the start offset that lies behind it.

use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{fs, sleep, timeout};

use crate::checkpoint::{checkpoint, checkpoint_starts, flush};
use crate::error::StoreError;
use crate::inner::Inner;
use crate::limits::RETENTION_AT_ONCE;
use crate::partition::Partition;
use crate::stats::count;

/// How often it is looked whether something may go, and is only in the journal for too long.
const EVERY: Duration = Duration::from_secs(10);
/// The same while the disk is full, and how long segments that have become full are gathered for one round.
const SOON: Duration = Duration::from_secs(1);

/// Runs until the store has failed or is closing.
pub(crate) async fn run(inner: Rc<Inner>) {
    inner.shared.agenda.look_at_clock();
    loop {
        pause(&inner).await;
        if inner.closing.get() || inner.health.failure().is_some() {
            return;
        }
        match round(&inner).await {
            Ok(()) => {}
            Err(error) if error.can_be_waited_out() => {
                tracing::debug!(shard = inner.config.shard, %error, "retention waits");
            }
            Err(_) if inner.closing.get() => return,
            Err(error) => return inner.health.fail(error.to_string()),
        }
    }
}

async fn pause(inner: &Inner) {
    if inner.health.is_disk_full() {
        return sleep(SOON).await;
    }
    let wake = inner.shared.agenda.woken();
    if timeout(EVERY, wake).await.is_ok() && !inner.health.is_disk_full() {
        sleep(SOON).await;
    }
}

/// Lets go what may go, a few partitions at a time: between them others get the lock.
async fn round(inner: &Rc<Inner>) -> Result<(), StoreError> {
    let now_ms = inner.shared.agenda.look_at_clock();
    let mut result = Ok(());
    loop {
        let _lock = inner.flusher.lock.acquire().await;
        inner.health.check()?;
        let due = inner.shared.agenda.take(now_ms, RETENTION_AT_ONCE);
        for id in &due {
            let partition = inner.partitions.borrow().get(id).cloned();
            let Some(partition) = partition else { continue };
            // Without space no new segment can be begun; what others let go makes some.
            if let Err(error) = retain(inner, &partition, now_ms).await {
                if !error.can_be_waited_out() {
                    return Err(error);
                }
                result = Err(error);
            }
        }
        let_go(inner).await?;
        if due.len() < RETENTION_AT_ONCE || inner.closing.get() {
            return result;
        }
    }
}

/// Makes the new start offsets durable, and removes the files that are below.
async fn let_go(inner: &Rc<Inner>) -> Result<(), StoreError> {
    if inner.flusher.expired.borrow().is_empty() {
        return Ok(());
    }
    if mutant("retention-flushes-first") {
        checkpoint(inner, false).await?;
    } else if !mutant("start-offset-not-durable") {
        checkpoint_starts(inner).await?;
    }
    remove_files(inner).await;
    // What waits for space looks again at once.
    inner.flusher.wake.notify_all();
    Ok(())
}

async fn retain(inner: &Inner, partition: &Rc<Partition>, now_ms: i64) -> Result<(), StoreError> {
    partition.taken_from_agenda();
    let mut done = Ok(());
    if partition.is_unflushed_for_long(now_ms) {
        reached("flushed by time");
        done = flush(inner, partition).await;
        if done.as_ref().is_err_and(|error| !error.can_be_waited_out()) {
            return done;
        }
    }
    let mut rolled = partition.roll_if_expired(now_ms).await;
    if rolled.as_ref().is_err_and(StoreError::is_disk_full) && give_up_some(inner).await {
        rolled = partition.roll_if_expired(now_ms).await;
    }
    if rolled.as_ref().is_err_and(|error| !error.can_be_waited_out()) {
        return rolled;
    }
    let files = partition.retain(now_ms).await?;
    inner.flusher.expired.borrow_mut().extend(files);
    partition.plan_retention(now_ms).await;
    done.and(rolled)
}

/// Gives a little of the reserve to a segment that is to be begun: then the one before it can go.
async fn give_up_some(inner: &Inner) -> bool {
    reached("reserve given up for a segment");
    let given_up = inner.shared.descriptors.with_one(|| inner.flusher.reserve.give_up_some()).await;
    given_up.unwrap_or(false)
}

async fn remove_files(inner: &Inner) {
    let files = inner.flusher.expired.take();
    for path in files {
        match fs::remove_file(&path).await {
            Ok(()) => count(&inner.shared.counters.retired_files),
            // An index is a cache and may not be there; a folder may have been removed with its topic.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an expired file could not be removed")
            }
        }
    }
}
