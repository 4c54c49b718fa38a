//! A subscription over one blocking socket, which counts what comes and steps over it.

use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::{Position, Subscribe, Subscribed, Unsubscribe};
use ringlog_protocol::{FrameHeader, Kind};

use super::connection::Connection;
use crate::failure::Failure;

/// Read at once: what iperf3 reads at once.
const READ_BYTES: usize = 128 << 10;

/// One connection with one subscription at a time.
pub struct Subscriber {
    connection: Connection,
    handle: u32,
    frames: FrameWalk,
}

impl Subscriber {
    /// For a partition that the connection has opened.
    pub fn new(mut connection: Connection, handle: u32) -> Subscriber {
        connection.set_read_bytes(READ_BYTES);
        Subscriber { connection, handle, frames: FrameWalk::default() }
    }

    /// Begins a subscription, and gives its id.
    pub fn subscribe(&mut self, from: Position, credit_bytes: u32) -> Result<u32, Failure> {
        self.connection.tell(Kind::Subscribe, self.handle, &Subscribe { from, credit_bytes })
    }

    /// Begins one at the end, and waits until it stands.
    pub fn subscribe_at_end(&mut self, credit_bytes: u32) -> Result<(), Failure> {
        let body = Subscribe { from: Position::End, credit_bytes };
        self.connection.ask::<_, Subscribed>(Kind::Subscribe, self.handle, &body)?;
        Ok(())
    }

    /// Ends a subscription that has spent its credit.
    pub fn unsubscribe(&mut self, subscription: u32) -> Result<(), Failure> {
        self.connection.ask::<_, ()>(Kind::Unsubscribe, self.handle, &Unsubscribe { subscription })?;
        Ok(())
    }

    /// Reads until so many bytes of batches have come, whole frames; gives how many came.
    pub fn receive(&mut self, bytes: usize) -> Result<usize, Failure> {
        let mut received = 0;
        while received < bytes || !self.frames.is_between() {
            received += self.frames.take(self.connection.read_some()?)?;
        }
        Ok(received)
    }
}

/// Where in the stream of frames the bytes are.
#[derive(Default)]
struct FrameWalk {
    /// The beginning of the next header.
    header: Vec<u8>,
    /// What is left of the current frame's body.
    body: usize,
    /// And of its payload.
    payload: usize,
}

impl FrameWalk {
    fn is_between(&self) -> bool {
        self.header.is_empty() && self.body == 0 && self.payload == 0
    }

    /// Steps over a piece; gives how much of it was payload.
    fn take(&mut self, mut piece: &[u8]) -> Result<usize, Failure> {
        let mut payload = 0;
        while !piece.is_empty() {
            if self.body > 0 {
                self.body -= skip(&mut piece, self.body);
            } else if self.payload > 0 {
                let skipped = skip(&mut piece, self.payload);
                self.payload -= skipped;
                payload += skipped;
            } else {
                let part = piece.len().min(HEADER_BYTES - self.header.len());
                self.header.extend_from_slice(&piece[..part]);
                piece = &piece[part..];
                if let Some(bytes) = self.header.first_chunk() {
                    let header = FrameHeader::decode(bytes)?;
                    if header.kind == Kind::Error {
                        return Err("the broker ended the subscription".into());
                    }
                    (self.body, self.payload) = (header.body_len(), header.payload_len());
                    self.header.clear();
                }
            }
        }
        Ok(payload)
    }
}

fn skip(piece: &mut &[u8], most: usize) -> usize {
    let skipped = piece.len().min(most);
    *piece = &piece[skipped..];
    skipped
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::encode_with_payload;
    use ringlog_protocol::messages::Delivery;

    use super::*;

    #[test]
    fn payload_is_counted_however_it_is_cut() {
        let mut stream = Vec::new();
        for payload in [10, 300] {
            let body = Delivery { high_watermark: 0 };
            stream.extend_from_slice(&encode_with_payload(Kind::Delivery, 1, 0, 0, &body, payload));
            stream.resize(stream.len() + payload, 7);
        }
        for cut in 0..stream.len() {
            let mut walk = FrameWalk::default();
            let counted = walk.take(&stream[..cut]).unwrap() + walk.take(&stream[cut..]).unwrap();
            assert_eq!(counted, 310, "cut at {cut}");
            assert!(walk.is_between());
        }
    }
}
