//! TCP, on the real ring and in the simulation: both must answer alike.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_reactor::net::{Listener, RecvBuf, TcpStream};
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{CoreConfig, aligned, launch, mailbox, run, sleep, spawn, timeout, yield_now};

fn on_ring<F: Future>(main: F) -> F::Output {
    run(CoreConfig::default(), main).expect("this machine has io_uring")
}

fn on_core<F: Future<Output = ()>>(main: impl Fn() -> F) {
    on_ring(main());
    for seed in 0..20 {
        Simulation::new(seed).run(main());
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn listener() -> Listener {
    Listener::bind(loopback()).expect("a free port")
}

/// Both ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = listener();
    let address = listener.local_addr();
    let connecting = spawn(TcpStream::connect(address));
    let (accepted, peer) = listener.accept().await.expect("accept");
    let connected = connecting.await.expect("connect");
    assert_eq!(accepted.peer_addr(), peer);
    assert_eq!(connected.peer_addr(), address);
    (connected, accepted)
}

async fn receive_exactly(stream: &TcpStream, len: usize) -> BytesMut {
    let mut all = BytesMut::new();
    while all.len() < len {
        let bytes = stream.recv().await.expect("recv").expect("more is to come");
        all.extend_from_slice(&bytes);
    }
    assert_eq!(all.len(), len);
    all
}

/// Polls a future once.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn bytes_go_both_ways() {
    on_core(|| async {
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"pi"), Bytes::new(), Bytes::from_static(b"ng")])
            .await
            .expect("send");
        assert_eq!(receive_exactly(&right, 4).await, "ping");
        right.send(vec![Bytes::from_static(b"pong")]).await.expect("send");
        assert_eq!(receive_exactly(&left, 4).await, "pong");
    });
}

#[test]
fn an_ipv6_address_works_like_any_other() {
    on_core(|| async {
        let Ok(listener) = Listener::bind(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))) else {
            // This machine has no IPv6.
            return;
        };
        let connecting = spawn(TcpStream::connect(listener.local_addr()));
        let (accepted, peer) = listener.accept().await.expect("accept");
        assert!(peer.is_ipv6());
        connecting.await.expect("connect").send(vec![Bytes::from_static(b"x")]).await.expect("send");
        assert_eq!(receive_exactly(&accepted, 1).await, "x");
    });
}

#[test]
fn a_connection_to_nobody_is_refused() {
    on_core(|| async {
        let address = listener().local_addr();
        yield_now().await;
        sleep(Duration::from_millis(5)).await;
        let error = TcpStream::connect(address).await.expect_err("nobody listens any more");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_in_use_is_an_error() {
    on_core(|| async {
        let first = listener();
        let error = Listener::bind(first.local_addr()).expect_err("the port is taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn one_listener_accepts_many() {
    on_core(|| async {
        let listener = listener();
        let address = listener.local_addr();
        let clients: Vec<_> = (0..200).map(|_| spawn(TcpStream::connect(address))).collect();
        let mut accepted = Vec::new();
        for _ in 0..200 {
            accepted.push(listener.accept().await.expect("accept").0);
        }
        for client in clients {
            client.await.expect("connect");
        }
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    on_core(|| async {
        let listener = listener();
        assert!(poll_once(listener.accept()).await.is_none());
        let client = TcpStream::connect(listener.local_addr()).await.expect("connect");
        sleep(Duration::from_millis(5)).await;
        let (accepted, _) = listener.accept().await.expect("accept");
        client.send(vec![Bytes::from_static(b"x")]).await.expect("send");
        assert_eq!(receive_exactly(&accepted, 1).await, "x");
    });
}

/// Closes a connection with a reset instead of an orderly end.
fn reset(stream: std::net::TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    let fd = stream.as_raw_fd();
    // SAFETY: `linger` is readable for the length given, and the socket is open.
    let set =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len) };
    assert_eq!(set, 0, "a socket can linger");
}

#[test]
fn a_connection_reset_while_queued_is_passed_over() {
    on_ring(async {
        let listener = listener();
        let connect = || std::net::TcpStream::connect(listener.local_addr()).expect("connect");
        reset(connect());
        reset(connect());
        let client = connect();
        let accepted = timeout(Duration::from_secs(10), listener.accept()).await.expect("in time");
        let (_, peer) = accepted.expect("nothing is wrong with the listener");
        assert_eq!(peer, client.local_addr().expect("an address"));
    });
}

#[test]
fn a_dropped_listener_closes_what_it_has_accepted_unseen() {
    on_core(|| async {
        let listener = listener();
        assert!(poll_once(listener.accept()).await.is_none());
        let client = TcpStream::connect(listener.local_addr()).await.expect("connect");
        drop(listener);
        match timeout(Duration::from_secs(10), client.recv()).await.expect("it is told") {
            Ok(end) => assert!(end.is_none()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    });
}

#[test]
fn the_end_of_the_stream_is_none_and_stays_none() {
    on_core(|| async {
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"bye")]).await.expect("send");
        drop(left);
        assert_eq!(receive_exactly(&right, 3).await, "bye");
        assert!(right.recv().await.expect("the end").is_none());
        assert!(right.recv().await.expect("the end").is_none());
    });
}

#[test]
fn a_peer_that_only_listens_still_hears() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.shutdown(Shutdown::Write).expect("half-close");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("read");
        heard
    });
    on_ring(async {
        let stream = TcpStream::connect(address).await.expect("connect");
        assert!(stream.recv().await.expect("half an end").is_none());
        stream.send(vec![Bytes::from_static(b"still here")]).await.expect("send");
    });
    assert_eq!(peer.join().expect("no panic"), "still here");
}

#[test]
fn a_reset_is_an_error() {
    on_core(|| async {
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"unread")]).await.expect("send");
        sleep(Duration::from_millis(5)).await;
        // Closing with unread bytes resets the connection.
        drop(right);
        let error = timeout(Duration::from_secs(10), left.recv()).await.expect("in time").expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn dropping_a_receive_loses_no_bytes() {
    on_core(|| async {
        let (left, right) = pair().await;
        let sender = spawn(async move {
            for n in 0..200u8 {
                left.send(vec![Bytes::from(vec![n])]).await.expect("send");
                yield_now().await;
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 200 {
            if let Some(bytes) = poll_once(right.recv()).await {
                seen.extend_from_slice(&bytes.expect("recv").expect("more is to come"));
            }
            yield_now().await;
        }
        assert!(seen.iter().enumerate().all(|(at, &byte)| at == usize::from(byte)));
        sender.await;
    });
}

#[test]
fn a_dropped_stream_stops_its_receive_and_closes() {
    on_core(|| async {
        let (left, right) = pair().await;
        assert!(poll_once(right.recv()).await.is_none());
        drop(right);
        let end = timeout(Duration::from_secs(10), left.recv()).await.expect("it is told");
        assert!(end.expect("an orderly end").is_none());
    });
}

#[test]
fn shutdown_wakes_a_receive_under_way() {
    on_core(|| async {
        let (left, _right) = pair().await;
        let other = left.clone();
        let reader = spawn(async move { other.recv().await.map(|bytes| bytes.is_none()) });
        sleep(Duration::from_millis(2)).await;
        left.shutdown();
        assert!(reader.await.expect("an end, not an error"));
    });
}

#[test]
fn shutdown_wakes_a_send_under_way() {
    on_core(|| async {
        let (left, _right) = pair().await;
        let other = left.clone();
        let sender = spawn(async move { other.send(vec![Bytes::from(vec![0; 64 << 20])]).await });
        sleep(Duration::from_millis(20)).await;
        left.shutdown();
        timeout(Duration::from_secs(10), sender).await.expect("in time").expect_err("it was cut short");
    });
}

#[test]
fn large_sends_of_many_slices_arrive_whole() {
    on_core(|| async {
        let (left, right) = pair().await;
        let slices: Vec<_> = (0..5000u32).map(|n| Bytes::from(vec![n as u8; 3000])).collect();
        let sender = spawn(async move { left.send(slices).await });
        let all = receive_exactly(&right, 5000 * 3000).await;
        assert!(all.chunks(3000).enumerate().all(|(n, chunk)| chunk.iter().all(|&byte| byte == n as u8)));
        sender.await.expect("send");
    });
}

#[test]
fn a_slow_reader_stops_its_sender() {
    on_core(|| async {
        let (left, right) = pair().await;
        assert!(poll_once(right.recv()).await.is_none(), "this arms the receive");
        let sent = Rc::new(Cell::new(0usize));
        let total = 32 << 20;
        let sender = spawn({
            let sent = Rc::clone(&sent);
            async move {
                let piece = Bytes::from(vec![9; 1 << 20]);
                while sent.get() < total {
                    left.send(vec![piece.clone()]).await.expect("send");
                    sent.set(sent.get() + piece.len());
                }
            }
        });
        sleep(Duration::from_millis(200)).await;
        assert!(sent.get() < total, "the sender was stopped");
        let mut received = 0;
        while received < total {
            received += right.recv().await.expect("recv").expect("more is to come").len();
        }
        sender.await;
    });
}

/// Four receive buffers of 1 KiB.
fn with_a_tiny_pool<F: Future>(main: F) -> F::Output {
    let config = CoreConfig { receive_buffers: 4, receive_buffer_bytes: 1024, ..CoreConfig::default() };
    run(config, main).expect("the core runs")
}

#[test]
fn sockets_that_nobody_reads_do_not_starve_the_others() {
    with_a_tiny_pool(async {
        let mut paused = Vec::new();
        for _ in 0..8 {
            let (left, right) = pair().await;
            assert!(poll_once(right.recv()).await.is_none(), "this arms the receive");
            left.send(vec![Bytes::from_static(b"unread")]).await.expect("send");
            paused.push((left, right));
        }
        sleep(Duration::from_millis(5)).await;
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"still heard")]).await.expect("send");
        let heard = timeout(Duration::from_secs(10), receive_exactly(&right, 11)).await.expect("in time");
        assert_eq!(heard, "still heard");
        for (_, right) in &paused {
            let unread = timeout(Duration::from_secs(10), receive_exactly(right, 6)).await.expect("in time");
            assert_eq!(unread, "unread");
        }
    });
}

#[test]
fn a_reader_that_keeps_its_buffers_does_not_starve_the_others() {
    with_a_tiny_pool(async {
        let (hog_left, hog_right) = pair().await;
        let (left, right) = pair().await;
        let hog = spawn(async move { hog_left.send(vec![Bytes::from(vec![1; 8 << 10])]).await });
        let mut held = Vec::new();
        while held.iter().map(|bytes: &RecvBuf| bytes.len()).sum::<usize>() < 8 << 10 {
            let bytes = timeout(Duration::from_secs(10), hog_right.recv()).await.expect("in time");
            held.push(bytes.expect("recv").expect("more is to come"));
        }
        left.send(vec![Bytes::from_static(b"still heard")]).await.expect("send");
        let heard = timeout(Duration::from_secs(10), receive_exactly(&right, 11)).await.expect("in time");
        assert_eq!(heard, "still heard");
        assert!(held.iter().all(|bytes| bytes.iter().all(|&byte| byte == 1)));
        hog.await.expect("send");
    });
}

#[test]
fn a_buffer_may_outlive_its_core() {
    let bytes = on_ring(async {
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"kept")]).await.expect("send");
        right.recv().await.expect("recv").expect("bytes")
    });
    assert_eq!(&*bytes, b"kept");
}

#[test]
fn a_receive_whose_future_is_dropped_still_owns_its_memory() {
    on_core(|| async {
        let (left, right) = pair().await;
        for _ in 0..50 {
            assert!(poll_once(right.recv_once(1 << 16)).await.is_none());
            yield_now().await;
        }
        sleep(Duration::from_millis(5)).await;
        left.send(vec![Bytes::from_static(b"x")]).await.expect("send");
        assert_eq!(right.recv_once(10).await.expect("recv"), "x");
    });
}

#[test]
fn one_byte_at_a_time_arrives_in_order() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        for byte in 0..=255u8 {
            stream.write_all(&[byte]).expect("write");
        }
    });
    let all = on_ring(async {
        let stream = TcpStream::connect(address).await.expect("connect");
        receive_exactly(&stream, 256).await
    });
    assert!(all.iter().enumerate().all(|(at, &byte)| at == usize::from(byte)));
    peer.join().expect("no panic");
}

#[test]
fn a_socket_moves_to_another_core_after_its_handshake() {
    on_core(|| async {
        let (to, parts) = mailbox::channel(1);
        let other = launch(CoreConfig::default(), move || async move {
            let stream = TcpStream::from_parts(parts.recv().await.expect("a socket"));
            let bytes = receive_exactly(&stream, 6).await;
            stream.send(vec![bytes.freeze()]).await.expect("send");
        })
        .expect("a second core");
        let (left, right) = pair().await;
        left.send(vec![Bytes::from_static(b"hello")]).await.expect("send");
        let mut hello = BytesMut::new();
        while hello.len() < 5 {
            hello.extend_from_slice(&right.recv_once(5).await.expect("recv"));
        }
        assert_eq!(hello, "hello");
        to.send(right.into_parts()).await.expect("the other core is there");
        left.send(vec![Bytes::from_static(b"and on")]).await.expect("send");
        assert_eq!(receive_exactly(&left, 6).await, "and on");
        other.join().await.expect("no panic");
    });
}

#[test]
#[should_panic(expected = "one reader at a time")]
fn two_readers_of_one_socket_are_a_bug() {
    on_core(|| async {
        let (_left, right) = pair().await;
        let other = right.clone();
        let _first = spawn(async move { other.recv().await.map(drop) });
        yield_now().await;
        let _ = right.recv().await;
    });
}

#[test]
fn dropped_streams_give_their_buffers_back() {
    with_a_tiny_pool(async {
        for _ in 0..50 {
            let (left, right) = pair().await;
            assert!(poll_once(right.recv()).await.is_none(), "this arms the receive");
            left.send(vec![Bytes::from(vec![1; 3000])]).await.expect("send");
            // Some buffers are filled and unread, or about to be, when the stream goes.
            yield_now().await;
        }
        let (left, right) = pair().await;
        left.send(vec![Bytes::from(vec![2; 4096])]).await.expect("send");
        let all = timeout(Duration::from_secs(10), receive_exactly(&right, 4096)).await;
        assert!(all.expect("buffers are there").iter().all(|&byte| byte == 2));
    });
}

/// Bytes that tell where in the stream they belong.
fn numbered(len: usize) -> Bytes {
    (0..len).map(|at| (at / 251 + at) as u8).collect::<Vec<_>>().into()
}

#[test]
fn receiving_into_given_memory_takes_over_from_the_cores_buffers_at_any_byte() {
    on_core(|| async {
        let (left, right) = pair().await;
        let sent = numbered(700_000);
        let sending = {
            let sent = sent.clone();
            spawn(async move {
                for piece in sent.chunks(9_973) {
                    left.send(vec![Bytes::copy_from_slice(piece)]).await.expect("send");
                }
                left
            })
        };
        let mut received = BytesMut::new();
        for round in 0.. {
            if round % 3 > 0 || !right.is_armed() {
                match right.is_armed() || round % 2 == 0 {
                    true => received.extend_from_slice(&right.recv().await.expect("recv").expect("more")),
                    false => received.extend_from_slice(&right.recv_once(1 + round).await.expect("recv")),
                }
            }
            let len = ([0, 1, 24, 4096, 16 << 10, 100_001][round % 6]).min(sent.len() - received.len());
            let mut memory = aligned(len + 3);
            memory.extend_from_slice(b"abc");
            let memory = right.recv_into(memory, len).await.expect("recv");
            assert_eq!((&memory[..3], memory.len()), (&b"abc"[..], len + 3));
            received.extend_from_slice(&memory[3..]);
            if received.len() == sent.len() {
                break;
            }
        }
        assert!(received == sent, "no byte is lost, doubled or out of order");
        drop(sending.await);
        assert_eq!(right.recv_into(BytesMut::with_capacity(5), 5).await.expect("the end"), "");
        assert!(right.recv().await.expect("recv").is_none());
    });
}

#[test]
fn a_stream_that_ends_in_the_middle_gives_what_came() {
    on_core(|| async {
        let (left, right) = pair().await;
        left.send(vec![numbered(50_000)]).await.expect("send");
        assert!(right.recv().await.expect("recv").is_some_and(|first| first[..] == numbered(first.len())));
        drop(left);
        let memory = right.recv_into(BytesMut::with_capacity(1 << 20), 1 << 20).await.expect("recv");
        assert!(memory.len() < 50_000 && numbered(50_000).ends_with(&memory));
        let too_small = right.recv_into(BytesMut::with_capacity(10), 11).await;
        assert_eq!(too_small.expect_err("no room").kind(), ErrorKind::InvalidInput);
    });
}
