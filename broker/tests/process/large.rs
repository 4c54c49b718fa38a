//! Large batches over real sockets: received straight into the log's memory and written past the journal.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::batch::{split_batches, verify_crc};
use ringlog_protocol::messages::{Position, Produced, Subscribe, Subscribed};
use ringlog_protocol::{ErrorCode, Kind, encode_with_payload, try_encode};

use super::helpers::{Broker, folder};
use super::wire::{Answer, Wire, batch};

const DISK: u8 = 2;

/// A line for people of that many bytes, no two alike.
fn line(number: usize, bytes: usize) -> String {
    let words = (0..).map(|at: usize| format!("{number}.{at} "));
    let mut line = String::with_capacity(bytes + 16);
    for word in words {
        if line.len() >= bytes {
            break;
        }
        line.push_str(&word);
    }
    line
}

fn produce_frame(request: u32, handle: u32, batch: &Bytes) -> Vec<u8> {
    let mut frame = encode_with_payload(Kind::Produce, request, handle, DISK, &(), batch.len()).to_vec();
    frame.extend_from_slice(batch);
    frame
}

fn offset_of(answer: Answer) -> i64 {
    answer.message::<Produced>(Kind::Produced).base_offset
}

fn consumed(broker: &Broker) -> Vec<String> {
    let ran = broker.run(&["consume", "t", "--until-end"]);
    ran.text().lines().map(str::to_owned).collect()
}

#[test]
fn large_batches_in_pieces_of_awkward_sizes_survive_a_kill_byte_for_byte() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let mut wire = Wire::greeted(broker.address);
    let handle = wire.open("t", 0);
    let sizes =
        [65_400, 65_500, 65_600, 10, 261_900, 262_000, 262_144, 262_300, 1_000_000, 3, 900_001, 900_000];
    let lines: Vec<_> = sizes.iter().enumerate().map(|(number, bytes)| line(number, *bytes)).collect();
    let frames =
        lines.iter().zip(10..).map(|(line, request)| produce_frame(request, handle, &batch(&[line])));
    let stream = frames.collect::<Vec<_>>().concat();
    let mut rest = &stream[..];
    for piece in
        [1, 15, 16, 17, 23, 24, 25, 4_095, 4_096, 4_097, 65_535, 65_537, 262_143, 500_001].iter().cycle()
    {
        let (now, later) = rest.split_at(rest.len().min(*piece));
        wire.send(now);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    for offset in 0..lines.len() {
        assert_eq!(offset_of(wire.receive()), offset as i64);
    }
    broker.kill();
    let broker = Broker::start(data.path());
    assert!(consumed(&broker) == lines, "what was acknowledged is there after a kill, byte for byte");
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

#[test]
fn who_pauses_in_the_middle_of_a_large_batch_holds_nobody_up_and_may_go_on() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let (mut slow, mut other) = (Wire::greeted(broker.address), Wire::greeted(broker.address));
    let (slow_handle, other_handle) = (slow.open("t", 0), other.open("t", 0));
    let lines = [line(0, 700_000), line(1, 600_000), "small".to_owned(), line(3, 800_000)];
    let frame = produce_frame(2, slow_handle, &batch(&[&lines[3]]));
    for (from, to) in [(0, 9), (9, 70_000), (70_000, 400_000)] {
        slow.send(&frame[from..to]);
        // Time for the broker to have begun with what came.
        thread::sleep(Duration::from_millis(50));
    }
    for (line, offset) in lines[..3].iter().zip(0..) {
        assert_eq!(offset_of(other.produce(other_handle, &batch(&[line]))), offset);
    }
    slow.send(&frame[400_000..]);
    assert_eq!(offset_of(slow.receive()), 3);
    assert!(consumed(&broker) == lines);
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

#[test]
fn who_leaves_in_the_middle_of_large_batches_takes_no_memory_along() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let mut honest = Wire::greeted(broker.address);
    let handle = honest.open("t", 0);
    let frame = produce_frame(2, handle, &batch(&[&line(7, 1_000_000)]));
    // Together far more than there is for gathering.
    for round in 0..200 {
        let mut wire = Wire::greeted(broker.address);
        wire.open("t", 0);
        wire.send(&frame[..70_000 + round * 4_097]);
        if round % 2 == 0 {
            wire.finish();
            assert!(matches!(wire.receive(), Answer::Closed));
        }
    }
    assert_eq!(offset_of(honest.produce(handle, &batch(&[&line(8, 1_000_000)]))), 0);
    assert!(consumed(&broker) == [line(8, 1_000_000)]);
    let (code, said) = broker.stop_by("TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panic"), "{said}");
}

#[test]
fn large_batches_that_are_not_sound_are_refused_and_the_connection_goes_on() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let mut wire = Wire::greeted(broker.address);
    let handle = wire.open("t", 0);
    let sound = line(1, 500_000);
    for round in 0..3 {
        for at in [100, 300_000, 499_999] {
            let mut wrong = batch(&[&sound]).to_vec();
            wrong[at] ^= 1;
            assert_eq!(wire.produce(handle, &wrong).error(), ErrorCode::CorruptBatch);
        }
        // The length that its header states is checked before anything of it is kept.
        let too_large = vec![0; 3 << 20];
        let refused = wire.produce(handle, &too_large).error();
        assert!(matches!(refused, ErrorCode::BatchTooLarge | ErrorCode::CorruptBatch), "{refused:?}");
        assert_eq!(offset_of(wire.produce(handle, &batch(&[&sound]))), round);
    }
    assert!(consumed(&broker) == [&sound, &sound, &sound].map(String::as_str));
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

#[test]
fn frames_of_two_cores_are_not_mixed_on_one_connection() {
    const EACH: usize = 40;
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 2);
    let mut reader = Wire::greeted(broker.address);
    for partition in 0..2 {
        let handle = reader.open("t", partition);
        let subscribe = Subscribe { from: Position::Begin, credit_bytes: u32::MAX };
        reader.send(&try_encode(Kind::Subscribe, 100 + partition, handle, 0, &subscribe).expect("it fits"));
        reader.receive().message::<Subscribed>(Kind::Subscribed);
    }
    let address = broker.address;
    let writer = thread::spawn(move || {
        let mut wire = Wire::greeted(address);
        let handles = [wire.open("t", 0), wire.open("t", 1)];
        for number in 0..EACH {
            for (at, handle) in handles.into_iter().enumerate() {
                let bytes = if (number + 2 * at) % 4 == 0 { 900_000 } else { 300 };
                wire.send(&produce_frame(2, handle, &batch(&[&line(number, bytes)])));
            }
        }
        (0..2 * EACH).for_each(|_| assert!(offset_of(wire.receive()) >= 0));
    });
    let mut next = [0; 2];
    while next != [EACH as i64; 2] {
        let Answer::Frame { header, payload, .. } = reader.receive() else { panic!("closed at {next:?}") };
        assert_eq!(header.kind, Kind::Delivery);
        let next = &mut next[header.request as usize - 100];
        for found in split_batches(&payload) {
            let (header, bytes) = found.expect("whole batches");
            assert_eq!((header.base_offset, verify_crc(&header, bytes)), (*next, Ok(())));
            *next += 1;
        }
    }
    writer.join().expect("every batch is acknowledged");
}
