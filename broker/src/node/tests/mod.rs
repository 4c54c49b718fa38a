//! A whole node in the simulation: several cores, real frames, a disk that can crash.

mod failed_syncs;
mod full_disk;
mod fuzz;
mod timestamps;
mod unreadable;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ringlog_protocol::batch::{BatchBuilder, split_batches};
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::{
    CreateTopic, CreateTopicReply, Credit, DeleteTopic, Fetch, Fetched, Hello, ListOffsets, ListOffsetsReply,
    MetadataReply, MetadataRequest, Open, Opened, Position, Produced, Subscribe, Subscribed, Unsubscribe,
};
use ringlog_protocol::{Ack, ErrorCode, Kind, encode, encode_with_payload};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{mailbox, now, sleep, spawn, timeout};

use crate::config::BrokerConfig;
use crate::config::StorageSizes;
use crate::limits::{HANDSHAKE_WITHIN, MAX_SUBSCRIPTIONS, STALLED_AFTER};
use crate::native::wire_client::WireClient;
use crate::node::{NodeError, serve};

pub(super) fn config() -> BrokerConfig {
    BrokerConfig {
        data_dir: PathBuf::from("/data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        storage: StorageSizes { journal_file_bytes: 4 << 20, ..StorageSizes::default() },
        ..BrokerConfig::default()
    }
}

/// A node of so many shards; `stop` ends it.
pub(super) struct SimNode {
    pub(super) address: SocketAddr,
    stop: mailbox::Sender<()>,
    running: ringlog_reactor::Task<Result<(), NodeError>>,
}

impl SimNode {
    pub(super) async fn start(shards: usize) -> SimNode {
        SimNode::start_as(config(), shards).await
    }

    pub(super) async fn start_as(config: BrokerConfig, shards: usize) -> SimNode {
        let (ready, started) = mailbox::channel(1);
        let (stop, stopped) = mailbox::channel::<()>(1);
        let running = spawn(serve(
            config,
            shards,
            move |summary| assert!(ready.try_send(summary.address).is_ok()),
            async move {
                stopped.recv().await;
            },
        ));
        let address = started.recv().await.expect("the node starts");
        SimNode { address, stop, running }
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).await.ok();
        assert!(self.running.await.is_ok());
    }
}

pub(super) fn batch_of(values: &[&str]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for value in values {
        builder.push(1, None, Some(value.as_bytes()), []).unwrap();
    }
    builder.finish_plain()
}

pub(super) async fn create_topic(client: &mut WireClient, partitions: u32) {
    let create = CreateTopic { name: "orders".into(), partitions, config: vec![] };
    let reply: CreateTopicReply = client.ask(Kind::CreateTopic, 0, &create).await.1;
    assert_eq!(reply.topic.partitions.len(), partitions as usize);
}

pub(super) async fn open(client: &mut WireClient, partition: u32) -> u32 {
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
    let ends = ends_of(node.address).await;
    node.stop().await;
    ends
}

pub(super) async fn ends_of(address: SocketAddr) -> Option<[i64; 2]> {
    let mut client = WireClient::connect(address, None).await;
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
        assert_eq!(refused.err(), Some(ErrorCode::NotHandshaken));
        node.stop().await;
    });
}

#[test]
fn garbage_is_refused_and_costs_nobody_else_anything() {
    for seed in 0..30 {
        Simulation::new(seed).run(async {
            let node = SimNode::start(2).await;
            let mut honest = WireClient::connect(node.address, Some(1)).await;
            create_topic(&mut honest, 2).await;
            let handle = open(&mut honest, 0).await;
            for round in 0..20 {
                let mut stranger = WireClient::connect(node.address, None).await;
                let mut frame = encode(Kind::Fetch, 9, handle, 0, &fetch_from(0)).to_vec();
                let at = ringlog_reactor::random_u64() as usize % frame.len();
                // The length is left alone in every other round: a longer one only makes the broker wait.
                let at = if round % 2 == 0 { at.max(4) } else { at };
                frame[at] ^= ringlog_reactor::random_u64() as u8 | 1;
                stranger.send_raw(frame.into()).await.ok();
                // A stalled frame is cut off by rule; a sound one is answered, and the connection stays.
                let _ = timeout(2 * STALLED_AFTER, stranger.read_to_end()).await;
                stranger.shutdown();
                let (_, _): (_, Produced) =
                    honest.send_batch(handle, Ack::Disk, batch_of(&["still served"])).await;
            }
            drop(honest);
            node.stop().await;
        });
    }
}

fn fetch_from(offset: i64) -> Fetch {
    Fetch { offset, max_bytes: 1 << 20, min_bytes: 1, max_wait_ms: 0 }
}

#[test]
fn a_subscriber_that_never_reads_holds_back_nobody() {
    Simulation::new(5).run(async {
        let node = SimNode::start(1).await;
        let mut producer = WireClient::connect(node.address, None).await;
        create_topic(&mut producer, 1).await;
        let handle = open(&mut producer, 0).await;

        let mut stuck = WireClient::connect(node.address, None).await;
        let stuck_handle = open(&mut stuck, 0).await;
        let all = Subscribe { from: Position::Begin, credit_bytes: i32::MAX as u32 };
        stuck.tell(Kind::Subscribe, stuck_handle, &all).await;

        let mut live = WireClient::connect(node.address, None).await;
        let live_handle = open(&mut live, 0).await;
        let (_, _): (_, Subscribed) = live.ask(Kind::Subscribe, live_handle, &all).await;

        let value = "x".repeat(60 << 10);
        for offset in 0..200 {
            let (_, produced): (_, Produced) =
                producer.send_batch(handle, Ack::Disk, batch_of(&[&value])).await;
            assert_eq!(produced.base_offset, offset);
            let delivered = live.next_frame().await;
            let (header, _) = split_batches(&delivered.payload).next().unwrap().unwrap();
            assert_eq!(header.base_offset, offset, "the live reader keeps up");
        }
        drop((producer, stuck, live));
        node.stop().await;
    });
}

#[test]
fn a_full_disk_refuses_produces_serves_reads_and_recovers_by_itself() {
    let simulation = Simulation::new(11);
    let disk = simulation.disk();
    simulation.run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        let value = "y".repeat(200 << 10);
        disk.set_full(true);
        let mut acked = 0;
        let refused = loop {
            match client.try_send_batch(handle, batch_of(&[&value])).await {
                Ok(produced) => acked = produced.base_offset + 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.error_code(), ErrorCode::DiskFull);
        assert!(refused.retryable);
        assert!(acked > 0, "the journal's files were made before the disk was full");
        let (_, fetched): (_, Fetched) = client.ask(Kind::Fetch, handle, &fetch_from(acked - 1)).await;
        assert_eq!(fetched.high_watermark, acked);

        disk.set_full(false);
        let produced = loop {
            match client.try_send_batch(handle, batch_of(&[&value])).await {
                Ok(produced) => break produced,
                Err(refused) => assert_eq!(refused.error_code(), ErrorCode::DiskFull),
            }
            sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(produced.base_offset, acked);
        drop(client);
        node.stop().await;
    });
}

#[test]
fn every_produce_is_answered_while_the_disk_is_full() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        simulation.run(async {
            let small =
                StorageSizes { journal_file_bytes: 64 << 10, journal_files: 2, ..StorageSizes::default() };
            let node = SimNode::start_as(BrokerConfig { storage: small, ..config() }, 1).await;
            let mut client = WireClient::connect(node.address, None).await;
            create_topic(&mut client, 1).await;
            let handle = open(&mut client, 0).await;
            sleep(Duration::from_secs(1)).await;
            disk.set_full(true);
            // More than the journal has room for, and none of them waits for the one before it.
            let batch = batch_of(&[&"y".repeat(6 << 10)]);
            let asked = 100;
            for request in 0..asked {
                client.send_raw(produce_frame(1 + request, handle, &batch).into()).await.unwrap();
            }
            let (mut acked, mut refused) = (0, 0);
            for _ in 0..asked {
                let answer = timeout(Duration::from_secs(20), client.next_frame()).await.expect("an answer");
                match answer.header.kind {
                    Kind::Produced => acked += 1,
                    _ => {
                        assert_eq!(answer.error().error_code(), ErrorCode::DiskFull);
                        refused += 1;
                    }
                }
            }
            assert!(acked > 0 && refused > 0, "{acked} acknowledged, {refused} refused");
            let (_, fetched): (_, Fetched) = client.ask(Kind::Fetch, handle, &fetch_from(acked - 1)).await;
            assert_eq!(fetched.high_watermark, acked);
        });
    }
}

#[test]
fn a_failed_write_stops_acknowledging_and_a_restart_recovers() {
    let simulation = Simulation::new(13);
    let disk = simulation.disk();
    let acked = simulation.run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 2).await;
        let handle = open(&mut client, 0).await;
        let acked = client.try_send_batch(handle, batch_of(&["kept"])).await.unwrap().base_offset + 1;
        disk.fail_next_write(5);
        for _ in 0..3 {
            let refused = client.try_send_batch(handle, batch_of(&["lost"])).await.unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::StorageFailed);
        }
        let (_, fetched): (_, Fetched) = client.ask(Kind::Fetch, handle, &fetch_from(0)).await;
        assert_eq!(fetched.high_watermark, acked, "reads go on, and show nothing that was not acknowledged");
        acked
    });
    let again = Simulation::with_disk(14, simulation.disk());
    let ends = again.run(log_ends(2)).expect("the topic is there");
    assert!((acked..=acked + 1).contains(&ends[0]), "{acked} acknowledged, {} found", ends[0]);
}

#[test]
fn a_deleted_topic_ends_its_subscriptions_and_its_name_can_be_used_again() {
    for seed in 0..10 {
        Simulation::new(seed).run(async {
            let node = SimNode::start(2).await;
            let mut client = WireClient::connect(node.address, Some(seed as u32 % 2)).await;
            for _ in 0..2 {
                create_topic(&mut client, 1).await;
                let handle = open(&mut client, 0).await;
                let produced = client.try_send_batch(handle, batch_of(&["a"])).await.unwrap();
                assert_eq!(produced.base_offset, 0, "nothing of the deleted topic is left");
                let all = Subscribe { from: Position::End, credit_bytes: 1 };
                let (header, _): (_, Subscribed) = client.ask(Kind::Subscribe, handle, &all).await;
                let delete = DeleteTopic { name: "orders".into() };
                let (_, ()) = client.ask(Kind::DeleteTopic, 0, &delete).await;
                let ended = client.next_frame().await;
                assert_eq!(ended.header.request, header.request);
                assert_eq!(ended.error().error_code(), ErrorCode::UnknownTopic);
                let refused = client.try_send_batch(handle, batch_of(&["b"])).await.unwrap_err();
                assert_eq!(refused.error_code(), ErrorCode::UnknownTopic);
            }
            drop(client);
            node.stop().await;
        });
    }
}

#[test]
fn a_client_that_hangs_up_does_not_stop_its_change_of_topics_half_way() {
    for seed in 0..20 {
        Simulation::new(seed).run(async {
            let node = SimNode::start(2).await;
            let mut patient = WireClient::connect(node.address, None).await;
            let mut hasty = WireClient::connect(node.address, None).await;
            let create = CreateTopic { name: "orders".into(), partitions: 2, config: vec![] };
            hasty.tell(Kind::CreateTopic, 0, &create).await;
            sleep(Duration::from_micros(seed * 20)).await;
            hasty.shutdown();
            let all = MetadataRequest { topics: None };
            loop {
                let (_, found): (_, MetadataReply) = patient.ask(Kind::Metadata, 0, &all).await;
                if !found.topics.is_empty() {
                    break;
                }
                // The request may not have left before its sender did.
                patient.tell(Kind::CreateTopic, 0, &create).await;
                patient.next_frame().await;
            }
            let handle = open(&mut patient, 1).await;
            patient.try_send_batch(handle, batch_of(&["a"])).await.unwrap();

            let mut hasty = WireClient::connect(node.address, None).await;
            let delete = DeleteTopic { name: "orders".into() };
            hasty.tell(Kind::DeleteTopic, 0, &delete).await;
            sleep(Duration::from_micros(seed * 20)).await;
            hasty.shutdown();
            patient.tell(Kind::DeleteTopic, 0, &delete).await;
            patient.next_frame().await;
            create_topic(&mut patient, 2).await;
            let handle = open(&mut patient, 1).await;
            assert_eq!(patient.try_send_batch(handle, batch_of(&["b"])).await.unwrap().base_offset, 0);
            drop(patient);
            node.stop().await;
        });
    }
}

#[test]
fn a_first_start_that_ends_anywhere_can_be_done_again() {
    for polls in (0..400).step_by(5) {
        let simulation = Simulation::new(polls);
        simulation.run_for(polls, async {
            SimNode::start(2).await.stop().await;
        });
        simulation.crash();
        let again = Simulation::with_disk(polls + 1000, simulation.disk());
        assert_eq!(again.run(log_ends(2)), None);
    }
}

/// Found by the simulator: a start that was killed had made the folder, and the next one did not sync what it found.
#[test]
fn a_folder_that_a_killed_start_has_made_is_durable_once_something_in_it_is_acknowledged() {
    for seed in 0..60 {
        let polls = seed % 12;
        let killed = Simulation::new(seed);
        killed.run_for(polls, async {
            SimNode::start(1).await.stop().await;
        });
        let simulation = Simulation::with_disk(seed + 100, killed.disk());
        simulation.run(async {
            let node = SimNode::start(1).await;
            let mut client = WireClient::connect(node.address, None).await;
            create_topic(&mut client, 2).await;
        });
        simulation.crash();
        let again = Simulation::with_disk(seed + 200, simulation.disk());
        assert_eq!(again.run(log_ends(1)), Some([0, 0]), "killed after {polls} polls");
    }
}

#[test]
fn a_client_that_breaks_off_through_another_core_is_hung_up_on() {
    Simulation::new(17).run(async {
        let node = SimNode::start(2).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        create_topic(&mut client, 2).await;
        // The topic's id is 1, so its partition 0 lives on shard 1.
        let handle = open(&mut client, 0).await;
        let mut bad = encode(Kind::ListOffsets, 9, handle, 0, &ListOffsets { at: Position::Begin }).to_vec();
        bad[HEADER_BYTES..].fill(0xFF);
        let batch = batch_of(&["z".repeat(60 << 10).as_str()]);
        for _ in 0..60 {
            let head = encode_with_payload(Kind::Produce, 10, handle, Ack::Disk.flags(), &(), batch.len());
            bad.extend_from_slice(&head);
            bad.extend_from_slice(&batch);
        }
        client.send_raw(bad.into()).await.ok();
        let ended = timeout(2 * STALLED_AFTER, client.read_to_end()).await;
        assert!(ended.is_ok(), "the connection stays open");
        drop(client);
        node.stop().await;
    });
}

#[test]
fn a_flood_of_clients_that_say_nothing_keeps_no_honest_one_out() {
    Simulation::new(19).run(async {
        let node = SimNode::start(1).await;
        let mut silent = Vec::new();
        for _ in 0..2 * crate::limits::MAX_HANDSHAKES {
            silent.push(TcpStream::connect(node.address).await.unwrap());
        }
        let welcome = timeout(HANDSHAKE_WITHIN / 10, WireClient::connect(node.address, None)).await;
        assert!(welcome.is_ok(), "the honest client waits behind the silent ones");
        drop((welcome, silent));
        node.stop().await;
    });
}

/// A batch of one record of about that many bytes, no two alike.
fn large_batch(number: u8, bytes: usize) -> bytes::Bytes {
    let value: Vec<u8> = (0..bytes).map(|at| (at / 249) as u8 ^ at as u8 ^ number).collect();
    let mut builder = BatchBuilder::new(9 << 20);
    builder.push(1, None, Some(&value), []).unwrap();
    builder.finish_plain()
}

fn produce_frame(request: u32, handle: u32, batch: &[u8]) -> Vec<u8> {
    let mut frame =
        encode_with_payload(Kind::Produce, request, handle, Ack::Disk.flags(), &(), batch.len()).to_vec();
    frame.extend_from_slice(batch);
    frame
}

/// The first batch at or behind an offset, as the broker gives it.
async fn fetch_one(client: &mut WireClient, handle: u32, offset: i64) -> bytes::Bytes {
    let fetch = Fetch { max_bytes: 1, ..fetch_from(offset) };
    let request = client.tell(Kind::Fetch, handle, &fetch).await;
    let reply = client.next_frame().await;
    assert_eq!((reply.header.request, reply.header.kind), (request, Kind::Fetched));
    reply.payload
}

#[test]
fn large_batches_in_pieces_of_any_size_are_kept_byte_for_byte() {
    for seed in 0..12 {
        let simulation = Simulation::new(seed);
        let sizes = [300, 65_300, 65_600, 100, 262_000, 262_144, 300_000, 900_000, 10, 1_000_000, 500_000];
        let kept = sizes.iter().zip(1..).map(|(bytes, number)| large_batch(number, *bytes));
        let kept: Vec<_> = kept.collect();
        simulation.run(async {
            let node = SimNode::start(1 + seed as usize % 2).await;
            let mut client = WireClient::connect(node.address, Some(0)).await;
            create_topic(&mut client, 1).await;
            let handle = open(&mut client, 0).await;
            let frames = kept.iter().zip(100..).map(|(batch, request)| produce_frame(request, handle, batch));
            let mut stream = bytes::Bytes::from(frames.collect::<Vec<_>>().concat());
            while !stream.is_empty() {
                let most = [7, 5_000, 100_000, 700_000][ringlog_reactor::random_u64() as usize % 4];
                let len = 1 + ringlog_reactor::random_u64() as usize % most;
                client.send_raw(stream.split_to(len.min(stream.len()))).await.unwrap();
            }
            for offset in 0..kept.len() as i64 {
                let produced = client.next_frame().await;
                assert_eq!(i64::from(produced.header.request), 100 + offset);
                assert_eq!(produced.message::<Produced>().base_offset, offset);
            }
        });
        simulation.crash();
        Simulation::with_disk(seed + 1, simulation.disk()).run(async {
            let node = SimNode::start(1).await;
            let mut client = WireClient::connect(node.address, None).await;
            let handle = open(&mut client, 0).await;
            for (batch, offset) in kept.iter().zip(0..) {
                let mut expected = batch.to_vec();
                ringlog_protocol::batch::patch(&mut expected, offset, 0);
                assert_eq!(fetch_one(&mut client, handle, offset).await, expected, "offset {offset}");
            }
            drop(client);
            node.stop().await;
        });
    }
}

#[test]
fn who_stops_in_the_middle_of_a_large_batch_takes_nobodys_memory_for_long() {
    for stays in [true, false] {
        Simulation::new(3).run(async {
            let node = SimNode::start(1).await;
            let mut honest = WireClient::connect(node.address, None).await;
            create_topic(&mut honest, 1).await;
            let handle = open(&mut honest, 0).await;
            let mut halves = Vec::new();
            // Together they take all that there is for gathering.
            for _ in 0..20 {
                let client = WireClient::connect(node.address, None).await;
                let frame = produce_frame(1, handle, &large_batch(1, 8_000_000));
                let half = bytes::Bytes::from(frame).slice(..100_000);
                client.send_raw(half).await.unwrap();
                if !stays {
                    client.shutdown();
                }
                halves.push(client);
            }
            let batch = large_batch(2, 1_000_000);
            let (_, produced): (_, Produced) =
                timeout(3 * STALLED_AFTER, honest.send_batch(handle, Ack::Disk, batch)).await.unwrap();
            assert_eq!(produced.base_offset, 0);
            for half in &mut halves {
                timeout(3 * STALLED_AFTER, half.read_to_end()).await.expect("it is cut off");
            }
            drop(honest);
            node.stop().await;
        });
    }
}

/// The first `sent` bytes after the header of a frame that announces a batch of `size` bytes.
fn beginning_of_produce(handle: u32, size: usize, sent: usize) -> bytes::Bytes {
    let mut frame = encode_with_payload(Kind::Produce, 1, handle, 2, &(), size);
    frame.extend_from_slice(&vec![0; sent]);
    frame.freeze()
}

/// A client that announces much and sends little takes the memory of no other, however often it comes again.
#[test]
fn announced_frames_hold_nobody_up() {
    Simulation::new(5).run(async {
        let node = SimNode::start(1).await;
        let mut honest = WireClient::connect(node.address, None).await;
        create_topic(&mut honest, 1).await;
        let handle = open(&mut honest, 0).await;
        let mut stalled = Vec::new();
        // Frames of 8 MB down to 70 KB, of which the header and a little more come; some of them fill their free allowance.
        for number in 0..200_usize {
            let client = WireClient::connect(node.address, None).await;
            let size = 8_000_000 - number % 44 * 180_000;
            let sent = if number % 10 == 0 { 65_000 } else { 100 };
            client.send_raw(beginning_of_produce(handle, size, sent)).await.unwrap();
            stalled.push(client);
        }
        sleep(Duration::from_millis(500)).await;
        for offset in 0..5 {
            let begun = now();
            let batch = large_batch(2, 900_000 + offset * 1_000);
            let (_, produced): (_, Produced) = honest.send_batch(handle, Ack::Disk, batch).await;
            assert_eq!(produced.base_offset, offset as i64);
            assert!(now() - begun < Duration::from_millis(500), "batch {offset}: {:?}", now() - begun);
        }
        drop((stalled, honest));
        node.stop().await;
    });
}

/// Those who do send, fill all the memory and stop in the middle are cut off in a moment, because another one waits.
#[test]
fn half_sent_frames_hold_others_up_for_a_moment_only() {
    Simulation::new(6).run(async {
        let node = SimNode::start(1).await;
        let mut honest = WireClient::connect(node.address, None).await;
        create_topic(&mut honest, 1).await;
        let handle = open(&mut honest, 0).await;
        let mut stalled = Vec::new();
        for _ in 0..60 {
            let client = WireClient::connect(node.address, None).await;
            client.send_raw(beginning_of_produce(handle, 8_000_000, 1_200_000)).await.unwrap();
            stalled.push(client);
        }
        let begun = now();
        let batch = large_batch(2, 1_000_000);
        let (_, produced): (_, Produced) =
            timeout(STALLED_AFTER / 2, honest.send_batch(handle, Ack::Disk, batch)).await.unwrap();
        assert_eq!(produced.base_offset, 0, "after {:?}", now() - begun);
        drop((stalled, honest));
        node.stop().await;
    });
}

#[test]
fn a_damaged_large_batch_is_refused_and_the_next_is_taken() {
    Simulation::new(4).run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        for round in 0..3 {
            let mut wrong = large_batch(1, 400_000).to_vec();
            wrong[300_000] ^= 1;
            let refused = client.try_send_batch(handle, wrong.into()).await.unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::CorruptBatch);
            let refused = client.try_send_batch(handle, large_batch(1, 2_000_000)).await.unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::BatchTooLarge);
            let produced = client.try_send_batch(handle, large_batch(1, 400_000)).await.unwrap();
            assert_eq!(produced.base_offset, round);
        }
        drop(client);
        node.stop().await;
    });
}

/// Fails the next sync as soon as the metadata file was replaced: that of the folder.
pub(super) async fn fail_the_sync_of_a_change(disk: SimDisk) {
    let is_new = |(path, _): &(PathBuf, u64)| path.ends_with("metadata.tmp");
    for there in [true, false] {
        while disk.files().iter().any(is_new) != there {
            ringlog_reactor::yield_now().await;
        }
    }
    disk.fail_next_sync(5);
}

#[test]
fn a_topic_whose_deletion_is_in_doubt_takes_nothing_more_and_keeps_its_files() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        simulation.run(async {
            let node = SimNode::start(1).await;
            let mut client = WireClient::connect(node.address, None).await;
            create_topic(&mut client, 2).await;
            let handle = open(&mut client, 0).await;
            client.try_send_batch(handle, batch_of(&["kept"])).await.unwrap();
            let watcher = spawn(fail_the_sync_of_a_change(disk.clone()));
            client.tell(Kind::DeleteTopic, 0, &DeleteTopic { name: "orders".into() }).await;
            let refused = client.next_frame().await;
            watcher.await;
            assert_eq!(refused.error().error_code(), ErrorCode::StorageFailed);
            let refused = client.try_send_batch(handle, batch_of(&["more"])).await.unwrap_err();
            assert_eq!(refused.error_code(), ErrorCode::Quarantined);
            let (_, fetched): (_, Fetched) = client.ask(Kind::Fetch, handle, &fetch_from(0)).await;
            assert_eq!(fetched.high_watermark, 1);
        });
        simulation.crash();
        // What a failed sync should have saved is lost, so the deletion is.
        let ends = Simulation::with_disk(seed + 100, simulation.disk()).run(log_ends(2));
        assert_eq!(ends, Some([1, 0]), "the topic is there, and so is all that was acknowledged");
    }
}

async fn create_named(client: &mut WireClient, name: &str) -> u64 {
    let create = CreateTopic { name: name.into(), partitions: 2, config: vec![] };
    let reply: CreateTopicReply = client.ask(Kind::CreateTopic, 0, &create).await.1;
    reply.topic.id
}

/// A topic cannot be made, and the next of its name is. The power fails, so the folder of the first may come back. `prepare`
/// has each world before it is played in.
fn fail_a_creation(seed: u64, prepare: impl Fn(&Simulation)) {
    let simulation = Simulation::new(seed);
    prepare(&simulation);
    let disk = simulation.disk();
    let made = simulation.run(async {
        let node = SimNode::start(1 + seed as usize % 2).await;
        let mut client = WireClient::connect(node.address, None).await;
        let first = create_named(&mut client, "first").await;
        disk.fail_next_sync(5);
        let create = CreateTopic { name: "orders".into(), partitions: 2, config: vec![] };
        client.tell(Kind::CreateTopic, 0, &create).await;
        assert_eq!(client.next_frame().await.error().error_code(), ErrorCode::StorageFailed);
        let made = create_named(&mut client, "orders").await;
        assert_eq!(made, first + 2, "the id of the topic that could not be made is not given again");
        let handle = open(&mut client, 0).await;
        client.try_send_batch(handle, batch_of(&["kept"])).await.unwrap();
        made
    });
    simulation.crash();
    let again = Simulation::with_disk(seed + 100, simulation.disk());
    prepare(&again);
    again.run(async {
        let node = SimNode::start(2).await;
        assert_eq!(ends_of(node.address).await, Some([1, 0]));
        let mut client = WireClient::connect(node.address, None).await;
        assert!(create_named(&mut client, "later").await > made);
    });
}

#[test]
fn the_id_of_a_topic_that_could_not_be_made_is_used_up() {
    (0..20).for_each(|seed| fail_a_creation(seed, |_| ()));
}

#[cfg(feature = "mutants")]
#[test]
fn an_id_that_is_given_again_is_found() {
    let found = std::panic::catch_unwind(|| {
        fail_a_creation(1, |simulation| simulation.set_mutant(Some("failed-creation-frees-id")));
    });
    assert!(found.is_err());
}

/// A journal is damaged between two lives. `prepare` has each world before it is played in.
fn damage_a_journal(prepare: impl Fn(&Simulation)) {
    let simulation = Simulation::new(41);
    prepare(&simulation);
    let disk = simulation.disk();
    simulation.run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        for value in ["one", "two", "three"] {
            client.try_send_batch(handle, batch_of(&[value])).await.unwrap();
        }
    });
    assert!(disk.flip_bit("/data/journal/0000000001/shard-0/journal-0", 4096 + 50, 0));
    let again = Simulation::with_disk(42, disk.clone());
    prepare(&again);
    again.run(async { SimNode::start(1).await.stop().await });
    let is_kept = |path: &Path| path.starts_with("/data/journal/0000000001.damaged/shard-0");
    assert!(disk.files().iter().any(|(path, _)| is_kept(path)), "{:?}", disk.files());
}

#[test]
fn journals_in_which_damage_is_found_are_kept() {
    damage_a_journal(|_| ());
}

#[cfg(feature = "mutants")]
#[test]
fn a_start_that_removes_damaged_journals_is_found() {
    let found = std::panic::catch_unwind(|| {
        damage_a_journal(|simulation| simulation.set_mutant(Some("damaged-journals-removed")));
    });
    assert!(found.is_err());
}

#[test]
fn old_metadata_is_refused_if_both_copies_are_and_the_newest_one_starts() {
    let simulation = Simulation::new(21);
    let disk = simulation.disk();
    let life = |seed| Simulation::with_disk(seed, disk.clone());
    let metadata = || async { ringlog_reactor::fs::read("/data/metadata").await.unwrap() };
    simulation.run(produce_and_subscribe(2));
    let old = life(22).run(metadata());
    assert_eq!(life(23).run(log_ends(1)), Some([2, 2]));
    let newest = life(24).run(metadata());
    let put_back = |name, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        life(25).run(async move { ringlog_reactor::fs::replace(name, &bytes).await.unwrap() });
    };
    put_back("/data/metadata", &old);
    put_back("/data/metadata.copy", &old);
    let files = disk.files();
    let refused = life(26).run(serve(config(), 2, |_| panic!("it must not start"), std::future::pending()));
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("/data/journal/0000000002") && words.contains("old copy"), "{words}");
    assert_eq!(disk.files(), files, "nothing was changed");
    let mut report = |_| ();
    let checked = life(27).run(async { crate::check::check(&config().data_dir, &mut report).await.unwrap() });
    assert!(checked.report.findings.iter().any(|finding| finding.what.contains("old copy")));
    // One of two is enough.
    put_back("/data/metadata.copy", &newest);
    assert_eq!(life(29).run(log_ends(2)), Some([2, 2]));
}

#[test]
fn a_subscription_on_another_core_is_led_by_its_handle_and_refused_ones_leave_nothing() {
    Simulation::new(31).run(async {
        let node = SimNode::start(2).await;
        let mut client = WireClient::connect(node.address, Some(0)).await;
        create_topic(&mut client, 2).await;
        for partition in 0..2 {
            let handle = open(&mut client, partition).await;
            for value in ["one", "two"] {
                client.try_send_batch(handle, batch_of(&[value])).await.unwrap();
            }
            for _ in 0..2 * MAX_SUBSCRIPTIONS {
                let beyond = Subscribe { from: Position::Offset(9), credit_bytes: 1 };
                client.tell(Kind::Subscribe, handle, &beyond).await;
                assert_eq!(client.next_frame().await.error().error_code(), ErrorCode::OffsetOutOfRange);
            }
            let first = Subscribe { from: Position::Begin, credit_bytes: 1 };
            let id = client.tell(Kind::Subscribe, handle, &first).await;
            let kinds = [client.next_frame().await.header.kind, client.next_frame().await.header.kind];
            assert_eq!(kinds, [Kind::Subscribed, Kind::Delivery]);
            client
                .send_raw(encode(Kind::Credit, id, handle, 0, &Credit { bytes: 1 << 20 }).freeze())
                .await
                .unwrap();
            assert_eq!(client.next_frame().await.header.kind, Kind::Delivery, "the credit found its way");
            let end = Unsubscribe { subscription: id };
            let (_, ()): (_, ()) = client.ask(Kind::Unsubscribe, handle, &end).await;
        }
        drop(client);
        node.stop().await;
    });
}

#[test]
fn large_replies_of_another_core_come_whole_between_those_of_the_own() {
    const ROUNDS: usize = 12;
    for seed in 0..4 {
        Simulation::new(seed).run(async {
            let node = SimNode::start(2).await;
            let mut client = WireClient::connect(node.address, Some(0)).await;
            create_topic(&mut client, 2).await;
            // The topic's id is 1, so its partition 0 lives on shard 1, and 1 on the client's own.
            let (other, own) = (open(&mut client, 0).await, open(&mut client, 1).await);
            let mut stored = Vec::new();
            for (number, offset) in (1..=4).zip(0..) {
                let mut batch = large_batch(number, 200 << 10).to_vec();
                client.try_send_batch(other, batch.clone().into()).await.unwrap();
                ringlog_protocol::batch::patch(&mut batch, offset, 0);
                stored.extend(batch);
            }
            for _ in 0..ROUNDS {
                let all = Fetch { max_bytes: 1 << 20, ..fetch_from(0) };
                client.tell(Kind::Fetch, other, &all).await;
                for _ in 0..8 {
                    client.tell(Kind::ListOffsets, own, &ListOffsets { at: Position::End }).await;
                }
            }
            let (mut fetched, mut listed) = (0, 0);
            while (fetched, listed) != (ROUNDS, 8 * ROUNDS) {
                let reply = client.next_frame().await;
                match reply.header.kind {
                    Kind::Fetched => {
                        assert!(reply.payload == stored, "the batches are as they were stored");
                        fetched += 1;
                    }
                    kind => {
                        assert_eq!(kind, Kind::ListOffsetsReply);
                        assert_eq!(reply.message::<ListOffsetsReply>().offset, 0, "nothing was stored there");
                        listed += 1;
                    }
                }
            }
            drop(client);
            node.stop().await;
        });
    }
}
