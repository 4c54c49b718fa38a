//! A whole node in the simulation: several cores, real frames, a disk that can crash.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use ringlog_protocol::batch::{BatchBuilder, split_batches};
use ringlog_protocol::messages::{
    CreateTopic, CreateTopicReply, Hello, ListOffsets, ListOffsetsReply, MetadataReply, MetadataRequest,
    Open, Opened, Position, Produced, Subscribe, Subscribed,
};
use ringlog_protocol::{Ack, Kind};
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{mailbox, spawn};

use super::*;
use crate::config::StorageSizes;
use crate::wire_client::WireClient;

fn config() -> BrokerConfig {
    BrokerConfig {
        data_dir: PathBuf::from("/data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        storage: StorageSizes { journal_file_bytes: 4 << 20, ..StorageSizes::default() },
        ..BrokerConfig::default()
    }
}

/// A node of so many shards; `stop` ends it.
struct SimNode {
    address: SocketAddr,
    stop: mailbox::Sender<()>,
    running: ringlog_reactor::Task<Result<(), NodeError>>,
}

impl SimNode {
    async fn start(shards: usize) -> SimNode {
        let (ready, started) = mailbox::channel(1);
        let (stop, stopped) = mailbox::channel::<()>(1);
        let running = spawn(run(
            config(),
            vec![None; shards],
            move |summary| assert!(ready.try_send(summary.address).is_ok()),
            async move {
                stopped.recv().await;
            },
        ));
        let address = started.recv().await.expect("the node starts");
        SimNode { address, stop, running }
    }

    async fn stop(self) {
        self.stop.send(()).await.ok();
        assert!(self.running.await.is_ok());
    }
}

fn batch_of(values: &[&str]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for value in values {
        builder.push(1, None, Some(value.as_bytes()), []).unwrap();
    }
    builder.finish_plain()
}

async fn create_topic(client: &mut WireClient, partitions: u32) {
    let create = CreateTopic { name: "orders".into(), partitions, config: vec![] };
    let reply: CreateTopicReply = client.ask(Kind::CreateTopic, 0, &create).await.1;
    assert_eq!(reply.topic.partitions.len(), partitions as usize);
}

async fn open(client: &mut WireClient, partition: u32) -> u32 {
    let (header, _): (_, Opened) =
        client.ask(Kind::Open, 0, &Open { topic: "orders".into(), partition }).await;
    header.handle
}

/// Every partition is produced to and read by a client of shard 0, wherever it lives.
async fn produce_and_subscribe(shards: usize) {
    let node = SimNode::start(shards).await;
    let mut client = WireClient::connect(node.address, Some(0)).await;
    create_topic(&mut client, 3).await;
    for partition in 0..3 {
        let handle = open(&mut client, partition).await;
        let value = format!("to {partition}");
        let (_, produced): (_, Produced) =
            client.send_batch(handle, Ack::Disk, batch_of(&[&value, "and more"])).await;
        assert_eq!(produced.base_offset, 0);
        let subscribe = Subscribe { from: Position::Begin, credit_bytes: 1 << 20 };
        let (_, subscribed): (_, Subscribed) = client.ask(Kind::Subscribe, handle, &subscribe).await;
        assert_eq!(subscribed.high_watermark, 2);
        let delivered = client.next_frame().await;
        assert_eq!(delivered.header.kind, Kind::Delivery);
        let (header, batch) = split_batches(&delivered.payload).next().unwrap().unwrap();
        assert_eq!((header.base_offset, header.record_count), (0, 2));
        assert!(batch.windows(value.len()).any(|window| window == value.as_bytes()));
    }
    drop(client);
    node.stop().await;
}

#[test]
fn a_client_reaches_every_partition_through_one_core() {
    for seed in 0..20 {
        Simulation::new(seed).run(produce_and_subscribe(1 + seed as usize % 3));
    }
}

/// Publishes to two partitions for ever; `acked` counts what was acknowledged of each.
async fn publish_for_ever(shards: usize, acked: [Rc<Cell<i64>>; 2]) {
    let node = SimNode::start(shards).await;
    let mut client = WireClient::connect(node.address, None).await;
    create_topic(&mut client, 2).await;
    let handles = [open(&mut client, 0).await, open(&mut client, 1).await];
    loop {
        for (handle, acked) in handles.iter().zip(&acked) {
            let (_, produced): (_, Produced) =
                client.send_batch(*handle, Ack::Disk, batch_of(&["a", "b"])).await;
            assert_eq!(produced.base_offset, acked.get());
            acked.set(acked.get() + 2);
        }
    }
}

/// How far each partition goes; `None` where the topic was never acknowledged, and is not there.
async fn log_ends(shards: usize) -> Option<[i64; 2]> {
    let node = SimNode::start(shards).await;
    let mut client = WireClient::connect(node.address, None).await;
    let all = MetadataRequest { topics: None };
    let (_, metadata): (_, MetadataReply) = client.ask(Kind::Metadata, 0, &all).await;
    if metadata.topics.is_empty() {
        return None;
    }
    let mut ends = [0; 2];
    for (partition, end) in (0..).zip(&mut ends) {
        let handle = open(&mut client, partition).await;
        let (_, found): (_, ListOffsetsReply) =
            client.ask(Kind::ListOffsets, handle, &ListOffsets { at: Position::End }).await;
        *end = found.offset;
    }
    drop(client);
    node.stop().await;
    Some(ends)
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_at_any_await() {
    let mut acked_in_all = 0;
    for seed in 0..60 {
        let acked = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
        let simulation = Simulation::new(seed);
        let shards = 1 + seed as usize % 3;
        let polls = 100 + seed * 97;
        assert!(simulation.run_for(polls, publish_for_ever(shards, acked.clone())).is_none());
        simulation.crash();
        let again = Simulation::with_disk(seed + 1000, simulation.disk());
        let ends = again.run(log_ends(1 + (seed as usize + 1) % 3)).unwrap_or_default();
        for (end, acked) in ends.iter().zip(&acked) {
            // One batch may have become durable without the client learning of it.
            let acked = acked.get();
            assert!((acked..=acked + 2).contains(end), "seed {seed}: {acked} acknowledged, {end} found");
            acked_in_all += acked;
        }
    }
    assert!(acked_in_all > 500, "only {acked_in_all} records were acknowledged: the crashes come too early");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hash_of = |seed| {
        let simulation = Simulation::new(seed);
        simulation.run(produce_and_subscribe(3));
        simulation.trace_hash()
    };
    assert_eq!(hash_of(7), hash_of(7));
    assert_ne!(hash_of(7), hash_of(8));
}

#[test]
fn a_client_that_is_none_is_told_so() {
    Simulation::new(3).run(async {
        let node = SimNode::start(1).await;
        let hello = Hello { magic: *b"NOT-OURS", ..Hello::new("stranger", None) };
        let refused = WireClient::introduce(node.address, hello).await;
        assert_eq!(refused.err(), Some(ringlog_protocol::ErrorCode::NotHandshaken));
        node.stop().await;
    });
}
