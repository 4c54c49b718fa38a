//! Goals 7, 8 and 9: bytes a second, out of memory, into memory, and onto the disk.

use std::cell::Cell;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringlog_protocol::Ack;
use ringlog_protocol::messages::Position;
use ringlog_reactor::fs::Sync;

use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::cpus::on_client_cpu;
use crate::failure::Failure;
use crate::limits::disk::Writes;
use crate::limits::fio;
use crate::limits::loopback::{Direction, Iperf, own_throughput};
use crate::limits::tool::{ToolError, say_missing};
use crate::process::Server;
use crate::wire::{Connection, Pipeline, Subscriber, Until, large_batch};

/// A large batch: the largest that a topic takes by default.
const LARGE: usize = 1 << 20;
/// Large batches in flight.
const LARGE_IN_FLIGHT: usize = 8;
/// A journaled bulk: batches too small, on partitions too many, for any of them to have much pending.
const SPREAD: usize = 64 << 10;
const SPREAD_PARTITIONS: u32 = 64;
/// S's writes in flight: as many as make it as fast as it gets.
const S_DEPTH: usize = 4;
/// Until what the broker still writes in the background is written.
const SETTLED: Duration = Duration::from_millis(300);

const N_IN: &str = "N in, MB/s";
const N_OUT: &str = "N out, MB/s";
const S: &str = "S, MB/s";
const S_NEW: &str = "S into a new file, synced, MB/s";

/// N, by iperf3 if there is one.
struct Loopback {
    iperf: Option<Iperf>,
}

impl Loopback {
    fn start() -> Result<Loopback, Failure> {
        match Iperf::start() {
            Ok(iperf) => Ok(Loopback { iperf: Some(iperf) }),
            Err(ToolError::Missing) => {
                say_missing("iperf3", "N is a small probe of our own");
                Ok(Loopback { iperf: None })
            }
            Err(ToolError::Failed(error)) => Err(error),
        }
    }

    /// Megabytes a second.
    fn megabytes(&self, direction: Direction, world: &World) -> Result<f64, Failure> {
        let bytes = match &self.iperf {
            Some(iperf) => match iperf.throughput(direction, world.scale.tool_seconds) {
                Ok(bytes) => bytes,
                Err(ToolError::Failed(error)) => return Err(error),
                Err(ToolError::Missing) => return Err("iperf3 is gone".into()),
            },
            None => own_throughput(direction, world.scale.sample)?,
        };
        Ok(bytes / 1e6)
    }
}

/// Goal 7: a subscription fed from the broker's memory.
pub struct HotFetchCase<'a> {
    world: &'a World,
    loopback: Loopback,
    subscriber: Subscriber,
    stored: usize,
    broker: Server,
}

impl<'a> HotFetchCase<'a> {
    /// Starts the broker and fills a part of its memory.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let broker = world.broker()?;
        let mut connection = Connection::open(broker.address)?;
        connection.create_topic("hot", 1, Ack::Disk)?;
        let handle = connection.open_partition("hot", 0)?;
        let batch = large_batch(LARGE)?;
        let count = world.scale.memory_bytes.div_ceil(LARGE);
        let stored = count * batch.len();
        let mut producer = Pipeline { connection, handles: vec![handle], batch, ack: Ack::Disk, depth: 2 };
        producer.run(Until::Count(count))?;
        sleep(SETTLED);
        let subscriber = Subscriber::new(producer.connection, handle);
        Ok(HotFetchCase { world, loopback: Loopback::start()?, subscriber, stored, broker })
    }
}

impl Case for HotFetchCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![Row {
            goal: 7,
            what: "hot fetch, 1 MiB batches from memory / N out",
            limit: Limit::AtLeast(0.85),
            ratio: |limits, ours| ours.get("hot fetch, MB/s") / limits.get(N_OUT),
        }]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([(N_OUT, self.loopback.megabytes(Direction::Out, self.world)?)]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let (subscriber, stored, limit) = (&mut self.subscriber, self.stored, self.world.scale.sample);
        let read_before = self.broker.disk_bytes()?.read;
        let per_second = on_client_cpu(|| async {
            let (begun, mut received) = (Instant::now(), 0);
            while begun.elapsed() < limit {
                let subscription = subscriber.subscribe(Position::Begin, stored as u32)?;
                received += subscriber.receive(stored)?;
                subscriber.unsubscribe(subscription)?;
            }
            Ok(received as f64 / begun.elapsed().as_secs_f64())
        })?;
        let read = self.broker.disk_bytes()?.read - read_before;
        let void = (read > 0).then(|| format!("{read} bytes came from the disk, not from memory"));
        Ok(Sample::of([("hot fetch, MB/s", per_second / 1e6)]).void(void))
    }

    fn needs_steady_disk(&self) -> bool {
        false
    }
}

/// Sends bulk into topics that live for one sample, so that the disk does not fill.
struct BulkProducer {
    broker: Server,
    next_topic: Cell<u32>,
}

/// What a bulk sample gave.
struct Bulk {
    megabytes_per_second: f64,
    /// Bytes to the disk for each byte that was sent: 1 without a journal, 2 with one.
    written_per_byte: f64,
}

impl BulkProducer {
    fn run(&self, ack: Ack, batch_bytes: usize, partitions: u32, bytes: usize) -> Result<Bulk, Failure> {
        let topic = format!("bulk-{}", self.next_topic.replace(self.next_topic.get() + 1));
        let mut connection = Connection::open(self.broker.address)?;
        connection.create_topic(&topic, partitions, Ack::Disk)?;
        let handles = (0..partitions)
            .map(|partition| connection.open_partition(&topic, partition))
            .collect::<Result<_, _>>()?;
        let batch = large_batch(batch_bytes)?;
        let depth = (LARGE_IN_FLIGHT * LARGE / batch_bytes).min(partitions as usize * LARGE_IN_FLIGHT);
        let (size, count) = (batch.len(), bytes.div_ceil(batch.len()));
        let mut producer = Pipeline { connection, handles, batch, ack, depth };
        let written_before = self.broker.disk_bytes()?.written;
        let pipeline = &mut producer;
        let done = on_client_cpu(|| async { pipeline.run(Until::Count(count)) })?;
        // An answer at `disk` comes behind everything before it.
        producer.ack = Ack::Disk;
        producer.run(Until::Count(partitions as usize))?;
        sleep(SETTLED);
        let written = self.broker.disk_bytes()?.written - written_before;
        producer.connection.delete_topic(&topic)?;
        Ok(Bulk {
            megabytes_per_second: done.per_second * size as f64 / 1e6,
            written_per_byte: written as f64 / (count * size) as f64,
        })
    }
}

/// Goal 8: large batches into memory.
pub struct MemoryBulkCase<'a> {
    world: &'a World,
    loopback: Loopback,
    producer: BulkProducer,
}

impl<'a> MemoryBulkCase<'a> {
    /// Starts the broker.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let producer = BulkProducer { broker: world.broker()?, next_topic: Cell::new(0) };
        producer.run(Ack::Memory, LARGE, 1, world.scale.memory_bytes)?;
        Ok(MemoryBulkCase { world, loopback: Loopback::start()?, producer })
    }
}

impl Case for MemoryBulkCase<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row {
                goal: 8,
                what: "ack memory, 1 MiB batches, 64 MiB at once / N in",
                limit: Limit::AtLeast(0.6),
                ratio: |limits, ours| ours.get("memory, 64 MiB at once, MB/s") / limits.get(N_IN),
            },
            // What goes on and on ends at the disk's pace: memory is bounded.
            Row {
                goal: 8,
                what: "the same, 512 MiB on end / N in",
                limit: Limit::None,
                ratio: |limits, ours| ours.get("memory, 512 MiB on end, MB/s") / limits.get(N_IN),
            },
        ]
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        Ok(Sample::of([(N_IN, self.loopback.megabytes(Direction::In, self.world)?)]))
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let scale = self.world.scale;
        let burst = self.producer.run(Ack::Memory, LARGE, 1, scale.memory_bytes)?;
        let on_end = self.producer.run(Ack::Memory, LARGE, 1, scale.bulk_bytes)?;
        Ok(Sample::of([
            ("memory, 64 MiB at once, MB/s", burst.megabytes_per_second),
            ("memory, 512 MiB on end, MB/s", on_end.megabytes_per_second),
        ]))
    }

    fn needs_steady_disk(&self) -> bool {
        false
    }
}

/// Goal 9: bulk onto the disk.
pub struct DiskBulkCase<'a> {
    world: &'a World,
    file: PathBuf,
    has_fio: bool,
    producer: BulkProducer,
}

impl<'a> DiskBulkCase<'a> {
    /// Starts the broker.
    pub fn start(world: &'a World) -> Result<Self, Failure> {
        let producer = BulkProducer { broker: world.broker()?, next_topic: Cell::new(0) };
        producer.run(Ack::Disk, LARGE, 1, world.scale.memory_bytes)?;
        let mut case = DiskBulkCase { world, file: world.disk.path().to_path_buf(), has_fio: true, producer };
        if let Err(ToolError::Missing) = fio::sequential_write(&case.file, S_DEPTH, LARGE) {
            say_missing("fio", "S is a small writer of our own");
            case.has_fio = false;
        }
        Ok(case)
    }
}

impl Case for DiskBulkCase<'_> {
    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            Row {
                goal: 9,
                what: "ack disk, bulk, 1 MiB batches, 1 partition / S",
                limit: Limit::AtLeast(0.85),
                ratio: |limits, ours| ours.get("bulk, MB/s") / limits.get(S),
            },
            Row {
                goal: 9,
                what: "ack disk, bulk journaled, 64 KiB over 64 partitions / S",
                limit: Limit::AtLeast(0.45),
                ratio: |limits, ours| ours.get("bulk journaled, MB/s") / limits.get(S),
            },
        ];
        // S goes over the same written blocks again and again; a log never does.
        let new_file = [
            Row {
                goal: 9,
                what: "ack disk, bulk / fio's synced writes into a new file",
                limit: Limit::None,
                ratio: |limits, ours| ours.get("bulk, MB/s") / limits.get(S_NEW),
            },
            Row {
                goal: 9,
                what: "ack disk, bulk journaled / the same",
                limit: Limit::None,
                ratio: |limits, ours| ours.get("bulk journaled, MB/s") / limits.get(S_NEW),
            },
        ];
        rows.extend(new_file.into_iter().filter(|_| self.has_fio));
        rows
    }

    fn reference(&mut self) -> Result<Sample, Failure> {
        let bytes = self.world.scale.bulk_bytes;
        if !self.has_fio {
            let begun = Instant::now();
            let writes = Writes { bytes: LARGE, depth: S_DEPTH, count: bytes / LARGE, sync: Sync::None };
            self.world.disk.write(writes)?;
            return Ok(Sample::of([(S, bytes as f64 / begun.elapsed().as_secs_f64() / 1e6)]));
        }
        let new_file = self.file.with_extension("new");
        let both = fio::sequential_write(&self.file, S_DEPTH, bytes)
            .and_then(|s| Ok((s, fio::synced_new_file(&new_file, S_DEPTH, bytes)?)));
        match both {
            Ok((s, s_new)) => Ok(Sample::of([(S, s / 1e6), (S_NEW, s_new / 1e6)])),
            Err(ToolError::Failed(error)) => Err(error),
            Err(ToolError::Missing) => Err("fio is gone".into()),
        }
    }

    fn subject(&mut self) -> Result<Sample, Failure> {
        let bytes = self.world.scale.bulk_bytes;
        let bulk = self.producer.run(Ack::Disk, LARGE, 1, bytes)?;
        let spread = self.producer.run(Ack::Disk, SPREAD, SPREAD_PARTITIONS, bytes)?;
        Ok(Sample::of([
            ("bulk, MB/s", bulk.megabytes_per_second),
            ("bulk, bytes written per byte", bulk.written_per_byte),
            ("bulk journaled, MB/s", spread.megabytes_per_second),
            ("bulk journaled, bytes written per byte", spread.written_per_byte),
        ]))
    }

    fn needs_steady_disk(&self) -> bool {
        true
    }
}
