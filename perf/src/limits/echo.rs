//! E: round trips of 1 KiB there and 64 bytes back between two cores, over a raw ring on one side and a blocking socket
//! on the other.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringlog_reactor::CoreConfig;
use ringlog_reactor::net::{Listener, TcpStream as ReactorStream};
use ringlog_reactor::print_line;
use ringlog_reactor::spawn;

use crate::cpus::server_core;
use crate::failure::Failure;
use crate::process::Server;
use crate::stats::Latencies;
use crate::wait::Wait;

/// Bytes of the request and of the reply.
#[derive(Clone, Copy)]
pub struct EchoSize {
    /// There.
    pub request: usize,
    /// And back.
    pub reply: usize,
}

/// Those of E: a record there, an acknowledgement back.
pub const E_SIZE: EchoSize = EchoSize { request: 1024, reply: 64 };

/// Starts an echo server of this size on the reactor.
pub fn start_echo(size: EchoSize, wait: Wait) -> Result<Server, Failure> {
    let (request, reply) = (size.request.to_string(), size.reply.to_string());
    Server::start(["echo", &request, &reply, "--wait", &wait.to_string()].map(AsRef::as_ref))
}

/// What the echo server's process runs: it serves until it is killed.
pub fn serve(size: EchoSize, wait: Wait) -> Result<(), Failure> {
    let core = CoreConfig { wait: wait.policy(), ..server_core("echo") };
    ringlog_reactor::run(core, async move {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        print_line!("{}", listener.local_addr());
        loop {
            let (stream, _) = listener.accept().await?;
            spawn(answer(stream, size)).detach();
        }
    })?
}

async fn answer(stream: ReactorStream, size: EchoSize) {
    let reply = bytes::Bytes::from(vec![7; size.reply]);
    let mut received = 0;
    while let Ok(Some(buffer)) = stream.recv().await {
        received += buffer.len();
        while received >= size.request {
            received -= size.request;
            if stream.send(vec![reply.clone()]).await.is_err() {
                return;
            }
        }
    }
}

/// The client of an echo server.
pub struct EchoClient {
    stream: TcpStream,
    request: Vec<u8>,
    reply: Vec<u8>,
    spins: bool,
}

impl EchoClient {
    /// Connects. One that spins polls its socket and never sleeps.
    pub fn connect(address: SocketAddr, size: EchoSize, spins: bool) -> Result<EchoClient, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nonblocking(spins)?;
        Ok(EchoClient { stream, request: vec![3; size.request], reply: vec![0; size.reply], spins })
    }

    /// So many round trips.
    pub fn round_trips(&mut self, count: usize) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::default();
        for _ in 0..count {
            latencies.record(self.round_trip()?);
        }
        Ok(latencies)
    }

    /// Round trips for so long.
    pub fn round_trips_for(&mut self, limit: Duration) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::default();
        let begun = Instant::now();
        while begun.elapsed() < limit {
            latencies.record(self.round_trip()?);
        }
        Ok(latencies)
    }

    fn round_trip(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.stream.write_all(&self.request)?;
        if self.spins {
            read_spinning(&mut self.stream, &mut self.reply)?;
        } else {
            self.stream.read_exact(&mut self.reply)?;
        }
        Ok(begun.elapsed())
    }
}

fn read_spinning(stream: &mut TcpStream, mut into: &mut [u8]) -> Result<(), Failure> {
    while !into.is_empty() {
        match stream.read(into) {
            Ok(0) => return Err("the echo server closed the connection".into()),
            Ok(read) => into = &mut into[read..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
