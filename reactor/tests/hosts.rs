//! Several machines in one simulation: started, killed, paused, without power, and connected.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::sim::{self, Host, SimDisk, Simulation};
use ringlog_reactor::{now, sleep, spawn, wall_clock_ms, yield_now};

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 7171;

fn server_address() -> SocketAddr {
    SocketAddr::from((SERVER, PORT))
}

fn host(simulation: &Simulation, name: &str, ip: [u8; 4]) -> Host {
    simulation.host(name, IpAddr::from(ip), SimDisk::new(u64::from(ip[3])))
}

/// Sends back whatever comes.
async fn echo() {
    let listener = Listener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).expect("bind");
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        spawn(async move {
            while let Ok(Some(bytes)) = stream.recv().await {
                if stream.send(vec![Bytes::copy_from_slice(&bytes)]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

/// Asks the echo, and whether the answer was right.
async fn ask(stream: &TcpStream) -> std::io::Result<bool> {
    stream.send(vec![Bytes::from_static(b"ping")]).await?;
    let mut answer = Vec::new();
    while answer.len() < 4 {
        match stream.recv().await? {
            Some(bytes) => answer.extend_from_slice(&bytes),
            None => return Ok(false),
        }
    }
    Ok(answer == b"ping")
}

async fn write(path: &str, text: &'static str, sync: Sync) {
    let options = OpenOptions::new().read(true).write(true).create(true);
    let file = File::open(path, &options).await.expect("open");
    file.write_at(vec![Bytes::from_static(text.as_bytes())], 0, sync).await.expect("write");
}

/// Runs `task` on `host` to its end, and gives what came of it.
async fn on<F, T>(host: &Host, task: F) -> T
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let result = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&result);
    host.start(move || async move {
        let output = task.await;
        *slot.borrow_mut() = Some(output);
    });
    host.ended().await;
    assert_eq!(host.panicked(), None);
    result.take().expect("it has run to its end")
}

#[test]
fn processes_of_two_hosts_talk_by_their_addresses() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let (server, client) = (host(&simulation, "server", SERVER), host(&simulation, "client", CLIENT));
        simulation.run(async {
            server.start(echo);
            sleep(Duration::from_millis(1)).await;
            let right = on(&client, async {
                let stream = TcpStream::connect(server_address()).await.expect("connect");
                ask(&stream).await.expect("an answer")
            });
            assert!(right.await);
            let stream = TcpStream::connect(server_address()).await.expect("connect");
            assert!(ask(&stream).await.expect("an answer"));
        });
    }
}

#[test]
fn the_peer_of_an_accepted_connection_is_the_other_host() {
    let simulation = Simulation::new(1);
    let (server, client) = (host(&simulation, "server", SERVER), host(&simulation, "client", CLIENT));
    simulation.run(async {
        client.start(|| async {
            sleep(Duration::from_millis(1)).await;
            let _stream = TcpStream::connect(server_address()).await.expect("connect");
            sleep(Duration::from_millis(1)).await;
        });
        let peer = on(&server, async {
            let listener = Listener::bind(server_address()).expect("bind");
            listener.accept().await.expect("accept").1
        });
        assert_eq!(peer.await.ip(), client.ip());
    });
}

#[test]
fn loopback_stays_within_a_host() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.run(async {
        server.start(|| async {
            let _listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], PORT))).expect("bind");
            sleep(Duration::from_secs(1)).await;
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], PORT))).await.expect("its own");
        });
        sleep(Duration::from_millis(1)).await;
        for ip in [[127, 0, 0, 1], SERVER] {
            let error = TcpStream::connect(SocketAddr::from((ip, PORT))).await.expect_err("not from outside");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        let error = Listener::bind(server_address()).expect_err("an address of somebody else");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
        server.ended().await;
        assert_eq!(server.panicked(), None);
    });
}

#[test]
fn a_killed_process_closes_its_connections_and_leaves_its_port_lock_and_page_cache() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let server = host(&simulation, "server", SERVER);
        simulation.run(async {
            for _ in 0..3 {
                server.start(|| async {
                    let _lock = fs::lock("/LOCK").expect("lock").expect("the process before is gone");
                    write("/a", "text", Sync::None).await;
                    echo().await;
                });
                sleep(Duration::from_millis(1)).await;
                let stream = TcpStream::connect(server_address()).await.expect("connect");
                assert!(ask(&stream).await.expect("an answer"));
                server.kill();
                assert!(!server.is_running());
                assert!(!ask(&stream).await.unwrap_or(false));
                TcpStream::connect(server_address()).await.expect_err("nobody listens");
            }
            assert_eq!(on(&server, fs::read("/a")).await.expect("it was written"), b"text");
        });
    }
}

#[test]
fn a_process_is_killed_at_every_await() {
    let mut reached = Vec::new();
    for polls in 0..40 {
        let simulation = Simulation::new(1);
        let server = host(&simulation, "server", SERVER);
        let steps = Rc::new(Cell::new(0));
        let seen = Rc::clone(&steps);
        simulation.run(async {
            server.start(move || async move {
                for step in 1..=10 {
                    yield_now().await;
                    write("/a", "text", Sync::Data).await;
                    seen.set(step);
                }
            });
            server.kill_after(polls);
            server.ended().await;
        });
        reached.push(steps.get());
    }
    assert!(reached.is_sorted());
    reached.dedup();
    assert_eq!(reached, (0..=10).collect::<Vec<_>>());
}

#[test]
fn a_host_without_power_forgets_what_was_not_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let server = simulation.host("server", IpAddr::from(SERVER), SimDisk::new(seed));
        simulation.run(async {
            on(&server, async {
                write("/safe", "text", Sync::Data).await;
                fs::sync_dir("/").await.expect("sync");
                write("/unsafe", "text", Sync::None).await;
            })
            .await;
            server.power_off();
            assert_eq!(on(&server, fs::read("/safe")).await.expect("it was synced"), b"text");
            lost += usize::from(on(&server, fs::read("/unsafe")).await.is_err());
        });
    }
    assert!(lost > 0 && lost < 50, "{lost} of 50");
}

#[test]
fn a_paused_process_does_nothing_and_misses_nothing() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.run(async {
        let ticks = Rc::new(Cell::new(0));
        let counted = Rc::clone(&ticks);
        server.start(move || async move {
            spawn(echo()).detach();
            loop {
                sleep(Duration::from_millis(10)).await;
                counted.set(counted.get() + 1);
            }
        });
        sleep(Duration::from_millis(105)).await;
        let before = ticks.get();
        let stream = TcpStream::connect(server_address()).await.expect("connect");
        let start = now();
        server.pause(Duration::from_secs(10));
        assert!(ask(&stream).await.expect("an answer"), "it was asked while it was paused");
        assert!(start.elapsed() >= Duration::from_secs(10));
        assert!(ticks.get() <= before + 1 && server.is_running());
        sleep(Duration::from_millis(100)).await;
        assert!(ticks.get() > before + 5);
    });
}

#[test]
fn a_clock_jumps_on_one_host_only_and_only_on_the_wall() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.run(async {
        let here = wall_clock_ms();
        server.set_clock_skew(-5_000_000);
        let (wall, start) = on(&server, async { (wall_clock_ms(), now()) }).await;
        assert!((here - 5_000_000 - wall).abs() < 1_000);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(wall_clock_ms() - here < 1_000);
    });
}

#[test]
fn a_panic_ends_its_process_and_nothing_else() {
    let simulation = Simulation::new(1);
    let (server, client) = (host(&simulation, "server", SERVER), host(&simulation, "client", CLIENT));
    simulation.run(async {
        client.start(echo);
        server.start(|| async {
            spawn(async { panic!("a bug of the server") }).detach();
            std::future::pending().await
        });
        server.ended().await;
        assert_eq!(server.panicked().as_deref(), Some("a bug of the server"));
        assert!(!server.is_running() && client.is_running());
        server.start(|| async {});
        server.ended().await;
        assert_eq!(server.panicked(), None);
    });
}

#[test]
fn a_process_that_kills_itself_is_gone_at_its_next_await() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.run(async {
        let itself = server.clone();
        server.start(|| async move {
            itself.kill();
            std::future::pending().await
        });
        server.ended().await;
        assert!(!server.is_running());
    });
}

#[test]
fn processes_stand_still_between_runs_and_go_on_in_the_next() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.run(async {
        server.start(echo);
        sleep(Duration::from_millis(1)).await;
    });
    simulation.run(async {
        let stream = TcpStream::connect(server_address()).await.expect("connect");
        assert!(ask(&stream).await.expect("an answer"));
    });
    assert!(server.is_running());
}

#[test]
fn a_copy_of_a_disk_is_another_disk_with_the_same_files() {
    let simulation = Simulation::new(1);
    let copy = simulation.run(async {
        fs::create_dir_all("/folder").await.expect("folder");
        write("/folder/b", "text", Sync::Data).await;
        write("/a", "x", Sync::None).await;
        let copy = simulation.disk().copy();
        write("/c", "later", Sync::None).await;
        copy
    });
    let names = |disk: &SimDisk| -> Vec<(String, u64)> {
        disk.files().into_iter().map(|(path, len)| (path.display().to_string(), len)).collect()
    };
    assert_eq!(names(&copy), [("/a".to_owned(), 1), ("/folder/b".to_owned(), 4)]);
    assert_eq!(names(&simulation.disk()).len(), 3);
    Simulation::with_disk(2, copy.clone()).run(write("/a", "changed", Sync::None));
    assert_eq!(simulation.disk().files()[0].1, 1);
}

#[test]
fn the_last_events_are_kept_in_words_if_anybody_asks() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    let step = || {
        simulation.run(async {
            on(&server, async {
                write("/a", "text", Sync::Data).await;
                sim::note("this is it");
                sim::reached("a rare state");
            })
            .await;
        });
    };
    step();
    assert!(simulation.last_events().is_empty());
    simulation.keep_events(3);
    step();
    simulation.note("the end");
    let events = simulation.last_events();
    assert_eq!(events.len(), 3);
    assert!(events[0].ends_with("server says: this is it"), "{events:?}");
    assert!(events[2].ends_with("main says: the end"), "{events:?}");
    simulation.keep_events(100);
    step();
    let written = "server write /a at 0, 4 bytes, synced -> 4 bytes";
    assert!(simulation.last_events().iter().any(|event| event.ends_with(written)), "{events:?}");
    assert_eq!(simulation.reached().get("a rare state"), Some(&3));
}

#[test]
fn a_note_changes_the_trace() {
    let run = |text: &'static str| {
        let simulation = Simulation::new(1);
        simulation.run(async move { sim::note(text) });
        simulation.trace_hash()
    };
    assert_eq!(run("a"), run("a"));
    assert_ne!(run("a"), run("b"));
}

#[test]
fn outside_of_a_simulation_marks_and_notes_do_nothing() {
    sim::reached("nothing");
    sim::note("nothing");
    assert!(!sim::mutant("nothing"));
}

#[cfg(feature = "mutants")]
#[test]
fn a_known_bug_is_there_only_where_it_was_asked_for() {
    let simulation = Simulation::new(1);
    let server = host(&simulation, "server", SERVER);
    simulation.set_mutant(Some("forgets to sync"));
    simulation.run(async {
        assert!(on(&server, async { sim::mutant("forgets to sync") && !sim::mutant("another") }).await);
    });
    simulation.set_mutant(None);
    assert!(!simulation.run(async { sim::mutant("forgets to sync") }));
}
