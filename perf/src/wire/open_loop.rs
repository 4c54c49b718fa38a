//! An open loop on one connection: batches leave by a schedule that nothing moves, and a latency is counted from the
//! intended start.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::Ack;
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{Instant, Notify, now, sleep_until, spawn, timeout};

use super::SILENCE;
use super::frames::{AckReader, produce_head};
use super::many::ReactorConnection;
use crate::failure::Failure;
use crate::stats::Latencies;

/// Batches of one send.
const MAX_SEND: u64 = 256;

/// What is sent when.
#[derive(Clone)]
pub struct OpenLoop {
    /// The broker.
    pub address: SocketAddr,
    /// A topic that is there.
    pub topic: String,
    /// Partitions of the topic, used in turn.
    pub partitions: u32,
    /// What is sent.
    pub batch: Bytes,
    /// How it is acknowledged.
    pub ack: Ack,
    /// Batches a second.
    pub rate: f64,
    /// How long.
    pub limit: Duration,
}

/// How it went.
pub struct Done {
    /// From the intended start to the acknowledgement.
    pub latencies: Latencies,
    /// From the intended start to the moment when the generator saw that the batch was due: its own.
    pub lateness: Latencies,
    /// Acknowledged batches a second.
    pub per_second: f64,
}

/// The moments at which batches are due.
#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
    interval_ns: f64,
    count: u64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }

    /// How many are due by `time`.
    fn due_by(&self, time: Instant) -> u64 {
        if time < self.begin {
            return 0;
        }
        let passed = time.saturating_since(self.begin).as_nanos() as f64;
        ((passed / self.interval_ns) as u64 + 1).min(self.count)
    }
}

/// Runs it. For use on a reactor core.
pub async fn run_open_loop(plan: &OpenLoop) -> Result<Done, Failure> {
    let mut connection = ReactorConnection::open(plan.address).await?;
    let mut handles = Vec::new();
    for partition in 0..plan.partitions {
        handles.push(connection.open_partition(&plan.topic, partition).await?);
    }
    let stream = connection.stream;
    let schedule = Schedule {
        begin: now() + Duration::from_millis(5),
        interval_ns: 1e9 / plan.rate,
        count: ((plan.rate * plan.limit.as_secs_f64()) as u64).max(1),
    };
    let line = Rc::new(Line::default());
    let sender =
        spawn(send(stream.clone(), Rc::clone(&line), schedule.count, handles, plan.batch.clone(), plan.ack));
    let generator = spawn(generate(line, schedule));
    let latencies = receive(stream, schedule).await?;
    let per_second = latencies.count() as f64 / now().saturating_since(schedule.begin).as_secs_f64();
    sender.await?;
    Ok(Done { latencies, lateness: generator.await, per_second })
}

/// What is due and not sent: a broker that takes no bytes holds the sender back, and not the schedule.
#[derive(Default)]
struct Line {
    due: Cell<u64>,
    grown: Notify,
}

/// Keeps the schedule, and says how late it was itself.
async fn generate(line: Rc<Line>, schedule: Schedule) -> Latencies {
    let mut lateness = Latencies::default();
    while line.due.get() < schedule.count {
        sleep_until(schedule.due(line.due.get())).await;
        let time = now();
        let due = schedule.due_by(time);
        (line.due.get()..due).for_each(|number| lateness.record(time.saturating_since(schedule.due(number))));
        line.due.set(due);
        line.grown.notify_all();
    }
    lateness
}

async fn send(
    stream: TcpStream,
    line: Rc<Line>,
    count: u64,
    handles: Vec<u32>,
    batch: Bytes,
    ack: Ack,
) -> Result<(), Failure> {
    let mut sent = 0;
    while sent < count {
        let grown = line.grown.notified();
        let end = line.due.get().min(sent + MAX_SEND);
        if end == sent {
            grown.await;
            continue;
        }
        let mut heads = BytesMut::with_capacity((end - sent) as usize * HEADER_BYTES);
        for number in sent..end {
            let handle = handles[number as usize % handles.len()];
            heads.extend_from_slice(&produce_head(number as u32 + 1, handle, ack, batch.len()));
        }
        let mut heads = heads.freeze();
        let pieces = (sent..end).flat_map(|_| [heads.split_to(HEADER_BYTES), batch.clone()]).collect();
        stream.send(pieces).await?;
        sent = end;
    }
    Ok(())
}

async fn receive(stream: TcpStream, schedule: Schedule) -> Result<Latencies, Failure> {
    let mut acks = AckReader::default();
    let mut latencies = Latencies::default();
    while (latencies.count() as u64) < schedule.count {
        let piece = timeout(SILENCE, stream.recv()).await.map_err(|_| "the broker says nothing")??;
        let piece = piece.ok_or("the broker closed the connection")?;
        let time = now();
        acks.take(&piece, |request| {
            latencies.record(time.saturating_since(schedule.due(u64::from(request) - 1)));
        })?;
    }
    Ok(latencies)
}
