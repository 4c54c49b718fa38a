//! Goal 6: CPU per message of the whole machine.

use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::Ack;

use super::acks::one_by_one;
use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::cpus::{Busy, on_client_cpu};
use crate::failure::Failure;
use crate::limits::disk::synced;
use crate::limits::echo::{E_SIZE, EchoClient, start_echo};
use crate::process::Server;
use crate::wire::{Pipeline, Until, batch_of};

/// Records of a batch.
const BATCH: usize = 100;

/// Single records and batches, `disk` and `memory`, against an echo's.
pub struct CpuCase<'a> {
    world: &'a World,
    echo: EchoClient,
    to_disk: Pipeline,
    to_memory: Pipeline,
    single: Bytes,
    batch: Bytes,
    servers: [Server; 2],
}

impl<'a> CpuCase<'a> {
    /// Starts the servers.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let (broker, echo_server) = (world.broker()?, start_echo(E_SIZE, world.wait)?);
        let to_disk = one_by_one(&broker, "disk", Ack::Disk)?;
        let to_memory = one_by_one(&broker, "memory", Ack::Memory)?;
        let echo = EchoClient::connect(echo_server.address, E_SIZE, false)?;
        let (single, batch) = (batch_of(1)?, batch_of(BATCH)?);
        Ok(CpuCase { world, echo, to_disk, to_memory, single, batch, servers: [broker, echo_server] })
    }

    /// CPU seconds of the machine while `work` runs.
    fn busy<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<(f64, T), Failure> {
        let ours: Vec<u32> = self.servers.iter().map(Server::pid).collect();
        let busy = Busy::begin(&ours)?;
        let done = work(self)?;
        Ok((busy.seconds()?, done))
    }

    /// The CPU's clock ticks a hundred times a second: a sample takes longer than others.
    fn sample(&self) -> Duration {
        self.world.scale.sample * 3 / 2
    }

    /// CPU microseconds of one produced record.
    fn produced(&mut self, ack: Ack, records: usize) -> Result<f64, Failure> {
        let batch = if records == 1 { self.single.clone() } else { self.batch.clone() };
        let limit = self.sample();
        let (busy, done) = self.busy(|case| {
            let producer = if ack == Ack::Disk { &mut case.to_disk } else { &mut case.to_memory };
            producer.batch = batch;
            on_client_cpu(|| async { producer.run(Until::Elapsed(limit)) })
        })?;
        Ok(busy * 1e6 / (done.latencies.count() * records) as f64)
    }
}

const SINGLE_DISK: &str = "produce + ack disk, CPU µs per record";
const SINGLE_MEMORY: &str = "produce + ack memory, CPU µs per record";
const BATCH_DISK: &str = "in batches of 100, disk, CPU µs per record";
const BATCH_MEMORY: &str = "in batches of 100, memory, CPU µs per record";

const SYNCED_WRITE: &str = "synced 4 KiB write by itself, CPU µs";

fn c(limits: &Sample) -> f64 {
    limits.get("C, CPU µs per echo")
}

impl Case for CpuCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row {
                goal: 6,
                what: "CPU per record, 1 KiB produce + ack disk / C",
                limit: Limit::AtMost(1.5),
                ratio: |limits, ours| ours.get(SINGLE_DISK) / c(limits),
            },
            // C has no disk in it: what a synced write costs the kernel by itself stands beside it.
            Row {
                goal: 6,
                what: "the same / (C + CPU of a synced 4 KiB write)",
                limit: Limit::None,
                ratio: |limits, ours| ours.get(SINGLE_DISK) / (c(limits) + limits.get(SYNCED_WRITE)),
            },
            Row {
                goal: 6,
                what: "CPU per record, 1 KiB produce + ack memory / C",
                limit: Limit::AtMost(1.5),
                ratio: |limits, ours| ours.get(SINGLE_MEMORY) / c(limits),
            },
            Row {
                goal: 6,
                what: "CPU per record in batches of 100, ack disk / C",
                limit: Limit::AtMost(0.05),
                ratio: |limits, ours| ours.get(BATCH_DISK) / c(limits),
            },
            Row {
                goal: 6,
                what: "the same, ack memory",
                limit: Limit::AtMost(0.05),
                ratio: |limits, ours| ours.get(BATCH_MEMORY) / c(limits),
            },
        ]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let limit = self.sample();
        let (busy, echoed) = self.busy(|case| {
            let echo = &mut case.echo;
            on_client_cpu(|| async { echo.round_trips_for(limit) })
        })?;
        let operations = self.world.scale.operations;
        let (writing, written) = self.busy(|case| case.world.disk.write(synced(4096, operations)))?;
        Ok(Sample::of([
            ("C, CPU µs per echo", busy * 1e6 / echoed.count() as f64),
            (SYNCED_WRITE, writing * 1e6 / written.count() as f64),
        ]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([
            (SINGLE_DISK, self.produced(Ack::Disk, 1)?),
            (SINGLE_MEMORY, self.produced(Ack::Memory, 1)?),
            (BATCH_DISK, self.produced(Ack::Disk, BATCH)?),
            (BATCH_MEMORY, self.produced(Ack::Memory, BATCH)?),
        ]))
    }

    fn needs_steady_disk(&self) -> bool {
        false
    }
}
