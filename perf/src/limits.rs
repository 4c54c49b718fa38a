//! The machine's own limits, by code as small as the job: E, an echo, and D, a synced write.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringlog_reactor::fs::{File, OpenOptions, Sync};
use ringlog_reactor::net::Listener;
use ringlog_reactor::{CoreConfig, aligned, spawn};

use crate::goals::Failure;
use crate::stats::Latencies;

/// Where brokers, echo servers and disk writers run.
pub const SERVER_CPU: usize = 0;
/// Where the measuring client runs.
pub const CLIENT_CPU: usize = 1;

const ECHO_REQUEST: usize = 1024;
const ECHO_REPLY: usize = 64;
const WRITE_BYTES: usize = 4096;
const PROBE_FILE_BYTES: usize = 16 << 20;

/// What the server core runs as.
pub fn server_core(name: &str) -> CoreConfig {
    CoreConfig { name: name.to_string(), cpu: Some(SERVER_CPU), ..CoreConfig::default() }
}

/// Starts an echo server on the reactor: 64 bytes back for every 1,024 that came. It lives as long as the process.
pub fn start_echo() -> Result<SocketAddr, Failure> {
    let (ready, address) = mpsc::channel();
    std::thread::spawn(move || {
        ringlog_reactor::run(server_core("echo"), async move {
            let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            let _ = ready.send(listener.local_addr());
            loop {
                let (stream, _) = listener.accept().await?;
                spawn(async move {
                    let reply = bytes::Bytes::from_static(&[7; ECHO_REPLY]);
                    let mut received = 0;
                    while let Ok(Some(buffer)) = stream.recv().await {
                        received += buffer.len();
                        while received >= ECHO_REQUEST {
                            received -= ECHO_REQUEST;
                            if stream.send(vec![reply.clone()]).await.is_err() {
                                return;
                            }
                        }
                    }
                })
                .detach();
            }
            #[allow(unreachable_code)]
            std::io::Result::Ok(())
        })
    });
    Ok(address.recv()?)
}

/// E: round trips of 1 KiB there and 64 B back, over a blocking socket.
pub fn echo(address: SocketAddr, count: usize) -> Result<Latencies, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (request, mut reply) = ([3; ECHO_REQUEST], [0; ECHO_REPLY]);
    let mut latencies = Latencies::default();
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}

/// Makes the file that D writes into: its extents are written, as those of a journal are.
pub fn make_probe_file(path: &Path) -> Result<(), Failure> {
    ringlog_reactor::run(server_core("zero"), async {
        let options = OpenOptions::new().write(true).create(true).direct(true);
        let file = File::open(path, &options).await?;
        let mut zeros = aligned(1 << 20);
        zeros.resize(1 << 20, 0);
        let zeros = zeros.freeze();
        for at in (0..PROBE_FILE_BYTES).step_by(1 << 20) {
            file.write_at(vec![zeros.clone()], at as u64, Sync::None).await?;
        }
        file.sync_all().await
    })??;
    Ok(())
}

/// D: synced 4 KiB writes, one after another.
pub fn synced_writes(path: &Path, count: usize) -> Result<Latencies, Failure> {
    let latencies = ringlog_reactor::run(server_core("write"), async {
        let options = OpenOptions::new().write(true).direct(true);
        let file = File::open(path, &options).await?;
        let mut block = aligned(WRITE_BYTES);
        block.resize(WRITE_BYTES, 0x5A);
        let block = block.freeze();
        let mut latencies = Latencies::default();
        for number in 0..count {
            let at = (number * WRITE_BYTES) % PROBE_FILE_BYTES;
            let begun = Instant::now();
            file.write_at(vec![block.clone()], at as u64, Sync::Data).await?;
            latencies.record(begun.elapsed());
        }
        std::io::Result::Ok(latencies)
    })??;
    Ok(latencies)
}
