//! Plans with a small disk: producers write many times what fits, under topics of which retention lets the old records go.
//!
//! Nothing else goes wrong in the broker's lives but their ends, so a record that waits for space has to be taken soon: see
//! `check/liveness.rs`.

use std::time::Duration;

use ringlog_client::Ack;

use crate::busy;
use crate::plan::{DiskPlan, NetworkPlan, Plan, TopicPlan};
use crate::random::Dice;

/// Where segments are sealed.
const SEGMENT_BYTES: u64 = 16 << 10;
/// The largest value: a batch is not much longer.
const VALUE_BYTES: u64 = 4 << 10;
/// What is kept for a full disk: two files a shard and two for the metadata, with some room for the files themselves.
const RESERVE_BYTES: u64 = 144 << 10;

/// Gives a plan a disk that becomes full.
pub fn make(plan: &mut Plan, dice: &mut Dice) {
    busy::make(plan, dice);
    let shards = dice.within(1..3) as usize;
    plan.sizes.journal_file_bytes = *dice.pick(&[16, 32, 64]) << 10;
    plan.sizes.bypass_bytes = *dice.pick(&[8 << 10, 256 << 10]);
    plan.sizes.open_files = None;
    plan.network = NetworkPlan::default();
    (plan.pauses, plan.clock_jumps, plan.kill_clients) = (false, false, false);
    (plan.strangers, plan.wire_clients, plan.admin) = (false, false, false);
    plan.topics.truncate(2);
    for topic in &mut plan.topics {
        topic.partitions = topic.partitions.min(2);
        topic.segment_bytes = SEGMENT_BYTES;
        topic.retention_bytes = Some(*dice.pick(&[16, 48]) << 10);
    }
    plan.lives.truncate(3);
    for life in &mut plan.lives {
        life.shards = shards;
        life.acks = None;
        life.length = Duration::from_secs(dice.within(45..90));
        life.killed_starts.iter_mut().for_each(|killed| killed.faults = false);
    }
    plan.producers.truncate(4);
    for producer in &mut plan.producers {
        producer.ack = *dice.pick(&[Ack::Disk, Ack::Disk, Ack::Memory]);
        producer.value_bytes = producer.value_bytes.clamp(500, VALUE_BYTES);
        producer.batch_bytes = producer.batch_bytes.min(8 << 10);
        producer.records = (1 << 20) / producer.value_bytes;
    }
    let journals = shards as u64 * u64::from(plan.sizes.journal_files) * plan.sizes.journal_file_bytes;
    let reserves = (2 * shards as u64 + 2) * RESERVE_BYTES;
    let kept: u64 = plan.topics.iter().map(kept).sum();
    let slack = dice.within(32..128) << 10;
    plan.disk = DiskPlan { capacity_bytes: Some(journals + reserves + kept + slack), ..DiskPlan::default() };
}

/// What the segments of a topic have at the most: one more than is kept, the last one, and an index each.
fn kept(topic: &TopicPlan) -> u64 {
    let a_partition = topic.retention_bytes.unwrap_or(0) + 3 * SEGMENT_BYTES + (8 << 10);
    u64::from(topic.partitions) * a_partition
}
