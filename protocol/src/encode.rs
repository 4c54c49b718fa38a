//! Frames written: one buffer, no copies in between.
//!
//! A frame's batches are not copied behind its body: the encoder counts them in the header's length, and the sender
//! puts them into the same gather as separate slices.

use bytes::BytesMut;
use rkyv::api::high::to_bytes_in;
use rkyv::rancor::Error;

use crate::body::{Body, BodyWriter, FixedBody, padding};
use crate::errors::{ErrorCode, ErrorReply};
use crate::frame::{ALL_BODY, FrameHeader};
use crate::kind::Kind;
use crate::limits::MAX_BODY_BYTES;
use crate::limits::{HEADER_BYTES, WORD_BYTES};

/// Why a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its body is over the limit of its kind.
    #[error("a {kind:?} body of {body} bytes is over the limit of {limit} bytes")]
    BodyTooLarge {
        /// The frame's kind.
        kind: Kind,
        /// The body's bytes.
        body: usize,
        /// The most that the kind may have.
        limit: usize,
    },
    /// The serializer refused it.
    #[error("cannot encode a {kind:?} body: {reason}")]
    Archive {
        /// The frame's kind.
        kind: Kind,
        /// What the serializer said.
        reason: String,
    },
}

/// A frame with a body of fixed size (`&()` for none) and no payload.
///
/// # Panics
/// If `kind` does not carry a `T`: that is the caller's mistake, not the peer's.
pub fn encode<T: FixedBody>(kind: Kind, request: u32, handle: u32, flags: u8, body: &T) -> BytesMut {
    encode_with_payload(kind, request, handle, flags, body, 0)
}

/// The header and body of a frame whose payload of `payload_len` bytes follows in slices of its own.
///
/// # Panics
/// If `kind` does not carry a `T` or so large a payload: that is the caller's mistake, not the peer's.
pub fn encode_with_payload<T: FixedBody>(
    kind: Kind,
    request: u32,
    handle: u32,
    flags: u8,
    body: &T,
    payload_len: usize,
) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + crate::body::fixed_body_bytes::<T>());
    encode_into(&mut out, kind, request, handle, flags, body, payload_len);
    out
}

/// As [`encode_with_payload`], appended to a buffer that may hold other frames already.
///
/// # Panics
/// As [`encode_with_payload`].
pub fn encode_into<T: FixedBody>(
    out: &mut BytesMut,
    kind: Kind,
    request: u32,
    handle: u32,
    flags: u8,
    body: &T,
    payload_len: usize,
) {
    write(out, kind, request, handle, flags, body, payload_len).expect("a fixed body always fits its kind");
}

/// A frame with a body of any size and no payload.
///
/// # Errors
/// [`EncodeError::BodyTooLarge`] when the message is over the limit of its kind.
///
/// # Panics
/// If `kind` does not carry a `T`: that is the caller's mistake, not the peer's.
pub fn try_encode<T: Body>(
    kind: Kind,
    request: u32,
    handle: u32,
    flags: u8,
    body: &T,
) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    write(&mut out, kind, request, handle, flags, body, 0)?;
    Ok(out)
}

/// An `Error` frame. `request` is the failing request, or the subscription that ends, or 0 for the connection.
pub fn encode_error(request: u32, handle: u32, code: ErrorCode, message: &str) -> BytesMut {
    let reply = ErrorReply::new(code, message);
    try_encode(Kind::Error, request, handle, 0, &reply).expect("an error's message is cut to its limit")
}

fn write<T: Body>(
    out: &mut BytesMut,
    kind: Kind,
    request: u32,
    handle: u32,
    flags: u8,
    body: &T,
    payload_len: usize,
) -> Result<(), EncodeError> {
    assert!(T::KINDS.contains(&kind), "a {kind:?} frame does not carry {}", T::NAME);
    assert!(payload_len <= kind.max_payload_bytes(), "{payload_len} payload bytes in a {kind:?} frame");
    let start = out.len();
    let body_len = match write_body(out, start + HEADER_BYTES, kind, body) {
        Ok(body_len) => body_len,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    let header = FrameHeader {
        length: (body_len + payload_len) as u32,
        kind,
        flags,
        body_words: if body_len <= MAX_BODY_BYTES { (body_len / WORD_BYTES) as u16 } else { ALL_BODY },
        request,
        handle,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(())
}

/// Writes zeros up to `at`, then the padded body there; gives its length.
fn write_body<T: Body>(out: &mut BytesMut, at: usize, kind: Kind, body: &T) -> Result<usize, EncodeError> {
    // The padding stands in front, and its length is known only afterwards. What a body of fixed size needs is a good
    // guess: then nothing has to move, and the other bodies are not on a hot path.
    let guess = padding(size_of::<T::Archived>());
    out.resize(at + guess, 0);
    to_bytes_in::<_, Error>(body, BodyWriter::new(out))
        .map_err(|error| EncodeError::Archive { kind, reason: error.to_string() })?;
    let archive = out.len() - at - guess;
    let pad = padding(archive);
    let body_len = pad + archive;
    if body_len > kind.max_body_bytes() {
        return Err(EncodeError::BodyTooLarge { kind, body: body_len, limit: kind.max_body_bytes() });
    }
    if pad != guess {
        out.resize(at + guess.max(pad) + archive, 0);
        out.copy_within(at + guess..at + guess + archive, at + pad);
        out[at..at + pad].fill(0);
        out.truncate(at + body_len);
    }
    Ok(body_len)
}
