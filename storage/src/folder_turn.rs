//! One shard at a time makes folders: those of topics are shared. [`partition_folders`](crate::partition_folders) says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringlog_reactor::sleep;

/// How often a shard looks whether the other one has made its folders: it takes one sync a topic.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The turn to make folders of partitions. All shards of a node have the same one.
#[derive(Debug, Clone, Default)]
pub struct FolderTurn(Arc<AtomicBool>);

impl FolderTurn {
    pub(crate) async fn take(&self) -> Turn<'_> {
        while self.0.swap(true, Ordering::Acquire) {
            sleep(LOOK_AGAIN).await;
        }
        Turn(self)
    }
}

pub(crate) struct Turn<'a>(&'a FolderTurn);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
