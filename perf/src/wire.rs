//! A producer as thin as the echo's client: bare frames over one blocking socket, one request in flight.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringlog_protocol::batch::BatchBuilder;
use ringlog_protocol::frame::HEADER_BYTES;
use ringlog_protocol::messages::{
    CreateTopic, CreateTopicReply, ErrorReply, Hello, Open, Opened, Produced, Welcome,
};
use ringlog_protocol::{
    Ack, Body, Frame, FrameHeader, Kind, encode_with_payload, frame_len, split_frame, try_encode,
};

use crate::goals::Failure;
use crate::stats::Latencies;

/// Bytes of the one record of each request.
pub const RECORD_BYTES: usize = 1024;

/// One connection with one open partition.
pub struct Producer {
    stream: TcpStream,
    received: Vec<u8>,
    request: u32,
    handle: u32,
    batch: Bytes,
}

impl Producer {
    /// Connects, makes the topic, and opens its only partition.
    pub fn connect(address: SocketAddr, topic: &str) -> Result<Producer, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut builder = BatchBuilder::new(1 << 20);
        builder.push(0, None, Some(&[0x42; RECORD_BYTES]), [])?;
        let batch = builder.finish_plain();
        let mut producer = Producer { stream, received: Vec::new(), request: 0, handle: 0, batch };
        producer.ask::<_, Welcome>(Kind::Hello, &Hello::new("ringlog-perf", None))?;
        let create = CreateTopic { name: topic.to_string(), partitions: 1, config: Vec::new() };
        producer.ask::<_, CreateTopicReply>(Kind::CreateTopic, &create)?;
        let open = Open { topic: topic.to_string(), partition: 0 };
        let (header, _) = producer.ask::<_, Opened>(Kind::Open, &open)?;
        producer.handle = header.handle;
        Ok(producer)
    }

    /// Publishes that many records, each acknowledged before the next is sent.
    pub fn publish(&mut self, ack: Ack, count: usize) -> Result<Latencies, Failure> {
        let mut frame = Vec::new();
        let mut latencies = Latencies::default();
        for _ in 0..count {
            self.request = self.request.wrapping_add(1);
            let (request, payload) = (self.request, self.batch.len());
            frame.clear();
            let head = encode_with_payload(Kind::Produce, request, self.handle, ack.flags(), &(), payload);
            frame.extend_from_slice(&head);
            frame.extend_from_slice(&self.batch);
            let begun = Instant::now();
            self.stream.write_all(&frame)?;
            self.receive::<Produced>()?;
            latencies.record(begun.elapsed());
        }
        Ok(latencies)
    }

    fn ask<Q: Body, A: Body>(&mut self, kind: Kind, body: &Q) -> Result<(FrameHeader, A), Failure> {
        self.request += 1;
        let frame = try_encode(kind, self.request, 0, 0, body)?;
        self.stream.write_all(&frame)?;
        self.receive()
    }

    fn receive<A: Body>(&mut self) -> Result<(FrameHeader, A), Failure> {
        self.received.clear();
        let mut chunk = [0; 4096];
        while frame_len(&self.received)?.is_none_or(|whole| self.received.len() < whole.max(HEADER_BYTES)) {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err("the broker closed the connection".into());
            }
            self.received.extend_from_slice(&chunk[..read]);
        }
        let (frame, _): (Frame<'_>, usize) = split_frame(&self.received)?.ok_or("half a frame")?;
        if frame.header.kind == Kind::Error {
            return Err(frame.message::<ErrorReply>()?.message.into());
        }
        Ok((frame.header, frame.message()?))
    }
}
