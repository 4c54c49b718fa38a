//! Beside the goals: 32 producers with one record in flight each, on partitions of their own, and rotating over a
//! thousand.

use ringlog_protocol::Ack;

use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::cpus::on_client_cpu;
use crate::failure::Failure;
use crate::limits::disk::synced;
use crate::process::Server;
use crate::wire::{Connection, ManyProducers, batch_of, run_many};

const PRODUCERS: usize = 32;

/// Both of them, each with a broker of its own.
pub struct ProducersCase<'a> {
    world: &'a World,
    own: ManyProducers,
    rotating: ManyProducers,
    _brokers: [Server; 2],
}

impl<'a> ProducersCase<'a> {
    /// Starts the brokers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let brokers = [world.broker()?, world.broker()?];
        let own = producers(&brokers[0], PRODUCERS)?;
        let rotating = producers(&brokers[1], (world.scale.partitions as usize).max(PRODUCERS))?;
        let case = ProducersCase { world, own, rotating, _brokers: brokers };
        case.run(&case.own)?;
        case.run(&case.rotating)?;
        Ok(case)
    }

    fn run(&self, plan: &ManyProducers) -> Result<(f64, f64), Failure> {
        let limit = self.world.scale.sample;
        let mut done = on_client_cpu(|| async move { run_many(plan, limit).await })?;
        Ok((done.per_second, done.latencies.percentile_us(50.0)))
    }
}

fn producers(broker: &Server, partitions: usize) -> Result<ManyProducers, Failure> {
    Connection::open(broker.address)?.create_topic("producers", partitions as u32, Ack::Disk)?;
    Ok(ManyProducers {
        address: broker.address,
        topic: "producers".into(),
        producers: PRODUCERS,
        partitions,
        batch: batch_of(1)?,
        ack: Ack::Disk,
    })
}

impl Case for ProducersCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row {
                goal: 0,
                what: "32 producers, own partitions, disk, acks/s ÷ 32 / D(64 KiB)",
                limit: Limit::None,
                ratio: |limits, ours| ours.get("32 producers, acks/s") / at_once(limits),
            },
            Row {
                goal: 0,
                what: "32 producers over 1,000 partitions, the same",
                limit: Limit::None,
                ratio: |limits, ours| ours.get("32 over 1,000 partitions, acks/s") / at_once(limits),
            },
        ]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let mut written = self.world.disk.write(synced(64 << 10, self.world.scale.operations))?;
        Ok(Sample::of([("D(64 KiB) p50, µs", written.percentile_us(50.0))]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let own = self.run(&self.own)?;
        let rotating = self.run(&self.rotating)?;
        Ok(Sample::of([
            ("32 producers, acks/s", own.0),
            ("32 producers p50, µs", own.1),
            ("32 over 1,000 partitions, acks/s", rotating.0),
            ("32 over 1,000 partitions p50, µs", rotating.1),
        ]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

/// Acks a second if all producers' records took one write together.
fn at_once(limits: &Sample) -> f64 {
    PRODUCERS as f64 * 1e6 / limits.get("D(64 KiB) p50, µs")
}
