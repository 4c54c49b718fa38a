//! All faults together: whatever happens is a function of the seed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::sim::{self, DiskFaults, Host, SimDisk, SimNet, Simulation};
use ringlog_reactor::{random_u64, sleep, spawn, timeout, wall_clock_ms};

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENTS: [[u8; 4]; 2] = [[10, 0, 0, 2], [10, 0, 0, 3]];

fn server_address() -> SocketAddr {
    SocketAddr::from((SERVER, 7171))
}

/// Writes what comes to a file, and then sends it back.
async fn serve() {
    let Ok(Some(_lock)) = fs::lock("/LOCK") else { return };
    let Ok(listener) = Listener::bind(server_address()) else { return };
    let mut accepted = 0;
    while let Ok((stream, _)) = listener.accept().await {
        accepted += 1;
        sim::reached("accepted");
        spawn(async move {
            let options = OpenOptions::new().read(true).write(true).create(true);
            let Ok(file) = File::open(format!("/{}", accepted % 4), &options).await else { return };
            let mut offset = 0;
            while let Ok(Some(bytes)) = stream.recv().await {
                let bytes = Bytes::copy_from_slice(&bytes);
                if file.write_at(vec![bytes.clone()], offset, Sync::Data).await.is_err() {
                    sim::note("a write failed");
                    return;
                }
                offset += bytes.len() as u64;
                if stream.send(vec![bytes]).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

/// Asks on, whatever becomes of it.
async fn ask() {
    loop {
        let connecting = timeout(Duration::from_secs(5), TcpStream::connect(server_address())).await;
        let Ok(Ok(stream)) = connecting else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        for _ in 0..20 {
            let value = Bytes::from(vec![wall_clock_ms() as u8; 1 + random_u64() as usize % 5000]);
            let asked = stream.send(vec![value]).await;
            let answered = timeout(Duration::from_secs(3), stream.recv()).await;
            if asked.is_err() || !matches!(answered, Ok(Ok(Some(_)))) {
                break;
            }
            sim::reached("answered");
            sleep(Duration::from_millis(random_u64() % 50)).await;
        }
    }
}

fn disk_faults() -> DiskFaults {
    DiskFaults {
        read_error: 50,
        write_error: 50,
        sync_error: 50,
        stall: 20,
        stall_for: Duration::from_millis(200),
        short_read: 10,
        short_write: 10,
        misdirect: 50,
        lost_write: 50,
        bit_rot: 50,
        full_after_bytes: Some(100_000),
        capacity_bytes: None,
    }
}

/// One thing goes wrong, or is put right again.
fn disturb(hosts: &[Host], network: &SimNet) {
    let draw = |below: u64| random_u64() % below;
    let host = &hosts[draw(hosts.len() as u64) as usize];
    let other = &hosts[draw(hosts.len() as u64) as usize];
    match draw(14) {
        0 => host.kill(),
        1 => host.kill_after(draw(200)),
        2 => host.power_off(),
        3 => host.power_off_after(draw(200)),
        4 => host.pause(Duration::from_millis(draw(3_000))),
        5 => host.set_clock_skew(draw(10_000) as i64 - 5_000),
        6 => host.disk().set_faults(disk_faults()),
        7 => host.disk().set_faults(DiskFaults::default()),
        8 => network.cut(host.ip(), other.ip()),
        9 => network.reset(host.ip(), other.ip()),
        10 => network.half_close(host.ip(), other.ip()),
        11 => network.reset_one_in(draw(3) * 30),
        12 => network.set_delay(Duration::from_micros(draw(500)), Duration::from_micros(draw(20_000))),
        _ => network.heal(),
    }
}

/// A run of 30 seconds, in which something happens every tenth of a second.
fn run(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed);
    simulation.keep_events(5_000);
    let mut hosts = vec![simulation.host("server", IpAddr::from(SERVER), SimDisk::new(seed))];
    for (number, ip) in (1..).zip(CLIENTS) {
        let disk = SimDisk::new(seed + number);
        hosts.push(simulation.host(&format!("client-{number}"), IpAddr::from(ip), disk));
    }
    let network = simulation.network();
    simulation.run(async {
        for _ in 0..300 {
            disturb(&hosts, &network);
            if !hosts[0].is_running() {
                hosts[0].start(serve);
            }
            hosts[1..].iter().filter(|host| !host.is_running()).for_each(|host| host.start(ask));
            sleep(Duration::from_millis(100)).await;
        }
    });
    for host in &hosts {
        assert_eq!(host.panicked(), None, "seed {seed}");
    }
    simulation
}

#[test]
fn the_same_seed_gives_the_same_run_with_all_faults_together() {
    let mut hashes = Vec::new();
    for seed in 0..20 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.last_events(), second.last_events(), "seed {seed}");
        assert_eq!(first.trace_hash(), second.trace_hash(), "seed {seed}");
        assert_eq!(first.reached(), second.reached(), "seed {seed}");
        assert!(first.reached().contains_key("answered"), "seed {seed}: somebody is served");
        hashes.push(first.trace_hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 20);
}

#[test]
fn keeping_the_events_does_not_change_a_run() {
    let hash = |kept| {
        let simulation = Simulation::new(1);
        simulation.keep_events(kept);
        let server = simulation.host("server", IpAddr::from(SERVER), SimDisk::new(1));
        simulation.run(async {
            server.disk().set_faults(disk_faults());
            server.start(serve);
            spawn(ask()).detach();
            server.power_off_after(500);
            sleep(Duration::from_secs(5)).await;
        });
        simulation.trace_hash()
    };
    assert_eq!(hash(0), hash(100));
}
