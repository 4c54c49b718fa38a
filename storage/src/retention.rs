//! The retention task: now and then, what is older or more than a partition keeps goes.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::{fs, sleep, wall_clock_ms};

use crate::checkpoint::{checkpoint, settle};
use crate::error::StoreError;
use crate::stats::count;
use crate::store::Inner;

/// How long a record may stay after its time has come.
const EVERY: Duration = Duration::from_secs(30);

/// Runs until the store has failed or is closing.
pub(crate) async fn run(inner: Rc<Inner>) {
    loop {
        sleep(EVERY).await;
        if inner.closing.get() || inner.failure().is_some() {
            return;
        }
        let lock = inner.flush_lock.acquire().await;
        let result = round(&inner).await;
        drop(lock);
        if result.is_err() && !settle(&inner, result).await {
            return;
        }
    }
}

async fn round(inner: &Rc<Inner>) -> Result<(), StoreError> {
    let now_ms = wall_clock_ms();
    let partitions: Vec<_> = inner.partitions.borrow().values().cloned().collect();
    let mut files: Vec<PathBuf> = Vec::new();
    for partition in partitions {
        files.extend(partition.retain(now_ms).await?);
    }
    if files.is_empty() {
        return Ok(());
    }
    checkpoint(inner, false).await?;
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
    Ok(())
}
