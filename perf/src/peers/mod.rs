//! Ringlog beside other brokers: the load generator's own loop drives each through its own client, in turn, so that what
//! the machine does to one it does to all. Brokers run on the first CPU and all clients on the second.
//!
//! A comparison is made within an ack class only. Peers are started by `scripts/peers/` or by hand, and reached by
//! address; Ringlog is started here, on a fresh folder.

mod case;
mod class;
mod contender;
#[cfg(feature = "iggy")]
mod iggy;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
mod setup;
mod table;

use std::path::PathBuf;

use clap::Args;

use crate::cpus::on_client_cpu;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::process::Server;
use crate::wait::Wait;
use case::{Case, Measured};
pub use class::Class;
use contender::Contender;
use setup::Setup;
use table::Table;

/// What `peers` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// Address of a Kafka broker; its class is set by topic
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Address of a NATS server with JetStream, at its default sync_interval
    #[arg(long, value_name = "HOST:PORT")]
    nats_memory: Option<String>,
    /// Address of a NATS server with sync_interval: always
    #[arg(long, value_name = "HOST:PORT")]
    nats_flushed: Option<String>,
    /// Address of an Iggy server at its defaults (user and password from IGGY_USERNAME and IGGY_PASSWORD)
    #[arg(long, value_name = "HOST:PORT")]
    iggy_memory: Option<String>,
    /// Address of an Iggy server with enforce_fsync=true and messages_required_to_save=1
    #[arg(long, value_name = "HOST:PORT")]
    iggy_flushed: Option<String>,
    /// Ack classes to compare in
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Class::Memory, Class::Flushed])]
    class: Vec<Class>,
    /// Cases to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::ALL)]
    case: Vec<Case>,
    /// Rounds, each of them there and back: A B C, C B A
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured seconds of each run, after one second that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Records a second of the open loop; the default is half of what the slowest manages with 8 producers
    #[arg(long)]
    rate: Option<f64>,
    /// Folder below which Ringlog's data folder is made: give the disk that the peers use
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How Ringlog's broker waits
    #[arg(long, default_value = "block")]
    wait: Wait,
    /// JSON lines are appended to this file
    #[arg(long, default_value = "perf/results/peers.jsonl")]
    results: PathBuf,
}

impl Options {
    /// Who takes part in a class. Ringlog comes first.
    fn contenders(&self, class: Class, ringlog: &str) -> Result<Vec<Contender>, Failure> {
        let (nats, iggy) = match class {
            Class::Memory => (&self.nats_memory, &self.iggy_memory),
            Class::Flushed => (&self.nats_flushed, &self.iggy_flushed),
        };
        let setup = |address: &str| Setup {
            address: address.to_string(),
            class: class.ack_class(),
            large_batches: false,
        };
        let mut contenders = Contender::of_ringlog(&setup(ringlog));
        let peers = [("kafka", &self.kafka), ("nats", nats), ("iggy", iggy)];
        for (name, address) in peers.into_iter().filter_map(|(name, address)| Some((name, address.as_ref()?)))
        {
            contenders.push(Contender::of_peer(name, setup(address))?);
        }
        Ok(contenders)
    }
}

/// Measures everything that was asked for.
pub fn run(options: &Options) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(&options.dir)?;
    let server = Server::broker(folder.path(), options.wait)?;
    let address = server.address.to_string();
    let mut table = Table::new(Machine::describe(folder.path())?, &options.results);
    for &class in &options.class {
        let contenders = options.contenders(class, &address)?;
        let mut rate = options.rate;
        table.begin(class, contenders.len());
        for &case in &options.case {
            let rounds = on_client_cpu(|| measure(options, case, rate, &contenders))?;
            if case == Case::Eight && rate.is_none() {
                rate = slowest(&rounds).map(|slowest| (slowest / 2.0).floor());
            }
            table.add(case, &rounds)?;
        }
    }
    Ok(())
}

/// Runs a case for each contender, there and back: every contender's runs, in their order.
async fn measure(
    options: &Options,
    case: Case,
    rate: Option<f64>,
    contenders: &[Contender],
) -> Result<Vec<(String, Vec<Measured>)>, Failure> {
    let mut runs: Vec<(String, Vec<Measured>)> =
        contenders.iter().map(|contender| (contender.name().to_string(), Vec::new())).collect();
    for _ in 0..options.rounds {
        let there = 0..contenders.len();
        for index in there.clone().chain(there.rev()) {
            let plan = case.plan(options.seconds, rate)?;
            let measured = contenders[index].run(case, plan).await;
            let measured = measured.map_err(|error| format!("{}: {error}", contenders[index].name()))?;
            runs[index].1.push(measured);
        }
    }
    Ok(runs)
}

fn slowest(runs: &[(String, Vec<Measured>)]) -> Option<f64> {
    runs.iter().flat_map(|(_, runs)| runs).map(|run| run.per_second).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        let line: Line = clap::Parser::parse_from(["peers"].iter().chain(arguments));
        line.options
    }

    #[test]
    fn a_peer_takes_part_in_the_class_of_its_address_only() {
        let options = options(&["--nats-flushed", "127.0.0.1:4222"]);
        let alone = options.contenders(Class::Memory, "127.0.0.1:7171").expect("no peer in this class").len();
        match options.contenders(Class::Flushed, "127.0.0.1:7171") {
            Ok(contenders) => assert_eq!(contenders.len(), alone + 1),
            Err(error) => assert!(error.to_string().contains("--features nats"), "{error}"),
        }
    }
}
