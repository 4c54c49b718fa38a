//! Folders as they are left behind, and what lies in them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringlog_storage::PartitionId;
use ringlog_storage::format::{envelope, frame};

use super::{Broker, Model, find_in_journal, on_ring};

/// A broker that ended without a checkpoint behind `rounds` small appends to each of its two partitions, each in a commit
/// of its own.
pub fn crashed(dir: &Path, rounds: u32) -> (Broker, Model) {
    let mut broker = Broker::new(dir, 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..rounds * 2 {
            model.append(&started, round % 2, 1000).await;
        }
        assert_eq!(started.stores[0].stats().checkpoints, 0, "all is in the journal only");
        // They are made beside the appends, and a later life is to find them all.
        while started.stores[0].stats().journal_files_made < broker.journal_files.into() {
            ringlog_reactor::sleep(Duration::from_millis(1)).await;
        }
    });
    (broker, model)
}

pub fn id(partition: u32) -> PartitionId {
    PartitionId { topic: 7, partition }
}

/// Where the frame begins that holds a batch alone.
pub fn frame_of(broker: &Broker, batch: &[u8]) -> (PathBuf, u64) {
    let (path, at) = find_in_journal(&broker.shard_dir(0), batch);
    (path, at - (frame::HEADER_BYTES + envelope::ENVELOPE_BYTES) as u64)
}

/// Every file below a folder with its content.
pub fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push((path.clone(), fs::read(path).expect("a file"))),
        }
    }
    found.sort();
    found
}

/// A broker whose two partitions have several sealed segments each, after an orderly end.
pub fn rolled(dir: &Path) -> (Broker, Model) {
    let mut broker = Broker::new(dir, 2);
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..40 {
            model.append(&started, round % 2, 9000).await;
        }
        started.shutdown().await;
    });
    assert!(segments(&broker, 0).len() > 2);
    (broker, model)
}

pub fn segments(broker: &Broker, partition: u32) -> Vec<PathBuf> {
    let files = files_below(&broker.partition_dir(partition)).into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// A broker that ended without a checkpoint behind large batches to each of its two partitions, past the journal.
pub fn bypassed(dir: &Path) -> (Broker, Model) {
    let mut broker = Broker::new(dir, 2);
    broker.bypass_bytes = 16 << 10;
    let mut model = Model::default();
    on_ring(async {
        let started = broker.start(1).await;
        for round in 0..10 {
            model.append(&started, round % 2, 20_000).await;
        }
        let stats = started.stores[0].stats();
        assert_eq!((stats.checkpoints, stats.bypasses), (0, 10));
        assert!(stats.marks > 0 && stats.rolls > 0, "{stats:?}");
    });
    (broker, model)
}
