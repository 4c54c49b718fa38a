//! Whose timestamps records have, and which a topic takes.

use bytes::Bytes;
use ringlog_protocol::batch::{
    BatchBuilder, BatchHeader, Compression, RecordIter, records_section, split_batches, verify_crc,
};
use ringlog_protocol::codec::{compress, decompress};
use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, Fetch};
use ringlog_protocol::{ErrorCode, Kind};
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::wall_clock_ms;

use super::{SimNode, open};
use crate::native::wire_client::WireClient;

async fn create(client: &mut WireClient, settings: &[(&str, &str)]) -> u32 {
    let config = settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let create = CreateTopic { name: "orders".into(), partitions: 1, config };
    let _: (_, CreateTopicReply) = client.ask(Kind::CreateTopic, 0, &create).await;
    open(client, 0).await
}

fn batch_at(timestamps: &[i64], value_bytes: usize, codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(4 << 20);
    for timestamp in timestamps {
        builder.push(*timestamp, None, Some(&vec![b'x'; value_bytes]), []).unwrap();
    }
    builder.finish(codec, |section| compress(codec, section)).unwrap()
}

/// All batches of the partition, each with a checksum that fits.
async fn fetch(client: &mut WireClient, handle: u32) -> Vec<(BatchHeader, Bytes)> {
    let (mut batches, mut offset) = (Vec::new(), 0);
    loop {
        let fetch = Fetch { offset, max_bytes: 4 << 20, min_bytes: 0, max_wait_ms: 0 };
        client.tell(Kind::Fetch, handle, &fetch).await;
        let fetched = client.next_frame().await;
        assert_eq!(fetched.header.kind, Kind::Fetched);
        if fetched.payload.is_empty() {
            return batches;
        }
        for batch in split_batches(&fetched.payload) {
            let (header, bytes) = batch.unwrap();
            verify_crc(&header, bytes).unwrap();
            offset = header.next_offset();
            batches.push((header, Bytes::copy_from_slice(bytes)));
        }
    }
}

#[test]
fn a_topic_with_log_append_time_gives_every_record_the_brokers_clock() {
    Simulation::new(21).run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        let settings = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "4194304")];
        let handle = create(&mut client, &settings).await;
        let before = wall_clock_ms();
        // In the journal, past it by a copy, and past it in memory of its own.
        for (value_bytes, codec) in [
            (10, Compression::None),
            (1000, Compression::Lz4),
            (1 << 20, Compression::None),
            (100, Compression::None),
            (1 << 20, Compression::Zstd),
        ] {
            // Ages ago, and far ahead of every clock.
            let batch = batch_at(&[5, i64::MAX, 7], value_bytes, codec);
            client.try_send_batch(handle, batch).await.unwrap();
        }
        let after = wall_clock_ms();
        let batches = fetch(&mut client, handle).await;
        assert_eq!(batches.len(), 5);
        for (header, batch) in &batches {
            let codec = header.compression().unwrap();
            let section = decompress(codec, records_section(batch), 8 << 20).unwrap();
            for record in RecordIter::new(header, &section) {
                let timestamp = record.unwrap().timestamp_ms(header);
                assert!((before..=after).contains(&timestamp), "{timestamp}");
            }
        }
        node.stop().await;
    });
}

#[test]
fn a_record_that_is_too_new_or_too_old_is_refused_and_nothing_is_appended() {
    Simulation::new(22).run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        let handle = create(&mut client, &[("message.timestamp.before.max.ms", "10000")]).await;
        let now = wall_clock_ms();
        for codec in [Compression::None, Compression::Gzip] {
            for (timestamps, setting) in [
                ([now, now * 1000], "message.timestamp.after.max.ms of 3600000"),
                ([now, now + 4_000_000], "message.timestamp.after.max.ms"),
                // Only a look into the records shows it: the header has the first and the largest.
                ([now, now - 20_000], "message.timestamp.before.max.ms of 10000"),
            ] {
                let refused =
                    client.try_send_batch(handle, batch_at(&timestamps, 100, codec)).await.unwrap_err();
                assert_eq!(refused.error_code(), ErrorCode::InvalidTimestamp);
                assert!(!refused.retryable && refused.message.contains(setting), "{}", refused.message);
            }
            // No timestamp at all, and one within the bounds.
            let taken = client.try_send_batch(handle, batch_at(&[-1, now + 3_000_000], 100, codec)).await;
            assert!(taken.is_ok(), "{taken:?}");
        }
        assert_eq!(fetch(&mut client, handle).await.len(), 2);
        node.stop().await;
    });
}
