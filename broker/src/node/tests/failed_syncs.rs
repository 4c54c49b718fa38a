//! A sync that failed may have lost for ever what it should have saved, whatever a later one says. Here each sync of a short
//! life fails once. What is acknowledged before and afterwards must outlive a power failure all the same.

use ringlog_protocol::messages::{CreateTopic, DeleteTopic, Produced};
use ringlog_protocol::{Ack, Kind};
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{mailbox, spawn, yield_now};

use super::*;
use super::{batch_of, config, ends_of, fail_the_sync_of_a_change, open};
use crate::native::wire_client::WireClient;
use crate::node::StartSummary;

const EIO: i32 = 5;

/// A node of two shards that serves until the world ends; none if it does not start.
async fn start() -> Option<StartSummary> {
    let (ready, started) = mailbox::channel(1);
    let told = move |summary| assert!(ready.try_send(summary).is_ok());
    spawn(async move {
        let _ = serve(config(), 2, told, std::future::pending()).await;
    })
    .detach();
    started.recv().await
}

/// The same on a disk that makes no trouble now, and has not lied before.
async fn sound_start() -> StartSummary {
    let summary = start().await.expect("a sound disk lets it start");
    let damage: Vec<_> = summary.recovery.iter().flat_map(|shard| &shard.damage).collect();
    assert!(damage.is_empty(), "{damage:?}");
    summary
}

async fn create(client: &mut WireClient, name: &str) {
    let create = CreateTopic { name: name.into(), partitions: 2, config: vec![] };
    client.tell(Kind::CreateTopic, 0, &create).await;
    client.next_frame().await;
}

/// A record is acknowledged in both partitions of a topic that was there or is made.
async fn promise(address: SocketAddr) {
    let mut client = WireClient::connect(address, None).await;
    create(&mut client, "orders").await;
    for partition in 0..2 {
        let handle = open(&mut client, partition).await;
        let (_, _): (_, Produced) = client.send_batch(handle, Ack::Disk, batch_of(&["promised"])).await;
    }
}

/// Topics come and go while the disk fails.
async fn troubled_life() {
    let Some(summary) = start().await else { return };
    let mut client = WireClient::connect(summary.address, None).await;
    create(&mut client, "other").await;
    client.tell(Kind::DeleteTopic, 0, &DeleteTopic { name: "orders".into() }).await;
    client.next_frame().await;
    create(&mut client, "orders").await;
}

/// Ends so many turns of the loop behind the failure.
async fn killed_behind_the_failure(disk: &SimDisk, turns: u64) {
    let life = spawn(troubled_life());
    while disk.has_sync_to_fail() && !life.is_finished() {
        yield_now().await;
    }
    for _ in 0..turns {
        yield_now().await;
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// The sync of that number fails.
    sync: u64,
    /// The process is killed so many turns later.
    turns: u64,
    /// There was a topic with records before.
    old_topic: bool,
}

/// Two lives: what the first has written is in segments that a checkpoint knows when the second ends.
fn promise_twice(seed: u64, disk: &SimDisk) {
    for nth in 0..2 {
        let simulation = Simulation::with_disk(seed + nth, disk.clone());
        simulation.run(async { promise(sound_start().await.address).await });
    }
}

/// Whether the sync came, and failed.
fn is_outlived(trouble: Trouble) -> bool {
    let seed = trouble.sync;
    let disk = SimDisk::new(seed);
    let life = |nth: u64| Simulation::with_disk(seed + nth, disk.clone());
    if trouble.old_topic {
        promise_twice(seed, &disk);
    }
    disk.fail_sync_after(trouble.sync, EIO);
    life(2).run(killed_behind_the_failure(&disk, trouble.turns));
    let came = !disk.has_sync_to_fail();
    disk.fail_sync_after(u64::MAX, EIO);
    // The page cache is that of the life before. One life more shows whether its journal stays, two whether segments do.
    life(3).run(async { promise(sound_start().await.address).await });
    let after_one = disk.copy();
    life(4).run(async { promise(sound_start().await.address).await });
    for disk in [after_one, disk] {
        disk.crash();
        let ends =
            Simulation::with_disk(seed, disk).run(async { ends_of(sound_start().await.address).await });
        assert!(ends.is_some_and(|ends| ends.iter().all(|end| *end > 0)), "{trouble:?}: {ends:?}");
    }
    came
}

#[test]
fn what_is_acknowledged_around_any_failed_sync_outlives_a_power_failure() {
    for old_topic in [false, true] {
        let mut sync = 0;
        while is_outlived(Trouble { sync, turns: 1000, old_topic }) {
            // The first is the data folder's own, which may be an operator's and is not made anew: a kill there is not outlived.
            for turns in [0, 8].into_iter().filter(|_| sync > 0 || old_topic) {
                is_outlived(Trouble { sync, turns, old_topic });
            }
            sync += 1;
        }
        assert!(sync > 20, "{sync} syncs failed");
    }
}

/// A topic is made, but the sync that should make that durable fails.
async fn making_in_doubt(disk: SimDisk) {
    let mut client = WireClient::connect(sound_start().await.address, None).await;
    let watcher = spawn(fail_the_sync_of_a_change(disk));
    create(&mut client, "orders").await;
    watcher.await;
}

#[test]
fn a_topic_whose_making_is_in_doubt_survives_a_start_whose_sync_fails() {
    let disk = SimDisk::new(1);
    Simulation::with_disk(1, disk.clone()).run(making_in_doubt(disk.clone()));
    let mut sync = 0;
    loop {
        let disk = disk.copy();
        disk.fail_sync_after(sync, EIO);
        Simulation::with_disk(2, disk.clone()).run(async { drop(start().await) });
        let came = !disk.has_sync_to_fail();
        disk.fail_sync_after(u64::MAX, EIO);
        promise_twice(3, &disk);
        disk.crash();
        let ends = Simulation::with_disk(5, disk).run(async { ends_of(sound_start().await.address).await });
        assert!(ends.is_some_and(|ends| ends.iter().all(|end| *end > 0)), "sync {sync}: {ends:?}");
        if !came {
            break;
        }
        sync += 1;
    }
    assert!(sync > 10, "a start has but {sync} syncs");
}

/// A topic is deleted, but the sync that should make that durable fails.
async fn deletion_in_doubt(disk: SimDisk) {
    let mut client = WireClient::connect(sound_start().await.address, None).await;
    let watcher = spawn(fail_the_sync_of_a_change(disk));
    client.tell(Kind::DeleteTopic, 0, &DeleteTopic { name: "orders".into() }).await;
    client.next_frame().await;
    watcher.await;
}

#[test]
fn a_start_that_finds_a_topic_deleted_removes_nothing_before_that_is_durable() {
    let disk = SimDisk::new(1);
    promise_twice(1, &disk);
    Simulation::with_disk(3, disk.clone()).run(deletion_in_doubt(disk.clone()));
    let mut polls = 0;
    loop {
        let disk = disk.copy();
        let ended = Simulation::with_disk(polls, disk.clone()).run_for(polls, sound_start()).is_some();
        disk.crash();
        Simulation::with_disk(4, disk).run(async { drop(sound_start().await) });
        if ended {
            break;
        }
        polls += 1 + polls / 40;
    }
    assert!(polls > 100, "a start takes but {polls} polls");
}
