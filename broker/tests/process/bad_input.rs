//! Frames, batches and names that no sound client sends. Each gets a typed error or a closed connection; nobody
//! else notices, nothing is lost and nothing of it is in the log.

use ringlog_protocol::batch::crc_of;
use ringlog_protocol::limits::MAX_FRAME_BYTES;
use ringlog_protocol::messages::{Hello, Open, Produced};
use ringlog_protocol::{ErrorCode, FrameHeader, Kind, encode_with_payload, try_encode};
use tempfile::TempDir;

use super::helpers::{Broker, folder};
use super::wire::{Answer, Wire, batch};

/// A broker with a topic, and one record in it that must stay the only one.
struct Victim {
    broker: Broker,
    _data: TempDir,
}

impl Victim {
    fn new() -> Victim {
        let data = folder();
        let broker = Broker::start(data.path());
        broker.create_topic("t", 1);
        broker.run_with_input(&["produce", "t"], "before\n");
        Victim { broker, _data: data }
    }

    fn greeted(&self) -> Wire {
        Wire::greeted(self.broker.address)
    }

    /// Nothing happened to it.
    fn stays_well(self) {
        self.broker.run_with_input(&["produce", "t"], "after\n");
        assert_eq!(self.broker.run(&["consume", "t", "--until-end"]).text(), "before\nafter\n");
        let (code, said) = self.broker.stop_by("TERM");
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("panic"), "{said}");
    }
}

/// 16 bytes that need not be a header that exists.
fn header(length: u32, kind: u8, body_words: u16) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([kind, 0]);
    bytes.extend(body_words.to_le_bytes());
    bytes.extend(7u32.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes
}

/// The connection must end, if need be after an error with one of these codes.
fn ends_with(wire: &mut Wire, codes: &[ErrorCode]) {
    match wire.receive() {
        Answer::Closed => {}
        answer => {
            let code = answer.error();
            assert!(codes.contains(&code), "{code:?} is not one of {codes:?}");
            assert!(matches!(wire.receive(), Answer::Closed), "still open after {code:?}");
        }
    }
}

#[test]
fn a_frame_of_length_zero_without_the_body_it_needs_is_refused() {
    let victim = Victim::new();
    let mut wire = victim.greeted();
    wire.send(&header(0, Kind::Open as u8, 0));
    ends_with(&mut wire, &[ErrorCode::MalformedFrame]);
    victim.stays_well();
}

#[test]
fn sixteen_zero_bytes_are_no_frame() {
    let victim = Victim::new();
    for mut wire in [victim.greeted(), Wire::connect(victim.broker.address)] {
        wire.send(&[0; 16]);
        ends_with(&mut wire, &[ErrorCode::MalformedFrame, ErrorCode::UnknownKind, ErrorCode::NotHandshaken]);
    }
    victim.stays_well();
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_are_there() {
    let victim = Victim::new();
    for length in [MAX_FRAME_BYTES as u32 + 1, i32::MAX as u32, u32::MAX] {
        let mut wire = victim.greeted();
        wire.send(&header(length, Kind::Produce as u8, 0));
        ends_with(&mut wire, &[ErrorCode::FrameTooLarge, ErrorCode::MalformedFrame]);
    }
    victim.stays_well();
}

#[test]
fn a_body_longer_than_its_frame_is_refused() {
    let victim = Victim::new();
    let mut wire = victim.greeted();
    wire.send(&header(8, Kind::Open as u8, 2));
    ends_with(&mut wire, &[ErrorCode::MalformedFrame]);
    victim.stays_well();
}

#[test]
fn a_frame_cut_short_by_the_end_is_dropped() {
    let victim = Victim::new();
    let open = Open { topic: "t".to_owned(), partition: 0 };
    let whole = try_encode(Kind::Open, 1, 0, 0, &open).expect("an open fits");
    for cut in [1, 15, 16, whole.len() - 1] {
        let mut wire = victim.greeted();
        wire.send(&whole[..cut]);
        wire.finish();
        assert!(matches!(wire.receive(), Answer::Closed), "cut at {cut}");
    }
    victim.stays_well();
}

#[test]
fn a_kind_that_does_not_exist_is_refused() {
    let victim = Victim::new();
    for kind in [0x00, 0x42, 0x7f, Kind::Produced as u8] {
        let mut wire = victim.greeted();
        wire.send(&header(0, kind, 0));
        ends_with(&mut wire, &[ErrorCode::UnknownKind, ErrorCode::MalformedFrame]);
    }
    victim.stays_well();
}

#[test]
fn a_version_that_nobody_speaks_is_refused_by_name() {
    let victim = Victim::new();
    let mut wire = Wire::connect(victim.broker.address);
    let hello = Hello { version_min: 900, version_max: 901, ..Hello::new("test", None) };
    wire.send(&try_encode(Kind::Hello, 0, 0, 0, &hello).expect("a hello fits"));
    assert_eq!(wire.receive().error(), ErrorCode::UnsupportedVersion);
    assert!(matches!(wire.receive(), Answer::Closed));
    victim.stays_well();
}

#[test]
fn who_does_not_introduce_itself_is_sent_away() {
    let victim = Victim::new();
    let mut wire = Wire::connect(victim.broker.address);
    let open = Open { topic: "t".to_owned(), partition: 0 };
    wire.send(&try_encode(Kind::Open, 1, 0, 0, &open).expect("an open fits"));
    ends_with(&mut wire, &[ErrorCode::NotHandshaken]);

    let mut wire = Wire::connect(victim.broker.address);
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ends_with(
        &mut wire,
        &[
            ErrorCode::MalformedFrame,
            ErrorCode::FrameTooLarge,
            ErrorCode::UnknownKind,
            ErrorCode::NotHandshaken,
        ],
    );
    victim.stays_well();
}

#[test]
fn a_partition_or_a_topic_that_is_not_there_cannot_be_opened_and_the_connection_goes_on() {
    let victim = Victim::new();
    let mut wire = victim.greeted();
    let control = "a\u{1}b";
    for (topic, partition) in [("t", 1), ("t", u32::MAX), ("nowhere", 0), ("", 0), ("../t", 0), (control, 0)]
    {
        let open = Open { topic: topic.to_owned(), partition };
        wire.send(&try_encode(Kind::Open, 1, 0, 0, &open).expect("an open fits"));
        let code = wire.receive().error();
        let fitting = [ErrorCode::UnknownTopic, ErrorCode::UnknownPartition, ErrorCode::InvalidTopicName];
        assert!(fitting.contains(&code), "{topic:?} {partition}: {code:?}");
    }
    wire.open("t", 0);
    victim.stays_well();
}

#[test]
fn a_handle_that_was_not_given_out_is_refused() {
    let victim = Victim::new();
    let mut wire = victim.greeted();
    for handle in [0, 99, u32::MAX] {
        assert_eq!(wire.produce(handle, &batch(&["x"])).error(), ErrorCode::UnknownHandle);
    }
    victim.stays_well();
}

/// Changes a sound batch, and gives its checksum anew when the change is not about that.
fn spoiled(renew: bool, spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch(&["x", "y"]).to_vec();
    spoil(&mut bytes);
    if renew {
        let crc = crc_of(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

#[test]
fn batches_that_are_not_sound_are_refused_and_nothing_of_them_is_kept() {
    let victim = Victim::new();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a flipped byte in a value", spoiled(false, |b| *b.last_mut().expect("not empty") ^= 1)),
        ("a flipped checksum", spoiled(false, |b| b[17] ^= 1)),
        ("an older magic", spoiled(true, |b| b[16] = 1)),
        ("no records", spoiled(true, |b| b[57..61].copy_from_slice(&0i32.to_be_bytes()))),
        ("a negative count", spoiled(true, |b| b[57..61].copy_from_slice(&(-1i32).to_be_bytes()))),
        (
            "a count that the deltas do not have",
            spoiled(true, |b| b[57..61].copy_from_slice(&7i32.to_be_bytes())),
        ),
        ("a last delta that the count does not have", spoiled(true, |b| b[26] ^= 1)),
        ("a length that is too long", spoiled(true, |b| b[11] += 1)),
        ("a length that is too short", spoiled(true, |b| b[11] -= 1)),
        ("a negative length", spoiled(true, |b| b[8] = 0xff)),
        ("a codec that does not exist", spoiled(true, |b| b[22] = 7)),
        ("a control batch", spoiled(true, |b| b[22] = 0x20)),
        ("two batches at once", [batch(&["x"]), batch(&["y"])].concat()),
        ("half a header", batch(&["x"])[..30].to_vec()),
        ("nothing", Vec::new()),
    ];
    let mut wire = victim.greeted();
    let handle = wire.open("t", 0);
    for (what, bytes) in cases {
        let code = wire.produce(handle, &bytes).error();
        assert!(matches!(code, ErrorCode::CorruptBatch | ErrorCode::InvalidBatch), "{what}: {code:?}");
    }
    let produced: Produced = wire.produce(handle, &batch(&["between"])).message(Kind::Produced);
    assert_eq!(produced.base_offset, 1);
    assert_eq!(victim.broker.run(&["consume", "t", "--until-end"]).text(), "before\nbetween\n");
}

#[test]
fn a_batch_over_the_topics_limit_is_refused() {
    let victim = Victim::new();
    victim.broker.run(&["topic", "create", "small", "--set", "max.message.bytes=1024"]);
    let mut wire = victim.greeted();
    let handle = wire.open("small", 0);
    let long = "x".repeat(2_000);
    assert_eq!(wire.produce(handle, &batch(&[long.as_str()])).error(), ErrorCode::BatchTooLarge);
    victim.stays_well();
}

#[test]
fn a_broker_survives_noise() {
    let victim = Victim::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let mut noise = Vec::new();
        for _ in 0..16 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend(state.to_le_bytes());
        }
        // Short lengths, so that the frames are looked into and not only their headers.
        noise[1..4].fill(0);
        let mut wire = victim.greeted();
        wire.send(&noise);
        wire.finish();
        while matches!(wire.receive(), Answer::Frame { .. }) {}
    }
    victim.stays_well();
}

#[test]
fn a_header_is_written_as_the_protocol_writes_it() {
    let ours = header(8, Kind::Open as u8, 1);
    let theirs = FrameHeader { length: 8, kind: Kind::Open, flags: 0, body_words: 1, request: 7, handle: 0 };
    assert_eq!(ours, theirs.encode());
}

/// Number 0 is the connection's own: an answer to such a request would be about the connection.
#[test]
fn a_request_with_the_number_of_the_connection_is_refused_and_closed() {
    let victim = Victim::new();
    let mut small = victim.greeted();
    small.send(&try_encode(Kind::Ping, 0, 0, 0, &()).expect("a ping fits"));
    assert_eq!(small.receive().error(), ErrorCode::MalformedFrame);
    assert!(matches!(small.receive(), Answer::Closed));
    for bytes in [10, 300_000] {
        let mut wire = victim.greeted();
        let handle = wire.open("t", 0);
        let batch = batch(&[&"x".repeat(bytes)]);
        let mut frame = encode_with_payload(Kind::Produce, 0, handle, 2, &(), batch.len());
        frame.extend_from_slice(&batch);
        wire.send(&frame);
        assert_eq!(wire.receive().error(), ErrorCode::MalformedFrame);
        assert!(matches!(wire.receive(), Answer::Closed));
    }
    victim.stays_well();
}
