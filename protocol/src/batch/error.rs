//! Why bytes are not a batch that may be appended.

use crate::errors::ErrorCode;

/// Why bytes are not a batch that may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("a record batch of {need} bytes is cut short after {have}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// Bytes follow where one batch should be alone.
    #[error("{0} bytes follow the record batch")]
    Trailing(usize),
    /// The length field is negative or leaves no room for the header.
    #[error("impossible record batch length {0}")]
    Length(i32),
    /// The batch is over the limit.
    #[error("a record batch of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// The batch's bytes, header included.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The magic is not 2.
    #[error("record batch magic {0}, only 2 is known")]
    Magic(i8),
    /// The number of records does not fit the offsets.
    #[error("{records} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// What the header says.
        records: i32,
        /// What the header says.
        last_offset_delta: i32,
    },
    /// The base offset is negative, or so large that the offsets overflow.
    #[error("impossible base offset {0}")]
    Offset(i64),
    /// The base timestamp is later than the largest.
    #[error("base timestamp {base} is later than the largest, {max}")]
    Timestamps {
        /// What the header says.
        base: i64,
        /// What the header says.
        max: i64,
    },
    /// The attributes ask for something that producers may not send or that does not exist.
    #[error("record batch attributes {0:#06x} may not be produced")]
    Attributes(i16),
    /// The CRC does not fit the bytes.
    #[error("record batch CRC is {stated:#010x}, its bytes give {computed:#010x}")]
    Crc {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        computed: u32,
    },
}

impl BatchError {
    /// The code by which a broker tells its peer.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Crc { .. } => ErrorCode::CorruptBatch,
            BatchError::TooLarge { .. } => ErrorCode::BatchTooLarge,
            _ => ErrorCode::InvalidBatch,
        }
    }
}
