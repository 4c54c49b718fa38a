//! What is drawn for a seed: the same plan for the same seed.

use std::time::Duration;

use ringlog_client::{Ack, Compression};

use crate::plan::{
    ConsumerPlan, Death, DiskPlan, KilledStart, LARGEST_VALUE, LifePlan, NetworkPlan, Plan, ProducerPlan,
    Sizes, TopicPlan,
};
use crate::random::Dice;
use crate::small;
use crate::themes;

/// Draws the plan of a seed.
pub fn draw(seed: u64) -> Plan {
    let mut plan = draw_sound(seed);
    let mut on_small_disk = Dice::new(seed ^ 0x5_D15C);
    let is_small = on_small_disk.once_in(8);
    if !is_small {
        themes::set(&mut plan, &mut Dice::new(seed ^ 0xB_0517));
    }
    if plan.disk.full {
        // What fits into the journal needs no space.
        (plan.sizes.journal_file_bytes, plan.sizes.journal_files) = (16 << 10, 2);
    }
    let mut dice = Dice::new(seed ^ 0xDE_5C21);
    if dice.once_in(4) {
        plan.sizes.open_files = Some(dice.any_magnitude(1..30) as usize - 1);
        plan.disk.no_descriptors = dice.once_in(2);
    }
    if is_small {
        small::make(&mut plan, &mut on_small_disk);
        return plan;
    }
    let mut dice = Dice::new(seed ^ 0xDA_3A6E);
    if dice.once_in(6) {
        plan.damage = Some(themes::damage(&mut dice));
        plan.disk = DiskPlan::default();
        plan.lives.iter_mut().for_each(|life| life.killed_starts.clear());
    }
    plan
}

fn draw_sound(seed: u64) -> Plan {
    let mut dice = Dice::new(seed ^ 0x51A1_51A1);
    let lives = dice.within(2..6);
    let large = dice.once_in(3);
    let faults_of_disk = dice.once_in(3);
    let faults_of_network = dice.once_in(2);
    Plan {
        seed,
        sizes: sizes(&mut dice),
        topics: (0..dice.within(1..4)).map(|_| topic(&mut dice)).collect(),
        lives: (0..lives).map(|_| life(&mut dice)).collect(),
        producers: (0..dice.within(1..6)).map(|_| producer(&mut dice, large)).collect(),
        consumers: (0..dice.within(1..4)).map(|_| consumer(&mut dice)).collect(),
        admin: dice.once_in(2),
        topic_changes: 1,
        strangers: dice.once_in(4),
        wire_clients: dice.once_in(2),
        clients: dice.within(1..3) as usize,
        kill_clients: dice.once_in(6),
        network: if faults_of_network { network(&mut dice) } else { NetworkPlan::default() },
        disk: if faults_of_disk { disk(&mut dice) } else { DiskPlan::default() },
        damage: None,
        pauses: dice.once_in(6),
        clock_jumps: dice.once_in(6),
    }
}

fn sizes(dice: &mut Dice) -> Sizes {
    Sizes {
        journal_file_bytes: *dice.pick(&[16, 32, 64, 128, 512]) << 10,
        journal_files: dice.within(2..5) as u32,
        tail_bytes: *dice.pick(&[2, 2, 4]) << 20,
        bypass_bytes: *dice.pick(&[2 << 10, 8 << 10, 32 << 10, 256 << 10]),
        open_files: None,
    }
}

fn topic(dice: &mut Dice) -> TopicPlan {
    TopicPlan {
        partitions: dice.within(1..5) as u32,
        volatile: dice.once_in(4),
        segment_bytes: *dice.pick(&[16, 16, 32, 64, 256]) << 10,
        brokers_time: dice.once_in(4),
        retention_bytes: dice.once_in(5).then(|| *dice.pick(&[16, 64, 128]) << 10),
        retention_ms: dice.once_in(5).then(|| dice.any_magnitude(500..60_000)),
    }
}

fn life(dice: &mut Dice) -> LifePlan {
    let killed = if dice.once_in(3) { dice.within(1..4) } else { 0 };
    let length = match dice.once_in(8) {
        // Long enough for retention, keep-alives and idle checkpoints.
        true => Duration::from_secs(dice.within(31..75)),
        false => Duration::from_micros(dice.any_magnitude(1_000..3_000_000)),
    };
    LifePlan {
        shards: dice.within(1..5) as usize,
        counted: dice.within(0..3) > 0,
        killed_starts: (0..killed).map(|_| killed_start(dice)).collect(),
        length,
        acks: None,
        end: death(dice, 4),
        end_polls: dice.any_magnitude(1..5_000),
    }
}

fn killed_start(dice: &mut Dice) -> KilledStart {
    let anywhere = dice.once_in(3);
    KilledStart {
        changes: (!anywhere).then(|| dice.any_magnitude(1..60)),
        polls: dice.any_magnitude(if anywhere { 5..3_000 } else { 1..30 }),
        death: death(dice, 0),
        faults: dice.once_in(2),
    }
}

/// In order once in `stops` times; never if that is 0.
fn death(dice: &mut Dice, stops: u64) -> Death {
    if stops > 0 && dice.once_in(stops) {
        return Death::Stop;
    }
    if dice.once_in(3) { Death::Kill } else { Death::PowerOff }
}

fn producer(dice: &mut Dice, large: bool) -> ProducerPlan {
    let largest = if large { 100 << 10 } else { 4 << 10 };
    let value_bytes = match large && dice.once_in(6) {
        true => dice.within(LARGEST_VALUE / 2..LARGEST_VALUE + 1),
        false => dice.any_magnitude(21..largest),
    };
    ProducerPlan {
        ack: *dice.pick(&[Ack::Disk, Ack::Disk, Ack::Disk, Ack::Memory, Ack::None]),
        linger: Duration::from_micros(*dice.pick(&[0, 0, 500, 5_000])),
        batch_bytes: *dice.pick(&[200, 2 << 10, 16 << 10, 64 << 10]),
        compression: *dice.pick(&[
            Compression::None,
            Compression::None,
            Compression::Lz4,
            Compression::Zstd,
            Compression::Snappy,
            Compression::Gzip,
        ]),
        in_flight: *dice.pick(&[1, 5, 5, 20]),
        buffer_bytes: *dice.pick(&[1 << 10, 64 << 10, 32 << 20]),
        // A run's bytes are bounded, whatever their sizes.
        records: dice.any_magnitude(10..400).min((2 << 20) / value_bytes).max(3),
        least_bytes: 0,
        value_bytes,
        pause: Duration::from_micros(*dice.pick(&[0, 100, 2_000, 50_000])),
        burst: dice.any_magnitude(1..50),
    }
}

fn consumer(dice: &mut Dice) -> ConsumerPlan {
    ConsumerPlan {
        prefetch_bytes: *dice.pick(&[1, 16 << 10, 1 << 20]),
        pause: Duration::from_micros(*dice.pick(&[0, 0, 100, 5_000])),
        records: dice.any_magnitude(5..500),
    }
}

fn network(dice: &mut Dice) -> NetworkPlan {
    let delay = dice.once_in(2).then(|| {
        let least = Duration::from_micros(dice.any_magnitude(20..5_000));
        (least, Duration::from_micros(dice.any_magnitude(20..50_000)))
    });
    NetworkPlan {
        delay,
        reset_one_in: if dice.once_in(2) { dice.any_magnitude(50..2_000) } else { 0 },
        cuts: dice.once_in(2),
        half_closes: dice.once_in(4),
    }
}

fn disk(dice: &mut Dice) -> DiskPlan {
    let now_and_then = |dice: &mut Dice| {
        if dice.once_in(3) { dice.any_magnitude(50..2_000) } else { 0 }
    };
    DiskPlan {
        read_error: now_and_then(dice),
        write_error: now_and_then(dice),
        sync_error: now_and_then(dice),
        stall: now_and_then(dice),
        stall_for: Duration::from_micros(dice.any_magnitude(1_000..3_000_000)),
        short_write: now_and_then(dice),
        short_read: now_and_then(dice),
        full: dice.once_in(2),
        no_descriptors: false,
        capacity_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan_and_seeds_have_different_ones() {
        assert_eq!(draw(5).to_string(), draw(5).to_string());
        assert_ne!(draw(5).to_string(), draw(6).to_string());
    }

    #[test]
    fn every_fault_is_on_in_some_of_fifty_seeds_and_off_in_some() {
        let plans: Vec<Plan> = (1..51).map(draw).collect();
        let both = |is_on: fn(&Plan) -> bool| plans.iter().any(is_on) && !plans.iter().all(is_on);
        assert!(both(|plan| plan.network.reset_one_in > 0));
        assert!(both(|plan| plan.network.cuts));
        assert!(both(|plan| plan.disk.full));
        assert!(both(|plan| plan.disk.sync_error > 0));
        assert!(both(|plan| plan.pauses) && both(|plan| plan.clock_jumps) && both(|plan| plan.kill_clients));
        assert!(both(|plan| plan.lives.iter().any(|life| !life.killed_starts.is_empty())));
    }
}
