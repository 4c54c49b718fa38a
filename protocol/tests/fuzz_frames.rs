//! Hostile bytes for everything that decodes frames: no panic, and nothing accepted that is not what it says.
#![forbid(unsafe_code)]

use ringlog_fuzz::{Random, Target, Verdict};
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::*;
use ringlog_protocol::{
    Ack, Body, ErrorCode, ErrorReply, Frame, FrameHeader, Kind, encode, encode_with_payload, frame_len,
    split_frame, try_encode,
};

const CASES: usize = 40_000;

fn a_topic(name: &str) -> TopicMetadata {
    let partition = PartitionMetadata { partition: 3, shard: 1, leader: 0, leader_epoch: 2 };
    TopicMetadata {
        name: name.into(),
        id: 5,
        partitions: vec![partition; 3],
        config: vec![("retention.ms".into(), "1".into()), ("ack".into(), "disk or memory".into())],
    }
}

/// One valid frame of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let hello = Hello { credentials: Some(vec![7; 9]), ..Hello::new("a client's name", Some(1)) };
    let welcome = Welcome {
        version: 1,
        broker: "a software version".into(),
        node: 0,
        shard: 1,
        shards: 2,
        max_frame_bytes: 3,
        max_batch_bytes: 4,
    };
    let names = vec!["a".to_owned(), "a name that is not inline".to_owned()];
    let metadata = MetadataReply {
        shards: 2,
        topics: vec![a_topic("short"), a_topic("a longer name")],
        unknown: names.clone(),
    };
    let create = CreateTopic { name: "a name of its own".into(), partitions: 2, config: a_topic("x").config };
    let opened = Opened {
        topic_id: 1,
        start_offset: 2,
        high_watermark: 3,
        max_batch_bytes: 4,
        ack: Ack::Disk,
        quarantined: true,
    };
    let fetch = Fetch { offset: 1, max_bytes: 2, min_bytes: 3, max_wait_ms: 4 };
    let subscribe = Subscribe { from: Position::Offset(5), credit_bytes: 6 };
    let subscribed = Subscribed { next_offset: 1, start_offset: 2, high_watermark: 3 };
    let listed = ListOffsetsReply { offset: 1, timestamp: -1, start_offset: 3, high_watermark: 4 };
    let open = Open { topic: "a name of its own".into(), partition: 4 };
    let delete = DeleteTopic { name: "a name of its own".into() };
    let error = ErrorReply::new(ErrorCode::Internal, "a sentence for people");

    let mut frames = vec![
        variable(Kind::Hello, &hello),
        variable(Kind::Welcome, &welcome),
        variable(Kind::Metadata, &MetadataRequest { topics: Some(names) }),
        variable(Kind::MetadataReply, &metadata),
        variable(Kind::CreateTopic, &create),
        variable(Kind::CreateTopicReply, &CreateTopicReply { topic: a_topic("x") }),
        variable(Kind::DeleteTopic, &delete),
        variable(Kind::Open, &open),
        variable(Kind::Opened, &opened),
        variable(Kind::Produced, &Produced { base_offset: 1, start_offset: 2 }),
        variable(Kind::Fetch, &fetch),
        variable(Kind::Subscribe, &subscribe),
        variable(Kind::Subscribed, &subscribed),
        variable(Kind::Credit, &Credit { bytes: 1 }),
        variable(Kind::Unsubscribe, &Unsubscribe { subscription: 1 }),
        variable(Kind::ListOffsets, &ListOffsets { at: Position::Time(9) }),
        variable(Kind::ListOffsetsReply, &listed),
        variable(Kind::Error, &error),
    ];
    for kind in [Kind::Ping, Kind::PingReply, Kind::Close, Kind::CloseReply, Kind::DeleteTopicReply] {
        frames.push(encode(kind, 1, 2, 0, &()).to_vec());
    }
    frames.push(encode(Kind::UnsubscribeReply, 1, 2, 0, &()).to_vec());
    frames.push(with_payload(&encode_with_payload(Kind::Produce, 1, 2, Ack::Disk.flags(), &(), 70)));
    let fetched = Fetched { start_offset: 1, high_watermark: 2 };
    frames.push(with_payload(&encode_with_payload(Kind::Fetched, 1, 2, 0, &fetched, 70)));
    let delivery = Delivery { high_watermark: 5 };
    frames.push(with_payload(&encode_with_payload(Kind::Delivery, 1, 2, 0, &delivery, 70)));
    assert_eq!(frames.len(), Kind::ALL.len(), "one of every kind");
    frames
}

fn variable<T: Body>(kind: Kind, message: &T) -> Vec<u8> {
    try_encode(kind, 1, 2, 0, message).expect("within its limits").to_vec()
}

fn with_payload(head: &[u8]) -> Vec<u8> {
    [head, &[0xab; 70]].concat()
}

/// Decodes a frame as the message of its kind. What is accepted must be a value that goes out and comes back the same.
fn accepts(frame: Frame<'_>) -> bool {
    match frame.header.kind {
        Kind::Hello => comes_back::<Hello>(frame),
        Kind::Welcome => comes_back::<Welcome>(frame),
        Kind::Metadata => comes_back::<MetadataRequest>(frame),
        Kind::MetadataReply => comes_back::<MetadataReply>(frame),
        Kind::CreateTopic => comes_back::<CreateTopic>(frame),
        Kind::CreateTopicReply => comes_back::<CreateTopicReply>(frame),
        Kind::DeleteTopic => comes_back::<DeleteTopic>(frame),
        Kind::Open => comes_back::<Open>(frame),
        Kind::Opened => comes_back::<Opened>(frame),
        Kind::Produced => comes_back::<Produced>(frame),
        Kind::Fetch => comes_back::<Fetch>(frame),
        Kind::Fetched => comes_back::<Fetched>(frame),
        Kind::Subscribe => comes_back::<Subscribe>(frame),
        Kind::Subscribed => comes_back::<Subscribed>(frame),
        Kind::Delivery => comes_back::<Delivery>(frame),
        Kind::Credit => comes_back::<Credit>(frame),
        Kind::Unsubscribe => comes_back::<Unsubscribe>(frame),
        Kind::ListOffsets => comes_back::<ListOffsets>(frame),
        Kind::ListOffsetsReply => comes_back::<ListOffsetsReply>(frame),
        Kind::Error => comes_back::<ErrorReply>(frame),
        Kind::Ping
        | Kind::PingReply
        | Kind::Close
        | Kind::CloseReply
        | Kind::DeleteTopicReply
        | Kind::UnsubscribeReply
        | Kind::Produce => comes_back::<()>(frame),
    }
}

fn comes_back<T: Body + PartialEq + std::fmt::Debug>(frame: Frame<'_>) -> bool {
    let Ok(message) = frame.message::<T>() else { return false };
    // Shared bytes are refused, so what was read is no larger than what it was read from.
    let again = try_encode(frame.header.kind, 0, 0, 0, &message).expect("as small as what it was read from");
    assert!(again.len() <= HEADER_BYTES + frame.body.len(), "{message:?} grew");
    let (frame, _) = split_frame(&again).expect("valid").expect("whole");
    assert_eq!(frame.message::<T>().as_ref(), Ok(&message));
    true
}

/// What must hold of any bytes.
fn check(bytes: &[u8]) -> Verdict {
    let length = frame_len(bytes);
    match split_frame(bytes) {
        Err(error) => {
            let words = error.to_string();
            assert_eq!(length, Err(error));
            Err(words)
        }
        Ok(None) => {
            let need = length.expect("the header is not refused").unwrap_or(HEADER_BYTES);
            assert!(bytes.len() < need, "more bytes are asked for only when they are missing");
            Err("more is needed".to_owned())
        }
        Ok(Some((frame, taken))) => {
            assert_eq!(length, Ok(Some(taken)));
            assert_eq!(taken, HEADER_BYTES + frame.body.len() + frame.payload.len());
            assert!(frame.body.len() <= frame.header.kind.max_body_bytes());
            assert!(frame.payload.len() <= frame.header.kind.max_payload_bytes());
            assert_eq!(frame.header.encode(), bytes[..HEADER_BYTES]);
            if accepts(frame) { Ok(()) } else { Err(format!("no {:?}", frame.header.kind)) }
        }
    }
}

/// A header that says how much is there, all of it the body if it may be.
fn mend(bytes: &mut [u8]) {
    let Some(behind) = bytes.len().checked_sub(HEADER_BYTES) else { return };
    let words = u16::from_le_bytes([bytes[6], bytes[7]]).min((behind / 8) as u16);
    bytes[..4].copy_from_slice(&(behind as u32).to_le_bytes());
    bytes[6..8].copy_from_slice(&words.to_le_bytes());
}

#[test]
fn fuzz_frames() {
    Target::new("frames").seeds(corpus()).mending(|bytes| mend(bytes)).run(check);
}

#[test]
fn fuzz_bodies() {
    for sound in corpus() {
        let (head, body) = sound.split_at(HEADER_BYTES);
        if body.is_empty() {
            continue;
        }
        let with_head = |body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(sound.len() - HEADER_BYTES, 0);
            check(&[head, &body].concat())
        };
        // A body without any rules takes everything.
        if with_head(&[0xff; 8]).is_err() {
            Target::new("bodies").seeds([body]).rounds(2_000).run(with_head);
        }
    }
}

#[test]
fn random_bodies_of_every_kind_are_refused_or_are_messages() {
    let mut random = Random::new(0x5eed_0003);
    for case in 0..CASES {
        let kind = Kind::ALL[case % Kind::ALL.len()];
        let words = random.below(kind.max_body_bytes().min(512) / 8 + 1);
        let header = FrameHeader {
            length: words as u32 * 8,
            kind,
            flags: 0,
            body_words: words as u16,
            request: 0,
            handle: 0,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend(random.bytes(words * 8));
        let verdict = check(&bytes);
        assert!(verdict.is_ok() || verdict == Err(format!("no {kind:?}")), "{verdict:?}: the frame is whole");
    }
}

#[test]
fn random_bytes_are_refused_or_wait_for_more() {
    let mut random = Random::new(0x5eed_0004);
    for _ in 0..CASES {
        let length = random.below(200);
        let mut bytes = random.bytes(length);
        // Most lengths are over the limit: let half of the cases get past that check.
        if random.below(2) == 0 && bytes.len() > 4 {
            bytes[2..4].fill(0);
            bytes[1] = 0;
        }
        let _refused_or_not = check(&bytes);
    }
}

#[test]
fn every_cut_of_every_frame_waits_for_more() {
    for frame in corpus() {
        for end in 0..frame.len() {
            assert_eq!(split_frame(&frame[..end]), Ok(None));
        }
    }
}
