//! A consumer: reads from some position for a while, and writes down what it gets.

use std::rc::Rc;
use std::time::Duration;

use ringlog_client::{Client, ConsumeError, ConsumedRecord, Position};
use ringlog_reactor::{sim, timeout};

use crate::history::{Event, Place};
use crate::plan::ConsumerPlan;
use crate::random::Dice;
use crate::record;
use crate::stage::{LiveTopic, Stage};

/// A consumer that gets nothing for so long begins anew.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads as the plan says until the stage finishes.
pub async fn run(stage: Rc<Stage>, plan: ConsumerPlan, mut dice: Dice, client: Client) {
    let _part = stage.enter();
    loop {
        let life = stage.life();
        for _ in 0..3 {
            read(&stage, &plan, &mut dice, &client).await;
        }
        if !stage.next_life(life).await {
            return;
        }
    }
}

async fn read(stage: &Rc<Stage>, plan: &ConsumerPlan, dice: &mut Dice, client: &Client) {
    let topics = stage.topics();
    if topics.is_empty() || stage.is_finishing() {
        return;
    }
    let topic = dice.pick(&topics).clone();
    let from = position(dice);
    let builder = client.consumer(&topic.made.name).from(from).prefetch_bytes(plan.prefetch_bytes);
    let reader = stage.next_reader();
    stage.saw(Event::Beginning { reader, from });
    let Some(Ok(mut consumer)) = stage.in_time("building a consumer", builder.build()).await else { return };
    if consumer.topic_id() != topic.made.id {
        // It was made again before the look-up.
        return;
    }
    for _ in 0..plan.records {
        if stage.is_finishing() {
            return;
        }
        match timeout(PATIENCE, consumer.next()).await {
            Ok(Some(Ok(record))) => saw(stage, &topic, reader, &record),
            Ok(Some(Err(error))) => failed(stage, topic.made.id, &error),
            Ok(None) | Err(_) => return,
        }
        stage.pause(Duration::from_micros(dice.within(0..plan.pause.as_micros() as u64 + 1))).await;
    }
}

fn position(dice: &mut Dice) -> Position {
    match dice.within(0..7) {
        0 => Position::End,
        1 => Position::Offset(dice.any_magnitude(1..300) as i64),
        2 | 3 => {
            sim::reached("consumer from a time");
            Position::Time(ringlog_reactor::wall_clock_ms() - dice.any_magnitude(1..10_000) as i64)
        }
        _ => Position::Begin,
    }
}

fn saw(stage: &Stage, topic: &LiveTopic, reader: u32, record: &ConsumedRecord) {
    let place = Place { topic: topic.made.id, partition: record.partition };
    let offset = record.offset;
    match record.value.as_deref().and_then(record::decode) {
        Some(stamp) => stage.saw(Event::Read { reader, place, offset, stamp }),
        None => {
            let what = "the value is not as it was written".into();
            stage.saw(Event::Garbage { place, offset, what });
        }
    }
}

/// What a consumer of this topic was told instead of records.
pub fn failed(stage: &Stage, topic: u64, error: &ConsumeError) {
    match error {
        ConsumeError::BadBatch { partition, offset, reason, .. } => {
            let place = Place { topic, partition: *partition };
            stage.saw(Event::Garbage { place, offset: *offset, what: reason.to_string() });
        }
        ConsumeError::OffsetOutOfRange { .. } => sim::reached("consumer out of range"),
        ConsumeError::TopicRecreated { .. } => sim::reached("consumer of a topic that was made again"),
        ConsumeError::Gone { .. } => sim::reached("consumer of a topic that is gone"),
        _ => {}
    }
}
