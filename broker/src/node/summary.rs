//! What a start found and did, and how that is said.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringlog_storage::{Damage, RecoverySummary};

/// What a start found and did.
#[derive(Clone, Debug)]
pub struct StartSummary {
    /// Where clients connect.
    pub address: SocketAddr,
    /// One per core.
    pub shards: u32,
    /// Topics there are.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// From the start to the first accept.
    pub took: Duration,
    /// What each shard recovered.
    pub recovery: Vec<RecoverySummary>,
}

impl fmt::Display for StartSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.recovery.iter().map(|shard| shard.replayed_frames).sum::<u64>() as usize;
        let records = self.recovery.iter().map(|shard| shard.replayed_records).sum::<u64>() as usize;
        // What is wrong with a journal is found by every shard.
        let damaged: BTreeSet<_> = self
            .recovery
            .iter()
            .flat_map(|shard| shard.damage.iter().chain(&shard.spare_copies))
            .map(place_of)
            .collect();
        let damaged = damaged.len();
        let quarantined: usize = self.recovery.iter().map(|shard| shard.quarantined.len()).sum();
        let count = |number: usize, noun| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        write!(f, "listening on {}, {}", self.address, count(self.shards as usize, "shard"))?;
        write!(f, ", {}, {}", count(self.topics, "topic"), count(self.partitions, "partition"))?;
        match frames {
            0 => f.write_str(", nothing to recover")?,
            _ => write!(f, ", replayed {} of {}", count(records, "record"), count(frames, "journal frame"))?,
        }
        if damaged > 0 {
            write!(f, ", {} DAMAGED: see above", count(damaged, "place"))?;
        }
        if quarantined > 0 {
            write!(f, ", {} QUARANTINED: see above", count(quarantined, "partition"))?;
        }
        write!(f, ", ready in {} ms", self.took.as_millis())
    }
}

fn place_of(damage: &Damage) -> (&Path, u64) {
    (&damage.path, damage.offset)
}
