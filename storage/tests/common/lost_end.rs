//! An older copy of the newest journal file, put back between two lives: what segments hold shows that more was acknowledged.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::rc::Rc;

use ringlog_reactor::fs;
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_storage::AppendError;

use super::folders::id;
use super::{Broker, Model, batch};

/// How the batches come to their segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Through the journal, flushed because there is much.
    Small,
    /// Past the journal.
    Large,
}

/// Two lives of two partitions: in the first, partition 0 gets `batches`; then the journal is as it was in the middle of that.
pub fn lives_with_a_lost_end(seed: u64, size: Size, segment_bytes: u64, prepare: impl Fn(&Simulation)) {
    let disk = SimDisk::new(seed);
    let mut broker = Broker::new(Path::new("/data"), 2);
    broker.journal_file_bytes = 8 << 20;
    broker.tail_bytes = 32 << 20;
    broker.bypass_bytes = 16 << 10;
    broker.specs.iter_mut().for_each(|spec| Rc::make_mut(&mut spec.config).segment_bytes = segment_bytes);
    let mut model = Model::default();
    let first = Simulation::with_disk(seed, disk.clone());
    prepare(&first);
    first.run(async {
        let started = broker.start(1).await;
        model.append(&started, 1, 1000).await;
        let bytes = if size == Size::Small { 9000 } else { 20_000 };
        let path = broker.shard_dir(0).join("journal-0");
        let mut old = Vec::new();
        for number in 0..300 {
            if number == 40 {
                old = fs::read(&path).await.expect("read");
            }
            model.append(&started, 0, bytes).await;
        }
        assert_eq!(started.stores[0].stats().checkpoints, 0, "the journal has all of it");
        fs::replace(&path, &old).await.expect("replaced");
    });
    let second = Simulation::with_disk(seed + 1, disk.clone());
    prepare(&second);
    let before = disk.files();
    second.run(async {
        let started = broker.start(1).await;
        let summary = &started.summaries[0];
        assert_eq!(summary.quarantined, [id(0)], "{:?}", summary.damage);
        assert!(summary.damage.iter().any(|damage| damage.reason.contains("its end is lost")));
        let (store, partition) = started.partition(0);
        let refused = store.append(&partition, &batch(1, 10));
        assert!(matches!(refused, Err(AppendError::Quarantined(_))), "{refused:?}");
        let acked = model.batches.remove(&0).expect("there were some");
        let served = partition.high_watermark() as usize / 3;
        assert!(served > 100, "{served} are served of what the segments hold");
        super::check_partition(&partition, &acked[..served]).await;
        model.check(&started).await;
    });
    let is_segment = |path: &Path| path.starts_with(broker.partition_dir(0));
    let kept = disk.files();
    for file in before.iter().filter(|(path, _)| is_segment(path)) {
        assert!(kept.contains(file), "{file:?} was changed");
    }
}
