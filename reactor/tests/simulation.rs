//! What only a simulation can show: crashes, faults, virtual time, and the same run twice.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::sim::{SimDisk, Simulation};
use ringlog_reactor::{
    CoreConfig, launch, mailbox, now, random_u64, sleep, spawn, timeout, wall_clock_ms, yield_now,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn read_write() -> OpenOptions {
    OpenOptions::new().read(true).write(true).create(true)
}

async fn write(path: impl AsRef<Path>, text: &'static str, sync: Sync) -> File {
    let file = File::open(path, &read_write()).await.expect("open");
    file.write_at(vec![Bytes::from_static(text.as_bytes())], 0, sync).await.expect("write");
    file
}

/// Runs `before`, fails the power, and tells whether `path` holds `text` afterwards.
async fn holds(path: &str, text: &str) -> bool {
    match fs::read(path).await {
        Ok(bytes) => bytes == text.as_bytes(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{error}"),
    }
}

/// Over many seeds: how often `after` is true on the disk that `before` left behind in a crash.
fn survivals<B: Future<Output = ()>, A: Future<Output = bool>>(
    before: impl Fn() -> B,
    after: impl Fn() -> A,
) -> usize {
    let survived = |seed: &u64| {
        let simulation = Simulation::new(*seed);
        simulation.run(before());
        simulation.crash();
        Simulation::with_disk(*seed, simulation.disk()).run(after())
    };
    (0..100).filter(survived).count()
}

#[test]
fn an_hour_passes_in_no_time() {
    Simulation::new(1).run(async {
        let (start, wall) = (now(), wall_clock_ms());
        sleep(Duration::from_secs(3600)).await;
        assert!(start.elapsed() >= Duration::from_secs(3600));
        assert!(start.elapsed() < Duration::from_secs(3601));
        assert!(wall_clock_ms() - wall >= 3_600_000);
    });
}

#[test]
fn what_was_synced_with_its_folder_survives_every_crash() {
    let before = || async {
        write("/a", "safe", Sync::Data).await;
        fs::sync_dir("/").await.expect("sync");
    };
    assert_eq!(survivals(before, || holds("/a", "safe")), 100);
}

#[test]
fn a_file_synced_without_its_folder_may_be_lost() {
    let before = || async {
        write("/a", "text", Sync::None).await.sync_all().await.expect("sync");
    };
    let survived = survivals(before, || holds("/a", "text"));
    assert!(survived > 0 && survived < 100, "{survived} of 100");
}

#[test]
fn bytes_that_were_not_synced_may_be_lost() {
    let before = || async {
        let file = write("/a", "old", Sync::Data).await;
        fs::sync_dir("/").await.expect("sync");
        file.write_at(vec![Bytes::from_static(b"new")], 0, Sync::None).await.expect("write");
    };
    let new = survivals(before, || holds("/a", "new"));
    let old = survivals(before, || holds("/a", "old"));
    assert!(new > 0 && old > 0);
    assert_eq!(new + old, 100, "a sector is never mixed");
}

#[test]
fn a_killed_process_loses_nothing_it_has_written() {
    let simulation = Simulation::new(1);
    simulation.run(async {
        write("/a", "text", Sync::None).await;
    });
    assert!(simulation.run(holds("/a", "text")));
}

#[test]
fn a_replaced_file_is_old_or_new_after_a_crash_at_any_poll() {
    let mut seen = [0; 2];
    for polls in 0..60 {
        for seed in 0..5 {
            let simulation = Simulation::new(seed);
            simulation.run(async { fs::replace("/m", b"old").await.expect("replace") });
            let ended =
                simulation.run_for(polls, async { fs::replace("/m", b"new!").await.expect("replace") });
            simulation.crash();
            let content = simulation.run(fs::read("/m")).expect("one of them is there");
            let is_new = content == b"new!";
            assert!(is_new || content == b"old", "{content:?}");
            assert!(is_new || ended.is_none(), "it said it was done");
            seen[usize::from(is_new)] += 1;
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_rename_over_a_file_that_was_not_synced_may_lose_both() {
    let before = || async {
        write("/m", "old", Sync::Data).await;
        fs::sync_dir("/").await.expect("sync");
        write("/m.tmp", "new", Sync::None).await;
        fs::rename("/m.tmp", "/m").await.expect("rename");
        fs::sync_dir("/").await.expect("sync");
    };
    let neither = survivals(before, || async { !holds("/m", "new").await && !holds("/m", "old").await });
    assert!(neither > 0);
}

#[test]
fn a_write_in_flight_when_the_power_fails_may_get_there_in_part() {
    let before = || async {
        write("/a", "", Sync::None).await.sync_all().await.expect("sync");
        fs::sync_dir("/").await.expect("sync");
        spawn(async {
            let file = File::open("/a", &read_write()).await.expect("open");
            file.write_at(vec![Bytes::from(vec![7; 64 << 10])], 0, Sync::Data).await.expect("write");
        })
        .detach();
        sleep(Duration::from_micros(40)).await;
    };
    let anything = || async { fs::read("/a").await.expect("read").contains(&7) };
    let everything = || async {
        let bytes = fs::read("/a").await.expect("read");
        bytes.len() == 64 << 10 && bytes.iter().all(|&byte| byte == 7)
    };
    let (anything, everything) = (survivals(before, anything), survivals(before, everything));
    assert!(anything < 100 && everything < anything, "{everything} <= {anything}");
}

#[test]
fn faults_come_out_as_errors_with_their_number() {
    let simulation = Simulation::new(1);
    let disk = simulation.disk();
    simulation.run(async {
        let file = write("/a", "text", Sync::Data).await;
        disk.fail_next_write(EIO);
        let error = file.write_at(vec![Bytes::from_static(b"x")], 0, Sync::None).await.expect_err("EIO");
        assert_eq!(error.raw_os_error(), Some(EIO));
        disk.fail_next_sync(EIO);
        assert_eq!(file.sync_data().await.expect_err("EIO").raw_os_error(), Some(EIO));
        file.sync_data().await.expect("the next succeeds, and means nothing");
        disk.fail_next_read(EIO);
        let error = file.read_at(BytesMut::with_capacity(4), 0, 4).await.expect_err("EIO");
        assert_eq!(error.raw_os_error(), Some(EIO));
        assert!(disk.flip_bit("/a", 0, 0));
        assert_eq!(fs::read("/a").await.expect("read")[0], b't' ^ 1);
    });
}

#[test]
fn a_full_disk_refuses_what_needs_space_until_there_is_some() {
    let simulation = Simulation::new(1);
    let disk = simulation.disk();
    simulation.run(async {
        let file = write("/a", "text", Sync::None).await;
        disk.set_full(true);
        assert_eq!(fs::space("/").expect("space").free_bytes, 0);
        let data = || vec![Bytes::from_static(b"more")];
        file.write_at(data(), 0, Sync::None).await.expect("in place");
        let error = file.write_at(data(), 4, Sync::None).await.expect_err("full");
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
        assert_eq!(File::open("/b", &read_write()).await.expect_err("full").raw_os_error(), Some(ENOSPC));
        disk.set_full(false);
        file.write_at(data(), 4, Sync::None).await.expect("there is room again");
    });
}

#[test]
fn reset_connections_fail_at_both_ends() {
    let simulation = Simulation::new(1);
    simulation.run(async {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 7171))).expect("bind");
        let connecting = spawn(TcpStream::connect(listener.local_addr()));
        let (right, _) = listener.accept().await.expect("accept");
        let left = connecting.await.expect("connect");
        let reader = spawn(async move { right.recv().await.map(drop) });
        yield_now().await;
        simulation.reset_connections();
        let error = reader.await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = left.send(vec![Bytes::from_static(b"x")]).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn launched_cores_live_in_the_same_world() {
    Simulation::new(3).run(async {
        let (sender, receiver) = mailbox::channel(1);
        let core = launch(CoreConfig::default(), move || async move {
            for n in 0..10 {
                sender.send(n).await.expect("the receiver is there");
            }
        })
        .expect("a task");
        let mut sum = 0;
        while let Some(n) = receiver.recv().await {
            sum += n;
        }
        assert_eq!(sum, 45);
        core.join().await.expect("it ended");
    });
}

/// Some of everything; returns what it saw.
async fn mixture() -> Vec<u64> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
    let address = listener.local_addr();
    let mut tasks = Vec::new();
    for id in 0..5u64 {
        let seen = Rc::clone(&seen);
        tasks.push(spawn(async move {
            let stream = TcpStream::connect(address).await.expect("connect");
            let file = File::open(format!("/{id}"), &read_write()).await.expect("open");
            for round in 0..10 {
                stream.send(vec![Bytes::from(vec![id as u8; 1000])]).await.expect("send");
                file.write_at(vec![Bytes::from(vec![1; 5000])], round * 5000, Sync::Data)
                    .await
                    .expect("write");
                seen.borrow_mut().push(id);
                let nap = sleep(Duration::from_micros(random_u64() % 100));
                let _ = timeout(Duration::from_micros(50), nap).await;
            }
            seen.borrow_mut().push(now().as_nanos());
        }));
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(listener.accept().await.expect("accept").0);
    }
    for stream in streams {
        while let Some(bytes) = stream.recv().await.expect("recv") {
            seen.borrow_mut().push(bytes.len() as u64);
        }
    }
    for task in tasks {
        task.await;
    }
    seen.take()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_gives_another() {
    let run = |seed| {
        let simulation = Simulation::new(seed);
        let seen = simulation.run(mixture());
        simulation.crash();
        (seen, simulation.trace_hash())
    };
    let hashes: Vec<_> = (0..10)
        .map(|seed| {
            let (first, second) = (run(seed), run(seed));
            assert_eq!(first, second, "seed {seed}");
            first.1
        })
        .collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn tasks_run_in_orders_that_differ_by_seed() {
    let order = |seed| {
        Simulation::new(seed).run(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let push = |id| {
                let order = Rc::clone(&order);
                spawn(async move { order.borrow_mut().push(id) })
            };
            let tasks: Vec<_> = (0..4).map(push).collect();
            for task in tasks {
                task.await;
            }
            order.take()
        })
    };
    assert!((0..10).any(|seed| order(seed) != [0, 1, 2, 3]));
}

#[test]
fn a_run_that_is_cut_short_drops_its_tasks() {
    let dropped = Rc::new(Cell::new(0));
    struct OnDrop(Rc<Cell<u32>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let guard = || OnDrop(Rc::clone(&dropped));
    let (first, second) = (guard(), guard());
    let ended = Simulation::new(1).run_for(100, async move {
        let _first = first;
        spawn(async move {
            let _second = second;
            sleep(Duration::MAX).await;
        })
        .detach();
        loop {
            yield_now().await;
        }
    });
    assert_eq!((ended, dropped.get()), (None, 2));
}

#[test]
#[should_panic(expected = "the simulation is stuck")]
fn everybody_waiting_for_everybody_is_a_bug() {
    Simulation::with_disk(1, SimDisk::new(1)).run(std::future::pending::<()>());
}
