//! Ringlog's wire: frames, messages, record batches and errors. Bytes in, values out.
//!
//! This crate does no I/O, knows no time and starts no threads. `docs/wire.md` describes every byte; the golden tests
//! in `tests/` hold the code to that page. Everything decoded here comes from outside and is taken as hostile: lengths
//! are checked before they are believed, and no decoder allocates more than a small multiple of its input.
//!
//! - [`frame`]: the 16-byte header, and how a stream of bytes is cut into frames;
//! - [`messages`]: the bodies, and [`body`]: how they are laid out and validated;
//! - [`mod@encode`]: frames written;
//! - [`errors`]: the codes a peer can be told;
//! - [`batch`]: Kafka's record batch v2, which travels behind the body untouched;
//! - `codec` (feature `codecs`): the codecs of compressed batches;
//! - [`names`], [`partitioner`], [`limits`]: rules that both sides must agree on.
#![forbid(unsafe_code)]

pub mod ack;
pub mod batch;
pub mod body;
mod bounds;
#[cfg(feature = "codecs")]
pub mod codec;
pub mod encode;
pub mod errors;
pub mod frame;
mod frame_error;
pub mod kind;
pub mod limits;
pub mod messages;
pub mod names;
pub mod partitioner;

pub use ack::Ack;
pub use body::{Body, FixedBody};
pub use encode::{EncodeError, encode, encode_error, encode_into, encode_with_payload, try_encode};
pub use errors::{ErrorCode, ErrorReply};
pub use frame::{Frame, FrameHeader, frame_len, split_frame};
pub use frame_error::FrameError;
pub use kind::Kind;
pub use names::{NameError, TopicName};

/// The protocol version this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest protocol version this crate still understands.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
