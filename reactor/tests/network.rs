//! What a simulated network does to those who rely on it.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::sim::{Host, MAIN_IP, SimDisk, SimNet, Simulation};
use ringlog_reactor::{now, sleep, spawn, timeout};

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const SECOND: Duration = Duration::from_secs(1);

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 7171)
}

/// Sends back whatever comes.
async fn echo() {
    let listener = Listener::bind(address()).expect("bind");
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

/// Runs `main` beside a host that echoes, over some seeds.
fn beside_echo<F: Future<Output = ()>>(main: impl Fn(Host, SimNet) -> F) {
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let server = simulation.host("server", SERVER, SimDisk::new(seed));
        simulation.run(async {
            server.start(echo);
            sleep(Duration::from_millis(1)).await;
            main(server.clone(), simulation.network()).await;
        });
    }
}

async fn connect() -> TcpStream {
    TcpStream::connect(address()).await.expect("connect")
}

async fn send(stream: &TcpStream, text: &'static str) -> Result<(), Error> {
    stream.send(vec![Bytes::from_static(text.as_bytes())]).await
}

async fn receive(stream: &TcpStream, bytes: usize) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let Some(some) = stream.recv().await? else { break };
        all.extend_from_slice(&some);
    }
    Ok(all)
}

async fn ask(stream: &TcpStream) -> Result<bool, Error> {
    send(stream, "ping").await?;
    Ok(receive(stream, 4).await? == b"ping")
}

#[test]
fn a_delay_counts_for_every_packet_between_hosts_and_keeps_their_order() {
    beside_echo(|_, network| async move {
        network.set_delay(Duration::from_millis(100), Duration::from_millis(50));
        let start = now();
        let stream = connect().await;
        assert!(start.elapsed() >= Duration::from_millis(200));
        let start = now();
        for text in ["a", "b", "c", "d"] {
            send(&stream, text).await.expect("send");
        }
        assert!(start.elapsed() < Duration::from_millis(10), "a sender does not wait");
        assert_eq!(receive(&stream, 4).await.expect("the echo"), b"abcd");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(310), "{took:?}");
    });
}

#[test]
fn a_delay_is_not_for_those_on_the_same_host() {
    beside_echo(|_, network| async move {
        network.set_delay(SECOND, Duration::ZERO);
        let listener = Listener::bind(SocketAddr::new(MAIN_IP, 7171)).expect("bind");
        let start = now();
        let _stream = TcpStream::connect(listener.local_addr()).await.expect("connect");
        listener.accept().await.expect("accept");
        assert!(start.elapsed() < Duration::from_millis(1));
    });
}

#[test]
fn a_cut_of_one_direction_holds_bytes_back_until_it_is_healed() {
    for (from, to) in [(MAIN_IP, SERVER), (SERVER, MAIN_IP)] {
        beside_echo(|_, network| async move {
            let stream = connect().await;
            network.cut(from, to);
            send(&stream, "pi").await.expect("nobody knows yet");
            timeout(20 * SECOND, stream.recv()).await.map(|_| ()).expect_err("nothing comes");
            send(&stream, "ng").await.expect("nobody knows yet");
            network.heal();
            assert_eq!(timeout(SECOND, receive(&stream, 4)).await.expect("soon").expect("all"), b"ping");
        });
    }
}

#[test]
fn connecting_across_a_cut_times_out_or_succeeds_once_it_is_healed() {
    for (from, to) in [(MAIN_IP, SERVER), (SERVER, MAIN_IP)] {
        beside_echo(|_, network| async move {
            network.cut(from, to);
            let start = now();
            let error = TcpStream::connect(address()).await.expect_err("no answer");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= 127 * SECOND && start.elapsed() < 128 * SECOND);
            let connecting = spawn(connect());
            sleep(10 * SECOND).await;
            network.heal();
            assert!(ask(&connecting.await).await.expect("an answer"));
        });
    }
}

#[test]
fn a_connect_without_an_answer_can_be_given_up() {
    beside_echo(|_, network| async move {
        network.cut(MAIN_IP, SERVER);
        let start = now();
        timeout(5 * SECOND, TcpStream::connect(address())).await.map(|_| ()).expect_err("no answer");
        assert!(start.elapsed() < 6 * SECOND);
    });
}

#[test]
fn a_peer_that_is_silent_for_90_seconds_is_given_up() {
    beside_echo(|_, network| async move {
        let stream = connect().await;
        assert!(ask(&stream).await.expect("an answer"));
        sleep(300 * SECOND).await;
        assert!(ask(&stream).await.expect("probes keep it alive"));
        sleep(50 * SECOND).await;
        network.cut(SERVER, MAIN_IP);
        let start = now();
        assert_eq!(stream.recv().await.expect_err("silence").kind(), ErrorKind::TimedOut);
        let took = start.elapsed();
        assert!(took > 39 * SECOND && took < 41 * SECOND, "{took:?}: it was silent for 50 s before");
    });
}

#[test]
fn what_is_not_acknowledged_is_sent_again_for_a_quarter_of_an_hour() {
    beside_echo(|_, network| async move {
        let stream = connect().await;
        network.cut(MAIN_IP, SERVER);
        network.cut(SERVER, MAIN_IP);
        send(&stream, "ping").await.expect("nobody knows yet");
        let start = now();
        assert_eq!(stream.recv().await.expect_err("silence").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() > 900 * SECOND && start.elapsed() < 930 * SECOND);
        assert_eq!(send(&stream, "ping").await.expect_err("it is lost").kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_peer_that_gives_up_says_so_where_that_gets_through() {
    for (from, to, heard) in [(MAIN_IP, SERVER, true), (SERVER, MAIN_IP, false)] {
        beside_echo(|_, network| async move {
            let stream = connect().await;
            network.cut(from, to);
            send(&stream, "ping").await.expect("nobody knows yet");
            let waited = timeout(100 * SECOND, stream.recv()).await;
            match waited {
                Ok(received) if heard => {
                    assert_eq!(received.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
                }
                Ok(_) => panic!("nothing gets through"),
                Err(_) => assert!(!heard),
            }
        });
    }
}

#[test]
fn the_peers_of_a_host_without_power_hear_nothing_at_all() {
    beside_echo(|server, _| async move {
        let (idle, busy) = (connect().await, connect().await);
        assert!(ask(&idle).await.expect("an answer") && ask(&busy).await.expect("an answer"));
        server.power_off();
        let start = now();
        send(&busy, "ping").await.expect("nobody knows yet");
        assert_eq!(idle.recv().await.expect_err("silence").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() > 89 * SECOND && start.elapsed() < 91 * SECOND);
        timeout(60 * SECOND, busy.recv()).await.map(|_| ()).expect_err("it tries for longer");
        let connecting = timeout(5 * SECOND, TcpStream::connect(address())).await;
        connecting.map(|_| ()).expect_err("nobody answers");
    });
}

#[test]
fn a_host_that_is_back_resets_the_connections_it_knows_nothing_of() {
    beside_echo(|server, _| async move {
        let (idle, sender, late) = (connect().await, connect().await, connect().await);
        server.power_off();
        send(&sender, "ping").await.expect("nobody knows yet");
        sleep(10 * SECOND).await;
        server.start(echo);
        let start = now();
        send(&late, "ping").await.expect("nobody knows yet");
        assert_eq!(late.recv().await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        assert!(start.elapsed() < Duration::from_millis(1));
        assert_eq!(sender.recv().await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        assert!(start.elapsed() < 11 * SECOND);
        assert_eq!(idle.recv().await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        assert!(start.elapsed() < 51 * SECOND, "by the next probe");
        assert!(ask(&connect().await).await.expect("an answer"));
    });
}

#[test]
fn a_killed_process_behind_a_cut_is_not_noticed_before_the_cut_is_healed() {
    beside_echo(|server, network| async move {
        let stream = connect().await;
        network.cut(SERVER, MAIN_IP);
        server.kill();
        timeout(SECOND, stream.recv()).await.map(|_| ()).expect_err("nothing comes");
        send(&stream, "ping").await.expect("nobody knows yet");
        network.heal();
        assert_eq!(stream.recv().await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        send(&stream, "ping").await.expect_err("it is lost");
    });
}

#[test]
fn a_reset_is_for_the_connections_between_two_hosts() {
    beside_echo(|_, network| async move {
        let far = connect().await;
        let listener = Listener::bind(SocketAddr::new(MAIN_IP, 0)).expect("bind");
        let near = TcpStream::connect(listener.local_addr()).await.expect("connect");
        network.reset(SERVER, MAIN_IP);
        assert_eq!(far.recv().await.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        send(&near, "x").await.expect("that one is whole");
        assert!(ask(&connect().await).await.expect("a new one is, too"));
    });
}

#[test]
fn a_connection_that_is_lost_in_mid_stream_has_brought_a_part_of_what_was_sent() {
    let mut parts = 0;
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let server = simulation.host("server", SERVER, SimDisk::new(seed));
        simulation.run(async {
            let client = simulation.host("client", IpAddr::from([10, 0, 0, 2]), SimDisk::new(seed));
            client.start(|| async {
                sleep(Duration::from_millis(1)).await;
                let stream = connect().await;
                let mut sent = Ok(());
                while sent.is_ok() {
                    sent = stream.send(vec![Bytes::from(vec![7; 1000])]).await;
                }
                assert_eq!(sent.expect_err("lost").kind(), ErrorKind::ConnectionReset);
            });
            let listener_host = server.clone();
            let bytes = Rc::new(std::cell::Cell::new(0));
            let counted = Rc::clone(&bytes);
            simulation.network().reset_one_in(10);
            listener_host.start(move || async move {
                let listener = Listener::bind(address()).expect("bind");
                let (stream, _) = listener.accept().await.expect("accept");
                loop {
                    match stream.recv().await {
                        Ok(Some(some)) => counted.set(counted.get() + some.len()),
                        Ok(None) => panic!("it has no orderly end"),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                            break;
                        }
                    }
                }
            });
            server.ended().await;
            client.ended().await;
            assert_eq!((server.panicked(), client.panicked()), (None, None));
            parts += usize::from(!bytes.get().is_multiple_of(1000));
        });
    }
    assert!(parts > 10, "{parts} of 50");
}

#[test]
fn a_half_closed_connection_still_goes_the_other_way() {
    beside_echo(|server, network| async move {
        let stream = connect().await;
        send(&stream, "ping").await.expect("send");
        sleep(SECOND).await;
        network.half_close(MAIN_IP, SERVER);
        assert_eq!(receive(&stream, 4).await.expect("the echo"), b"ping");
        assert_eq!(send(&stream, "x").await.expect_err("closed").kind(), ErrorKind::BrokenPipe);
        assert!(server.is_running());
    });
}

#[test]
fn the_same_seed_has_the_same_network() {
    let run = |seed| {
        let simulation = Simulation::new(seed);
        let server = simulation.host("server", SERVER, SimDisk::new(seed));
        let network = simulation.network();
        network.set_delay(Duration::from_millis(1), Duration::from_millis(9));
        network.reset_one_in(20);
        simulation.run(async {
            server.start(echo);
            for round in 0..20 {
                let Ok(stream) = TcpStream::connect(address()).await else { continue };
                let _ = timeout(SECOND, ask(&stream)).await;
                match round % 5 {
                    0 => network.cut(SERVER, MAIN_IP),
                    2 => network.heal(),
                    3 => {
                        server.power_off();
                        server.start(echo);
                    }
                    _ => {}
                }
                let _ = timeout(SECOND, ask(&stream)).await;
            }
        });
        simulation.trace_hash()
    };
    let hashes: Vec<u64> = (0..10).map(run).collect();
    assert_eq!(hashes, (0..10).map(run).collect::<Vec<_>>());
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}
