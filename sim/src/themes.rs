//! Themes: what a plan is drawn towards, so that few seeds meet the states that take several things at once.

use std::time::Duration;

use ringlog_client::Compression;

use crate::busy;
use crate::plan::{Damage, Death, DiskPlan, LARGEST_VALUE, NetworkPlan, Plan, TopicPlan};
use crate::random::Dice;

/// Has a plan drawn towards a theme, or towards none.
pub fn set(plan: &mut Plan, dice: &mut Dice) {
    match dice.within(0..12) {
        0 | 1 => retention(plan, dice),
        2 => cold_reads(plan, dice),
        3 => changes_of_topics(plan, dice),
        4 => commits_cut_off(plan, dice),
        5 => full_disk(plan, dice),
        _ if dice.once_in(2) => busy::make(plan, dice),
        _ => {}
    }
}

/// Short segments, and lives that are long after their work is done: rounds of retention over partitions with and without
/// new records.
fn retention(plan: &mut Plan, dice: &mut Dice) {
    plan.topics.iter_mut().for_each(|topic| keep_little(topic, dice));
    for life in &mut plan.lives {
        life.length = Duration::from_secs(dice.within(35..100));
        life.end = *dice.pick(&[life.end, Death::Stop]);
    }
    for producer in &mut plan.producers {
        producer.value_bytes = producer.value_bytes.min(dice.any_magnitude(100..8_000));
        producer.records = dice.any_magnitude(50..500);
        producer.compression = *dice.pick(&[producer.compression, Compression::None]);
        producer.batch_bytes = *dice.pick(&[200, 2 << 10]);
        producer.pause = Duration::from_micros(*dice.pick(&[0, 2_000, 1_000_000]));
        producer.burst = dice.any_magnitude(1..20);
    }
    if dice.within(0..3) > 0 {
        (plan.network, plan.disk, plan.pauses) = (NetworkPlan::default(), DiskPlan::default(), false);
    }
}

fn keep_little(topic: &mut TopicPlan, dice: &mut Dice) {
    topic.segment_bytes = *dice.pick(&[16, 16, 32]) << 10;
    (topic.retention_bytes, topic.retention_ms) = (None, None);
    let limits = dice.within(0..4);
    if limits != 1 {
        topic.retention_bytes = Some(*dice.pick(&[16, 32, 64]) << 10);
    }
    if limits == 1 || limits == 2 {
        let (soon, late) = (dice.any_magnitude(500..15_000), dice.within(15_000..90_000));
        topic.retention_ms = Some(*dice.pick(&[soon, late, late]));
    }
}

/// Large batches between small ones, in few partitions with long segments, and readers that come late and take little.
fn cold_reads(plan: &mut Plan, dice: &mut Dice) {
    plan.sizes.tail_bytes = 2 << 20;
    for topic in &mut plan.topics {
        topic.partitions = 1;
        topic.segment_bytes = *dice.pick(&[256 << 10, 2 << 20, 4 << 20]);
    }
    for (number, producer) in (0..).zip(&mut plan.producers) {
        let large = number % 2 == 0;
        (producer.least_bytes, producer.value_bytes) =
            if large { (LARGEST_VALUE * 9 / 10, LARGEST_VALUE) } else { (0, 4 << 10) };
        producer.records = if large { dice.within(2..6) } else { dice.within(20..200) };
        producer.compression = Compression::None;
        producer.batch_bytes = *dice.pick(&[200, 2 << 10]);
        producer.buffer_bytes = 32 << 20;
        producer.burst = dice.within(1..5);
    }
    for consumer in &mut plan.consumers {
        consumer.prefetch_bytes = *dice.pick(&[1, 1, 16 << 10]);
    }
    for life in &mut plan.lives {
        life.counted = dice.once_in(4);
        life.length = life.length.max(Duration::from_millis(dice.any_magnitude(100..3_000)));
    }
}

/// Many topics are made and deleted, and what makes that durable fails now and then.
fn changes_of_topics(plan: &mut Plan, dice: &mut Dice) {
    (plan.admin, plan.topic_changes) = (true, dice.within(3..12));
    for life in &mut plan.lives {
        life.length = life.length.max(Duration::from_millis(dice.any_magnitude(500..5_000)));
    }
    for topic in &mut plan.topics {
        topic.partitions = topic.partitions.min(2);
    }
    plan.disk = DiskPlan::default();
    if dice.once_in(2) {
        plan.disk = DiskPlan { sync_error: dice.any_magnitude(4..60), ..DiskPlan::default() };
    }
}

/// Frames of the journal become durable in another order than they were written in, and the power fails meanwhile.
fn commits_cut_off(plan: &mut Plan, dice: &mut Dice) {
    busy::make(plan, dice);
    plan.disk = DiskPlan {
        stall: dice.any_magnitude(2..20),
        stall_for: Duration::from_micros(dice.any_magnitude(50..20_000)),
        ..DiskPlan::default()
    };
    for life in &mut plan.lives {
        life.end = if dice.once_in(4) { Death::Kill } else { Death::PowerOff };
        life.end_polls = dice.any_magnitude(1..40);
    }
}

/// A disk that is full again and again and has no other fault, under topics with and without retention.
fn full_disk(plan: &mut Plan, dice: &mut Dice) {
    plan.disk = DiskPlan { full: true, ..DiskPlan::default() };
    for topic in &mut plan.topics {
        if dice.once_in(2) {
            keep_little(topic, dice);
        }
    }
    for life in &mut plan.lives {
        life.length = Duration::from_secs(dice.within(3..40));
        life.acks = None;
    }
    for producer in &mut plan.producers {
        producer.value_bytes = producer.value_bytes.clamp(200, 20_000);
        producer.records = (400_000 / producer.value_bytes).clamp(20, 800);
        producer.pause = Duration::from_micros(*dice.pick(&[0, 50_000]));
    }
}

/// Draws what is wrong with a disk that cannot be trusted.
pub fn damage(dice: &mut Dice) -> Damage {
    match dice.within(0..6) {
        0 | 1 => Damage::Rot(dice.any_magnitude(3..60)),
        2 => Damage::RotAnywhere(dice.any_magnitude(3..60)),
        3 => Damage::Misdirected(dice.any_magnitude(10..200)),
        4 => Damage::Lost(dice.any_magnitude(10..200)),
        _ => Damage::RotOnRead(dice.any_magnitude(5..50)),
    }
}
