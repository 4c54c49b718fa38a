//! `perf limits`: what this machine can do, in one table.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringlog_reactor::fs::Sync;
use ringlog_reactor::print_line;

use super::disk::{DiskProbe, Writes};
use super::echo::{E_SIZE, EchoClient, start_echo};
use super::fio;
use super::loopback::{Direction, Iperf, own_throughput};
use super::tool::{ToolError, say_missing};
use crate::cpus::{Busy, on_client_cpu};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::progress::progress;
use crate::stats::Latencies;
use crate::wait::Wait;

/// How long an echo server spins that is to be met awake.
const SPIN: Wait = Wait::Spin(Duration::from_millis(10));
const D_BYTES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
const D_DEPTHS: [usize; 3] = [1, 2, 4];
const S_DEPTHS: [usize; 2] = [1, 4];
const S_BYTES: usize = 1 << 20;

/// What `limits` can be told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Folder on the disk to measure; a temporary folder is made in it and removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Operations of each latency
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    operations: u32,
    /// Seconds of each throughput
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Megabytes of each sequential write
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    megabytes: u32,
}

/// Percentiles, in microseconds.
struct Tail {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Tail {
    fn of(latencies: &mut Latencies) -> Tail {
        let mut percentile = |percent| latencies.percentile_us(percent);
        Tail { p50: percentile(50.0), p99: percentile(99.0), p999: percentile(99.9) }
    }

    fn print(&self, limit: &str, what: &str, by: &str) {
        progress("");
        print_line!(
            "{limit:<3} {what:<46} {:>9.1} {:>9.1} {:>9.1} µs     {by}",
            self.p50,
            self.p99,
            self.p999
        );
    }
}

/// Measures everything and prints the table as it comes.
pub fn run(options: &Options) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(&options.dir)?;
    print_line!("{}\n", Machine::describe(folder.path())?.line());
    print_line!("{:<3} {:<46} {:>9} {:>9} {:>9}        by", "", "", "p50", "p99", "p99.9");
    echoes(options)?;
    disk(options, folder.path())?;
    loopback(options)
}

/// E and C.
fn echoes(options: &Options) -> Result<(), Failure> {
    for (wait, how) in [(Wait::Block, "blocking"), (SPIN, "spinning")] {
        progress(&format!("E, {how}"));
        let server = start_echo(E_SIZE, wait)?;
        let mut client = EchoClient::connect(server.address, E_SIZE, wait != Wait::Block)?;
        let (client, count) = (&mut client, options.operations as usize);
        on_client_cpu(|| async { client.round_trips(count / 10) })?;
        let (mut echoed, cpu) = on_client_cpu(|| async {
            let busy = Busy::begin(&[server.pid()])?;
            let echoed = client.round_trips_for(Duration::from_secs(options.seconds.into()))?;
            let cpu = busy.seconds()? * 1e6 / echoed.count() as f64;
            Ok((echoed, cpu))
        })?;
        progress("");
        Tail::of(&mut echoed).print("E", &format!("echo 1 KiB there, 64 B back, {how}"), "raw ring");
        let what = format!("its CPU per message, whole machine, {how}");
        print_line!("{:<3} {what:<46} {cpu:>9.1} {:>9} {:>9} µs     /proc/stat", "C", "", "");
    }
    print_line!("");
    Ok(())
}

/// D and S.
fn disk(options: &Options, folder: &Path) -> Result<(), Failure> {
    let probe = DiskProbe::make(&folder.join("probe"))?;
    let mut has_fio = true;
    for depth in D_DEPTHS {
        for bytes in D_BYTES {
            let count = options.operations as usize;
            let what = format!("write {:>2} KiB O_DIRECT RWF_DSYNC, depth {depth}", bytes >> 10);
            progress(&what);
            if has_fio {
                match fio::synced_writes(probe.path(), bytes, depth, count) {
                    Ok(fio) => Tail { p50: fio.p50, p99: fio.p99, p999: fio.p999 }.print("D", &what, "fio"),
                    Err(ToolError::Missing) => {
                        has_fio = false;
                        say_missing("fio", "D and S are by our own small writer alone");
                    }
                    Err(ToolError::Failed(error)) => return Err(error),
                }
            }
            let mut own = probe.write(Writes { bytes, depth, count, sync: Sync::Data })?;
            Tail::of(&mut own).print(if has_fio { "" } else { "D" }, &what, "own writer");
        }
    }
    print_line!("");
    for depth in S_DEPTHS {
        let what = format!("sequential 1 MiB O_DIRECT writes, depth {depth}");
        progress(&what);
        let total = (options.megabytes as usize) << 20;
        if has_fio {
            match fio::sequential_write(probe.path(), depth, total) {
                Ok(per_second) => print_throughput("S", &what, per_second, "fio"),
                Err(ToolError::Missing) => return Err("fio is gone".into()),
                Err(ToolError::Failed(error)) => return Err(error),
            }
        }
        let begun = Instant::now();
        probe.write(Writes { bytes: S_BYTES, depth, count: total / S_BYTES, sync: Sync::None })?;
        let per_second = total as f64 / begun.elapsed().as_secs_f64();
        print_throughput(if has_fio { "" } else { "S" }, &what, per_second, "own writer");
    }
    print_line!("");
    Ok(())
}

/// N.
fn loopback(options: &Options) -> Result<(), Failure> {
    let iperf = match Iperf::start() {
        Ok(iperf) => Some(iperf),
        Err(ToolError::Missing) => {
            say_missing("iperf3", "N is by our own two sockets alone");
            None
        }
        Err(ToolError::Failed(error)) => return Err(error),
    };
    for (direction, way) in [(Direction::In, "client to broker"), (Direction::Out, "broker to client")] {
        let what = format!("loopback, {way}");
        progress(&what);
        if let Some(iperf) = &iperf {
            match iperf.throughput(direction, options.seconds.into()) {
                Ok(per_second) => print_throughput("N", &what, per_second, "iperf3"),
                Err(ToolError::Missing) => return Err("iperf3 is gone".into()),
                Err(ToolError::Failed(error)) => return Err(error),
            }
        }
        let own = own_throughput(direction, Duration::from_secs(options.seconds.into()))?;
        print_throughput(if iperf.is_some() { "" } else { "N" }, &what, own, "own two sockets");
    }
    Ok(())
}

fn print_throughput(limit: &str, what: &str, per_second: f64, by: &str) {
    progress("");
    print_line!("{limit:<3} {what:<46} {:>9.0} {:>9} {:>9} MB/s   {by}", per_second / 1e6, "", "");
}
