//! The comparison: all servers in turn, in one order and back, round after round.

use std::time::Duration;

use ringlog_reactor::print_line;

use super::{NOT_BUILT, Runtime};
use crate::cpus::{Busy, on_client_cpu};
use crate::failure::Failure;
use crate::limits::echo::{EchoClient, EchoSize};
use crate::machine::Machine;
use crate::process::Server;
use crate::progress::progress;
use crate::stats::{Latencies, interval, median};
use crate::wait::Wait;

const SIZES: [usize; 2] = [64, 1024];

/// What `runtimes` can be told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Rounds: each runs every server twice, there and back
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of each run
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    milliseconds: u32,
}

/// One runtime's server, its client, and what was found.
struct Contender {
    runtime: Runtime,
    server: Server,
    client: EchoClient,
    latencies: Latencies,
    p50_us: Vec<f64>,
    cpu_us: Vec<f64>,
}

/// Measures and prints the tables.
pub fn run(options: &Options) -> Result<(), Failure> {
    if !cfg!(feature = "runtimes") {
        return Err(NOT_BUILT.into());
    }
    print_line!("{}", Machine::describe(&std::env::temp_dir())?.line());
    for wait in ["block", "spin"] {
        for bytes in SIZES {
            compare(options, wait.parse()?, EchoSize { request: bytes, reply: bytes })?;
        }
    }
    Ok(())
}

fn compare(options: &Options, wait: Wait, size: EchoSize) -> Result<(), Failure> {
    let taking_part = Runtime::ALL.into_iter().filter(|runtime| wait == Wait::Block || runtime.can_spin());
    let mut contenders =
        taking_part.map(|runtime| Contender::start(runtime, wait, size)).collect::<Result<Vec<_>, _>>()?;
    let limit = Duration::from_millis(options.milliseconds.into());
    for round in 1..=options.rounds {
        progress(&format!("{} bytes, {wait}: round {round} of {}", size.request, options.rounds));
        for contender in &mut contenders {
            contender.measure(limit)?;
        }
        for contender in contenders.iter_mut().rev() {
            contender.measure(limit)?;
        }
    }
    progress("");
    print_line!("\n{}-byte echo, server waits: {wait}; one blocking client", size.request);
    print_line!(
        "  {:<8} {:>9} {:>9} {:>14}   p50 / reactor's, 95 % interval",
        "",
        "p50, µs",
        "p99, µs",
        "CPU µs/message"
    );
    let ours = contenders[0].p50_us.clone();
    for contender in &mut contenders {
        contender.print(&ours);
    }
    Ok(())
}

impl Contender {
    fn start(runtime: Runtime, wait: Wait, size: EchoSize) -> Result<Contender, Failure> {
        let (request, reply, waits) = (size.request.to_string(), size.reply.to_string(), wait.to_string());
        let arguments =
            ["echo", &request, &reply, "--wait", &waits, "--runtime", runtime.name()].map(AsRef::as_ref);
        let server = Server::start(arguments)?;
        let mut client = EchoClient::connect(server.address, size, false)?;
        client.round_trips(500)?;
        let latencies = Latencies::default();
        Ok(Contender { runtime, server, client, latencies, p50_us: Vec::new(), cpu_us: Vec::new() })
    }

    fn measure(&mut self, limit: Duration) -> Result<(), Failure> {
        let busy = Busy::begin(&[self.server.pid()])?;
        let client = &mut self.client;
        let mut echoed = on_client_cpu(|| async { client.round_trips_for(limit) })?;
        self.cpu_us.push(busy.seconds()? * 1e6 / echoed.count() as f64);
        self.p50_us.push(echoed.percentile_us(50.0));
        self.latencies.merge(echoed);
        Ok(())
    }

    fn print(&mut self, ours: &[f64]) {
        let ratios: Vec<f64> = self.p50_us.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
        let (low, high) = interval(&ratios);
        print_line!(
            "  {:<8} {:>9.1} {:>9.1} {:>14.1}   {:.2} ({low:.2} to {high:.2})",
            self.runtime.name(),
            self.latencies.percentile_us(50.0),
            self.latencies.percentile_us(99.0),
            median(&self.cpu_us),
            median(&ratios),
        );
    }
}
