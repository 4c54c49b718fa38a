//! Why bytes are not a frame, or not the message that was asked for.

use crate::errors::ErrorCode;
use crate::kind::Kind;
use crate::limits::{HEADER_BYTES, MAX_FRAME_BYTES};

/// Why bytes are not a frame, or not the one they should be. After any of these the stream has no known next frame:
/// the receiver closes the connection (a broker says why first, with request number 0).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is over [`MAX_FRAME_BYTES`].
    #[error("a frame of {length} bytes is over the limit of {} bytes", MAX_FRAME_BYTES - HEADER_BYTES)]
    TooLarge {
        /// What the header says.
        length: u32,
    },
    /// No frame of this kind exists in this version.
    #[error("unknown frame kind {kind:#04x}")]
    UnknownKind {
        /// What the header says.
        kind: u8,
    },
    /// A flag that has no meaning for this kind.
    #[error("unknown flags {flags:#04x} in a {kind:?} frame")]
    UnknownFlags {
        /// The frame's kind.
        kind: Kind,
        /// What the header says.
        flags: u8,
    },
    /// The body would end after the frame.
    #[error("a {kind:?} body of {body} bytes in a frame of {length} bytes")]
    BodyLongerThanFrame {
        /// The frame's kind.
        kind: Kind,
        /// The body's bytes.
        body: usize,
        /// The frame's bytes after its header.
        length: u32,
    },
    /// An [`ALL_BODY`](crate::frame::ALL_BODY) frame whose length is no multiple of [`WORD_BYTES`](crate::limits::WORD_BYTES).
    #[error("a {kind:?} body of {body} bytes is not a whole number of words")]
    BodyNotWhole {
        /// The frame's kind.
        kind: Kind,
        /// The body's bytes.
        body: usize,
    },
    /// The body is over the limit of its kind.
    #[error("a {kind:?} body of {body} bytes is over the limit of {limit} bytes")]
    BodyTooLarge {
        /// The frame's kind.
        kind: Kind,
        /// The body's bytes.
        body: usize,
        /// The most that the kind may have.
        limit: usize,
    },
    /// The payload is over the limit of its kind (zero for kinds that carry none).
    #[error("a {kind:?} payload of {payload} bytes is over the limit of {limit} bytes")]
    PayloadTooLarge {
        /// The frame's kind.
        kind: Kind,
        /// The payload's bytes.
        payload: usize,
        /// The most that the kind may have.
        limit: usize,
    },
    /// The body was asked for as a message that frames of this kind do not carry.
    #[error("a {kind:?} frame where {message} was expected")]
    WrongKind {
        /// The frame's kind.
        kind: Kind,
        /// The message's name.
        message: &'static str,
    },
    /// The body is not a valid archive of its message.
    #[error("malformed {kind:?} body: {reason}")]
    Body {
        /// The frame's kind.
        kind: Kind,
        /// What the validation found.
        reason: String,
    },
}

impl FrameError {
    /// The code by which a broker tells its peer.
    pub fn code(&self) -> ErrorCode {
        match self {
            FrameError::TooLarge { .. }
            | FrameError::BodyTooLarge { .. }
            | FrameError::PayloadTooLarge { .. } => ErrorCode::FrameTooLarge,
            FrameError::UnknownKind { .. } => ErrorCode::UnknownKind,
            FrameError::UnknownFlags { .. }
            | FrameError::BodyLongerThanFrame { .. }
            | FrameError::BodyNotWhole { .. }
            | FrameError::WrongKind { .. }
            | FrameError::Body { .. } => ErrorCode::MalformedFrame,
        }
    }
}
