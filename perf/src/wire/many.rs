//! Many connections in one thread, each a closed loop with one record in flight: tasks of one reactor core.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::messages::{Hello, Open, Opened, Welcome};
use ringlog_protocol::{Ack, Body, FrameHeader, Kind, try_encode};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{Instant, now, spawn, timeout};

use super::SILENCE;
use super::frames::{AckReader, produce_head, take_reply};
use super::pipeline::Done;
use crate::failure::Failure;
use crate::stats::Latencies;

/// Who produces where.
#[derive(Clone)]
pub struct ManyProducers {
    /// The broker.
    pub address: SocketAddr,
    /// A topic that is there.
    pub topic: String,
    /// Connections, each with one batch in flight.
    pub producers: usize,
    /// Partitions of the topic: producer n uses n, n + producers, and so on, in turn.
    pub partitions: usize,
    /// What is sent.
    pub batch: Bytes,
    /// How it is acknowledged.
    pub ack: Ack,
}

/// Runs them all for `limit`, once every one is connected. For use on a reactor core.
pub async fn run_many(plan: &ManyProducers, limit: Duration) -> Result<Done, Failure> {
    let plan = Rc::new(plan.clone());
    let mut ready = Vec::new();
    for number in 0..plan.producers {
        let mut connection = ReactorConnection::open(plan.address).await?;
        let mut heads = Vec::new();
        for partition in (number..plan.partitions).step_by(plan.producers) {
            let handle = connection.open_partition(&plan.topic, partition as u32).await?;
            // One request at a time: its number may be the same each time.
            heads.push(Bytes::copy_from_slice(&produce_head(1, handle, plan.ack, plan.batch.len())));
        }
        ready.push((connection.stream, heads));
    }
    let begun = now();
    let tasks: Vec<_> = ready
        .into_iter()
        .map(|(stream, heads)| spawn(produce(stream, heads, plan.batch.clone(), begun + limit)))
        .collect();
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.merge(task.await?);
    }
    let per_second = latencies.count() as f64 / begun.elapsed().as_secs_f64();
    Ok(Done { latencies, per_second })
}

async fn produce(
    stream: TcpStream,
    heads: Vec<Bytes>,
    batch: Bytes,
    end: Instant,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    let mut acks = AckReader::default();
    for head in heads.iter().cycle() {
        let started = now();
        if started >= end {
            break;
        }
        stream.send(vec![head.clone(), batch.clone()]).await?;
        let mut answered = false;
        while !answered {
            let piece = stream.recv().await?.ok_or("the broker closed the connection")?;
            acks.take(&piece, |_| answered = true)?;
        }
        latencies.record(started.elapsed());
    }
    Ok(latencies)
}

/// A connection on a reactor core, introduced.
pub struct ReactorConnection {
    /// The socket.
    pub stream: TcpStream,
    received: Vec<u8>,
    request: u32,
}

impl ReactorConnection {
    /// Connects and introduces itself.
    pub async fn open(address: SocketAddr) -> Result<ReactorConnection, Failure> {
        let stream = TcpStream::connect(address).await?;
        let mut connection = ReactorConnection { stream, received: Vec::new(), request: 1 << 30 };
        connection.ask::<_, Welcome>(Kind::Hello, &Hello::new("ringlog-perf", None)).await?;
        Ok(connection)
    }

    /// Opens a partition and gives its handle.
    pub async fn open_partition(&mut self, topic: &str, partition: u32) -> Result<u32, Failure> {
        let open = Open { topic: topic.to_string(), partition };
        Ok(self.ask::<_, Opened>(Kind::Open, &open).await?.0.handle)
    }

    async fn ask<Q: Body, A: Body>(&mut self, kind: Kind, body: &Q) -> Result<(FrameHeader, A), Failure> {
        self.request += 1;
        let frame = try_encode(kind, self.request, 0, 0, body)?.freeze();
        self.stream.send(vec![frame]).await?;
        loop {
            if let Some(reply) = take_reply::<A>(&mut self.received)? {
                return Ok(reply);
            }
            let piece =
                timeout(SILENCE, self.stream.recv()).await.map_err(|_| "the broker says nothing")??;
            self.received.extend_from_slice(&piece.ok_or("the broker closed the connection")?);
        }
    }
}
