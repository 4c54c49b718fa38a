//! A node on a disk that is full by bytes: what frees space works, and what waited for space goes on.

use std::time::Duration;

use ringlog_protocol::messages::{CreateTopic, DeleteTopic, Produced};
use ringlog_protocol::{Ack, ErrorCode, Kind};
use ringlog_reactor::sim::{DiskFaults, SimDisk, Simulation};
use ringlog_reactor::{sleep, timeout};

use super::{SimNode, batch_of, config, create_topic, ends_of, open};
use crate::config::{BrokerConfig, StorageSizes};
use crate::native::wire_client::WireClient;
use crate::node::serve;
use crate::offline::{self, OfflineError};

const VALUE_BYTES: usize = 200 << 10;

/// The disk takes so many bytes more.
fn leave(disk: &SimDisk, bytes: u64) {
    disk.set_faults(DiskFaults { full_after_bytes: Some(bytes), ..DiskFaults::default() });
}

/// Produces until the disk is full. Returns the offset behind the last record that was acknowledged.
async fn fill(client: &mut WireClient, handle: u32) -> i64 {
    let value = "y".repeat(VALUE_BYTES);
    let mut acked = 0;
    loop {
        match client.try_send_batch(handle, batch_of(&[&value])).await {
            Ok(produced) => acked = produced.base_offset + 1,
            Err(refused) => {
                assert_eq!(refused.error_code(), ErrorCode::DiskFull);
                return acked;
            }
        }
    }
}

async fn produce_at_last(client: &mut WireClient, handle: u32) -> i64 {
    let value = "y".repeat(VALUE_BYTES);
    loop {
        match client.try_send_batch(handle, batch_of(&[&value])).await {
            Ok(produced) => return produced.base_offset,
            Err(refused) => assert_eq!(refused.error_code(), ErrorCode::DiskFull),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_topic_is_deleted_on_a_disk_that_is_full_to_the_last_block() {
    let simulation = Simulation::new(12);
    let disk = simulation.disk();
    simulation.run(async {
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        sleep(Duration::from_secs(1)).await;
        leave(&disk, 10 << 20);
        assert!(fill(&mut client, handle).await > 0);
        leave(&disk, 0);
        let delete = DeleteTopic { name: "orders".into() };
        let (_, ()) = client.ask(Kind::DeleteTopic, 0, &delete).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        assert_eq!(produce_at_last(&mut client, handle).await, 0);
        drop(client);
        node.stop().await;
    });
}

/// Large batches that were taken before the disk was known to be full have an answer too, as long as it is full.
#[test]
fn large_produces_that_wait_on_a_full_disk_are_refused_and_the_same_ones_are_taken_later() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        simulation.run(async {
            let node = SimNode::start(1).await;
            let mut client = WireClient::connect(node.address, None).await;
            create_topic(&mut client, 2).await;
            let handle = open(&mut client, 0).await;
            sleep(Duration::from_secs(1)).await;
            leave(&disk, (seed + 1) << 18);
            let value = "y".repeat(2 * VALUE_BYTES);
            let mut acked = 0;
            for round in 0..2 {
                for _ in 0..8 {
                    client.tell_batch(handle, Ack::Disk, batch_of(&[&value])).await;
                }
                let mut refused = 0;
                for _ in 0..8 {
                    let reply = timeout(Duration::from_secs(20), client.next_frame()).await;
                    let reply = reply.expect("every produce is answered");
                    if reply.header.kind == Kind::Error {
                        assert_eq!(reply.error().error_code(), ErrorCode::DiskFull);
                        refused += 1;
                    } else {
                        assert_eq!(reply.message::<Produced>().base_offset, acked);
                        acked += 1;
                    }
                }
                assert_eq!(refused > 0, round == 0, "{refused} of round {round}");
                let [end, _] = ends_of(node.address).await.unwrap();
                assert_eq!(end, acked, "what was refused is not in the log");
                disk.set_faults(DiskFaults::default());
                sleep(Duration::from_secs(3)).await;
            }
            drop(client);
            node.stop().await;
        });
    }
}

/// A life of a node that fills its disk and is killed. Returns the end of the log.
async fn fill_and_be_killed(disk: SimDisk, config: BrokerConfig) -> i64 {
    let node = SimNode::start_as(config.clone(), 1).await;
    let mut client = WireClient::connect(node.address, None).await;
    create_topic(&mut client, 2).await;
    let handle = open(&mut client, 0).await;
    produce_at_last(&mut client, handle).await;
    drop(client);
    node.stop().await;
    // Now a checkpoint names a segment, and none that is sealed.
    let node = SimNode::start_as(config, 1).await;
    let mut client = WireClient::connect(node.address, None).await;
    let handle = open(&mut client, 0).await;
    sleep(Duration::from_secs(1)).await;
    leave(&disk, 3 << 20);
    fill(&mut client, handle).await
}

#[test]
fn a_start_on_a_full_disk_takes_the_space_of_what_the_journal_needs_no_more() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed);
        let end = simulation.run(fill_and_be_killed(simulation.disk(), config()));
        assert!(end > 0);
        leave(&simulation.disk(), 0);
        // A start that is killed in the middle of that has cost nothing.
        let killed = Simulation::with_disk(seed + 100, simulation.disk());
        killed.run_for(50 + 60 * seed, SimNode::start(1));
        if seed % 2 == 0 {
            killed.crash();
        }
        Simulation::with_disk(seed + 200, simulation.disk()).run(async {
            let node = SimNode::start(1).await;
            let [found, _] = ends_of(node.address).await.unwrap();
            assert!(found >= end, "{found} of {end}");
            let mut client = WireClient::connect(node.address, None).await;
            let (_, ()) = client.ask(Kind::DeleteTopic, 0, &DeleteTopic { name: "orders".into() }).await;
            drop(client);
            node.stop().await;
        });
    }
}

#[test]
fn a_folder_on_a_full_disk_says_what_a_start_needs_and_a_topic_of_it_can_be_deleted() {
    // One file: it is needed.
    let storage = StorageSizes { journal_file_bytes: 4 << 20, journal_files: 1, ..StorageSizes::default() };
    let config = || BrokerConfig { storage, ..config() };
    let simulation = Simulation::new(13);
    simulation.run(fill_and_be_killed(simulation.disk(), config()));
    let again = Simulation::with_disk(14, simulation.disk());
    leave(&again.disk(), 0);
    again.run(async {
        for _ in 0..3 {
            let refused = serve(config(), 1, |_| (), std::future::ready(())).await.unwrap_err().to_string();
            assert!(refused.contains("bytes from the journals"), "{refused}");
        }
        let folder = config().data_dir;
        assert!(matches!(offline::delete(&folder, "other").await, Err(OfflineError::Unknown(_))));
        offline::delete(&folder, "orders").await.unwrap();
        let node = SimNode::start(1).await;
        let mut client = WireClient::connect(node.address, None).await;
        create_topic(&mut client, 1).await;
        let handle = open(&mut client, 0).await;
        assert_eq!(produce_at_last(&mut client, handle).await, 0);
        drop(client);
        node.stop().await;
    });
}

/// What there is no space for now may go well later: the same request is worth another try.
#[test]
fn a_topic_that_a_full_disk_has_no_room_for_is_made_when_there_is_some() {
    for shards in [1, 3] {
        let simulation = Simulation::new(14);
        let disk = simulation.disk();
        simulation.run(async {
            let node = SimNode::start(shards).await;
            let mut client = WireClient::connect(node.address, None).await;
            sleep(Duration::from_secs(1)).await;
            disk.set_full(true);
            let create = CreateTopic { name: "orders".into(), partitions: 6, config: vec![] };
            client.tell(Kind::CreateTopic, 0, &create).await;
            let refused = client.next_frame().await.error();
            assert_eq!(refused.error_code(), ErrorCode::DiskFull, "{}", refused.message);
            assert!(refused.retryable);
            disk.set_full(false);
            create_topic(&mut client, 6).await;
            drop(client);
            node.stop().await;
        });
    }
}
