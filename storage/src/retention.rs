//! The retention task: now and then, what is older or more than a partition keeps goes.

use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::sim::mutant;
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
        if result.is_err() && !inner.closing.get() && !settle(&inner, result).await {
            return;
        }
    }
}

async fn round(inner: &Rc<Inner>) -> Result<(), StoreError> {
    if let Some(failure) = inner.failure() {
        return Err(failure.into());
    }
    let now_ms = wall_clock_ms();
    let partitions: Vec<_> = inner.partitions.borrow().values().cloned().collect();
    let mut result = Ok(());
    for partition in partitions {
        match partition.retain(now_ms).await {
            Ok(files) => inner.expired.borrow_mut().extend(files),
            // Without space no new segment can be begun; what others let go makes some.
            Err(error) if error.can_be_waited_out() => result = Err(error),
            Err(error) => return Err(error),
        }
    }
    if !inner.expired.borrow().is_empty() {
        if !mutant("start-offset-not-durable") {
            checkpoint(inner, false).await?;
        }
        remove_files(inner).await;
    }
    result
}

async fn remove_files(inner: &Inner) {
    let files = inner.expired.take();
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
