//! `ringlog demo`: the product's first minute. A broker of its own, real records through it, and figures that
//! say what they measure.
//!
//! Two phases, because one cannot measure both: at full speed the queues are full, so the time that a record takes is
//! the time it waits in line; paced, every record finds a free broker, so its time is what the broker needs.
//! Everything that comes back, in both phases, is compared byte for byte with what was acknowledged.

mod input;
mod ledger;
mod publish;
mod subscribe;
mod table;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ringlog_broker::config::{BrokerConfig, Cores};
use ringlog_broker::doctor;
use ringlog_broker::node::Node;
use ringlog_client::{Ack, Client, Compression, block_on};
use ringlog_reactor::{say, signal};

use super::failure::Failure;
use super::output::Output;
use input::Input;
use ledger::Ledger;
use publish::Publisher;
use table::{Bulk, Paced, Table};
use workspace::Workspace;

const TOPIC: &str = "demo";
/// Enough to be past the first moments, few enough to be done in a breath.
const EMBEDDED_RECORDS: u64 = 200_000;
/// The paced phase: far below what a disk can do, so that no record waits for the one before it.
const PACED_PER_SECOND: u64 = 1_000;
const PACED_RECORDS: u64 = 3_000;
/// The longest wait for the subscriber to get a record that was acknowledged, before the demo calls it lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Start a broker in a temporary folder, publish and subscribe, check every byte, show figures
///
/// Starts a broker on a free loopback port with one shard per core, creates a topic, publishes real input while a
/// subscriber reads it, compares what came back byte for byte with what went in, and prints a table. Leaves nothing
/// behind. The input is --file, or standard input when it is piped, or else text of Ringlog's own repository.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog demo
  ringlog demo --file /var/log/syslog
  seq 1000000 | ringlog demo --dir /mnt/nvme")]
pub struct DemoArgs {
    /// Publish the lines of this file
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// Where to make the temporary folder; the figures are those of this disk [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many records to publish when the input is Ringlog's own text
    #[arg(long, value_name = "N", default_value_t = EMBEDDED_RECORDS, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Partitions of the topic [default: two per shard]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// One shard per core: `all`, a count, or a list
    #[arg(long, value_name = "N|all|LIST", default_value = "all")]
    cores: Cores,
}

/// Runs the demo and cleans up after it, however it ends.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    // Before any other thread exists, so that Ctrl-C comes to the one that waits for it, which removes the folder.
    signal::block_termination().map_err(|error| Failure::said(format!("cannot block signals: {error}")))?;
    let output = Output::open()?;
    let workspace = Workspace::create(args.dir.as_deref())?;
    doctor::refuse_if_unfit(workspace.path()).map_err(Failure::said)?;
    workspace.remove_on_signal()?;
    let input = Input::open(args.file.as_deref(), args.records)?;
    let node = start(&workspace, args.cores.clone())?;
    let outcome = measure(&node, input, args);
    let stopped =
        node.stop().map_err(|error| Failure::said(format!("the broker did not stop well: {error}")));
    let table = outcome?;
    stopped?;
    table.print(&workspace, output)
}

fn start(workspace: &Workspace, cores: Cores) -> Result<Node, Failure> {
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = BrokerConfig { data_dir: workspace.path().into(), listen, cores, ..BrokerConfig::default() };
    Node::start(config).map_err(Failure::said)
}

fn measure(node: &Node, mut input: Input, args: &DemoArgs) -> Result<Table, Failure> {
    let address = node.address().to_string();
    let client = block_on(Client::connect([address.as_str()])).map_err(Failure::said)?;
    let shards = node.summary().shards;
    let partitions = args.partitions.unwrap_or(2 * shards);
    block_on(client.admin().create_topic(TOPIC).partitions(partitions).send()).map_err(Failure::said)?;

    let ledger = Arc::new(Ledger::new(partitions as usize));
    let subscriber = subscribe::start(&address, TOPIC, &ledger)?;
    let producer = client.producer(TOPIC).ack(Ack::Disk).compression(Compression::None);
    let producer = block_on(producer.build()).map_err(Failure::said)?;
    let mut publisher = Publisher::start(producer, &ledger);
    say!("publishing {} to a broker with {shards} shards at {address} …", input.name());

    let bulk = at_full_speed(&mut input, &mut publisher, &ledger)?;
    let paced = paced(&input, &mut publisher, &ledger)?;
    publisher.finish()?;
    ledger.close();
    subscriber.join()?;
    Ok(Table { input: input.name().to_owned(), shards, partitions, bulk, paced })
}

/// Everything the input has, as fast as the producer admits it.
fn at_full_speed(input: &mut Input, publisher: &mut Publisher, ledger: &Ledger) -> Result<Bulk, Failure> {
    let begin = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while let Some(line) = input.next_line()? {
        records += 1;
        bytes += line.len() as u64;
        publisher.send(line, None)?;
    }
    if records == 0 {
        return Err(Failure::said("the input has no lines: nothing to publish"));
    }
    publisher.wait_acked(records)?;
    let acked_after = begin.elapsed();
    ledger.wait_verified(records, LOST_AFTER)?;
    Ok(Bulk { records, bytes, acked_after, delivered_after: begin.elapsed() })
}

/// An open loop: each record has its moment, and its time counts from that moment, also when an earlier one was slow.
fn paced(input: &Input, publisher: &mut Publisher, ledger: &Ledger) -> Result<Paced, Failure> {
    let before = publisher.sent();
    let step = Duration::from_secs(1) / u32::try_from(PACED_PER_SECOND).unwrap_or(1);
    let mut lateness = table::histogram();
    let mut bytes = 0;
    let begin = Instant::now() + step;
    for (index, line) in (0..PACED_RECORDS).zip(input.again()) {
        let due = begin + step * u32::try_from(index).unwrap_or(u32::MAX);
        wait_until(due);
        table::note(&mut lateness, due.elapsed());
        bytes += line.len() as u64;
        publisher.send(line, Some(due))?;
    }
    publisher.wait_acked(before + PACED_RECORDS)?;
    ledger.wait_verified(before + PACED_RECORDS, LOST_AFTER)?;
    let (ack, delivery) = ledger.latencies();
    Ok(Paced { records: PACED_RECORDS, bytes, per_second: PACED_PER_SECOND, lateness, ack, delivery })
}

/// Sleeps most of the way and spins the rest: the kernel wakes a sleeper some 50 µs late, which is as long as a
/// durable write takes, and would be counted as the broker's.
fn wait_until(due: Instant) {
    const SPIN: Duration = Duration::from_micros(120);
    if let Some(left) = due.saturating_duration_since(Instant::now()).checked_sub(SPIN) {
        thread::sleep(left);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}
