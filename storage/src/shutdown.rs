//! The end of a store, in order.

use std::rc::Rc;

use ringlog_reactor::sim::mutant;

use crate::checkpoint::checkpoint;
use crate::error::StoreError;
use crate::limits::SYNCS_IN_FLIGHT;
use crate::parallel::in_parallel;
use crate::partition::Partition;
use crate::store::Store;

impl Store {
    /// Ends the store in order: appends are refused from now on, what was appended is committed, flushed and checkpointed,
    /// so that the next start has nothing to replay. After an error the next start recovers as after a crash.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.closing.set(true);
        inner.committer.room.notify_all();
        inner.committer.hurry();
        if !mutant("stopped-before-committed") {
            self.wait_until_idle().await?;
        }
        let _lock = inner.flusher.lock.acquire().await;
        inner.health.check()?;
        let grown: Vec<_> = inner.partitions.borrow().values().cloned().collect();
        let result = checkpoint(inner, true).await;
        inner.closed.set(true);
        inner.committer.wake.notify_all();
        inner.flusher.wake.notify_all();
        result?;
        let save = |partition: Rc<Partition>| async move {
            partition.save_index().await;
            Ok(())
        };
        in_parallel(SYNCS_IN_FLIGHT, grown.iter().filter(|partition| partition.has_grown()), save).await
    }

    async fn wait_until_idle(&self) -> Result<(), StoreError> {
        loop {
            let committed = self.inner.committer.committed.notified();
            self.inner.health.check()?;
            let bypassing = self.inner.direct.active.get() > 0;
            if self.inner.committer.journal.borrow().is_idle() && !bypassing {
                return Ok(());
            }
            if bypassing && self.inner.health.is_disk_full() {
                return Err(StoreError::DiskFull);
            }
            committed.await;
        }
    }
}
