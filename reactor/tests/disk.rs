//! What a simulated disk does to those who rely on it: each fault happens, and happens again from the same seed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::sim::{DiskFaults, SimDisk, Simulation};
use ringlog_reactor::{aligned, now};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const BLOCK: usize = 4096;

fn buffered() -> OpenOptions {
    OpenOptions::new().read(true).write(true).create(true)
}

fn direct() -> OpenOptions {
    buffered().direct(true)
}

/// `blocks` blocks of `byte`, as direct I/O wants them.
fn blocks(byte: u8, blocks: usize) -> Vec<Bytes> {
    let mut memory = aligned(blocks * BLOCK);
    memory.resize(blocks * BLOCK, byte);
    vec![memory.freeze()]
}

async fn read(file: &File, offset: u64, len: usize) -> std::io::Result<BytesMut> {
    file.read_at(aligned(len), offset, len).await
}

/// What a file holds, one byte for each block.
async fn content(path: &str) -> Vec<u8> {
    let bytes = fs::read(path).await.expect("read");
    assert!(bytes.chunks(BLOCK).all(|block| block.iter().all(|byte| *byte == block[0])), "blocks are whole");
    bytes.chunks(BLOCK).map(|block| block[0]).collect()
}

/// How many of a hundred attempts had the fault, over some seeds; the same twice, and some but not all.
fn counts<F: Future<Output = usize>>(faults: &DiskFaults, attempts: impl Fn(SimDisk) -> F) {
    let run = |seed: u64| {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        disk.set_faults(faults.clone());
        let count = simulation.run(attempts(disk));
        (count, simulation.trace_hash())
    };
    let first: Vec<_> = (0..5).map(run).collect();
    assert_eq!(first, (0..5).map(run).collect::<Vec<_>>(), "a run is a function of its seed");
    for (count, _) in first {
        assert!((1..=60).contains(&count), "{count} of 100, when a quarter was asked for");
    }
}

/// Each of these is to happen about once in so many operations.
const SOMETIMES: u64 = 4;

#[test]
fn reads_fail_now_and_then() {
    counts(&DiskFaults { read_error: SOMETIMES, ..DiskFaults::default() }, |_| async {
        let file = File::open("/a", &buffered()).await.expect("open");
        file.write_at(blocks(7, 1), 0, Sync::None).await.expect("write");
        let mut failed = 0;
        for _ in 0..100 {
            match read(&file, 0, BLOCK).await {
                Ok(bytes) => assert_eq!(bytes[0], 7),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(EIO));
                    failed += 1;
                }
            }
        }
        failed
    });
}

#[test]
fn writes_fail_now_and_then() {
    counts(&DiskFaults { write_error: SOMETIMES, ..DiskFaults::default() }, |_| async {
        let file = File::open("/a", &direct()).await.expect("open");
        let mut failed = 0;
        for round in 0..100 {
            if let Err(error) = file.write_at(blocks(round, 1), 0, Sync::Data).await {
                assert_eq!(error.raw_os_error(), Some(EIO));
                failed += 1;
            }
        }
        failed
    });
}

#[test]
fn syncs_fail_now_and_then_and_save_nothing() {
    let mut failures = 0;
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        let failed = simulation.run(async {
            let mut failed = Vec::new();
            for round in 0..20u8 {
                let name = format!("/{round}");
                let file = File::open(&name, &buffered()).await.expect("open");
                fs::sync_dir("/").await.expect("sync");
                disk.set_faults(DiskFaults { sync_error: SOMETIMES, ..DiskFaults::default() });
                let synced = if round % 2 == 0 {
                    file.write_at(blocks(1, 1), 0, Sync::Data).await
                } else {
                    file.write_at(blocks(1, 1), 0, Sync::None).await.expect("write");
                    file.sync_data().await
                };
                disk.set_faults(DiskFaults::default());
                if let Err(error) = &synced {
                    assert_eq!(error.raw_os_error(), Some(EIO));
                    file.sync_all().await.expect("the next one succeeds, and means nothing");
                }
                failed.push((name, synced.is_err()));
            }
            failed
        });
        simulation.crash();
        Simulation::with_disk(seed, disk).run(async {
            for (name, failed) in failed {
                assert_eq!(content(&name).await, [u8::from(!failed)]);
                failures += usize::from(failed);
            }
        });
    }
    assert!(failures > 50 && failures < 200, "{failures} of 400");
}

#[test]
fn operations_stall_now_and_then() {
    let stall_for = Duration::from_secs(3);
    counts(&DiskFaults { stall: SOMETIMES, stall_for, ..DiskFaults::default() }, |_| async move {
        let file = File::open("/a", &buffered()).await.expect("open");
        let mut stalled = 0;
        for _ in 0..100 {
            let start = now();
            file.write_at(blocks(7, 1), 0, Sync::Data).await.expect("write");
            let took = start.elapsed();
            assert!(took < Duration::from_millis(1) || (took >= stall_for && took < 3 * stall_for));
            stalled += usize::from(took >= stall_for);
        }
        stalled
    });
}

#[test]
fn short_reads_and_writes_are_gone_on_with() {
    for options in [buffered(), direct()] {
        let faults = DiskFaults { short_read: SOMETIMES, short_write: SOMETIMES, ..DiskFaults::default() };
        let simulation = Simulation::new(1);
        let disk = simulation.disk();
        let whole = simulation.run(async {
            let write = async |offset| {
                let file = File::open("/a", &options).await.expect("open");
                let before = simulation.trace_hash();
                file.write_at(blocks(7, 8), offset, Sync::Data).await.expect("write");
                assert!(read(&file, offset, 8 * BLOCK).await.expect("read").iter().all(|byte| *byte == 7));
                before
            };
            disk.set_faults(faults);
            for round in 0..100 {
                write(round * 8 * BLOCK as u64).await;
            }
            File::open("/a", &options).await.expect("open").len().await.expect("len")
        });
        assert_eq!(whole, 800 * BLOCK as u64);
    }
}

#[test]
fn short_writes_happen_by_whole_blocks_with_direct_io() {
    let simulation = Simulation::new(1);
    simulation.keep_events(10_000);
    simulation.disk().set_faults(DiskFaults { short_write: 2, short_read: 2, ..DiskFaults::default() });
    simulation.run(async {
        let file = File::open("/a", &direct()).await.expect("open");
        for _ in 0..50 {
            file.write_at(blocks(7, 8), 0, Sync::Data).await.expect("write");
            read(&file, 0, 8 * BLOCK).await.expect("read");
        }
    });
    for what in ["write", "read"] {
        let lengths: Vec<usize> = simulation
            .last_events()
            .iter()
            .filter(|event| event.contains(&format!("main {what} /a")))
            .map(|event| {
                let count = event.rsplit("-> ").next().and_then(|tail| tail.strip_suffix(" bytes"));
                count.and_then(|count| count.parse().ok()).expect("it succeeds")
            })
            .collect();
        assert!(lengths.iter().any(|len| *len < 8 * BLOCK), "{what}: some are short");
        assert!(lengths.iter().all(|len| len.is_multiple_of(BLOCK) && *len > 0), "{what}: {lengths:?}");
    }
}

#[test]
fn a_misdirected_write_is_not_where_it_belongs_and_spoils_what_was_elsewhere() {
    counts(&DiskFaults::default(), |disk| async move {
        let file = File::open("/a", &direct()).await.expect("open");
        let other = File::open("/b", &direct()).await.expect("open");
        let (mut misdirected, mut spoiled) = (0, 0);
        for _ in 0..100 {
            disk.set_faults(DiskFaults::default());
            file.write_at(blocks(1, 8), 0, Sync::Data).await.expect("write");
            other.write_at(blocks(1, 8), 0, Sync::Data).await.expect("write");
            disk.set_faults(DiskFaults { misdirect: SOMETIMES, ..DiskFaults::default() });
            file.write_at(blocks(2, 1), 0, Sync::Data).await.expect("it says it is good");
            disk.set_faults(DiskFaults::default());
            let (here, there) = (content("/a").await, content("/b").await);
            if here[0] == 1 {
                misdirected += 1;
                spoiled += usize::from(here.contains(&2) || there.contains(&2));
            } else {
                assert!(!here[1..].contains(&2) && !there.contains(&2));
            }
        }
        assert!(spoiled > 0 && spoiled <= misdirected);
        misdirected
    });
}

#[test]
fn a_lost_write_is_seen_at_once_with_direct_io() {
    counts(&DiskFaults::default(), |disk| async move {
        let file = File::open("/a", &direct()).await.expect("open");
        let mut lost = 0;
        for _ in 0..100 {
            disk.set_faults(DiskFaults::default());
            file.write_at(blocks(1, 1), 0, Sync::Data).await.expect("write");
            disk.set_faults(DiskFaults { lost_write: SOMETIMES, ..DiskFaults::default() });
            file.write_at(blocks(2, 2), 0, Sync::Data).await.expect("it says it is good");
            let found = content("/a").await;
            assert_eq!(found.len(), 2, "the length is right");
            assert!(found == [1, 0] || found == [2, 2] || found == [1, 2] || found == [2, 0], "{found:?}");
            lost += usize::from(found[0] == 1);
            file.truncate(0).await.expect("truncate");
        }
        lost
    });
}

#[test]
fn a_lost_sync_is_seen_after_the_next_crash() {
    let mut lost = 0;
    for seed in 0..100 {
        let simulation = Simulation::new(seed);
        simulation.disk().set_faults(DiskFaults { lost_write: SOMETIMES, ..DiskFaults::default() });
        simulation.run(async {
            let file = File::open("/a", &buffered()).await.expect("open");
            file.write_at(blocks(1, 1), 0, Sync::None).await.expect("write");
            file.sync_all().await.expect("it says it is good");
            fs::sync_dir("/").await.expect("sync");
            assert_eq!(content("/a").await, [1], "the page cache has it");
        });
        simulation.crash();
        let found = Simulation::with_disk(seed, simulation.disk()).run(content("/a"));
        assert_eq!(found.len(), 1);
        lost += usize::from(found == [0]);
    }
    assert!(lost > 5 && lost < 60, "{lost} of 100");
}

#[test]
fn a_bit_that_has_rotted_stays_so() {
    counts(&DiskFaults { bit_rot: SOMETIMES, ..DiskFaults::default() }, |disk| async move {
        let file = File::open("/a", &direct()).await.expect("open");
        file.write_at(blocks(0, 1), 0, Sync::Data).await.expect("write");
        let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        let mut before = 0;
        let mut rotted = 0;
        for _ in 0..100 {
            let now = ones(&read(&file, 0, BLOCK).await.expect("read"));
            assert!(now.abs_diff(before) <= 1);
            rotted += usize::from(now != before);
            before = now;
        }
        disk.set_faults(DiskFaults::default());
        assert_eq!(ones(&fs::read("/a").await.expect("read")), before);
        rotted
    });
}

#[test]
fn a_disk_gets_full_and_has_room_again_for_what_was_removed() {
    let simulation = Simulation::new(1);
    let disk = simulation.disk();
    simulation.run(async {
        let file = File::open("/a", &direct()).await.expect("open");
        file.write_at(blocks(1, 4), 0, Sync::Data).await.expect("write");
        disk.set_faults(DiskFaults { full_after_bytes: Some(6 * BLOCK as u64), ..DiskFaults::default() });
        assert_eq!(fs::space("/").expect("space").free_bytes, 6 * BLOCK as u64);
        let more = File::open("/b", &direct()).await.expect("open");
        let error = more.write_at(blocks(2, 8), 0, Sync::Data).await.expect_err("full");
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
        assert_eq!(content("/b").await, [2; 6], "what there was room for was written");
        assert_eq!(fs::space("/").expect("space").free_bytes, 0);
        file.write_at(blocks(3, 4), 0, Sync::Data).await.expect("in place");
        let far = file.write_at(blocks(3, 1), 100 * BLOCK as u64, Sync::Data).await.expect_err("full");
        assert_eq!(far.raw_os_error(), Some(ENOSPC));
        assert_eq!(File::open("/c", &buffered()).await.expect_err("full").raw_os_error(), Some(ENOSPC));
        assert_eq!(more.allocate(0, 7 * BLOCK as u64).await.expect_err("full").raw_os_error(), Some(ENOSPC));
        fs::remove_file("/a").await.expect("remove");
        more.write_at(blocks(2, 4), 6 * BLOCK as u64, Sync::Data).await.expect("there is room again");
        more.truncate(0).await.expect("truncate");
        assert_eq!(fs::space("/").expect("space").free_bytes, 10 * BLOCK as u64);
        disk.set_faults(DiskFaults::default());
        more.write_at(blocks(2, 20), 0, Sync::Data).await.expect("no limit");
    });
}

#[test]
fn the_lies_of_a_disk_are_among_the_events() {
    let simulation = Simulation::new(1);
    simulation.keep_events(1_000);
    let lies = DiskFaults { misdirect: 4, lost_write: 4, bit_rot: 4, ..DiskFaults::default() };
    simulation.disk().set_faults(lies);
    simulation.run(async {
        let file = File::open("/a", &direct()).await.expect("open");
        for _ in 0..30 {
            file.write_at(blocks(1, 4), 0, Sync::Data).await.expect("write");
            read(&file, 0, BLOCK).await.expect("read");
        }
    });
    let events = simulation.last_events().join("\n");
    for lie in ["puts the write at 0 to ", "loses a write at 0", "has a bit rot at "] {
        assert!(events.contains(lie), "{lie}");
    }
}

#[test]
fn a_synced_write_is_durable_whatever_else_goes_wrong() {
    let faults = DiskFaults {
        read_error: 5,
        write_error: 5,
        sync_error: 5,
        short_read: 5,
        short_write: 5,
        ..DiskFaults::default()
    };
    for seed in 0..100 {
        let simulation = Simulation::new(seed);
        let disk = simulation.disk();
        let good = simulation.run(async {
            let file = File::open("/a", &direct()).await.expect("open");
            fs::sync_dir("/").await.expect("sync");
            disk.set_faults(faults.clone());
            let mut good = Vec::new();
            for block in 0..20u8 {
                let offset = u64::from(block) * BLOCK as u64;
                if file.write_at(blocks(block + 1, 1), offset, Sync::Data).await.is_ok() {
                    good.push(block);
                }
            }
            good
        });
        simulation.crash();
        disk.set_faults(DiskFaults::default());
        let found = Simulation::with_disk(seed, disk).run(async { fs::read("/a").await.expect("read") });
        for block in good {
            let at = usize::from(block) * BLOCK;
            assert!(found[at..at + BLOCK].iter().all(|byte| *byte == block + 1), "seed {seed}");
        }
    }
}
