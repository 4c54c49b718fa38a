//! What the clients send and what they understand of the answers.

use bytes::Bytes;
use ringlog_protocol::batch::BatchBuilder;
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::ErrorReply;
use ringlog_protocol::{Ack, Body, Frame, FrameHeader, Kind, split_frame};
use ringlog_reactor::wall_clock_ms;

use crate::failure::Failure;

/// Bytes of one record.
pub const RECORD_BYTES: usize = 1024;
/// The largest batch that a topic takes by default.
const LARGE_BATCH_BYTES: usize = 1 << 20;

/// A batch of that many records, made now: retention takes what seems older than it should keep.
pub fn batch_of(records: usize) -> Result<Bytes, Failure> {
    let mut builder = BatchBuilder::new(LARGE_BATCH_BYTES);
    let now_ms = wall_clock_ms();
    for _ in 0..records {
        builder.push(now_ms, None, Some(&[0x42; RECORD_BYTES]), [])?;
    }
    Ok(builder.finish_plain())
}

/// A batch of as many records as fit into `bytes`.
pub fn large_batch(bytes: usize) -> Result<Bytes, Failure> {
    // Less than 16 bytes stand around a record of this size.
    batch_of((bytes / (RECORD_BYTES + 16)).max(1))
}

/// The header of a `Produce` frame: it has no body.
pub fn produce_head(request: u32, handle: u32, ack: Ack, batch: usize) -> [u8; HEADER_BYTES] {
    let length = batch as u32;
    FrameHeader { length, kind: Kind::Produce, flags: ack.flags(), body_words: 0, request, handle }.encode()
}

/// What the broker refused, as an error.
pub fn accepted(frame: &Frame<'_>) -> Result<(), Failure> {
    if frame.header.kind == Kind::Error {
        return Err(format!("the broker says: {}", frame.message::<ErrorReply>()?.message).into());
    }
    Ok(())
}

/// The reply at the beginning of what was received, if it is whole; it is taken out.
pub fn take_reply<A: Body>(received: &mut Vec<u8>) -> Result<Option<(FrameHeader, A)>, Failure> {
    let Some((frame, used)) = split_frame(received)? else { return Ok(None) };
    accepted(&frame)?;
    let reply = (frame.header, frame.message()?);
    received.drain(..used);
    Ok(Some(reply))
}

/// Calls `each` with the request's number of every acknowledgement in `received`; gives the bytes of those.
pub fn each_ack(received: &[u8], mut each: impl FnMut(u32)) -> Result<usize, Failure> {
    let mut used = 0;
    while let Some((frame, length)) = split_frame(&received[used..])? {
        accepted(&frame)?;
        if frame.header.kind == Kind::Produced {
            each(frame.header.request);
        }
        used += length;
    }
    Ok(used)
}

/// The same over pieces as they come: what is left of the last frame is kept for the next piece.
#[derive(Default)]
pub struct AckReader {
    rest: Vec<u8>,
}

impl AckReader {
    /// Takes the next piece.
    pub fn take(&mut self, piece: &[u8], each: impl FnMut(u32)) -> Result<(), Failure> {
        if self.rest.is_empty() {
            let used = each_ack(piece, each)?;
            self.rest.extend_from_slice(&piece[used..]);
        } else {
            self.rest.extend_from_slice(piece);
            let used = each_ack(&self.rest, each)?;
            self.rest.drain(..used);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::encode;
    use ringlog_protocol::messages::Produced;

    use super::*;

    #[test]
    fn acks_are_found_however_they_are_cut() {
        let mut stream = Vec::new();
        for request in 1..=3 {
            let body = Produced { base_offset: 0, start_offset: 0 };
            stream.extend_from_slice(&encode(Kind::Produced, request, 0, 0, &body));
        }
        for cut in 0..stream.len() {
            let (mut reader, mut found) = (AckReader::default(), Vec::new());
            reader.take(&stream[..cut], |request| found.push(request)).unwrap();
            reader.take(&stream[cut..], |request| found.push(request)).unwrap();
            assert_eq!(found, [1, 2, 3], "cut at {cut}");
        }
    }

    #[test]
    fn a_large_batch_fits_its_bound() {
        let batch = large_batch(LARGE_BATCH_BYTES).unwrap();
        assert!(batch.len() <= LARGE_BATCH_BYTES && batch.len() > LARGE_BATCH_BYTES * 9 / 10);
    }
}
