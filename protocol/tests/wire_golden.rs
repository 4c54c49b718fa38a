//! Holds the code to `docs/wire.md`: its tables, and every body read by that page's rules alone, with no help from rkyv.
#![forbid(unsafe_code)]

use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::*;
use ringlog_protocol::{
    Ack, Body, ErrorCode, ErrorReply, Frame, FrameHeader, Kind, encode, encode_with_payload, limits,
    split_frame, try_encode,
};

const PAGE: &str = include_str!("../../docs/wire.md");

/// The body of a frame, read as another language would.
struct Reader {
    body: Vec<u8>,
    root: usize,
}

impl Reader {
    /// `root_bytes` is what the page says the root takes.
    fn new(frame: &[u8], root_bytes: usize) -> Reader {
        let body = frame[16..].to_vec();
        let words = u16::from_le_bytes([frame[6], frame[7]]);
        assert_eq!(body.len(), usize::from(words) * 8, "body_words");
        Reader { root: body.len() - root_bytes, body }
    }

    fn number(&self, at: usize, bytes: usize) -> i128 {
        let mut wide = [0; 16];
        wide[..bytes].copy_from_slice(&self.body[at..at + bytes]);
        i128::from_le_bytes(wide)
    }

    fn u8(&self, at: usize) -> u8 {
        self.body[at]
    }

    fn u16(&self, at: usize) -> u16 {
        self.number(at, 2) as u16
    }

    fn u32(&self, at: usize) -> u32 {
        self.number(at, 4) as u32
    }

    fn i64(&self, at: usize) -> i64 {
        self.number(at, 8) as i64
    }

    fn follow(&self, from: usize, offset_at: usize) -> usize {
        from.checked_add_signed(self.u32(offset_at) as i32 as isize).expect("inside the body")
    }

    fn string(&self, at: usize) -> String {
        let bytes = if self.body[at] & 0xC0 == 0x80 {
            let code = self.u32(at) as usize;
            let length = (code & 0x3F) | ((code & 0xFFFF_FF00) >> 2);
            let start = self.follow(at, at + 4);
            &self.body[start..start + length]
        } else {
            let inline = &self.body[at..at + 8];
            &inline[..inline.iter().position(|byte| *byte == 0xFF).unwrap_or(8)]
        };
        String::from_utf8(bytes.to_vec()).expect("strings are UTF-8")
    }

    /// Where each element of a Vec stands.
    fn elements(&self, at: usize, element_bytes: usize) -> Vec<usize> {
        let start = self.follow(at, at);
        (0..self.u32(at + 4) as usize).map(|i| start + i * element_bytes).collect()
    }

    fn pairs(&self, at: usize) -> Vec<(String, String)> {
        self.elements(at, 16).into_iter().map(|pair| (self.string(pair), self.string(pair + 8))).collect()
    }
}

fn frame_of(bytes: &[u8]) -> Frame<'_> {
    let (frame, taken) = split_frame(bytes).expect("a valid frame").expect("a whole frame");
    assert_eq!(taken, bytes.len());
    frame
}

/// Encodes, checks that the code reads back what it wrote, and hands the frame to the page's reader.
fn by_the_page<T: Body + PartialEq + std::fmt::Debug>(kind: Kind, message: &T, root_bytes: usize) -> Reader {
    assert_eq!(size_of::<T::Archived>(), root_bytes, "{} as the page says", T::NAME);
    let stated = format!("**`{}`**, {root_bytes} bytes", T::NAME);
    let shared = T::NAME == "CreateTopicReply" && PAGE.contains("`TopicMetadata`, 32 bytes");
    assert!(PAGE.contains(&stated) || shared, "the page does not say {stated}");
    let bytes = try_encode(kind, 7, 9, 0, message).expect("within its limits");
    let frame = frame_of(&bytes);
    assert_eq!((frame.header.kind, frame.header.request, frame.header.handle), (kind, 7, 9));
    assert_eq!(frame.message::<T>().as_ref(), Ok(message));
    Reader::new(&bytes, root_bytes)
}

/// The rows of the table of the page that begins with this header row, cut into cells.
fn table(first_header: &str) -> Vec<Vec<&'static str>> {
    let start = PAGE.find(first_header).expect("the page has the table");
    PAGE[start..]
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_header_is_sixteen_bytes_at_the_offsets_of_the_page() {
    let header = FrameHeader {
        length: 0x0403,
        kind: Kind::Fetched,
        flags: 0,
        body_words: 0x0002,
        request: 0x1413_1211,
        handle: 0x1817_1615,
    };
    let bytes = [0x03, 0x04, 0, 0, 0x93, 0, 0x02, 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
    assert_eq!(header.encode(), bytes);
    assert_eq!(FrameHeader::decode(&bytes), Ok(header));
    assert_eq!(bytes.len(), HEADER_BYTES);
}

#[test]
fn the_kinds_are_those_of_the_page() {
    let rows = table("| number | kind |");
    assert_eq!(rows.len(), Kind::ALL.len());
    for row in rows {
        let number = u8::from_str_radix(row[0].trim_start_matches("0x"), 16).expect("a hexadecimal number");
        let kind = Kind::from_u8(number).unwrap_or_else(|| panic!("{number:#04x} is no kind"));
        assert_eq!(format!("`{kind:?}`"), row[1]);
        assert_eq!(kind as u8, number);
        assert_eq!(kind.is_request(), row[2] == "C → B", "{kind:?}");
        assert_eq!(kind.max_payload_bytes() > 0, row[3].contains("payload"), "{kind:?}");
        assert_eq!(kind.max_body_bytes() == 0, row[3].starts_with("none"), "{kind:?}");
    }
}

#[test]
fn the_error_codes_are_those_of_the_page() {
    let rows = table("| number | code |");
    assert_eq!(rows.len(), ErrorCode::ALL.len());
    for row in rows {
        let code = ErrorCode::from_number(row[0].parse().expect("a number"));
        assert_eq!(format!("`{code:?}`"), row[1]);
        assert_eq!(code.is_retryable(), row[2] == "**yes**", "{code}");
        assert_eq!(ErrorCode::from_number(code.number()), code);
    }
    assert_eq!(ErrorCode::from_number(999), ErrorCode::Other(999));
    assert_eq!(ErrorCode::Other(999).number(), 999);
}

#[test]
fn the_limits_are_those_of_the_page() {
    assert_eq!(limits::MAX_FRAME_BYTES, 16 * 1024 * 1024 + 64 * 1024);
    assert_eq!(limits::MAX_HANDSHAKE_BYTES, 4096);
    assert_eq!(limits::MAX_BATCH_BYTES, 8 * 1024 * 1024);
    assert_eq!(limits::DEFAULT_MAX_BATCH_BYTES, 1024 * 1024);
    assert_eq!(Kind::Metadata.max_body_bytes(), 524_272);
    assert_eq!(Kind::CreateTopic.max_body_bytes(), 64 * 1024);
    assert_eq!(Kind::Open.max_body_bytes(), 4096);
    assert_eq!(Kind::Error.max_body_bytes(), 2048);
    assert_eq!(limits::MAX_ERROR_MESSAGE, 1024);
}

#[test]
fn hello_is_laid_out_as_the_page_says() {
    let hello = Hello {
        magic: HELLO_MAGIC,
        version_min: 1,
        version_max: 3,
        client: "a client with a long name".into(),
        shard: Some(5),
        credentials: Some(vec![1, 2, 3]),
    };
    let page = by_the_page(Kind::Hello, &hello, 34);
    let root = page.root;
    assert_eq!(&page.body[root..root + 8], b"RINGLOG\0");
    assert_eq!((page.u16(root + 8), page.u16(root + 10)), (1, 3));
    assert_eq!(page.string(root + 12), hello.client);
    assert_eq!((page.u8(root + 20), page.u32(root + 21)), (1, 5));
    assert_eq!(page.u8(root + 25), 1);
    let credentials: Vec<u8> = page.elements(root + 26, 1).into_iter().map(|at| page.u8(at)).collect();
    assert_eq!(credentials, [1, 2, 3]);
}

#[test]
fn a_hello_is_this_to_the_byte() {
    let bytes = try_encode(Kind::Hello, 1, 0, 0, &Hello::new("cli", None)).expect("small");
    let mut expected = vec![40, 0, 0, 0, 0x01, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([0; 6]); // padding in front of 34 bytes
    expected.extend(b"RINGLOG\0");
    expected.extend([1, 0, 1, 0]);
    expected.extend(b"cli\xff\xff\xff\xff\xff");
    expected.extend([0; 5]); // no shard
    expected.extend([0; 9]); // no credentials
    assert_eq!(&bytes[..], &expected[..]);
}

#[test]
fn welcome_is_laid_out_as_the_page_says() {
    let welcome = Welcome {
        version: 1,
        broker: "0.1.0".into(),
        node: 2,
        shard: 3,
        shards: 4,
        max_frame_bytes: 5,
        max_batch_bytes: 6,
    };
    let page = by_the_page(Kind::Welcome, &welcome, 30);
    let root = page.root;
    assert_eq!(page.u16(root), 1);
    assert_eq!(page.string(root + 2), "0.1.0");
    assert_eq!([10, 14, 18, 22, 26].map(|at| page.u32(root + at)), [2, 3, 4, 5, 6]);
}

fn a_topic() -> TopicMetadata {
    TopicMetadata {
        name: "a-topic-with-a-name-of-more-than-sixty-three-bytes-to-test-the-length-code".into(),
        id: 77,
        partitions: vec![
            PartitionMetadata { partition: 0, shard: 1, leader: 2, leader_epoch: 3 },
            PartitionMetadata { partition: 1, shard: 4, leader: 5, leader_epoch: -1 },
        ],
        config: vec![("ack".into(), "memory".into()), ("retention.ms".into(), "604800000".into())],
    }
}

fn check_topic(page: &Reader, at: usize, topic: &TopicMetadata) {
    assert_eq!(page.string(at), topic.name);
    assert_eq!(page.i64(at + 8) as u64, topic.id);
    let partitions: Vec<_> = page
        .elements(at + 16, 16)
        .into_iter()
        .map(|at| PartitionMetadata {
            partition: page.u32(at),
            shard: page.u32(at + 4),
            leader: page.u32(at + 8),
            leader_epoch: page.u32(at + 12) as i32,
        })
        .collect();
    assert_eq!(partitions, topic.partitions);
    assert_eq!(page.pairs(at + 24), topic.config);
}

#[test]
fn metadata_is_laid_out_as_the_page_says() {
    let all = by_the_page(Kind::Metadata, &MetadataRequest { topics: None }, 9);
    assert_eq!(all.u8(all.root), 0);

    let names = vec!["a".to_owned(), "the-second-topic".to_owned()];
    let some = by_the_page(Kind::Metadata, &MetadataRequest { topics: Some(names.clone()) }, 9);
    assert_eq!(some.u8(some.root), 1);
    let read: Vec<_> = some.elements(some.root + 1, 8).into_iter().map(|at| some.string(at)).collect();
    assert_eq!(read, names);

    let reply = MetadataReply { shards: 2, topics: vec![a_topic(), a_topic()], unknown: names.clone() };
    let page = by_the_page(Kind::MetadataReply, &reply, 20);
    assert_eq!(page.u32(page.root), 2);
    let topics = page.elements(page.root + 4, 32);
    assert_eq!(topics.len(), 2);
    for at in topics {
        check_topic(&page, at, &a_topic());
    }
    let unknown: Vec<_> = page.elements(page.root + 12, 8).into_iter().map(|at| page.string(at)).collect();
    assert_eq!(unknown, names);
}

#[test]
fn topic_requests_are_laid_out_as_the_page_says() {
    let create = CreateTopic { name: "orders".into(), partitions: 12, config: a_topic().config };
    let page = by_the_page(Kind::CreateTopic, &create, 20);
    assert_eq!(page.string(page.root), "orders");
    assert_eq!(page.u32(page.root + 8), 12);
    assert_eq!(page.pairs(page.root + 12), create.config);

    let page = by_the_page(Kind::CreateTopicReply, &CreateTopicReply { topic: a_topic() }, 32);
    check_topic(&page, page.root, &a_topic());

    let page = by_the_page(Kind::DeleteTopic, &DeleteTopic { name: "eight888".into() }, 8);
    assert_eq!(page.string(page.root), "eight888");
}

#[test]
fn open_is_laid_out_as_the_page_says() {
    let page = by_the_page(Kind::Open, &Open { topic: "ninebytes".into(), partition: 4 }, 12);
    assert_eq!(page.string(page.root), "ninebytes");
    assert_eq!(page.u32(page.root + 8), 4);

    let opened = Opened {
        topic_id: 1,
        start_offset: 2,
        high_watermark: 3,
        max_batch_bytes: 4,
        ack: Ack::Disk,
        quarantined: true,
    };
    let page = by_the_page(Kind::Opened, &opened, 30);
    assert_eq!([0, 8, 16].map(|at| page.i64(page.root + at)), [1, 2, 3]);
    assert_eq!(
        (page.u32(page.root + 24), page.u8(page.root + 28), page.u8(page.root + 29)),
        (4, Ack::Disk.flags(), 1)
    );
}

#[test]
fn produce_and_fetch_are_laid_out_as_the_page_says() {
    let page = by_the_page(Kind::Produced, &Produced { base_offset: 1, start_offset: -2 }, 16);
    assert_eq!([0, 8].map(|at| page.i64(page.root + at)), [1, -2]);

    let fetch = Fetch { offset: 1, max_bytes: 2, min_bytes: 3, max_wait_ms: 4 };
    let page = by_the_page(Kind::Fetch, &fetch, 20);
    assert_eq!(page.i64(page.root), 1);
    assert_eq!([8, 12, 16].map(|at| page.u32(page.root + at)), [2, 3, 4]);

    let page = by_the_page(Kind::Fetched, &Fetched { start_offset: 1, high_watermark: 2 }, 16);
    assert_eq!([0, 8].map(|at| page.i64(page.root + at)), [1, 2]);
}

#[test]
fn positions_are_laid_out_as_the_page_says() {
    let positions = [
        (Position::Begin, 0, 0),
        (Position::End, 1, 0),
        (Position::Offset(-9), 2, -9),
        (Position::Time(1_700_000_000_000), 3, 1_700_000_000_000),
    ];
    for (at, variant, value) in positions {
        let page = by_the_page(Kind::ListOffsets, &ListOffsets { at }, 9);
        assert_eq!((page.u8(page.root), page.i64(page.root + 1)), (variant, value), "{at:?}");
    }
    let reply = ListOffsetsReply { offset: 1, timestamp: -1, start_offset: 3, high_watermark: 4 };
    let page = by_the_page(Kind::ListOffsetsReply, &reply, 32);
    assert_eq!([0, 8, 16, 24].map(|at| page.i64(page.root + at)), [1, -1, 3, 4]);
}

#[test]
fn subscriptions_are_laid_out_as_the_page_says() {
    let subscribe = Subscribe { from: Position::Offset(5), credit_bytes: 6 };
    let page = by_the_page(Kind::Subscribe, &subscribe, 13);
    assert_eq!((page.u8(page.root), page.i64(page.root + 1), page.u32(page.root + 9)), (2, 5, 6));

    let subscribed = Subscribed { next_offset: 1, start_offset: 2, high_watermark: 3 };
    let page = by_the_page(Kind::Subscribed, &subscribed, 24);
    assert_eq!([0, 8, 16].map(|at| page.i64(page.root + at)), [1, 2, 3]);

    let page = by_the_page(Kind::Delivery, &Delivery { high_watermark: 8 }, 8);
    assert_eq!(page.i64(page.root), 8);
    let page = by_the_page(Kind::Credit, &Credit { bytes: 8 }, 4);
    assert_eq!(page.u32(page.root), 8);
    let page = by_the_page(Kind::Unsubscribe, &Unsubscribe { subscription: 8 }, 4);
    assert_eq!(page.u32(page.root), 8);
}

#[test]
fn errors_are_laid_out_as_the_page_says() {
    let reply = ErrorReply::new(ErrorCode::DiskFull, "no space on /data");
    let page = by_the_page(Kind::Error, &reply, 11);
    assert_eq!((page.u16(page.root), page.u8(page.root + 2)), (41, 1));
    assert_eq!(page.string(page.root + 3), "no space on /data");
}

#[test]
fn a_payload_is_counted_but_not_copied() {
    let head = encode_with_payload(Kind::Delivery, 3, 4, 0, &Delivery { high_watermark: 5 }, 1000);
    assert_eq!(head.len(), 24);
    assert_eq!(&head[..8], [0xf0, 0x03, 0, 0, 0x95, 0, 1, 0]);
    let mut whole = head.to_vec();
    whole.resize(24 + 1000, 0xab);
    assert_eq!(frame_of(&whole).payload, &[0xab; 1000]);
}

#[test]
fn a_produce_is_a_header_and_a_batch() {
    let head = encode_with_payload(Kind::Produce, 3, 4, Ack::Memory.flags(), &(), 100);
    assert_eq!(&head[..], [100, 0, 0, 0, 0x12, 1, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn a_frame_without_a_body_is_its_header() {
    let ping = encode(Kind::Ping, 3, 0, 0, &());
    assert_eq!(&ping[..], [0, 0, 0, 0, 0x05, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frame_of(&ping).message::<()>(), Ok(()));
}

#[test]
fn a_list_too_long_for_body_words_fills_its_frame() {
    let partition = PartitionMetadata { partition: 0, shard: 0, leader: 0, leader_epoch: 0 };
    let topic = TopicMetadata { partitions: vec![partition; 10_000], ..a_topic() };
    let reply = MetadataReply { shards: 1, topics: vec![topic; 5], unknown: vec![] };
    let bytes = try_encode(Kind::MetadataReply, 1, 0, 0, &reply).expect("within the frame");
    assert_eq!(&bytes[6..8], [0xff, 0xff]);
    let frame = frame_of(&bytes);
    assert!(frame.payload.is_empty());
    assert_eq!(frame.message::<MetadataReply>(), Ok(reply));
}
