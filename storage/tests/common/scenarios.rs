//! Short scenarios that the tests play as they are and `mutants.rs` plays with known bugs: states that random lives do not
//! come to. Each panics where something is wrong.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::batch::{BatchBuilder, BatchHeader};
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::timeout;
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::limits::BLOCK_BYTES;
use ringlog_storage::limits::FRAME_OVERHEAD;
use ringlog_storage::{AppendError, Partition};

use super::lives::make_data_folder;
use super::{Broker, Model, batch, read_all, tiny, wait_for};

/// A scenario, by the seed of its world; `prepare` has the world that it is about to play in.
pub type Scenario = fn(u64, &dyn Fn(&Simulation));

/// Of the log that a segment holds twice or more of its index's steps are written before a restart, and as many after it,
/// before anything is read. Then a time leads to the first batch that is not earlier, whichever life wrote it.
pub fn times_after_a_restart(seed: u64, prepare: &dyn Fn(&Simulation)) {
    const BATCH_BYTES: usize = 20_000;
    let mut broker = one_partition();
    Rc::make_mut(&mut broker.specs[0].config).segment_bytes = 1 << 20;
    let disk = SimDisk::new(seed);
    let mut number = 0;
    for life in 0..2 {
        let simulation = Simulation::with_disk(seed + life, disk.clone());
        prepare(&simulation);
        simulation.run(async {
            make_data_folder().await;
            let started = broker.start(1).await;
            let mut model = Model::default();
            for _ in 0..12 + seed % 8 {
                number += 1;
                let next = batch(number, BATCH_BYTES);
                let appended = model.append_unacked(&started, 0, &next).await;
                let (store, partition) = started.partition(0);
                wait_for(&store, &partition, appended).await;
                model.acked(0, &next, appended);
            }
            if life == 1 {
                check_times(&started.partition(0).1).await;
            }
            started.shutdown().await;
        });
    }
}

/// Every batch's time, and the one right after it, lead to the first batch that is not earlier.
async fn check_times(partition: &Partition) {
    // The times are asked for before anything else has read the segments and made their indexes whole.
    let first = partition.offset_for_time(4_500).await.expect("the log is sound");
    assert_eq!(first, Some((12, 5_000)), "three records a batch, a second between two batches");
    let all = read_all(partition, 1 << 20).await.expect("the log is sound");
    let headers: Vec<_> = all.iter().map(|batch| BatchHeader::parse(batch).expect("a batch")).collect();
    for wanted in headers.iter().flat_map(|header| [header.max_timestamp, header.max_timestamp + 1]) {
        let expected = headers.iter().find(|header| header.max_timestamp >= wanted);
        let expected = expected.map(|header| (header.base_offset, header.max_timestamp));
        let found = partition.offset_for_time(wanted).await.expect("the log is sound");
        assert_eq!(found, expected, "from time {wanted}");
    }
}

/// The longest batch that the journal takes, one byte less, and one byte more, where nothing goes past the journal: what is
/// accepted becomes durable and survives, and what is too long is refused.
pub fn longest_journaled_batches(seed: u64, prepare: &dyn Fn(&Simulation)) {
    let mut broker = one_partition();
    let blocks = [4, 9, 32][seed as usize % 3];
    broker.journal_file_bytes = (blocks * BLOCK_BYTES) as u64;
    broker.bypass_bytes = 4 << 20;
    Rc::make_mut(&mut broker.specs[0].config).max_batch_bytes = 4 << 20;
    let frame = broker.journal_file_bytes as usize - BLOCK_BYTES;
    let limit = frame - FRAME_OVERHEAD - ENVELOPE_BYTES;
    let mut model = Model::default();
    let simulation = Simulation::new(seed);
    prepare(&simulation);
    simulation.run(async {
        make_data_folder().await;
        let started = broker.start(1).await;
        let (store, partition) = started.partition(0);
        for bytes in [limit - 1, limit, limit + 1, 200] {
            let next = batch_of(bytes);
            // A file holds one such frame: the next waits until another was made, or is free again.
            let taken = async {
                loop {
                    let room = store.room();
                    match store.append(&partition, &next) {
                        Err(AppendError::Full) => room.await,
                        done => return done.err(),
                    }
                }
            };
            let refused = timeout(Duration::from_secs(60), taken).await.expect("a file becomes free");
            if bytes > limit {
                let expected = AppendError::TooLarge { bytes, limit };
                assert_eq!(refused.map(|error| error.to_string()), Some(expected.to_string()));
                continue;
            }
            assert!(refused.is_none(), "{bytes} of {limit} bytes: {refused:?}");
            let end = partition.log_end();
            let durable = async {
                let mut commit = store.durable();
                while partition.durable_end() < end {
                    commit = store.committed(commit).await.expect("the store has not failed");
                }
            };
            timeout(Duration::from_secs(60), durable).await.expect("what was accepted becomes durable");
            model.batches.entry(0).or_default().push(super::patched(&next, end - 1));
        }
    });
    simulation.crash();
    let again = Simulation::with_disk(seed + 100, simulation.disk());
    prepare(&again);
    again.run(async {
        let started = broker.start(1).await;
        assert!(started.summaries[0].damage.is_empty(), "{:?}", started.summaries);
        model.check(&started).await;
        started.shutdown().await;
    });
}

fn one_partition() -> Broker {
    let mut broker = Broker::new(Path::new("/data"), 1);
    broker.specs[0].config = Rc::new(tiny());
    broker
}

/// A batch of one record and just so many bytes.
fn batch_of(bytes: usize) -> Bytes {
    let mut value = bytes - 100;
    loop {
        let mut builder = BatchBuilder::new(8 << 20);
        builder.push(1, None, Some(&vec![7; value]), []).expect("it fits");
        let batch = builder.finish_plain();
        if batch.len() == bytes {
            return batch;
        }
        value = value + bytes - batch.len();
    }
}
