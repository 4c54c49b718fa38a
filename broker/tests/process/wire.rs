//! A client of bare frames over a plain socket, for what no sound client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use ringlog_protocol::batch::BatchBuilder;
use ringlog_protocol::messages::{Hello, Open, Opened};
use ringlog_protocol::{
    Body, ErrorCode, ErrorReply, Frame, FrameHeader, Kind, encode_with_payload, frame_len, split_frame,
    try_encode,
};

use super::helpers::PATIENCE;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A frame.
    Frame { header: FrameHeader, body: Vec<u8>, payload: Vec<u8> },
    /// The broker ended the connection.
    Closed,
}

impl Answer {
    /// The error that it must be.
    pub fn error(self) -> ErrorCode {
        match self {
            Answer::Frame { header, body, .. } if header.kind == Kind::Error => {
                let reply: ErrorReply =
                    Frame { header, body: &body, payload: &[] }.message().expect("a sound error");
                assert!(!reply.message.is_empty(), "an error without words");
                reply.error_code()
            }
            other => panic!("no error: {other:?}"),
        }
    }

    /// The message that it must be.
    pub fn message<T: Body>(self, kind: Kind) -> T {
        match self {
            Answer::Frame { header, body, payload } if header.kind == kind => {
                Frame { header, body: &body, payload: &payload }.message().expect("a sound message")
            }
            other => panic!("not {kind:?}: {other:?}"),
        }
    }
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects and says nothing.
    pub fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Wire { stream, received: Vec::new() }
    }

    /// Connects and introduces itself.
    pub fn greeted(address: SocketAddr) -> Wire {
        let mut wire = Wire::connect(address);
        wire.send(&try_encode(Kind::Hello, 0, 0, 0, &Hello::new("test", None)).expect("a hello fits"));
        match wire.receive() {
            Answer::Frame { header, .. } if header.kind == Kind::Welcome => wire,
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Opens a partition and gives its handle.
    pub fn open(&mut self, topic: &str, partition: u32) -> u32 {
        let open = Open { topic: topic.to_owned(), partition };
        self.send(&try_encode(Kind::Open, 1, 0, 0, &open).expect("an open fits"));
        let answer = self.receive();
        let Answer::Frame { header, .. } = &answer else { panic!("closed") };
        let handle = header.handle;
        answer.message::<Opened>(Kind::Opened);
        handle
    }

    /// Sends a batch, right or wrong, with an ack at disk wanted.
    pub fn produce(&mut self, handle: u32, batch: &[u8]) -> Answer {
        const DISK: u8 = 2;
        let mut frame = encode_with_payload(Kind::Produce, 2, handle, DISK, &(), batch.len());
        frame.extend_from_slice(batch);
        self.send(&frame);
        self.receive()
    }

    /// Sends bytes. A broker that has closed already is no failure: what it said before can still be received.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Whether the broker has ended the connection, as far as is known now. What it said before is dropped.
    pub fn has_ended(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket can be set");
        let mut chunk = [0; 1024];
        let ended = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).expect("a socket can be set");
        ended
    }

    /// The next frame, or the end.
    pub fn receive(&mut self) -> Answer {
        while frame_len(&self.received)
            .expect("the broker sends sound frames")
            .is_none_or(|len| self.received.len() < len)
        {
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Answer::Closed,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Answer::Closed,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
        let (frame, length) = split_frame(&self.received).expect("a sound frame").expect("a whole frame");
        let answer = Answer::Frame {
            header: frame.header,
            body: frame.body.to_vec(),
            payload: frame.payload.to_vec(),
        };
        self.received.drain(..length);
        answer
    }
}

/// A sound batch with these values.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for value in values {
        builder.push(1, None, Some(value.as_bytes()), []).expect("a short record fits");
    }
    builder.finish_plain()
}
