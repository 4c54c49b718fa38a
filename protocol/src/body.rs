//! How a message lies in the body of a frame.
//!
//! A body is one `rkyv` archive: little-endian, alignment 1, 32-bit relative pointers, its root at its **end**. Zeros
//! in **front** of the archive bring the body to whole words, so the root is always found from the end of the body
//! without knowing how long the archive is; relative pointers are not disturbed by what stands in front.
//!
//! A body is validated before it is used: every pointer inside the body and owned once, every enum known, every string
//! UTF-8. So an owned message costs a small multiple of its body in memory, whatever a hostile peer wrote.

use bytes::BytesMut;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Writer};
use rkyv::{Archive, Deserialize, Serialize};

use crate::frame_error::FrameError;
use crate::kind::Kind;
use crate::limits::WORD_BYTES;

/// A message that can be the body of a frame. Implemented by the types of [`messages`](crate::messages), and by `()`
/// for the kinds without a body.
pub trait Body:
    Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<Self, HighDeserializer<Error>>,
    > + for<'a, 'b> Serialize<HighSerializer<BodyWriter<'b>, ArenaHandle<'a>, Error>>
    + Sized
{
    /// The kinds of frame that carry it.
    const KINDS: &'static [Kind];
    /// Its name, for error messages.
    const NAME: &'static str;
}

/// A body of one known size: nothing in it can make it too large, so encoding it cannot fail.
pub trait FixedBody: Body {}

/// Appends an archive to a buffer, counting positions from where it began.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        BodyWriter { out, start }
    }
}

impl Positional for BodyWriter<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl Writer<Error> for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Bytes of the body of a fixed message, padding included.
pub const fn fixed_body_bytes<T: Archive>() -> usize {
    size_of::<T::Archived>().next_multiple_of(WORD_BYTES)
}

/// Zeros in front of an archive of this length.
pub(crate) const fn padding(archive_bytes: usize) -> usize {
    archive_bytes.next_multiple_of(WORD_BYTES) - archive_bytes
}

pub(crate) fn access<T: Body>(kind: Kind, body: &[u8]) -> Result<&T::Archived, FrameError> {
    if !T::KINDS.contains(&kind) {
        return Err(FrameError::WrongKind { kind, message: T::NAME });
    }
    // rkyv asserts (only in debug builds) that the root fits before it validates.
    if body.len() < size_of::<T::Archived>() {
        return Err(FrameError::Body { kind, reason: format!("{} bytes are too few", body.len()) });
    }
    rkyv::access::<T::Archived, Error>(body).map_err(|error| malformed(kind, &error))
}

pub(crate) fn to_owned<T: Body>(kind: Kind, archived: &T::Archived) -> Result<T, FrameError> {
    rkyv::deserialize::<T, Error>(archived).map_err(|error| malformed(kind, &error))
}

fn malformed(kind: Kind, error: &Error) -> FrameError {
    // The first line names the fault; the rest is a trace of where rkyv was.
    let words = error.to_string();
    FrameError::Body { kind, reason: words.lines().next().unwrap_or_default().to_owned() }
}
