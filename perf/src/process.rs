//! Servers under measurement: processes of their own, on the first core, killed when dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringlog_broker::config::{BrokerConfig, Cores};
use ringlog_broker::node::Node;
use ringlog_reactor::print_line;
use ringlog_reactor::{probe, signal};

use crate::cpus::{SERVER_CPU, TICKS_PER_SECOND};
use crate::failure::Failure;
use crate::wait::Wait;

/// What the broker's process runs, until SIGTERM; its address is the one line it prints.
pub fn serve(data_dir: &Path, wait: Wait) -> Result<(), Failure> {
    signal::block_termination()?;
    // A broker with a thousand partitions has a file for each.
    let _ = probe::raise_nofile();
    let config = BrokerConfig {
        data_dir: data_dir.to_path_buf(),
        listen: "127.0.0.1:0".parse()?,
        cores: Cores::List(vec![SERVER_CPU]),
        wait: wait.policy(),
        ..BrokerConfig::default()
    };
    let node = Node::start(config)?;
    print_line!("{}", node.address());
    Ok(node.wait()?)
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to the line that says it listens.
    pub started_in: Duration,
}

impl Server {
    /// Starts a broker; on a fresh folder unless it holds data already.
    pub fn broker(data_dir: &Path, wait: Wait) -> Result<Server, Failure> {
        Server::start([
            OsStr::new("serve"),
            data_dir.as_os_str(),
            OsStr::new("--wait"),
            wait.to_string().as_ref(),
        ])
    }

    /// Starts this program again with a hidden subcommand that prints its address and serves.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Server, Failure> {
        let begun = Instant::now();
        let mut child =
            Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no pipe to the server")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let started_in = begun.elapsed();
        match line.trim().parse() {
            Ok(address) => Ok(Server { child, address, started_in }),
            Err(_) => {
                let status = child.wait()?;
                Err(format!("a server under measurement did not start ({status})").into())
            }
        }
    }

    /// Ends it by SIGTERM, and waits for its orderly end.
    pub fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("a server under measurement did not stop in order ({status})").into()),
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        Ok(number_after(&status, "VmRSS:")? * 1024)
    }

    /// CPU it has used so far, user and system.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The command name, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
        let after = stat.rsplit_once(") ").ok_or("no stat")?.1;
        let ticks = |field: usize| -> Result<f64, Failure> {
            Ok(after.split(' ').nth(field - 3).ok_or("no stat")?.parse()?)
        };
        Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
    }

    /// Bytes it has had read from and written to disk so far.
    pub fn disk_bytes(&self) -> Result<DiskBytes, Failure> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        Ok(DiskBytes { read: number_after(&io, "read_bytes:")?, written: number_after(&io, "write_bytes:")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has moved between memory and disk.
#[derive(Clone, Copy)]
pub struct DiskBytes {
    /// From the disk.
    pub read: u64,
    /// To the disk.
    pub written: u64,
}

/// The number behind a label at the beginning of a line.
fn number_after(text: &str, label: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("no {label} in /proc"))?.parse()?)
}
