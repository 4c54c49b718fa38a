//! Consumers against a broker that misbehaves by script.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use ringlog_client::{
    Client, ConnectionEvent, ConsumeError, ConsumedRecord, Consumer, ConsumerBuilder, ErrorCode, OffsetReset,
    OpenError, Position, block_on,
};
use ringlog_protocol::Kind;
use ringlog_protocol::batch::{BatchBuilder, Header};

use crate::support::{FakeBroker, Verdict};
use crate::world;

fn connect(broker: &FakeBroker) -> Client {
    world::connect(Client::builder().request_timeout(Duration::from_millis(400)), &broker.addresses())
        .expect("the broker is there")
}

fn consumer(broker: &FakeBroker, set: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Consumer {
    block_on(set(connect(broker).consumer("orders")).build()).expect("the topic is there")
}

fn from_begin(builder: ConsumerBuilder) -> ConsumerBuilder {
    builder.from(Position::Begin)
}

fn next(consumer: &mut Consumer) -> ConsumedRecord {
    block_on(consumer.next()).expect("a healthy partition never ends").expect("a record")
}

/// A batch of records with these timestamps and sizes; the value of each begins with its timestamp.
fn batch(timestamps: impl IntoIterator<Item = i64>, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for timestamp in timestamps {
        let mut value = timestamp.to_string().into_bytes();
        value.resize(value_bytes.max(value.len()), b' ');
        builder
            .push(timestamp, Some(b"key"), Some(&value), [Header::new("name", b"header")])
            .expect("it fits");
    }
    builder.finish_plain()
}

#[test]
fn records_come_as_they_were_sent() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch([10, 11], 0));
    let mut consumer = consumer(&broker, from_begin);
    let first = next(&mut consumer);
    assert_eq!((first.partition, first.offset, first.timestamp_ms), (0, 0, 10));
    assert_eq!(first.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(first.value.as_deref(), Some(&b"10"[..]));
    assert_eq!(
        (first.headers[0].name.as_str(), first.headers[0].value.as_deref()),
        ("name", Some(&b"header"[..]))
    );
    assert_eq!(next(&mut consumer).offset, 1);
}

#[test]
fn a_live_consumer_is_pushed_to() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch([1], 0));
    let mut consumer = consumer(&broker, |builder| builder);
    while broker.seen(Kind::Subscribe).is_empty() {
        std::thread::yield_now();
    }
    broker.push(0, batch([2], 0));
    assert_eq!(next(&mut consumer).offset, 1);
}

#[test]
fn an_offset_inside_a_batch_skips_what_is_before_it() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch(0..10, 0));
    let mut consumer = consumer(&broker, |builder| builder.from_offsets([(0, 7)]));
    assert_eq!(next(&mut consumer).offset, 7);
}

#[test]
fn a_time_skips_what_is_earlier_and_nothing_after_that() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch([100, 200, 300, 250], 0));
    broker.push(0, batch([50], 0));
    let mut consumer = consumer(&broker, |builder| builder.from(Position::Time(260)));
    let offsets: Vec<_> = (0..3).map(|_| next(&mut consumer).offset).collect();
    assert_eq!(offsets, [2, 3, 4]);
}

#[test]
fn after_a_cut_it_goes_on_where_it_was() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    for n in 0..3 {
        broker.push(0, batch([n], 0));
    }
    let mut consumer = consumer(&broker, from_begin);
    let before: Vec<_> = (0..3).map(|_| next(&mut consumer).offset).collect();
    broker.cut_all();
    for n in 3..6 {
        broker.push(0, batch([n], 0));
    }
    let after: Vec<_> = (0..3).map(|_| next(&mut consumer).offset).collect();
    assert_eq!((before, after), (vec![0, 1, 2], vec![3, 4, 5]));
    let from: Vec<_> = broker.seen(Kind::Subscribe).iter().filter_map(|frame| frame.from).collect();
    assert_eq!(from, [Position::Begin, Position::Offset(3)]);
}

#[test]
fn a_crash_that_took_records_which_were_read_is_said_and_nothing_is_skipped() {
    // The log ends before what was read, just there, and behind it: other records have the offsets.
    for written_since in [0, 2, 5] {
        let broker = FakeBroker::start(1, |_| Verdict::Serve);
        broker.acknowledge_in_memory();
        (0..3).for_each(|n| broker.push(0, batch([n], 0)));
        let mut consumer = consumer(&broker, from_begin);
        (0..3).for_each(|offset| assert_eq!(next(&mut consumer).offset, offset));
        broker.crash(0, 1);
        (0..written_since).for_each(|n| broker.push(0, batch([100 + n], 0)));
        let error = block_on(consumer.next()).expect("an end has a reason").err();
        assert_eq!(error, Some(ConsumeError::Truncated { partition: 0, offset: 2 }));
        assert!(block_on(consumer.next()).is_none());
    }
}

#[test]
fn a_crash_that_took_nothing_which_was_read_is_no_trouble() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.acknowledge_in_memory();
    broker.push(0, batch(0..5, 0));
    let mut consumer = consumer(&broker, from_begin);
    (0..5).for_each(|offset| assert_eq!(next(&mut consumer).offset, offset));
    broker.crash(0, 1);
    broker.push(0, batch([9], 0));
    assert_eq!(next(&mut consumer).offset, 5);
}

#[test]
fn cuts_at_any_moment_lose_and_repeat_nothing() {
    // The connection is cut at every few credits, with deliveries under way.
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Credit if seen.nth % 3 == 2 => Verdict::Cut,
        _ => Verdict::Serve,
    });
    for n in 0..200 {
        broker.push(0, batch([n, n], 1000));
    }
    let mut consumer = consumer(&broker, |builder| from_begin(builder).prefetch_bytes(16 << 10));
    let offsets: Vec<_> = (0..400).map(|_| next(&mut consumer).offset).collect();
    assert_eq!(offsets, (0..400).collect::<Vec<_>>());
    assert!(broker.seen(Kind::Subscribe).len() > 3);
}

#[test]
fn a_consumer_that_does_not_take_is_sent_its_prefetch_and_no_more() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    for n in 0..100 {
        broker.push(0, batch([n], 1000));
    }
    let mut consumer = consumer(&broker, |builder| from_begin(builder).prefetch_bytes(16 << 10));
    next(&mut consumer);
    let granted = |broker: &FakeBroker| -> u32 {
        let frames = [broker.seen(Kind::Subscribe), broker.seen(Kind::Credit)];
        frames.iter().flatten().map(|frame| frame.credit).sum()
    };
    assert_eq!(granted(&broker), 16 << 10, "one batch taken is not yet worth a credit");
    let mut taken = 1;
    while taken < 100 {
        next(&mut consumer);
        taken += 1;
        assert!(granted(&broker) as usize <= (16 << 10) + taken * 1200, "credit only for what was taken");
    }
}

#[test]
fn a_broker_that_pushes_beyond_the_credit_is_cut_off() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let mut consumer = consumer(&broker, |builder| from_begin(builder).prefetch_bytes(16 << 10));
    while broker.seen(Kind::Subscribe).is_empty() {
        std::thread::yield_now();
    }
    for _ in 0..40 {
        broker.flood(0, batch([1], 1000));
    }
    while broker.seen(Kind::Subscribe).len() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(next(&mut consumer).offset, 0);
}

#[test]
fn partitions_take_turns() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    for n in 0..10 {
        broker.push(0, batch([n], 0));
        broker.push(1, batch([n], 0));
    }
    let mut consumer = consumer(&broker, from_begin);
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..20 {
        let record = next(&mut consumer);
        seen[record.partition as usize].push(record.offset);
    }
    let all: Vec<i64> = (0..10).collect();
    assert_eq!(seen, [all.clone(), all]);
}

#[test]
fn batches_come_whole_and_after_what_next_left_over() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch(0..3, 0));
    broker.push(0, batch(3..5, 0));
    let mut consumer = consumer(&broker, from_begin);
    assert_eq!(next(&mut consumer).offset, 0);
    let mut batches = consumer.batches();
    let mut offsets = || -> Vec<i64> {
        let batch = block_on(batches.next()).expect("healthy").expect("a batch");
        batch.records.iter().map(|record| record.offset).collect()
    };
    assert_eq!(offsets(), [1, 2]);
    assert_eq!(offsets(), [3, 4]);
}

#[test]
fn a_damaged_batch_ends_its_partition_and_no_other() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    let mut damaged = batch([1], 0).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    broker.push(0, damaged.into());
    let mut consumer = consumer(&broker, from_begin);
    let error = block_on(consumer.next()).expect("an end has a reason").err();
    let Some(ConsumeError::BadBatch { partition: 0, offset: 0, last_offset, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*last_offset, Some(0));
    broker.push(1, batch([1], 0));
    assert_eq!(next(&mut consumer).partition, 1);
}

#[test]
fn a_reader_that_steps_over_unreadable_batches_is_told_of_each_and_goes_on() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let mut damaged = batch([1, 2, 3], 0).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    broker.push(0, damaged.into());
    broker.push(0, batch([4], 0));
    let mut consumer = consumer(&broker, |builder| from_begin(builder).skip_unreadable(true));
    let error = block_on(consumer.next()).expect("not the end").expect_err("an unreadable batch");
    let says = error.to_string();
    assert!(says.contains("offsets 0 to 2") && says.contains("start from offset 3"), "{says}");
    assert_eq!(next(&mut consumer).offset, 3);
}

#[test]
fn an_offset_out_of_range_is_said_and_ends_the_stream() {
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Subscribe => Verdict::Refuse(ErrorCode::OffsetOutOfRange),
        _ => Verdict::Serve,
    });
    let mut consumer = consumer(&broker, |builder| builder.from(Position::Offset(99)));
    let error = block_on(consumer.next()).expect("an end has a reason").err();
    assert!(matches!(error, Some(ConsumeError::OffsetOutOfRange { partition: 0, .. })));
    assert!(block_on(consumer.next()).is_none());
}

#[test]
fn a_link_that_ends_as_the_partition_opens_is_made_again() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Open, 0..4) => Verdict::AnswerAndCut,
        _ => Verdict::Serve,
    });
    broker.push(0, batch([1], 0));
    let mut consumer = consumer(&broker, from_begin);
    assert_eq!(next(&mut consumer).offset, 0);
}

#[test]
fn a_dropped_consumer_unsubscribes() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let client = connect(&broker);
    broker.push(0, batch([1], 0));
    let mut consumer =
        block_on(client.consumer("orders").from(Position::Begin).build()).expect("the topic is there");
    next(&mut consumer);
    drop(consumer);
    while broker.seen(Kind::Unsubscribe).is_empty() || broker.seen(Kind::Close).is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_build_that_is_cancelled_leaves_no_consumer_behind() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let client = connect(&broker);
    let mut build = Box::pin(client.consumer("orders").build());
    let _ = build.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    while broker.seen(Kind::Subscribe).is_empty() {
        std::thread::yield_now();
    }
    drop(build);
    while broker.seen(Kind::Unsubscribe).is_empty() || broker.seen(Kind::Close).is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_partition_that_is_not_there_is_named() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    let error = block_on(connect(&broker).consumer("orders").partitions([0, 5]).build()).err();
    assert!(matches!(error, Some(OpenError::UnknownPartition { partition: 5, partitions: 2, .. })));
}

#[test]
fn offsets_are_looked_up() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    broker.push(0, batch(0..7, 0));
    let client = connect(&broker);
    let end = block_on(client.admin().offsets("orders", 0, Position::End)).expect("the topic is there");
    assert_eq!((end.offset, end.high_watermark, end.timestamp_ms), (7, 7, None));
}

#[test]
fn a_topic_that_was_made_again_during_a_cut_is_another_topic() {
    // The new log ends before what was read, just there, and after it; a batch of it lies across the offset.
    for batches in [vec![], vec![batch([9], 0)], vec![batch(0..5, 0), batch([9], 0)]] {
        let broker = FakeBroker::start(1, |_| Verdict::Serve);
        (0..3).for_each(|n| broker.push(0, batch([n], 0)));
        let mut consumer = consumer(&broker, from_begin);
        (0..3).for_each(|offset| assert_eq!(next(&mut consumer).offset, offset));
        broker.make_topic_again();
        broker.cut_all();
        batches.into_iter().for_each(|batch| broker.push(0, batch));
        let error = block_on(consumer.next()).expect("an end has a reason").err();
        let expected = ConsumeError::TopicRecreated { topic: "orders".into(), partition: 0 };
        assert_eq!(error, Some(expected));
        assert!(block_on(consumer.next()).is_none());
    }
}

#[test]
fn a_consumer_that_has_read_nothing_yet_does_not_change_over_to_a_topic_that_was_made_again() {
    for from in [Position::Begin, Position::End, Position::Time(0)] {
        let broker = FakeBroker::start(1, |_| Verdict::Serve);
        let mut consumer = consumer(&broker, |builder| builder.from(from));
        while broker.seen(Kind::Subscribe).is_empty() {
            std::thread::yield_now();
        }
        broker.make_topic_again();
        broker.cut_all();
        broker.push(0, batch([1], 0));
        let error = block_on(consumer.next()).expect("an end has a reason").err();
        assert!(matches!(error, Some(ConsumeError::TopicRecreated { .. })), "{error:?}");
    }
}

#[test]
fn offsets_that_were_kept_with_the_topics_number_are_not_used_in_another_topic() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    (0..3).for_each(|n| broker.push(0, batch([n], 0)));
    let client = connect(&broker);
    let id =
        block_on(client.admin().offsets("orders", 0, Position::Begin)).expect("the topic is there").topic_id;
    let build = || block_on(client.consumer("orders").from_offsets([(0, 2)]).topic_id(id).build());
    let mut consumer = build().expect("it is the same topic");
    assert_eq!((consumer.topic_id(), next(&mut consumer).offset), (id, 2));
    broker.make_topic_again();
    let error = build().err();
    assert_eq!(error, Some(OpenError::TopicRecreated { topic: "orders".into() }));
}

#[test]
fn a_reset_goes_on_at_the_oldest_or_at_the_end_when_the_offset_is_not_in_the_log() {
    for (reset, expected) in [(OffsetReset::Earliest, 0), (OffsetReset::Latest, 3)] {
        let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
            (Kind::Subscribe, 0) => Verdict::Refuse(ErrorCode::OffsetOutOfRange),
            _ => Verdict::Serve,
        });
        (0..3).for_each(|n| broker.push(0, batch([n], 0)));
        let mut consumer =
            consumer(&broker, |builder| builder.from(Position::Offset(99)).offset_reset(reset));
        while broker.seen(Kind::Subscribe).len() < 2 {
            std::thread::yield_now();
        }
        broker.push(0, batch([3], 0));
        assert_eq!(next(&mut consumer).offset, expected);
    }
}

#[test]
fn a_lost_connection_is_told_once_and_so_is_its_return() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let builder = Client::builder()
        .on_connection_event(move |event| told.lock().expect("no panic").push(event.clone()));
    let client = world::connect(builder, &broker.addresses()).expect("the broker is there");
    broker.push(0, batch([1], 0));
    let mut consumer =
        block_on(client.consumer("orders").from(Position::Begin).build()).expect("it is there");
    next(&mut consumer);
    for round in 1..=2 {
        broker.cut_all();
        broker.push(0, batch([2], 0));
        next(&mut consumer);
        let events = events.lock().expect("no panic").clone();
        assert_eq!(events.len(), 2 * round, "{events:?}");
        let address: Arc<str> = broker.addresses()[0].as_str().into();
        assert!(
            matches!(&events[2 * round - 2], ConnectionEvent::Lost { address: lost, .. } if *lost == address)
        );
        assert_eq!(events[2 * round - 1], ConnectionEvent::Restored { address });
    }
    drop((consumer, client));
}
