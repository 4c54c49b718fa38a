//! A session fed with a broker's bytes, cut anywhere and changed: no panic, every token comes back once, and what is
//! gathered stays within credit and one frame.

use bytes::Bytes;
use ringlog_fuzz::{Random, Target, Verdict};
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::limits::MAX_FRAME_BYTES;
use ringlog_protocol::messages::*;
use ringlog_protocol::{Ack, ErrorCode, Kind, encode, encode_error, encode_with_payload, try_encode};

use super::tests::{TIMEOUT, welcome};
use super::*;

const CREDIT: u32 = 4096;
const TOKENS: usize = 7;

/// A session with a request of every kind that has an answer, and the number of its subscription.
fn busy_session() -> (Session<usize>, u32, Instant) {
    let now = ringlog_reactor::now();
    let mut session = Session::new("fuzz", Some(2), TIMEOUT, now).expect("it fits");
    let create = CreateTopic { name: "orders".into(), partitions: 3, config: Vec::new() };
    let open = Open { topic: "orders".into(), partition: 0 };
    let fetch = Fetch { offset: 0, max_bytes: 1, min_bytes: 0, max_wait_ms: 0 };
    let asked = [
        session.request(now, Kind::Metadata, 0, &MetadataRequest { topics: None }, Some(0)),
        session.request(now, Kind::CreateTopic, 0, &create, Some(1)),
        session.request(now, Kind::Open, 0, &open, Some(2)),
        session.request(now, Kind::Fetch, 7, &fetch, Some(3)),
        session.request(now, Kind::ListOffsets, 7, &ListOffsets { at: Position::End }, Some(4)),
    ];
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(session.produce(now, 7, Ack::Disk, Bytes::from_static(b"batch"), 5), None);
    let subscription = session.subscribe(now, 7, Position::Begin, CREDIT, 6);
    (session, subscription, now)
}

/// What a sound broker answers, in its order.
fn answers() -> Vec<Bytes> {
    let topic = TopicMetadata {
        name: "orders".into(),
        id: 5,
        partitions: vec![PartitionMetadata { partition: 3, shard: 1, leader: 0, leader_epoch: 2 }; 3],
        config: vec![("retention.ms".into(), "1".into())],
    };
    let metadata = MetadataReply { shards: 2, topics: vec![topic.clone()], unknown: vec!["none".into()] };
    let opened = Opened {
        topic_id: 1,
        start_offset: 2,
        high_watermark: 3,
        max_batch_bytes: 4,
        ack: Ack::Disk,
        quarantined: true,
    };
    let fetched = Fetched { start_offset: 0, high_watermark: 9 };
    let listed = ListOffsetsReply { offset: 1, timestamp: -1, start_offset: 3, high_watermark: 4 };
    let subscribed = Subscribed { next_offset: 0, start_offset: 0, high_watermark: 9 };
    let with_payload = |kind, request, payload: usize| {
        let head = match kind {
            Kind::Delivery => {
                encode_with_payload(kind, request, 0, 0, &Delivery { high_watermark: 9 }, payload)
            }
            _ => encode_with_payload(kind, request, 0, 0, &fetched, payload),
        };
        [&head[..], &vec![0xab; payload]].concat().into()
    };
    vec![
        welcome(),
        try_encode(Kind::MetadataReply, 1, 0, 0, &metadata).expect("it fits").freeze(),
        try_encode(Kind::CreateTopicReply, 2, 0, 0, &CreateTopicReply { topic }).expect("it fits").freeze(),
        encode(Kind::Opened, 3, 8, 0, &opened).freeze(),
        with_payload(Kind::Fetched, 4, 300),
        encode(Kind::ListOffsetsReply, 5, 0, 0, &listed).freeze(),
        encode(Kind::Produced, 6, 7, 0, &Produced { base_offset: 1, start_offset: 0 }).freeze(),
        encode(Kind::Subscribed, 7, 0, 0, &subscribed).freeze(),
        with_payload(Kind::Delivery, 7, 2000),
        with_payload(Kind::Delivery, 7, 70),
        encode_error(7, 0, ErrorCode::Quarantined, "damage").freeze(),
        encode_error(99, 0, ErrorCode::CorruptBatch, "of nobody").freeze(),
    ]
}

fn check(bytes: &[u8]) -> Verdict {
    let (mut session, subscription, now) = busy_session();
    session.take_output(&mut Vec::new());
    // The same bytes always come in the same pieces.
    let mut random = Random::new(bytes.iter().fold(1, |sum, byte| sum * 31 % 65_521 + u64::from(*byte)));
    let (mut rest, mut verdict) = (bytes, Ok(()));
    while !rest.is_empty() && verdict.is_ok() {
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(200)));
        verdict = session.receive(now, piece).map_err(|error| error.to_string());
        rest = later;
    }
    let mut tokens: Vec<usize> = Vec::new();
    let mut delivered = 0;
    while let Some(event) = session.next_event() {
        match event {
            Event::Reply { token, .. } | Event::Refused { token, .. } => tokens.push(token),
            Event::Delivery { subscription: of, payload, .. } => {
                assert_eq!(of, subscription, "nobody else has subscribed");
                assert!(delivered < CREDIT as usize, "pushed without credit");
                delivered += payload.len();
            }
            _ => {}
        }
    }
    assert!(
        session.input.capacity() <= 2 * (INPUT_BYTES + MAX_FRAME_BYTES),
        "more than one frame is gathered"
    );
    tokens.extend(session.end().into_iter().map(|lost| lost.token));
    tokens.sort_unstable();
    assert_eq!(tokens, (0..TOKENS).collect::<Vec<_>>(), "every token comes back once");
    verdict
}

/// Each frame's length as it should be, while frames can be told apart.
fn mend(bytes: &mut [u8]) {
    let last = bytes.len().saturating_sub(HEADER_BYTES);
    if let Some(front) = bytes.get_mut(..4)
        && u32::from_le_bytes([front[0], front[1], front[2], front[3]]) as usize > last
    {
        front.copy_from_slice(&(last as u32).to_le_bytes());
    }
}

#[test]
fn fuzz_session() {
    let whole = answers().concat();
    let shuffled: Vec<u8> =
        answers().iter().take(1).chain(answers().iter().skip(1).rev()).flatten().copied().collect();
    // A frame that is announced has its memory at once: as much as the largest.
    let target = Target::new("session")
        .seeds([whole])
        .mending(|bytes| mend(bytes))
        .allowing(2 * MAX_FRAME_BYTES + (1 << 20), 64);
    target.run(check);
    assert!(check(&shuffled).is_err(), "a push before its subscription began has ended");
}

#[test]
fn fuzz_session_frame_by_frame() {
    // Whole frames, changed one at a time and put behind a sound Welcome: this gets behind the first one.
    let seeds =
        answers().into_iter().skip(1).filter(|frame| check(&[&welcome()[..], frame].concat()).is_ok());
    let check = |frame: &[u8]| check(&[&welcome()[..], frame].concat());
    let target = Target::new("session-frame").seeds(seeds).mending(|bytes| mend(bytes));
    target.allowing(2 * MAX_FRAME_BYTES + (1 << 20), 64).run(check);
}
