//! One blocking connection: introduced, with topics to make and partitions to open.

use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ringlog_protocol::messages::{CreateTopic, CreateTopicReply, DeleteTopic, Hello, Open, Opened, Welcome};
use ringlog_protocol::{Ack, Body, FrameHeader, Kind, try_encode};

use super::SILENCE;
use super::frames::take_reply;
use crate::failure::Failure;

const READ_BYTES: usize = 64 << 10;

/// One connection to the broker.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    chunk: Vec<u8>,
    request: u32,
}

impl Connection {
    /// Connects and introduces itself.
    pub fn open(address: SocketAddr) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        // Numbers of its own requests are far from those that pipelines give to their batches.
        let request = 1 << 30;
        let mut connection = Connection { stream, received: Vec::new(), chunk: vec![0; READ_BYTES], request };
        connection.ask::<_, Welcome>(Kind::Hello, 0, &Hello::new("ringlog-perf", None))?;
        Ok(connection)
    }

    /// Makes a topic whose records are readable at `ack`.
    pub fn create_topic(&mut self, name: &str, partitions: u32, ack: Ack) -> Result<(), Failure> {
        let config = vec![("ack".to_string(), ack.name().to_string())];
        let create = CreateTopic { name: name.to_string(), partitions, config };
        self.ask::<_, CreateTopicReply>(Kind::CreateTopic, 0, &create)?;
        Ok(())
    }

    /// Removes a topic and all its records.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        self.ask::<_, ()>(Kind::DeleteTopic, 0, &DeleteTopic { name: name.to_string() })?;
        Ok(())
    }

    /// Opens a partition and gives its handle.
    pub fn open_partition(&mut self, topic: &str, partition: u32) -> Result<u32, Failure> {
        let open = Open { topic: topic.to_string(), partition };
        Ok(self.ask::<_, Opened>(Kind::Open, 0, &open)?.0.handle)
    }

    /// Asks and waits for the reply.
    pub fn ask<Q: Body, A: Body>(
        &mut self,
        kind: Kind,
        handle: u32,
        body: &Q,
    ) -> Result<(FrameHeader, A), Failure> {
        let request = self.tell(kind, handle, body)?;
        loop {
            if let Some(reply) = take_reply::<A>(&mut self.received)? {
                if reply.0.request != request {
                    return Err(format!("an answer to {} where {request} was asked", reply.0.request).into());
                }
                return Ok(reply);
            }
            let read = self.read()?;
            self.received.extend_from_slice(&self.chunk[..read]);
        }
    }

    /// Sends a request, and gives its number.
    pub fn tell<Q: Body>(&mut self, kind: Kind, handle: u32, body: &Q) -> Result<u32, Failure> {
        self.request += 1;
        let frame = try_encode(kind, self.request, handle, 0, body)?;
        self.stream.write_all(&frame)?;
        Ok(self.request)
    }

    /// Writes all slices.
    pub fn write_slices(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), Failure> {
        while !slices.is_empty() {
            let written = self.stream.write_vectored(slices)?;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    /// The next bytes, however few.
    pub fn read_some(&mut self) -> Result<&[u8], Failure> {
        let read = self.read()?;
        Ok(&self.chunk[..read])
    }

    /// Reads with larger steps from now on.
    pub fn set_read_bytes(&mut self, bytes: usize) {
        self.chunk.resize(bytes, 0);
    }

    fn read(&mut self) -> Result<usize, Failure> {
        match self.stream.read(&mut self.chunk)? {
            0 => Err("the broker closed the connection".into()),
            read => Ok(read),
        }
    }
}
