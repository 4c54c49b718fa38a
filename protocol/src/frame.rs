//! The 16-byte frame header, and how a stream of bytes is cut into frames.
//!
//! ```text
//!  0      4     5      6           8         12        16
//!  | length | kind | flags | body_words | request | handle | body … | payload … |
//! ```
//! Invariants of every [`Frame`] handed out: the whole frame is there; `body` is as long as the header says; body and
//! payload are within the bounds of the frame's kind.

use crate::body::Body;
use crate::frame_error::FrameError;
use crate::kind::Kind;
use crate::limits::{HEADER_BYTES, MAX_FRAME_BYTES, WORD_BYTES};

/// `body_words` of a frame that is all body and no payload, because its body has more words than the field can count.
pub const ALL_BODY: u16 = u16::MAX;

const LENGTH: usize = 0;
const KIND: usize = 4;
const FLAGS: usize = 5;
const BODY_WORDS: usize = 6;
const REQUEST: usize = 8;
const HANDLE: usize = 12;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes after the header: body and payload.
    pub length: u32,
    /// What the frame is.
    pub kind: Kind,
    /// The [`Ack`](crate::Ack) level in a `Produce`; zero in every other kind.
    pub flags: u8,
    /// Length of the body in words of 8 bytes, or [`ALL_BODY`].
    pub body_words: u16,
    /// The number the client gave to the request; a reply repeats it. A subscription's id is its request number.
    pub request: u32,
    /// The partition, as `Opened` named it; zero where there is none.
    pub handle: u32,
}

impl FrameHeader {
    /// The header as it stands on the wire.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[LENGTH..LENGTH + 4].copy_from_slice(&self.length.to_le_bytes());
        out[KIND] = self.kind as u8;
        out[FLAGS] = self.flags;
        out[BODY_WORDS..BODY_WORDS + 2].copy_from_slice(&self.body_words.to_le_bytes());
        out[REQUEST..REQUEST + 4].copy_from_slice(&self.request.to_le_bytes());
        out[HANDLE..HANDLE + 4].copy_from_slice(&self.handle.to_le_bytes());
        out
    }

    /// Reads and checks a header: known kind, and lengths within the bounds of that kind.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
        let length = u32_at(bytes, LENGTH);
        if length as usize > MAX_FRAME_BYTES - HEADER_BYTES {
            return Err(FrameError::TooLarge { length });
        }
        let kind = Kind::from_u8(bytes[KIND]).ok_or(FrameError::UnknownKind { kind: bytes[KIND] })?;
        let header = FrameHeader {
            length,
            kind,
            flags: bytes[FLAGS],
            body_words: u16::from_le_bytes([bytes[BODY_WORDS], bytes[BODY_WORDS + 1]]),
            request: u32_at(bytes, REQUEST),
            handle: u32_at(bytes, HANDLE),
        };
        header.check_lengths()?;
        if header.flags != 0 && kind != Kind::Produce {
            return Err(FrameError::UnknownFlags { kind, flags: header.flags });
        }
        Ok(header)
    }

    /// Bytes of the whole frame, header included.
    pub fn frame_len(&self) -> usize {
        HEADER_BYTES + self.length as usize
    }

    /// Bytes of the body, padding included.
    pub fn body_len(&self) -> usize {
        match self.body_words {
            ALL_BODY => self.length as usize,
            words => usize::from(words) * WORD_BYTES,
        }
    }

    /// Bytes of the payload.
    pub fn payload_len(&self) -> usize {
        self.length as usize - self.body_len()
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let (kind, length, body) = (self.kind, self.length, self.body_len());
        if body > length as usize {
            return Err(FrameError::BodyLongerThanFrame { kind, body, length });
        }
        if !body.is_multiple_of(WORD_BYTES) {
            return Err(FrameError::BodyNotWhole { kind, body });
        }
        if body > kind.max_body_bytes() {
            return Err(FrameError::BodyTooLarge { kind, body, limit: kind.max_body_bytes() });
        }
        let payload = self.payload_len();
        if payload > kind.max_payload_bytes() {
            return Err(FrameError::PayloadTooLarge { kind, payload, limit: kind.max_payload_bytes() });
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// One whole frame, borrowed from the bytes it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its body: padding in front, then one archive, whose root is at the end.
    pub body: &'a [u8],
    /// Record batches, back to back; empty in most kinds.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The body as an owned value, validated.
    ///
    /// # Errors
    /// [`FrameError::WrongKind`] if a `T` does not belong in a frame of this kind, [`FrameError::Body`] if the body is
    /// not a valid `T`.
    pub fn message<T: Body>(&self) -> Result<T, FrameError> {
        crate::body::to_owned::<T>(self.header.kind, self.access::<T>()?)
    }

    /// The body read in place, validated: what the hot paths use. Errors as [`Frame::message`].
    pub fn access<T: Body>(&self) -> Result<&'a T::Archived, FrameError> {
        crate::body::access::<T>(self.header.kind, self.body)
    }
}

/// How long the frame at the front of `buf` is, header included, as soon as its header is there; `None` before that.
/// A receiver that has to gather a frame asks this first, and is told about a bad header before it gathers anything.
pub fn frame_len(buf: &[u8]) -> Result<Option<usize>, FrameError> {
    match buf.first_chunk::<HEADER_BYTES>() {
        None => Ok(None),
        Some(header) => Ok(Some(FrameHeader::decode(header)?.frame_len())),
    }
}

/// Cuts the first frame off `buf` and says how many bytes it took; `None` if more bytes are needed.
pub fn split_frame(buf: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((header, rest)) = buf.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = FrameHeader::decode(header)?;
    let Some(contents) = rest.get(..header.length as usize) else { return Ok(None) };
    let (body, payload) = contents.split_at(header.body_len());
    Ok(Some((Frame { header, body, payload }, header.frame_len())))
}
