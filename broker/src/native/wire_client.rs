//! For tests: a client that speaks bare frames, on the reactor, and so in the simulation too.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use ringlog_protocol::messages::{ErrorReply, Hello, Produced, Welcome};
use ringlog_protocol::{
    Ack, Body, ErrorCode, Frame, FrameHeader, Kind, encode_with_payload, split_frame, try_encode,
};
use ringlog_reactor::net::TcpStream;

/// A received frame, owned.
pub struct OwnedFrame {
    pub header: FrameHeader,
    pub body: Bytes,
    pub payload: Bytes,
}

impl OwnedFrame {
    pub fn message<T: Body>(&self) -> T {
        let frame = Frame { header: self.header, body: &self.body, payload: &self.payload };
        if self.header.kind == Kind::Error {
            panic!("the broker said {:?}", frame.message::<ErrorReply>());
        }
        frame.message().expect("the broker sends sound frames")
    }

    pub fn error(&self) -> ErrorReply {
        let frame = Frame { header: self.header, body: &self.body, payload: &[] };
        frame.message().expect("an error")
    }
}

pub struct WireClient {
    stream: TcpStream,
    received: BytesMut,
    /// Pushes that came while a reply was waited for.
    pushed: VecDeque<OwnedFrame>,
    next_request: u32,
    pub welcome: Welcome,
}

impl WireClient {
    pub async fn connect(address: SocketAddr, shard: Option<u32>) -> WireClient {
        WireClient::introduce(address, Hello::new("test", shard)).await.expect("the broker takes us in")
    }

    pub async fn introduce(address: SocketAddr, hello: Hello) -> Result<WireClient, ErrorCode> {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        let welcome = Welcome {
            version: 0,
            broker: String::new(),
            node: 0,
            shard: 0,
            shards: 0,
            max_frame_bytes: 0,
            max_batch_bytes: 0,
        };
        let mut client = WireClient {
            stream,
            received: BytesMut::new(),
            pushed: VecDeque::new(),
            next_request: 1,
            welcome,
        };
        let frame = try_encode(Kind::Hello, 0, 0, 0, &hello).expect("a hello is short").freeze();
        client.stream.send(vec![frame]).await.expect("the broker reads");
        let answer = client.receive().await;
        if answer.header.kind == Kind::Error {
            return Err(answer.error().error_code());
        }
        client.welcome = answer.message();
        Ok(client)
    }

    pub async fn ask<Q: Body, A: Body>(&mut self, kind: Kind, handle: u32, body: &Q) -> (FrameHeader, A) {
        let request = self.take_request();
        let frame = try_encode(kind, request, handle, 0, body).expect("a request fits").freeze();
        self.stream.send(vec![frame]).await.expect("the broker reads");
        self.reply(request).await
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&self, bytes: Bytes) -> std::io::Result<()> {
        self.stream.send(vec![bytes]).await
    }

    /// Closes both ways.
    pub fn shutdown(&self) {
        self.stream.shutdown();
    }

    /// What the broker says until it closes the connection.
    pub async fn read_to_end(&mut self) -> usize {
        let mut bytes = 0;
        while let Ok(Some(more)) = self.stream.recv().await {
            bytes += more.len();
        }
        bytes
    }

    /// Sends a request and does not wait for what comes of it.
    pub async fn tell<Q: Body>(&mut self, kind: Kind, handle: u32, body: &Q) -> u32 {
        let request = self.take_request();
        let frame = try_encode(kind, request, handle, 0, body).expect("a request fits").freeze();
        self.stream.send(vec![frame]).await.expect("the broker reads");
        request
    }

    /// Sends a batch and does not wait for what comes of it.
    pub async fn tell_batch(&mut self, handle: u32, ack: Ack, batch: Bytes) -> u32 {
        let request = self.take_request();
        let head = encode_with_payload(Kind::Produce, request, handle, ack.flags(), &(), batch.len());
        self.stream.send(vec![head.freeze(), batch]).await.expect("the broker reads");
        request
    }

    /// The reply to a batch, or why it was refused.
    pub async fn try_send_batch(&mut self, handle: u32, batch: Bytes) -> Result<Produced, ErrorReply> {
        let request = self.tell_batch(handle, Ack::Disk, batch).await;
        loop {
            let frame = self.receive().await;
            if frame.header.request == request && frame.header.kind == Kind::Produced {
                return Ok(frame.message());
            }
            if frame.header.request == request && frame.header.kind == Kind::Error {
                return Err(frame.error());
            }
            self.pushed.push_back(frame);
        }
    }

    pub async fn send_batch<A: Body>(&mut self, handle: u32, ack: Ack, batch: Bytes) -> (FrameHeader, A) {
        let request = self.tell_batch(handle, ack, batch).await;
        self.reply(request).await
    }

    /// The next push.
    pub async fn next_frame(&mut self) -> OwnedFrame {
        match self.pushed.pop_front() {
            Some(frame) => frame,
            None => self.receive().await,
        }
    }

    async fn reply<A: Body>(&mut self, request: u32) -> (FrameHeader, A) {
        loop {
            let frame = self.receive().await;
            if frame.header.request == request && frame.header.kind != Kind::Delivery {
                return (frame.header, frame.message());
            }
            self.pushed.push_back(frame);
        }
    }

    fn take_request(&mut self) -> u32 {
        self.next_request += 1;
        self.next_request
    }

    async fn receive(&mut self) -> OwnedFrame {
        loop {
            if let Some((frame, used)) = split_frame(&self.received).expect("the broker sends sound frames") {
                let owned = OwnedFrame {
                    header: frame.header,
                    body: Bytes::copy_from_slice(frame.body),
                    payload: Bytes::copy_from_slice(frame.payload),
                };
                self.received.advance(used);
                return owned;
            }
            let more = self.stream.recv().await.expect("the connection holds").expect("the broker stays");
            self.received.extend_from_slice(&more);
        }
    }
}
