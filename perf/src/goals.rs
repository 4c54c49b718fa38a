//! The goals that can be measured so far, as ratios from interleaved rounds.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringlog_protocol::Ack;
use ringlog_reactor::CoreConfig;
use serde::Serialize;

use crate::broker::Broker;
use crate::limits::{CLIENT_CPU, echo, make_probe_file, start_echo, synced_writes};
use crate::stats::{interval, median};
use crate::wire::Producer;

/// Anything that keeps a measurement from being made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const PROBE_FILE: &str = "probe";

/// What `goals` can be told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Folder on the disk to measure; a temporary folder is made in it and removed.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Operations of each kind in a round.
    #[arg(long, default_value_t = 1000)]
    operations: usize,
    /// Seconds to watch an idle broker.
    #[arg(long, default_value_t = 5)]
    idle_seconds: u64,
    /// Append the result as a JSON line to this file.
    #[arg(long)]
    append: Option<PathBuf>,
}

/// One round: p50 of each, in microseconds.
#[derive(Serialize)]
struct Round {
    echo_us: f64,
    write_us: f64,
    disk_us: f64,
    memory_us: f64,
}

#[derive(Serialize)]
struct Goal {
    goal: u32,
    what: &'static str,
    limit: f64,
    measured: f64,
    interval: (f64, f64),
    met: bool,
}

#[derive(Serialize)]
struct Report {
    kernel: String,
    rounds: Vec<Round>,
    goals: Vec<Goal>,
}

/// Measures and prints the table.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.rounds == 0 || options.operations == 0 {
        return Err("--rounds and --operations must be 1 or more".into());
    }
    let folder = tempfile::tempdir_in(&options.dir)?;
    let report = measure(options, folder.path())?;
    print(&report);
    if let Some(path) = &options.append {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}

fn measure(options: &Options, folder: &Path) -> Result<Report, Failure> {
    let probe = folder.join(PROBE_FILE);
    make_probe_file(&probe)?;
    let echo_address = start_echo()?;
    let broker = Broker::start(&folder.join("data"))?;
    let rounds = on_client_cpu(|| measure_rounds(options, &probe, echo_address, broker.address))?;
    let mut goals = vec![
        ratio(1, "ack disk, 1 KiB, depth 1, p50 / (D + E)", 1.2, &rounds, |round| {
            round.disk_us / (round.write_us + round.echo_us)
        }),
        ratio(5, "ack memory, 1 KiB, depth 1, p50 / E", 1.3, &rounds, |round| {
            round.memory_us / round.echo_us
        }),
    ];
    drop(broker);
    goals.extend(idle(options, folder)?);
    Ok(Report { kernel: kernel()?, rounds, goals })
}

/// Runs the blocking client on a thread pinned to its CPU: a reactor core is such a thread. What the client
/// starts inherits the pin, so brokers are started before.
fn on_client_cpu<T: Send>(client: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    let core = CoreConfig { name: "client".into(), cpu: Some(CLIENT_CPU), ..CoreConfig::default() };
    std::thread::scope(|scope| {
        let client = scope.spawn(move || ringlog_reactor::run(core, async { client() })?);
        client.join().map_err(|_| "the client panicked")?
    })
}

fn measure_rounds(
    options: &Options,
    probe: &Path,
    echo_address: SocketAddr,
    broker: SocketAddr,
) -> Result<Vec<Round>, Failure> {
    let mut producer = Producer::connect(broker, "perf")?;
    let warm_up = (options.operations / 4).max(1);
    producer.publish(Ack::Disk, warm_up)?;
    producer.publish(Ack::Memory, warm_up)?;
    (0..options.rounds)
        .map(|_| {
            let echo_us = echo(echo_address, options.operations)?.percentile_us(50.0);
            let disk_us = producer.publish(Ack::Disk, options.operations)?.percentile_us(50.0);
            let probe = probe.to_path_buf();
            let writes = options.operations;
            // On a thread of its own: a thread has one core, and this one is the client's.
            let written = std::thread::spawn(move || synced_writes(&probe, writes)).join();
            let write_us = written.map_err(|_| "the disk probe panicked")??.percentile_us(50.0);
            let memory_us = producer.publish(Ack::Memory, options.operations)?.percentile_us(50.0);
            Ok(Round { echo_us, write_us, disk_us, memory_us })
        })
        .collect()
}

/// Goal 11, on a fresh broker that nobody talks to.
fn idle(options: &Options, folder: &Path) -> Result<[Goal; 3], Failure> {
    let mut starts = Vec::new();
    let mut broker = Broker::start(&folder.join("idle"))?;
    for _ in 0..5 {
        drop(broker);
        broker = Broker::start(&folder.join("idle"))?;
        starts.push(broker.started_in.as_secs_f64() * 1000.0);
    }
    let before = broker.cpu_seconds()?;
    std::thread::sleep(Duration::from_secs(options.idle_seconds));
    let used = (broker.cpu_seconds()? - before) / options.idle_seconds.max(1) as f64 * 100.0;
    let resident = broker.resident_bytes()? as f64 / (1 << 20) as f64;
    let single = |what, limit, measured: f64| Goal {
        goal: 11,
        what,
        limit,
        measured,
        interval: (measured, measured),
        met: measured <= limit,
    };
    Ok([
        single("idle broker, CPU, %", 0.5, used),
        single("idle broker, resident, MiB", 64.0, resident),
        single("start to first accept, ms (median of 5)", 100.0, median(&starts)),
    ])
}

fn ratio(goal: u32, what: &'static str, limit: f64, rounds: &[Round], of: impl Fn(&Round) -> f64) -> Goal {
    let ratios: Vec<f64> = rounds.iter().map(of).collect();
    let measured = median(&ratios);
    Goal { goal, what, limit, measured, interval: interval(&ratios), met: measured <= limit }
}

fn kernel() -> Result<String, Failure> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_string())
}

fn print(report: &Report) {
    let of = |field: fn(&Round) -> f64| median(&report.rounds.iter().map(field).collect::<Vec<_>>());
    println!("limits of this machine in this run, p50 (medians of {} rounds)", report.rounds.len());
    println!("  E  echo 1 KiB / 64 B, blocking      {:8.1} µs", of(|round| round.echo_us));
    println!("  D  4 KiB write, RWF_DSYNC, depth 1  {:8.1} µs", of(|round| round.write_us));
    println!("ringlog, bare frames over one blocking socket");
    println!("  ack disk                            {:8.1} µs", of(|round| round.disk_us));
    println!("  ack memory                          {:8.1} µs", of(|round| round.memory_us));
    println!();
    println!("{:>4}  {:<42} {:>8} {:>8}  {:<17} met", "goal", "what", "at most", "measured", "95 % interval");
    for goal in &report.goals {
        let interval = format!("{:.2} to {:.2}", goal.interval.0, goal.interval.1);
        println!(
            "{:>4}  {:<42} {:>8.2} {:>8.2}  {:<17} {}",
            goal.goal,
            goal.what,
            goal.limit,
            goal.measured,
            interval,
            if goal.met { "yes" } else { "no" }
        );
    }
}
