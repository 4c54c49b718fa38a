//! Records that must go by time.

use std::path::Path;
use std::time::Duration;

use ringlog_protocol::batch::BatchBuilder;
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{fs, sleep, wall_clock_ms};
use ringlog_storage::PartitionConfig;

use super::full::set_mutant;
use super::{Broker, append_with_room, spec, wait_for};

/// One record that is dated `ahead_ms` in the future, in a topic that gets no other, is gone a minute after it was kept for two seconds.
pub fn the_only_record_goes(seed: u64, ahead_ms: i64, mutant: Option<&'static str>) {
    let simulation = Simulation::new(seed);
    set_mutant(&simulation, mutant);
    simulation.run(async {
        fs::create_dir_all("/data").await.unwrap();
        fs::sync_dir("/").await.unwrap();
        let config = PartitionConfig { retention_ms: Some(2_000), ..super::tiny() };
        let mut broker = Broker { specs: vec![spec(0, config)], ..Broker::new(Path::new("/data"), 0) };
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        let mut builder = BatchBuilder::new(1 << 20);
        builder.push(wall_clock_ms() + ahead_ms, None, Some(b"secret"), []).unwrap();
        let appended = append_with_room(&store, &partition, &builder.finish_plain()).await;
        wait_for(&store, &partition, appended).await;
        sleep(Duration::from_secs(62)).await;
        assert_eq!((partition.start_offset(), partition.high_watermark()), (1, 1));
    });
}

/// A segment that an earlier start began takes no record that comes a minute later: with it, the first would stay for that much longer.
pub fn an_old_segment_takes_nothing_new(seed: u64, mutant: Option<&'static str>) {
    for (pause_secs, segments) in [(1, 1), (60, 2)] {
        let simulation = Simulation::new(seed);
        set_mutant(&simulation, mutant);
        simulation.run(async {
            fs::create_dir_all("/data").await.unwrap();
            fs::sync_dir("/").await.unwrap();
            let config = PartitionConfig { retention_ms: Some(200_000), ..super::tiny() };
            let mut broker = Broker { specs: vec![spec(0, config)], ..Broker::new(Path::new("/data"), 0) };
            for _ in 0..2 {
                let started = broker.start(1).await;
                let (store, partition) = started.partition(0);
                let appended = append_with_room(&store, &partition, &super::batch(seed, 100)).await;
                wait_for(&store, &partition, appended).await;
                store.shutdown().await.unwrap();
                sleep(Duration::from_secs(pause_secs)).await;
            }
            let files = fs::read_dir("/data/topics/orders@7/0").await.unwrap();
            let there = files.iter().filter(|file| file.name.ends_with(".log")).count();
            assert_eq!(there, segments, "after a pause of {pause_secs} s");
        });
    }
}
