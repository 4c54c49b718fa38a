//! The broker under measurement: a process of its own, on the first core.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringlog_broker::config::{BrokerConfig, Cores};
use ringlog_broker::node::Node;
use ringlog_reactor::signal;

use crate::goals::Failure;

/// Clock ticks a second in `/proc/<pid>/stat`: 100 on every Linux that Ringlog runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs a broker until SIGTERM; its address is the one line it prints.
pub fn serve(data_dir: &Path) -> Result<(), Failure> {
    signal::block_termination()?;
    let config = BrokerConfig {
        data_dir: data_dir.to_path_buf(),
        listen: "127.0.0.1:0".parse()?,
        cores: Cores::List(vec![crate::limits::SERVER_CPU]),
        ..BrokerConfig::default()
    };
    let node = Node::start(config)?;
    println!("{}", node.address());
    Ok(node.wait()?)
}

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to its first accept.
    pub started_in: Duration,
}

impl Broker {
    /// Starts one on a fresh folder.
    pub fn start(data_dir: &Path) -> Result<Broker, Failure> {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(data_dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no pipe to the broker")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let started_in = begun.elapsed();
        match line.trim().parse() {
            Ok(address) => Ok(Broker { child, address, started_in }),
            Err(_) => {
                let status = child.wait()?;
                Err(format!("the broker did not start ({status})").into())
            }
        }
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    /// CPU it has used so far, user and system.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The command name, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
        let after = stat.rsplit_once(") ").ok_or("no stat")?.1;
        let ticks = |field: usize| -> Result<f64, Failure> {
            Ok(after.split(' ').nth(field - 3).ok_or("no stat")?.parse()?)
        };
        Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
