//! Busy plans: producers without a pause, records enough for every file to roll and every journal to come round, and ends
//! in the middle of it.
//!
//! A broker that dies while nothing is under way loses little, whatever is wrong with it. So its end is counted in
//! acknowledgements here, not in time: it dies when clients have just been promised something.

use std::time::Duration;

use ringlog_client::Ack;

use crate::plan::Plan;
use crate::random::Dice;

/// Bytes that a producer sends in a life, at most.
const BYTES: u64 = 3 << 20;

/// In this time, virtual, clients have connected and done all they can.
const ENOUGH: Duration = Duration::from_secs(1);

/// Makes a plan busy.
pub fn make(plan: &mut Plan, dice: &mut Dice) {
    for life in &mut plan.lives {
        if dice.within(0..4) > 0 {
            life.acks = Some(dice.any_magnitude(3..1_000));
            life.end_polls = dice.any_magnitude(1..300);
            life.length = life.length.max(ENOUGH);
        }
    }
    let more = dice.within(1..5) as usize;
    let copies: Vec<_> = plan.producers.iter().cycle().take(more).cloned().collect();
    plan.producers.extend(copies);
    for producer in &mut plan.producers {
        producer.ack = *dice.pick(&[producer.ack, Ack::Disk]);
        producer.least_bytes = 0;
        producer.value_bytes = producer.value_bytes.min(dice.any_magnitude(100..30_000));
        producer.records = dice.any_magnitude(50..1_500).min(BYTES / producer.value_bytes);
        producer.pause = Duration::ZERO;
        producer.batch_bytes = *dice.pick(&[200, 2 << 10, 16 << 10]);
        producer.linger = Duration::ZERO;
        producer.in_flight = *dice.pick(&[5, 20]);
        producer.buffer_bytes = *dice.pick(&[4 << 10, 64 << 10]);
    }
}
