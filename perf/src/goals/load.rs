//! Goals 2 and 3: many small durable records at a time, in closed and in open loops.

use ringlog_protocol::Ack;
use ringlog_reactor::{CoreConfig, WaitPolicy};

use super::acks::{echo_on_client_cpu, one_by_one};
use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::cpus::{CLIENT_CPU, on_client_cpu, on_core};
use crate::failure::Failure;
use crate::limits::disk::synced;
use crate::limits::echo::{E_SIZE, EchoClient, start_echo};
use crate::process::Server;
use crate::wire::{OpenLoop, Pipeline, Until, batch_of, run_open_loop};

/// Records in flight on the one connection of the closed loops.
pub const IN_FLIGHT: usize = 64;
/// A generator later than this part of what it measures has measured itself.
const LATENESS: f64 = 0.1;

/// Goal 3: 64 records in flight on one connection.
pub struct InFlightCase<'a> {
    world: &'a World,
    producer: Pipeline,
    _broker: Server,
}

impl<'a> InFlightCase<'a> {
    /// Starts the broker.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let broker = world.broker()?;
        let producer = one_by_one(&broker, "in-flight", Ack::Disk)?;
        Ok(InFlightCase { world, producer: Pipeline { depth: IN_FLIGHT, ..producer }, _broker: broker })
    }
}

impl Case for InFlightCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 3,
            what: "ack disk, 64 in flight, acks/s ÷ 64 / D(64 KiB)",
            limit: Limit::AtLeast(0.8),
            ratio: |limits, ours| {
                ours.get("64 in flight, acks/s") / (IN_FLIGHT as f64 * 1e6 / limits.get("D(64 KiB) p50, µs"))
            },
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let mut written = self.world.disk.write(synced(64 << 10, self.world.scale.operations))?;
        Ok(Sample::of([("D(64 KiB) p50, µs", written.percentile_us(50.0))]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let (per_second, p50) = closed_loop(self.world, &mut self.producer)?;
        Ok(Sample::of([("64 in flight, acks/s", per_second), ("64 in flight p50, µs", p50)]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

/// Goal 2: an open loop at half of what the closed loop with 64 in flight reaches.
pub struct OpenLoopCase<'a> {
    world: &'a World,
    echo: EchoClient,
    plan: OpenLoop,
    _servers: [Server; 2],
}

impl<'a> OpenLoopCase<'a> {
    /// Starts the servers and finds the saturation.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let (broker, echo_server) = (world.broker()?, start_echo(E_SIZE, world.wait)?);
        let mut producer = Pipeline { depth: IN_FLIGHT, ..one_by_one(&broker, "open-loop", Ack::Disk)? };
        let saturation = saturation(world, &mut producer)?;
        let plan = open_loop(world, &broker, "open-loop", 1, saturation / 2.0)?;
        let echo = EchoClient::connect(echo_server.address, E_SIZE, false)?;
        Ok(OpenLoopCase { world, echo, plan, _servers: [broker, echo_server] })
    }
}

impl Case for OpenLoopCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 2,
            what: "ack disk, open loop at half load, p99.9 / (D + E p99.9)",
            limit: Limit::AtMost(2.0),
            ratio: |limits, ours| {
                ours.get("open loop p99.9, µs") / (limits.get("D p99.9, µs") + limits.get("E p99.9, µs"))
            },
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        // A tail of one in a thousand wants thousands.
        let operations = self.world.scale.operations * 5;
        let mut written = self.world.disk.write(synced(4096, operations))?;
        let mut echoed = echo_on_client_cpu(&mut self.echo, operations)?;
        Ok(Sample::of([
            ("D p99.9, µs", written.percentile_us(99.9)),
            ("D p99, µs", written.percentile_us(99.0)),
            ("E p99.9, µs", echoed.percentile_us(99.9)),
        ]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let done = run_open(&self.plan)?;
        Ok(Sample::of([
            ("open loop rate, records/s", done.rate),
            ("open loop p50, µs", done.p50),
            ("open loop p99, µs", done.p99),
            ("open loop p99.9, µs", done.p999),
            ("open loop lateness p99, µs", done.lateness_p99),
        ])
        .void(done.void))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

/// One sample of a closed loop: acknowledged records a second, and the p50 in microseconds.
pub fn closed_loop(world: &World, producer: &mut Pipeline) -> Result<(f64, f64), Failure> {
    let limit = world.scale.sample;
    let mut done = on_client_cpu(|| async { producer.run(Until::Elapsed(limit)) })?;
    Ok((done.per_second, done.latencies.percentile_us(50.0)))
}

/// Acknowledged records a second in the closed loop, after a warm-up.
pub fn saturation(world: &World, producer: &mut Pipeline) -> Result<f64, Failure> {
    closed_loop(world, producer)?;
    Ok(closed_loop(world, producer)?.0)
}

/// A plan for one sample of single records at ack `disk`, `rate` a second.
pub fn open_loop(
    world: &World,
    broker: &Server,
    topic: &str,
    partitions: u32,
    rate: f64,
) -> Result<OpenLoop, Failure> {
    Ok(OpenLoop {
        address: broker.address,
        topic: topic.to_string(),
        partitions,
        batch: batch_of(1)?,
        ack: Ack::Disk,
        rate,
        limit: world.scale.sample,
    })
}

/// What an open loop gave, in records a second and microseconds.
pub struct Opened {
    /// Acknowledged.
    pub rate: f64,
    /// The median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The generator's own.
    pub lateness_p99: f64,
    /// Why none of it counts.
    pub void: Option<String>,
}

/// Runs an open loop, on the client's CPU.
pub fn run_open(plan: &OpenLoop) -> Result<Opened, Failure> {
    let plan = plan.clone();
    // A generator that sleeps is woken late; while it spins it yields to the disk's workers, which share its CPU.
    let core = CoreConfig {
        name: "generator".into(),
        cpu: Some(CLIENT_CPU),
        wait: WaitPolicy::Busy,
        ..CoreConfig::default()
    };
    let mut done = on_core(core, move || async move { run_open_loop(&plan).await })?;
    let (p99, lateness_p99) = (done.latencies.percentile_us(99.0), done.lateness.percentile_us(99.0));
    let void = (lateness_p99 > LATENESS * p99)
        .then(|| format!("the generator was late itself, p99 {lateness_p99:.0} µs of {p99:.0} µs"));
    let (p50, p999) = (done.latencies.percentile_us(50.0), done.latencies.percentile_us(99.9));
    Ok(Opened { rate: done.per_second, p50, p99, p999, lateness_p99, void })
}
