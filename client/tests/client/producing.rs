//! Producers against a broker that misbehaves by script.

use std::time::Duration;

use crate::support::{FakeBroker, Seen, Verdict};
use crate::world;
use bytes::Bytes;
use ringlog_client::{
    Ack, Acked, Client, Compression, ConnectError, Delivery, DeliveryError, ErrorCode, OpenError, Producer,
    ProducerBuilder, Record, SendError, TrySendError, block_on,
};
use ringlog_protocol::Kind;
use ringlog_protocol::batch::{BatchHeader, RecordIter, records_section};

fn connect(broker: &FakeBroker) -> Client {
    world::connect(Client::builder().request_timeout(Duration::from_millis(400)), &broker.addresses())
        .expect("the broker is there")
}

fn producer(broker: &FakeBroker, set: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Producer {
    block_on(set(connect(broker).producer("orders")).build()).expect("the topic is there")
}

fn send(producer: &Producer, value: impl Into<Bytes>) -> Delivery {
    block_on(producer.send(Record::new(value).partition(0))).expect("admitted")
}

/// The values in a partition's log, in order.
fn values(broker: &FakeBroker, partition: u32) -> Vec<String> {
    let mut values = Vec::new();
    for batch in broker.log(partition) {
        let header = BatchHeader::parse(&batch).expect("a batch");
        for record in RecordIter::new(&header, records_section(&batch)) {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    values
}

/// Sends batches of one record each without waiting, so that several are in flight.
fn burst(producer: &Producer, count: usize) -> Vec<Delivery> {
    (0..count).map(|n| send(producer, n.to_string())).collect()
}

fn one_record_batches(builder: ProducerBuilder) -> ProducerBuilder {
    builder.batch_bytes(62)
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[test]
fn records_are_acknowledged_with_their_places() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    for n in 0..20 {
        assert_eq!(send(&producer, n.to_string()).wait(), Ok(Acked { partition: 0, offset: n }));
    }
    assert_eq!(values(&broker, 0), numbers(20));
    assert_eq!(block_on(producer.close(Duration::from_secs(5))), Ok(()));
}

#[test]
fn records_that_come_while_others_are_on_their_way_share_batches() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.max_in_flight(1));
    let deliveries = burst(&producer, 5_000);
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.wait().map(|acked| acked.offset), Ok(n as i64));
    }
    assert_eq!(values(&broker, 0), numbers(5_000));
    assert!(broker.log(0).len() < 2_500, "{} batches", broker.log(0).len());
}

#[test]
fn a_hello_asks_for_the_shard_of_the_partition() {
    let broker = FakeBroker::start(3, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    let delivery = block_on(producer.send(Record::new("x").partition(2))).expect("admitted");
    assert!(delivery.wait().is_ok());
    let asked: Vec<_> = broker.seen(Kind::Hello).iter().map(|hello| hello.shard).collect();
    assert_eq!(asked, [None, Some(2)]);
    let produced = broker.seen(Kind::Produce);
    assert_eq!(produced.iter().map(|frame| frame.connection).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_refusal_settles_its_own_batch_and_not_the_oldest_in_flight() {
    // The first is never answered, so the refusal of the second comes while both are in flight.
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0) => Verdict::Ignore,
        (Kind::Produce, 1) => Verdict::Refuse(ErrorCode::BatchTooLarge),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| one_record_batches(builder).max_in_flight(2));
    let [first, second] = burst(&producer, 2).try_into().expect("two deliveries");
    assert!(matches!(second.wait(), Err(DeliveryError::Refused(_))));
    assert_eq!(first.wait(), Err(DeliveryError::OutcomeUnknown));
}

#[test]
fn a_batch_that_was_refused_for_now_is_sent_again() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0 | 1) => Verdict::Refuse(ErrorCode::Overloaded),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| builder);
    assert_eq!(send(&producer, "0").wait(), Ok(Acked { partition: 0, offset: 0 }));
    assert_eq!(values(&broker, 0), ["0"]);
}

#[test]
fn order_is_kept_when_all_in_flight_is_refused() {
    // While the first batch is refused the later ones are refused too, as by a full disk.
    let mut refused = 0;
    let broker = FakeBroker::start(1, move |seen| {
        let refuse = seen.kind == Kind::Produce && refused < 12;
        refused += usize::from(refuse);
        if refuse { Verdict::Refuse(ErrorCode::DiskFull) } else { Verdict::Serve }
    });
    let producer = producer(&broker, one_record_batches);
    let deliveries = burst(&producer, 30);
    assert!(deliveries.into_iter().all(|delivery| delivery.wait().is_ok()));
    assert_eq!(values(&broker, 0), numbers(30));
}

#[test]
fn a_refused_batch_that_was_overtaken_fails_instead_of_breaking_the_order() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 1) => Verdict::Refuse(ErrorCode::Overloaded),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, one_record_batches);
    let results: Vec<_> = burst(&producer, 20).into_iter().map(Delivery::wait).collect();
    let written = values(&broker, 0);
    let mut sorted = written.clone();
    sorted.sort_by_key(|value| value.parse::<usize>().expect("a number"));
    assert_eq!(written, sorted, "the log is in the order of the sends");
    for (n, result) in results.iter().enumerate() {
        let there = written.contains(&n.to_string());
        match result {
            Ok(_) => assert!(there),
            Err(DeliveryError::Overtaken { .. }) => assert!(!there && n == 1),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn answers_that_come_together_are_heard_out_before_anything_new_is_sent() {
    // The third batch, sent on the first answer alone, would overtake the second.
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0) => Verdict::ServeAndWait,
        (Kind::Produce, 1) => Verdict::Refuse(ErrorCode::Overloaded),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| one_record_batches(builder).max_in_flight(2));
    let results: Vec<_> = burst(&producer, 6).into_iter().map(Delivery::wait).collect();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(values(&broker, 0), numbers(6));
}

#[test]
fn a_batch_that_is_refused_for_good_fails_alone() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 1) => Verdict::Refuse(ErrorCode::InvalidBatch),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| one_record_batches(builder).max_in_flight(1));
    let results: Vec<_> = burst(&producer, 4).into_iter().map(Delivery::wait).collect();
    assert!(
        matches!(&results[1], Err(DeliveryError::Refused(refusal)) if refusal.code == ErrorCode::InvalidBatch)
    );
    assert_eq!(values(&broker, 0), ["0", "2", "3"]);
}

#[test]
fn a_dead_handle_is_opened_again() {
    for ack in [Ack::Disk, Ack::None] {
        // The handle is dead, and only another Open gives one that lives.
        let mut opened = 0;
        let broker = FakeBroker::start(1, move |seen| {
            opened += usize::from(seen.kind == Kind::Open);
            match seen.kind {
                Kind::Produce if opened == 1 => Verdict::Refuse(ErrorCode::UnknownTopic),
                _ => Verdict::Serve,
            }
        });
        let producer = producer(&broker, |builder| builder.ack(ack));
        let first = send(&producer, "first").wait();
        assert_eq!(first.is_err(), ack == Ack::Disk, "{first:?}");
        // The error of a batch without an ack comes when nobody waits for it.
        while values(&broker, 0).is_empty() {
            assert!(broker.seen(Kind::Produce).len() < 10_000, "the handle stays dead");
            let _ = send(&producer, "next").wait();
        }
        assert!(!broker.seen(Kind::Close).is_empty(), "the dead handle was given back");
    }
}

#[test]
fn a_cut_before_the_ack_leaves_the_outcome_unknown_and_sends_nothing_twice() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 3) => Verdict::ServeAndCut,
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| one_record_batches(builder).max_in_flight(1));
    let results: Vec<_> = burst(&producer, 10).into_iter().map(Delivery::wait).collect();
    assert_eq!(results[3], Err(DeliveryError::OutcomeUnknown));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 9);
    assert_eq!(values(&broker, 0), numbers(10), "each once, in order");
}

#[test]
fn a_cut_with_several_in_flight_keeps_the_order_of_what_is_acknowledged() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 7 | 19) => Verdict::Cut,
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, one_record_batches);
    let results: Vec<_> = burst(&producer, 60).into_iter().map(Delivery::wait).collect();
    let offsets: Vec<_> = results.iter().flatten().map(|acked| acked.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b));
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(DeliveryError::OutcomeUnknown))));
    assert!(results.iter().filter(|result| result.is_err()).count() <= 10, "at most what was in flight");
    let written = values(&broker, 0);
    let mut once = written.clone();
    once.sort_by_key(|value| value.parse::<usize>().expect("a number"));
    once.dedup();
    assert_eq!(written, once);
}

#[test]
fn a_broker_that_does_not_answer_is_taken_for_dead() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0) => Verdict::Ignore,
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| builder);
    assert_eq!(send(&producer, "lost").wait(), Err(DeliveryError::OutcomeUnknown));
    assert!(send(&producer, "next").wait().is_ok());
}

#[test]
fn the_byte_budget_holds_senders_back() {
    let (go, gate) = flume::bounded::<()>(1);
    let mut open = false;
    let broker = FakeBroker::start(1, move |seen: &Seen| {
        if seen.kind == Kind::Produce && !open {
            // The broker stands still until the test says go.
            open = gate.recv().is_ok();
        }
        Verdict::Serve
    });
    let client = world::connect(Client::builder(), &broker.addresses()).expect("the broker is there");
    let producer =
        block_on(client.producer("orders").buffer_bytes(10_000).build()).expect("the topic is there");
    let mut deliveries = Vec::new();
    let back = loop {
        assert!(deliveries.len() < 100, "the budget does not hold");
        match producer.try_send(Record::new(vec![b'x'; 1000])) {
            Ok(delivery) => deliveries.push(delivery),
            Err(TrySendError::Full(record)) => break record,
            Err(other) => panic!("{other}"),
        }
    };
    assert!((8..10).contains(&deliveries.len()), "{} records of 1000 bytes", deliveries.len());
    let waiting = std::thread::spawn({
        let producer = producer.clone();
        move || block_on(producer.send(back)).expect("admitted").wait()
    });
    assert!(!waiting.is_finished());
    go.send(()).expect("the broker waits");
    assert!(waiting.join().expect("no panic").is_ok());
    assert!(deliveries.into_iter().all(|delivery| delivery.wait().is_ok()));
}

#[test]
fn close_sends_what_lingers() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.linger(Duration::from_secs(100)));
    let deliveries = burst(&producer, 10);
    assert!(deliveries.iter().all(|delivery| delivery.try_result().is_none()));
    assert_eq!(block_on(producer.close(Duration::from_secs(10))), Ok(()));
    assert!(deliveries.into_iter().all(|delivery| delivery.wait().is_ok()));
    assert_eq!(broker.log(0).len(), 1, "one batch");
}

#[test]
fn a_record_refused_because_storage_failed_may_be_in_the_log() {
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Produce if seen.nth == 0 => Verdict::Refuse(ErrorCode::StorageFailed),
        Kind::Produce => Verdict::Refuse(ErrorCode::Quarantined),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| builder);
    let error = send(&producer, "may be written").wait().expect_err("it is refused");
    assert!(error.is_outcome_unknown() && !error.is_retryable());
    let error = send(&producer, "not taken").wait().expect_err("it is refused");
    assert!(!error.is_outcome_unknown());
}

#[test]
fn a_linger_longer_than_the_delivery_timeout_is_refused() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let builder = connect(&broker).producer("orders").delivery_timeout(Duration::from_secs(1));
    let refused = block_on(builder.linger(Duration::from_secs(2)).build()).err();
    assert!(matches!(refused, Some(OpenError::BadSetting { setting: "linger", .. })), "{refused:?}");
}

#[test]
fn flush_ends_a_linger_and_waits_for_the_acks() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.linger(Duration::from_secs(100)));
    let delivery = send(&producer, "0");
    block_on(producer.flush());
    assert_eq!(delivery.try_result(), Some(Ok(Acked { partition: 0, offset: 0 })));
}

#[test]
fn close_gives_up_at_its_deadline_and_counts() {
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Produce => Verdict::Refuse(ErrorCode::DiskFull),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| builder);
    let deliveries = burst(&producer, 3);
    let closed = block_on(producer.close(Duration::from_millis(200)));
    assert_eq!(closed.map_err(|error| error.unacked), Err(3));
    let results: Vec<_> = deliveries.into_iter().map(Delivery::wait).collect();
    assert!(results.iter().all(|result| result == &Err(DeliveryError::Closed)), "refused: not in the log");
}

#[test]
fn a_closed_producer_admits_nothing() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    let clone = producer.clone();
    assert_eq!(block_on(producer.close(Duration::from_secs(5))), Ok(()));
    assert_eq!(block_on(clone.send(Record::new("x"))).err(), Some(SendError::Closed));
}

#[test]
fn a_dropped_producer_still_sends_what_was_admitted() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.linger(Duration::from_secs(100)));
    let delivery = send(&producer, "0");
    drop(producer);
    assert!(delivery.wait().is_ok());
}

#[test]
fn a_record_that_no_batch_can_hold_is_refused_at_once() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    let refused = block_on(producer.send(Record::new(vec![0; 2 << 20]))).err();
    assert!(matches!(refused, Some(SendError::TooLarge { limit, .. }) if limit == 1 << 20));
    let refused = block_on(producer.send(Record::new("x").partition(7))).err();
    assert_eq!(refused, Some(SendError::UnknownPartition { partition: 7, partitions: 1 }));
}

#[test]
fn records_without_a_key_go_round_and_those_with_one_stay() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    let place =
        |record: Record| block_on(producer.send(record)).expect("admitted").wait().expect("acked").partition;
    let round: Vec<_> = (0..4).map(|_| place(Record::new("x"))).collect();
    assert!(round.contains(&0) && round.contains(&1));
    let keyed: Vec<_> = (0..4).map(|_| place(Record::new("x").key("21"))).collect();
    assert!(keyed.iter().all(|partition| *partition == keyed[0]));
}

#[test]
fn without_an_ack_nothing_is_waited_for() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.ack(ringlog_client::Ack::None));
    assert_eq!(send(&producer, "0").wait(), Ok(Acked { partition: 0, offset: -1 }));
    assert_eq!(block_on(producer.close(Duration::from_secs(5))), Ok(()));
}

#[test]
fn an_unknown_topic_and_an_absent_broker_are_named() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let missing = block_on(connect(&broker).producer("nowhere").build()).err();
    assert!(matches!(missing, Some(OpenError::UnknownTopic { topic }) if &*topic == "nowhere"));

    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let absent = world::connect(Client::builder(), &[format!("127.0.0.1:{port}")]).err();
    let words = format!("no broker at 127.0.0.1:{port}: connection refused; start one with `ringlog serve`");
    assert_eq!(absent.map(|error| error.to_string()), Some(words));
    assert_eq!(world::connect(Client::builder(), &[]).err(), Some(ConnectError::NoAddress));
}

#[test]
fn a_dropped_client_leaves_no_connection() {
    let broker = FakeBroker::start(3, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder);
    for partition in 0..3 {
        let record = Record::new("x").partition(partition);
        assert!(block_on(producer.send(record)).expect("admitted").wait().is_ok());
    }
    assert_eq!(broker.open_connections(), 3);
    drop(producer);
    while broker.open_connections() > 0 {
        std::thread::yield_now();
    }
}

/// Sockets that hold a connection to the broker.
fn sockets_to(broker: &FakeBroker) -> usize {
    let peer = format!(":{:04X}", broker.address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    let connected = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|remote| remote.ends_with(&peer)) && columns.next() == Some("01")
    };
    table.lines().filter(connected).count()
}

#[test]
fn a_broker_that_takes_no_bytes_is_given_up_with_its_socket() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0) => Verdict::Stall,
        _ => Verdict::Serve,
    });
    // More than the kernel keeps for a socket.
    let producer = producer(&broker, |builder| builder.batch_bytes(1 << 20).max_in_flight(32));
    let deliveries: Vec<_> = (0..24).map(|_| send(&producer, vec![b'x'; 900 << 10])).collect();
    assert_eq!(deliveries.into_iter().next().map(Delivery::wait), Some(Err(DeliveryError::OutcomeUnknown)));
    assert!(send(&producer, "x").wait().is_ok(), "on a new connection");
    while sockets_to(&broker) > 1 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_host_name_is_looked_up() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let name = format!("localhost:{}", broker.address.port());
    assert!(world::connect(Client::builder(), &[name]).is_ok());
}

#[test]
fn what_waits_for_a_topic_that_was_made_again_does_not_go_into_the_new_one() {
    // The handle has died with the topic.
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 1) => Verdict::Refuse(ErrorCode::UnknownHandle),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| builder.linger(Duration::from_secs(5)));
    let first = send(&producer, "old");
    block_on(producer.flush());
    assert!(first.wait().is_ok());
    let waiting = send(&producer, "old, and not sent yet");
    broker.make_topic_again();
    block_on(producer.flush());
    let recreated = DeliveryError::TopicRecreated { topic: "orders".into() };
    assert_eq!(waiting.wait(), Err(recreated.clone()));
    let later = send(&producer, "sent by the same producer");
    block_on(producer.flush());
    assert_eq!(later.wait(), Err(recreated));
    assert_eq!(values(&broker, 0), Vec::<String>::new());
}

#[test]
fn nothing_is_sent_after_a_failure_when_the_producer_stops_at_one() {
    // The connection ends with a batch under way, or a batch is refused, for good or for now and for too long.
    type Script = fn(&Seen) -> Verdict;
    type Expected = fn(&DeliveryError) -> bool;
    let scripts: [(Script, Expected); 2] = [
        (
            |seen| match (seen.kind, seen.nth) {
                (Kind::Produce, 3) => Verdict::Cut,
                _ => Verdict::Serve,
            },
            |error| *error == DeliveryError::OutcomeUnknown,
        ),
        (
            |seen| match (seen.kind, seen.nth) {
                (Kind::Produce, 3) => Verdict::Refuse(ErrorCode::InvalidBatch),
                _ => Verdict::Serve,
            },
            |error| matches!(error, DeliveryError::Refused(_)),
        ),
    ];
    for (script, is_expected) in scripts {
        let broker = FakeBroker::start(2, script);
        let producer = producer(&broker, |builder| one_record_batches(builder).stop_on_failure(true));
        let mut results = burst(&producer, 10).into_iter().map(Delivery::wait);
        for offset in 0..3 {
            assert_eq!(results.next(), Some(Ok(Acked { partition: 0, offset })));
        }
        let failed = results.next().and_then(Result::err).expect("the fourth fails");
        assert!(is_expected(&failed), "{failed:?}");
        for result in results {
            assert_eq!(result, Err(DeliveryError::NotSent));
        }
        assert_eq!(send(&producer, "later").wait(), Err(DeliveryError::NotSent));
        let other = block_on(producer.send(Record::new("x").partition(1))).expect("admitted");
        assert!(other.wait().is_ok(), "another partition is not held back");
        assert_eq!(values(&broker, 0), numbers(3));
    }
}

#[test]
fn a_producer_that_stops_at_a_failure_has_one_batch_on_its_way() {
    let broker = FakeBroker::start(1, |seen| match (seen.kind, seen.nth) {
        (Kind::Produce, 0) => Verdict::Refuse(ErrorCode::Overloaded),
        _ => Verdict::Serve,
    });
    let producer = producer(&broker, |builder| one_record_batches(builder).stop_on_failure(true));
    for (n, delivery) in burst(&producer, 10).into_iter().enumerate() {
        assert_eq!(
            delivery.wait(),
            Ok(Acked { partition: 0, offset: n as i64 }),
            "a refusal for now is no failure"
        );
    }
    assert_eq!(values(&broker, 0), numbers(10));
}

#[test]
fn a_record_may_be_larger_than_a_batch_if_compression_makes_it_fit() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let producer = producer(&broker, |builder| builder.compression(Compression::Zstd));
    assert!(send(&producer, vec![0; 3 << 20]).wait().is_ok());
    let mut seed = 1_u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    });
    let failed = send(&producer, noise.take(3 << 20).collect::<Vec<u8>>()).wait();
    assert!(matches!(failed, Err(DeliveryError::TooLarge { limit: 1_048_576, .. })), "{failed:?}");
    assert!(send(&producer, "small").wait().is_ok(), "what comes after it is not affected");
    let refused = block_on(producer.send(Record::new(vec![0; 9 << 20]))).err();
    assert!(matches!(refused, Some(SendError::TooLarge { limit: 8_388_608, .. })), "{refused:?}");
}
