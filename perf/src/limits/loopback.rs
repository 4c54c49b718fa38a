//! N: bytes a second over loopback, by iperf3, or by a small probe of our own where there is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tool::{ToolError, json, number};
use crate::cpus::{CLIENT_CPU, SERVER_CPU, on_client_cpu, on_core, server_core};
use crate::failure::Failure;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client's CPU to the server's, as when producing.
    In,
    /// From the server's to the client's, as when fetching.
    Out,
}

/// What the own probe moves at once: iperf3's default.
const CHUNK_BYTES: usize = 128 << 10;

/// An iperf3 server, pinned as the broker is; killed when dropped.
pub struct Iperf {
    server: Child,
    port: u16,
}

impl Iperf {
    /// Starts the server.
    pub fn start() -> Result<Iperf, ToolError> {
        // Free now; whoever takes it in between makes the measurement fail, and says so.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new("iperf3")
            .args(["-s", "-B", "127.0.0.1", "-p", &port.to_string(), "-A", &SERVER_CPU.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match server {
            Ok(server) => Ok(Iperf { server, port }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ToolError::Missing),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes a second, over whole seconds.
    pub fn throughput(&self, direction: Direction, seconds: u64) -> Result<f64, ToolError> {
        let begun = Instant::now();
        loop {
            let mut command = Command::new("iperf3");
            command
                .args(["-c", "127.0.0.1", "-J", "-p", &self.port.to_string(), "-t", &seconds.to_string()])
                .args(["-A", &format!("{CLIENT_CPU},{SERVER_CPU}")]);
            if direction == Direction::Out {
                command.arg("-R");
            }
            let report = json("iperf3", &mut command);
            match report.and_then(|report| number(&report, "/end/sum_received/bits_per_second")) {
                Ok(bits) => return Ok(bits / 8.0),
                // The server may not listen yet, or not be done with the run before.
                Err(ToolError::Failed(_)) if begun.elapsed() < Duration::from_secs(3) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The same by two blocking sockets.
pub fn own_throughput(direction: Direction, limit: Duration) -> Result<f64, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            on_core(server_core("bytes"), || async move {
                let (stream, _) = listener.accept()?;
                move_bytes(stream, direction == Direction::Out, limit)
            })
        });
        let client =
            on_client_cpu(|| async { move_bytes(connect(address)?, direction == Direction::In, limit) })?;
        let served = server.join().map_err(|_| "the loopback probe panicked")??;
        let received = if direction == Direction::In { served } else { client };
        Ok(received as f64 / limit.as_secs_f64())
    })
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    Ok(TcpStream::connect(address)?)
}

fn move_bytes(mut stream: TcpStream, sends: bool, limit: Duration) -> Result<usize, Failure> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut moved = 0;
    let begun = Instant::now();
    loop {
        let step = match sends {
            true if begun.elapsed() >= limit => 0,
            true => stream.write(&chunk)?,
            false => stream.read(&mut chunk)?,
        };
        if step == 0 {
            return Ok(moved);
        }
        moved += step;
    }
}
