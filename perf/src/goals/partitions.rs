//! Goal 4: a thousand partitions against one. Goal 17: a thousand beside a hundred thousand.

use ringlog_protocol::Ack;

use super::case::{Case, Limit, Row, Sample};
use super::full_node::make_idle_topics;
use super::load::{IN_FLIGHT, closed_loop, open_loop, run_open, saturation};
use super::world::World;
use crate::failure::Failure;
use crate::process::Server;
use crate::wire::{Connection, OpenLoop, Pipeline, batch_of};

const TOPIC: &str = "partitions";

/// In the closed loop.
pub struct PartitionsCase<'a> {
    world: &'a World,
    one: Side,
    many: Side,
}

/// Goal 17: a thousand partitions of a hundred thousand, against a thousand that are all there is.
pub struct FullNodeCase<'a> {
    world: &'a World,
    few: Side,
    full: Side,
}

/// At the same open-loop rate: a generator that was late spoils this, and not what the closed loop gave.
pub struct PartitionsAtRateCase {
    one: OpenLoop,
    many: OpenLoop,
    _sides: [Side; 2],
}

/// One broker each, so that neither meets the other's files.
struct Side {
    broker: Server,
    producer: Pipeline,
}

impl<'a> PartitionsCase<'a> {
    /// Starts both brokers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let (one, many) = (Side::start(world, 1, 0)?, Side::start(world, world.scale.partitions, 0)?);
        Ok(PartitionsCase { world, one, many })
    }
}

impl PartitionsAtRateCase {
    /// Starts both brokers, for half of what one partition takes at most.
    pub fn start(world: &World) -> Result<Self, Failure> {
        let (mut one, many) = (Side::start(world, 1, 0)?, Side::start(world, world.scale.partitions, 0)?);
        let rate = saturation(world, &mut one.producer)? / 2.0;
        let plan = |side: &Side, partitions| open_loop(world, &side.broker, TOPIC, partitions, rate);
        Ok(PartitionsAtRateCase {
            one: plan(&one, 1)?,
            many: plan(&many, world.scale.partitions)?,
            _sides: [one, many],
        })
    }
}

impl<'a> FullNodeCase<'a> {
    /// Starts both brokers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let busy = world.scale.partitions;
        let (few, full) =
            (Side::start(world, busy, 0)?, Side::start(world, busy, world.scale.idle_partitions)?);
        Ok(FullNodeCase { world, few, full })
    }
}

impl Side {
    fn start(world: &World, partitions: u32, idle: u32) -> Result<Side, Failure> {
        let broker = world.broker()?;
        let mut connection = Connection::open(broker.address)?;
        make_idle_topics(&mut connection, idle)?;
        connection.create_topic(TOPIC, partitions, Ack::Disk)?;
        let handles = (0..partitions)
            .map(|partition| connection.open_partition(TOPIC, partition))
            .collect::<Result<_, _>>()?;
        let mut producer =
            Pipeline { connection, handles, batch: batch_of(1)?, ack: Ack::Disk, depth: IN_FLIGHT };
        // The journal's files go round, and every partition has a segment, before anything counts.
        closed_loop(world, &mut producer)?;
        Ok(Side { broker, producer })
    }
}

impl Case for PartitionsCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 4,
            what: "1,000 partitions / 1, ack disk, 64 in flight, acks/s",
            limit: Limit::AtLeast(0.9),
            ratio: |one, many| many.get("1,000 partitions, acks/s") / one.get("1 partition, acks/s"),
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([("1 partition, acks/s", closed_loop(self.world, &mut self.one.producer)?.0)]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([("1,000 partitions, acks/s", closed_loop(self.world, &mut self.many.producer)?.0)]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

impl Case for FullNodeCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 17,
            what: "1,000 partitions of 100,000 / 1,000, ack disk, acks/s",
            limit: Limit::AtLeast(0.8),
            ratio: |few, full| full.get("1,000 of 100,000, acks/s") / few.get("1,000 of 1,000, acks/s"),
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([("1,000 of 1,000, acks/s", closed_loop(self.world, &mut self.few.producer)?.0)]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([("1,000 of 100,000, acks/s", closed_loop(self.world, &mut self.full.producer)?.0)]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

impl Case for PartitionsAtRateCase {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row {
                goal: 4,
                what: "1,000 partitions / 1, same open-loop rate, achieved",
                limit: Limit::AtLeast(0.9),
                ratio: |one, many| {
                    many.get("1,000 partitions, same rate, achieved/s")
                        / one.get("1 partition, same rate, achieved/s")
                },
            },
            Row {
                goal: 4,
                what: "1,000 partitions / 1, same open-loop rate, p99",
                limit: Limit::AtMost(1.3),
                ratio: |one, many| {
                    many.get("1,000 partitions, same rate, p99 µs")
                        / one.get("1 partition, same rate, p99 µs")
                },
            },
        ]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let done = run_open(&self.one)?;
        Ok(Sample::of([
            ("1 partition, same rate, achieved/s", done.rate),
            ("1 partition, same rate, p99 µs", done.p99),
        ])
        .void(done.void))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let done = run_open(&self.many)?;
        Ok(Sample::of([
            ("1,000 partitions, same rate, achieved/s", done.rate),
            ("1,000 partitions, same rate, p99 µs", done.p99),
        ])
        .void(done.void))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}
