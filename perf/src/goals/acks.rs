//! Goals 1, 5 and 10: one record at a time, to its acknowledgement or to its subscriber.

use ringlog_protocol::Ack;

use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::cpus::on_client_cpu;
use crate::failure::Failure;
use crate::limits::disk::synced;
use crate::limits::echo::{E_SIZE, EchoClient, start_echo};
use crate::process::Server;
use crate::stats::Latencies;
use crate::wire::{Connection, Pipeline, Subscriber, Until, batch_of};

/// Credit that no sample uses up.
const ENOUGH_CREDIT: u32 = i32::MAX as u32;

/// Acknowledged one at a time, `disk` and `memory`.
pub struct AckCase<'a> {
    world: &'a World,
    echo: EchoClient,
    to_disk: Pipeline,
    to_memory: Pipeline,
    _servers: [Server; 2],
}

impl<'a> AckCase<'a> {
    /// Starts the servers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let (broker, echo_server) = (world.broker()?, start_echo(E_SIZE, world.wait)?);
        let to_disk = one_by_one(&broker, "disk", Ack::Disk)?;
        let to_memory = one_by_one(&broker, "memory", Ack::Memory)?;
        let echo = EchoClient::connect(echo_server.address, E_SIZE, false)?;
        Ok(AckCase { world, echo, to_disk, to_memory, _servers: [broker, echo_server] })
    }
}

fn p50(producer: &mut Pipeline, records: usize) -> Result<f64, Failure> {
    let mut done = on_client_cpu(|| async { producer.run(Until::Count(records)) })?;
    Ok(done.latencies.percentile_us(50.0))
}

impl Case for AckCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row {
                goal: 1,
                what: "ack disk, 1 KiB, depth 1, p50 / (D + E)",
                limit: Limit::AtMost(1.2),
                ratio: |limits, ours| {
                    ours.get("ack disk p50, µs") / (limits.get("D p50, µs") + limits.get("E p50, µs"))
                },
            },
            Row {
                goal: 5,
                what: "ack memory, 1 KiB, depth 1, p50 / E",
                limit: Limit::AtMost(1.3),
                ratio: |limits, ours| ours.get("ack memory p50, µs") / limits.get("E p50, µs"),
            },
        ]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let operations = self.world.scale.operations;
        let mut written = self.world.disk.write(synced(4096, operations))?;
        let mut echoed = echo_on_client_cpu(&mut self.echo, operations)?;
        Ok(Sample::of([
            ("E p50, µs", echoed.percentile_us(50.0)),
            ("D p50, µs", written.percentile_us(50.0)),
        ]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let records = self.world.scale.operations;
        Ok(Sample::of([
            ("ack disk p50, µs", p50(&mut self.to_disk, records)?),
            ("ack memory p50, µs", p50(&mut self.to_memory, records)?),
        ]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}

/// From publishing to a subscriber's socket.
pub struct DeliveryCase<'a> {
    world: &'a World,
    echo: EchoClient,
    producer: Pipeline,
    subscriber: Subscriber,
    _servers: [Server; 2],
}

impl<'a> DeliveryCase<'a> {
    /// Starts the servers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let (broker, echo_server) = (world.broker()?, start_echo(E_SIZE, world.wait)?);
        let producer = one_by_one(&broker, "delivery", Ack::Memory)?;
        let mut connection = Connection::open(broker.address)?;
        let handle = connection.open_partition("delivery", 0)?;
        let mut subscriber = Subscriber::new(connection, handle);
        subscriber.subscribe_at_end(ENOUGH_CREDIT)?;
        let echo = EchoClient::connect(echo_server.address, E_SIZE, false)?;
        Ok(DeliveryCase { world, echo, producer, subscriber, _servers: [broker, echo_server] })
    }
}

impl Case for DeliveryCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 10,
            what: "publish → subscriber, 1 KiB, memory, p50 / E",
            limit: Limit::AtMost(1.5),
            ratio: |limits, ours| ours.get("publish to subscriber p50, µs") / limits.get("E p50, µs"),
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let mut echoed = echo_on_client_cpu(&mut self.echo, self.world.scale.operations)?;
        Ok(Sample::of([("E p50, µs", echoed.percentile_us(50.0))]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let (producer, subscriber) = (&mut self.producer, &mut self.subscriber);
        let count = self.world.scale.operations;
        let mut latencies = on_client_cpu(|| async {
            let mut latencies = Latencies::default();
            for _ in 0..count {
                let begun = producer.publish_one()?;
                subscriber.receive(producer.batch.len())?;
                latencies.record(begun.elapsed());
                producer.take_ack()?;
            }
            Ok(latencies)
        })?;
        Ok(Sample::of([("publish to subscriber p50, µs", latencies.percentile_us(50.0))]))
    }

    fn needs_steady_disk(&self) -> bool {
        false
    }
}

/// E on the client's CPU.
pub fn echo_on_client_cpu(echo: &mut EchoClient, count: usize) -> Result<Latencies, Failure> {
    on_client_cpu(|| async { echo.round_trips(count) })
}

/// A producer of single records to one new partition.
pub fn one_by_one(broker: &Server, topic: &str, ack: Ack) -> Result<Pipeline, Failure> {
    let mut connection = Connection::open(broker.address)?;
    connection.create_topic(topic, 1, ack)?;
    let handles = vec![connection.open_partition(topic, 0)?];
    let mut producer = Pipeline { connection, handles, batch: batch_of(1)?, ack, depth: 1 };
    // Warm-up: journal, segment and memory are in use.
    producer.run(Until::Count(200))?;
    Ok(producer)
}
