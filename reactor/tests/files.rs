//! Files, on the real ring and in the simulation: both must answer alike.

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{CoreConfig, DIRECT_ALIGN, aligned, run, spawn, timeout, yield_now};
use tempfile::TempDir;

/// A folder of its own for one test.
struct Folder {
    path: PathBuf,
    /// Removes the folder in the end, if it is a real one.
    _guard: Option<TempDir>,
}

impl Folder {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn real_folder() -> TempDir {
    // Not in /tmp: that may be a file system without direct I/O.
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

fn on_core<F: Future<Output = ()>>(main: impl Fn(Folder) -> F) {
    let guard = real_folder();
    let folder = Folder { path: guard.path().to_path_buf(), _guard: Some(guard) };
    run(CoreConfig::default(), main(folder)).expect("this machine has io_uring");
    for seed in 0..20 {
        Simulation::new(seed).run(async {
            let path = PathBuf::from("/simulated");
            fs::create_dir_all(&path).await.expect("make");
            main(Folder { path, _guard: None }).await;
        });
    }
}

fn read_write() -> OpenOptions {
    OpenOptions::new().read(true).write(true).create(true)
}

#[test]
fn what_was_written_is_read_back() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write()).await.expect("open");
        let data = vec![Bytes::from_static(b"hello "), Bytes::new(), Bytes::from_static(b"world")];
        file.write_at(data, 3, Sync::Data).await.expect("write");
        assert_eq!(file.len().await.expect("len"), 14);
        let read = file.read_at(BytesMut::with_capacity(100), 3, 11).await.expect("read");
        assert_eq!(read, "hello world");
        file.sync_data().await.expect("sync");
        file.sync_all().await.expect("sync");
    });
}

#[test]
fn a_read_is_short_only_at_the_end_of_the_file() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write()).await.expect("open");
        file.write_at(vec![Bytes::from(vec![7; 10_000])], 0, Sync::None).await.expect("write");
        let read = file.read_at(BytesMut::with_capacity(20_000), 4_000, 20_000).await.expect("read");
        assert_eq!(read.len(), 6_000);
        let read = file.read_at(BytesMut::with_capacity(10), 10_000, 10).await.expect("read");
        assert!(read.is_empty());
    });
}

#[test]
fn a_read_into_too_small_a_buffer_is_refused() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write()).await.expect("open");
        let error = file.read_at(BytesMut::new(), 0, 10).await.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn direct_files_take_frames_made_of_neighbouring_slices() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write().direct(true)).await.expect("open");
        let mut memory = aligned(2 * DIRECT_ALIGN);
        let mut slices = Vec::new();
        for (byte, len) in [(1, 100), (2, 4000), (3, 4092)] {
            memory.resize(len, byte);
            slices.push(memory.split().freeze());
        }
        file.write_at(slices, DIRECT_ALIGN as u64, Sync::Data).await.expect("one aligned write");
        let read = file.read_at(aligned(4 * DIRECT_ALIGN), 0, 4 * DIRECT_ALIGN).await.expect("read");
        assert_eq!(read.len(), 3 * DIRECT_ALIGN);
        assert!(read[..DIRECT_ALIGN].iter().all(|&byte| byte == 0));
        assert_eq!((read[DIRECT_ALIGN], read[DIRECT_ALIGN + 100], read[3 * DIRECT_ALIGN - 1]), (1, 2, 3));
    });
}

#[test]
fn more_slices_than_one_operation_takes_are_all_written() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write()).await.expect("open");
        let piece = Bytes::from_static(b"ab");
        // The same slice again and again: never neighbours, so never merged.
        file.write_at(vec![piece; 5000], 0, Sync::None).await.expect("write");
        let read = file.read_at(BytesMut::with_capacity(10_000), 0, 10_000).await.expect("read");
        assert!(read.len() == 10_000 && read.chunks(2).all(|pair| pair == b"ab"));
    });
}

#[test]
fn a_file_that_is_not_there_is_not_found() {
    on_core(|folder| async move {
        let path = folder.path().join("missing");
        let error = File::open(&path, &OpenOptions::new().read(true)).await.expect_err("not there");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!fs::exists(&path).await.expect("stat"));
    });
}

#[test]
fn an_exclusive_creation_succeeds_once() {
    on_core(|folder| async move {
        for direct in [false, true] {
            let path = folder.path().join(format!("new-{direct}"));
            let options = OpenOptions::new().write(true).create_new(true).direct(direct);
            File::open(&path, &options).await.expect("the first");
            let error = File::open(&path, &options).await.expect_err("the second");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
    });
}

#[test]
fn folders_are_made_listed_in_order_and_removed_with_all_in_them() {
    on_core(|folder| async move {
        let deep = folder.path().join("x/y/z");
        fs::create_dir_all(&deep).await.expect("make");
        fs::create_dir_all(&deep).await.expect("again is no error");
        for name in ["c", "a", "b"] {
            File::open(deep.join(name), &read_write()).await.expect("open");
        }
        let names: Vec<_> = fs::read_dir(&deep).await.expect("list").into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        fs::rename(deep.join("a"), deep.join("d")).await.expect("rename");
        fs::remove_file(deep.join("b")).await.expect("remove");
        fs::sync_dir(&deep).await.expect("sync");
        let names: Vec<_> = fs::read_dir(&deep).await.expect("list").into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["c", "d"]);
        fs::remove_dir_all(folder.path().join("x")).await.expect("remove");
        assert!(!fs::exists(folder.path().join("x")).await.expect("stat"));
    });
}

#[test]
fn a_replaced_file_has_the_new_content_and_leaves_nothing_behind() {
    on_core(|folder| async move {
        let path = folder.path().join("metadata");
        fs::replace(&path, b"a long first version").await.expect("replace");
        fs::replace(&path, b"second").await.expect("replace");
        assert_eq!(fs::read(&path).await.expect("read"), b"second");
        assert_eq!(fs::read_dir(folder.path()).await.expect("list").len(), 1);
    });
}

#[test]
fn space_is_reserved_and_lengths_are_set() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write()).await.expect("open");
        file.allocate(0, 100_000).await.expect("allocate");
        assert_eq!(file.len().await.expect("len"), 100_000);
        file.truncate(10).await.expect("truncate");
        assert_eq!(file.len().await.expect("len"), 10);
        let space = fs::space(folder.path()).expect("space");
        assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
    });
}

#[test]
fn a_lock_is_held_by_one_until_it_is_dropped() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("LOCK");
    let first = fs::lock(&path).expect("lock").expect("it is free");
    assert!(fs::lock(&path).expect("lock").is_none());
    drop(first);
    assert!(fs::lock(&path).expect("lock").is_some());
}

#[test]
fn a_write_whose_future_is_dropped_still_owns_its_memory() {
    const LEN: usize = 1 << 16;
    let guard = real_folder();
    let path = guard.path().join("a");
    run(CoreConfig::default(), async {
        let file = File::open(&path, &read_write()).await.expect("open");
        for round in 0..50u8 {
            // One poll starts it; then it is dropped in flight. Were its memory freed then, the next round's would
            // lie in the same place and overwrite it before it is written.
            let write =
                file.write_at(vec![Bytes::from(vec![round; LEN])], u64::from(round) * LEN as u64, Sync::Data);
            let _ = timeout(Duration::ZERO, write).await;
            let read = file.read_at(BytesMut::with_capacity(LEN), 0, LEN);
            let _ = timeout(Duration::ZERO, read).await;
        }
    })
    .expect("the core runs");
    // Only now: the end of the core waited for every write. A read beside a write in flight may see half of it.
    let written = std::fs::read(&path).expect("read");
    assert_eq!(written.len(), 50 * LEN);
    for (round, region) in written.chunks(LEN).enumerate() {
        assert!(region.iter().all(|&byte| usize::from(byte) == round), "region {round}");
    }
}

#[test]
fn a_core_ends_in_order_with_operations_in_flight() {
    let folder = real_folder();
    for _ in 0..20 {
        let path = folder.path().join("a");
        run(CoreConfig::default(), async {
            for offset in 0..64 {
                let path = path.clone();
                spawn(async move {
                    let file = File::open(path, &read_write()).await.expect("open");
                    let data = Bytes::from(vec![1; 4096]);
                    file.write_at(vec![data], offset * 4096, Sync::Data).await.expect("write");
                })
                .detach();
            }
            for _ in 0..20 {
                yield_now().await;
            }
        })
        .expect("the core runs");
    }
}

#[test]
fn more_operations_than_the_ring_holds_all_complete() {
    on_core(|folder| async move {
        let path = folder.path().join("a");
        let file = std::rc::Rc::new(File::open(&path, &read_write()).await.expect("open"));
        let tasks: Vec<_> = (0..3000)
            .map(|n| {
                let file = std::rc::Rc::clone(&file);
                spawn(async move {
                    file.write_at(vec![Bytes::from_static(b"x")], n, Sync::None).await.expect("write");
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(file.len().await.expect("len"), 3000);
    });
}

#[test]
fn an_unaligned_direct_write_or_read_is_refused() {
    on_core(|folder| async move {
        let file = File::open(folder.path().join("a"), &read_write().direct(true)).await.expect("open");
        if !file.is_direct() {
            // This file system has no direct I/O, and takes everything.
            return;
        }
        let data = || vec![Bytes::from(vec![1; 100])];
        let error = file.write_at(data(), 0, Sync::Data).await.expect_err("100 bytes");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let mut memory = aligned(DIRECT_ALIGN);
        memory.resize(DIRECT_ALIGN, 1);
        let block = memory.freeze();
        let error = file.write_at(vec![block.clone()], 100, Sync::Data).await.expect_err("at 100");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        file.write_at(vec![block], 0, Sync::Data).await.expect("aligned in every way");
        let error = file.read_at(aligned(DIRECT_ALIGN), 100, DIRECT_ALIGN).await.expect_err("at 100");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_ring_that_is_far_too_small_still_completes_everything() {
    let guard = real_folder();
    let path = guard.path().join("a");
    let config = CoreConfig { submission_entries: 2, completion_entries: 4, ..CoreConfig::default() };
    run(config, async {
        let file = std::rc::Rc::new(File::open(&path, &read_write()).await.expect("open"));
        let write = |n: u64| {
            let file = std::rc::Rc::clone(&file);
            spawn(async move { file.write_at(vec![Bytes::from(vec![1; 8])], n * 8, Sync::None).await })
        };
        let tasks: Vec<_> = (0..1000).map(write).collect();
        for task in tasks {
            task.await.expect("write");
        }
        assert_eq!(file.len().await.expect("len"), 8000);
    })
    .expect("the core runs");
}
