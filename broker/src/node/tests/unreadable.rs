//! Batches that no reader could read are refused, whatever is wrong with them and wherever they are checked.

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::{BatchBuilder, Compression, HEADER_BYTES, Header, crc_of, records_section};
use ringlog_protocol::codec::compress;
use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, Produced};
use ringlog_protocol::{Ack, ErrorCode, Kind, encode_with_payload};
use ringlog_reactor::sim::Simulation;

use super::{SimNode, batch_of, create_topic, open};
use crate::native::wire_client::WireClient;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The batch with this content behind its header, which states so many records. Length and checksum fit.
fn batch_with(codec: Compression, content: &[u8], records: i32) -> Bytes {
    let mut batch = BytesMut::from(&batch_of(&["x"])[..HEADER_BYTES]);
    batch.extend_from_slice(content);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&(codec as i16).to_be_bytes());
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = crc_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// The batch with its records compressed.
fn packed(codec: Compression, plain: &Bytes, records: i32) -> Bytes {
    batch_with(codec, &compress(codec, records_section(plain)).unwrap(), records)
}

/// More records than a core's thread takes a look at, and the last of them is cut short.
fn long_and_cut() -> (Bytes, i32) {
    let count = crate::limits::MAX_CHECK_STEPS as i32 + 100;
    let mut builder = BatchBuilder::new(1 << 20);
    for _ in 0..count {
        builder.push(1, None, Some(b"v"), []).unwrap();
    }
    let whole = builder.finish_plain();
    let section = records_section(&whole);
    (batch_with(Compression::None, &section[..section.len() - 1], count), count)
}

fn unreadable() -> Vec<(Bytes, ErrorCode, String)> {
    let one = batch_of(&["good"]);
    let mut cases = vec![
        (batch_with(Compression::None, b"no records", 1), ErrorCode::InvalidBatch, "record 0 of 1".into()),
        (
            batch_with(Compression::None, records_section(&one), 3),
            ErrorCode::InvalidBatch,
            "states 3 records and has 1".into(),
        ),
        (
            batch_with(Compression::None, records_section(&batch_of(&["a", "b"])), 1),
            ErrorCode::InvalidBatch,
            "bytes follow the last".into(),
        ),
    ];
    let (cut, count) = long_and_cut();
    cases.push((cut, ErrorCode::InvalidBatch, format!("record {} of {count}", count - 1)));
    for codec in CODECS {
        let garbage = batch_with(codec, b"this is no gzip", 5);
        cases.push((garbage, ErrorCode::InvalidBatch, "cannot be unpacked".into()));
        cases.push((packed(codec, &one, 3), ErrorCode::InvalidBatch, "states 3 records and has 1".into()));
        // Snappy packs it into more than a batch may have.
        if codec != Compression::Snappy {
            let bomb = batch_with(codec, &compress(codec, &large_record(70 << 20)).unwrap(), 1);
            cases.push((bomb, ErrorCode::BatchTooLarge, "unpacks to more than".into()));
        }
    }
    let mut damaged = one.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    cases.push((damaged.into(), ErrorCode::CorruptBatch, "CRC".into()));
    cases
}

/// A record with so many zeros for a value.
fn large_record(value_bytes: usize) -> Vec<u8> {
    let mut front = Vec::from(&b"\0\0\0\x01"[..]);
    put_length(&mut front, value_bytes);
    let mut record = Vec::new();
    put_length(&mut record, front.len() + value_bytes + 1);
    record.extend_from_slice(&front);
    record.resize(record.len() + value_bytes + 1, 0);
    record
}

/// A length as a record has it.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[test]
fn a_batch_that_nobody_could_read_is_refused_and_the_connection_goes_on() {
    let cases = unreadable();
    // The second shard is served by the first one's client through another core.
    Simulation::new(0x0bad).run(async move {
        let node = SimNode::start(2).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        create_topic(&mut client, 2).await;
        for partition in 0..2 {
            let handle = open(&mut client, partition).await;
            for (number, (batch, code, says)) in cases.iter().enumerate() {
                let refused = client.try_send_batch(handle, batch.clone()).await.unwrap_err();
                assert_eq!(refused.error_code(), *code, "case {number}: {}", refused.message);
                assert!(refused.message.contains(says), "case {number}: {}", refused.message);
                let appended = client.try_send_batch(handle, batch_of(&["behind it"])).await.unwrap();
                assert_eq!(appended.base_offset, number as i64, "nothing of it is in the log");
            }
        }
        node.stop().await;
    });
}

#[test]
fn what_a_codec_made_is_appended_in_the_order_in_which_it_was_sent() {
    let plain = batch_of(&["a", "b", "c"]);
    for seed in 0..20 {
        let plain = plain.clone();
        Simulation::new(seed).run(async move {
            let node = SimNode::start(2).await;
            let mut client = WireClient::connect(node.address, Some(0)).await;
            create_topic(&mut client, 2).await;
            for partition in 0..2 {
                let handle = open(&mut client, partition).await;
                let mut sent = BytesMut::new();
                for number in 0..40 {
                    let batch = match number % 3 {
                        0 => plain.clone(),
                        _ => packed(CODECS[number as usize % 4], &plain, 3),
                    };
                    let head = encode_with_payload(
                        Kind::Produce,
                        1000 + number,
                        handle,
                        Ack::Memory.flags(),
                        &(),
                        batch.len(),
                    );
                    sent.extend_from_slice(&head);
                    sent.extend_from_slice(&batch);
                }
                client.send_raw(sent.freeze()).await.unwrap();
                for number in 0..40 {
                    let answer = client.next_frame().await;
                    assert_eq!((answer.header.kind, answer.header.request), (Kind::Produced, 1000 + number));
                    assert_eq!(answer.message::<Produced>().base_offset, i64::from(number) * 3);
                }
            }
            node.stop().await;
        });
    }
}

#[test]
fn the_topic_says_what_a_batch_may_unpack_to() {
    Simulation::new(7).run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        let config = vec![("max.decompressed.bytes".to_owned(), "2000".to_owned())];
        let create = CreateTopic { name: "orders".into(), partitions: 1, config };
        let _: (_, CreateTopicReply) = client.ask(Kind::CreateTopic, 0, &create).await;
        let handle = open(&mut client, 0).await;
        let (small, large) = (batch_of(&["x".repeat(1900).as_str()]), batch_of(&["x".repeat(2000).as_str()]));
        for codec in CODECS {
            assert!(client.try_send_batch(handle, packed(codec, &small, 1)).await.is_ok());
            let refused = client.try_send_batch(handle, packed(codec, &large, 1)).await.unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::BatchTooLarge);
            assert!(refused.message.contains("more than 2000 bytes"), "{}", refused.message);
        }
        // Not compressed, it is bounded by max.message.bytes.
        assert!(client.try_send_batch(handle, large).await.is_ok());
        node.stop().await;
    });
}

#[test]
fn a_record_of_more_headers_than_a_cores_thread_looks_at_is_appended() {
    Simulation::new(8).run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        let mut builder = BatchBuilder::new(1 << 20);
        builder.push(1, None, None, vec![Header::new("n", b"v"); 100_000]).unwrap();
        assert_eq!(client.try_send_batch(handle, builder.finish_plain()).await.unwrap().base_offset, 0);
        // A small frame, which is not gathered.
        builder.push(1, None, None, vec![Header::new("", b""); crate::limits::MAX_CHECK_STEPS]).unwrap();
        assert_eq!(client.try_send_batch(handle, builder.finish_plain()).await.unwrap().base_offset, 1);
        node.stop().await;
    });
}
