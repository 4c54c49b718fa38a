//! A producer: sends numbered records to a topic, and writes down what becomes of each.

use std::rc::Rc;
use std::time::Duration;

use ringlog_client::{Client, Delivery, DeliveryError, Producer, Record, SendError};
use ringlog_reactor::{sim, spawn, wall_clock_ms};

use crate::history::{Event, Outcome, Place};
use crate::plan::ProducerPlan;
use crate::random::Dice;
use crate::record::{self, RecordId, Stamp};
use crate::stage::{LiveTopic, Stage};

/// How long after its admission an unsent record fails.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends as the plan says, a part of it in each life, until the stage finishes. `machine` is the one it is on.
pub async fn run(stage: Rc<Stage>, plan: ProducerPlan, mut dice: Dice, client: Client, machine: usize) {
    let _part = stage.enter();
    loop {
        let life = stage.life();
        work(&stage, &plan, &mut dice, &client, machine).await;
        if !stage.next_life(life).await {
            return;
        }
    }
}

async fn work(stage: &Rc<Stage>, plan: &ProducerPlan, dice: &mut Dice, client: &Client, machine: usize) {
    let topics = stage.topics();
    if topics.is_empty() || stage.is_finishing() {
        return;
    }
    let topic = dice.pick(&topics).clone();
    let builder = client
        .producer(&topic.made.name)
        .ack(plan.ack)
        .linger(plan.linger)
        .batch_bytes(plan.batch_bytes)
        .compression(plan.compression)
        .max_in_flight(plan.in_flight)
        .buffer_bytes(plan.buffer_bytes)
        .delivery_timeout(DELIVERY_TIMEOUT);
    let Some(Ok(producer)) = stage.in_time("building a producer", builder.build()).await else { return };
    if producer.topic_id() != topic.made.id {
        // It was made again before the look-up.
        return;
    }
    let id = stage.next_producer(machine);
    send_all(stage, plan, dice, &topic, &producer, id).await;
    match dice.within(0..3) {
        0 => drop(stage.in_time("a flush", producer.flush()).await),
        1 => drop(stage.in_time("closing a producer", producer.close(Duration::from_secs(30))).await),
        // Dropped: what was admitted is still sent.
        _ => {}
    }
}

async fn send_all(
    stage: &Rc<Stage>,
    plan: &ProducerPlan,
    dice: &mut Dice,
    topic: &Rc<LiveTopic>,
    producer: &Producer,
    id: u32,
) {
    for sequence in 0..plan.records as u32 {
        if stage.is_finishing() || topic.leaving.get() && dice.once_in(4) {
            return;
        }
        let record = RecordId { producer: id, sequence };
        let stamp = Stamp { topic: topic.made.id, record };
        let bytes = dice.within(plan.least_bytes..plan.value_bytes) as usize;
        let time_ms = event_time(dice);
        let mut next = Record::new(record::encode(stamp, bytes)).timestamp_ms(time_ms);
        next = match dice.within(0..4) {
            0 => next,
            1 => next.key(dice.within(0..5).to_le_bytes().to_vec()),
            _ => next.partition(dice.within(0..u64::from(topic.partitions)) as u32),
        };
        stage.saw(Event::Sent { stamp, ack: plan.ack, time_ms });
        match stage.in_time("the admission of a record", producer.send(next)).await {
            Some(Ok(delivery)) => follow(stage, topic.made.id, record, delivery),
            Some(Err(error @ (SendError::Closed | SendError::TooLarge { .. }))) => {
                let failed = Outcome::Failed(error.to_string());
                stage.saw(Event::Resolved(record, failed));
            }
            Some(Err(SendError::UnknownPartition { .. })) => {
                stage.saw(Event::Resolved(record, Outcome::Failed("no such partition".into())));
            }
            None => return,
        }
        if (u64::from(sequence) + 1).is_multiple_of(plan.burst) {
            let pause = dice.within(0..plan.pause.as_micros() as u64 + 1);
            stage.pause(Duration::from_micros(pause)).await;
        }
    }
}

/// A record's timestamp: now, or when it happened, in no order.
fn event_time(dice: &mut Dice) -> i64 {
    let ago = if dice.once_in(3) { dice.any_magnitude(1..10_000) as i64 } else { 0 };
    wall_clock_ms() - ago
}

/// Writes down what becomes of a record, whenever that is known.
fn follow(stage: &Rc<Stage>, topic: u64, record: RecordId, delivery: Delivery) {
    let part = stage.enter();
    let stage = Rc::clone(stage);
    spawn(async move {
        let outcome = match stage.in_time("a record", delivery).await {
            Some(Ok(acked)) => {
                let place = Place { topic, partition: acked.partition };
                Outcome::Acked(place, (acked.offset >= 0).then_some(acked.offset))
            }
            Some(Err(error)) => failed(&error),
            None => return,
        };
        if !matches!(outcome, Outcome::Acked(..)) {
            sim::reached("record not acknowledged");
        }
        stage.saw(Event::Resolved(record, outcome));
        drop(part);
    })
    .detach();
}

fn failed(error: &DeliveryError) -> Outcome {
    if error.is_outcome_unknown() {
        Outcome::Unknown(error.to_string())
    } else {
        Outcome::Failed(error.to_string())
    }
}
