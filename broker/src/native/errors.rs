//! What the wire says for each error: its code. The words are the error's own.

use std::fmt::Display;

use ringlog_protocol::ErrorCode;
use ringlog_protocol::batch::RecordsError;
use ringlog_storage::{AppendError, ReadError};

use crate::control::controller::TopicError;
use crate::ops::produce::ProduceError;
use crate::ops::record_checks::Unreadable;
use crate::ops::topics::FindError;
use crate::shard::acks::AckError;

/// An error that a client is told.
pub trait WireError: Display {
    /// By which code.
    fn code(&self) -> ErrorCode;
}

impl WireError for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            ProduceError::Stopping => ErrorCode::ShuttingDown,
            ProduceError::Append(error) => error.code(),
            ProduceError::Unreadable(error) => error.code(),
            ProduceError::Timestamp(_) => ErrorCode::InvalidTimestamp,
        }
    }
}

impl WireError for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            AppendError::Full => ErrorCode::Overloaded,
            AppendError::DiskFull => ErrorCode::DiskFull,
            AppendError::ShuttingDown => ErrorCode::ShuttingDown,
            AppendError::Quarantined(_) => ErrorCode::Quarantined,
            AppendError::Batch(error) => error.code(),
            AppendError::TooLarge { .. } => ErrorCode::BatchTooLarge,
            AppendError::Deleted => ErrorCode::UnknownTopic,
            _ => ErrorCode::StorageFailed,
        }
    }
}

impl WireError for Unreadable {
    fn code(&self) -> ErrorCode {
        match self {
            Unreadable::Batch(error) => error.code(),
            Unreadable::Records(RecordsError::TooLarge(_)) => ErrorCode::BatchTooLarge,
            Unreadable::Records(_) => ErrorCode::InvalidBatch,
            Unreadable::Unchecked(_) => ErrorCode::Overloaded,
        }
    }
}

impl WireError for AckError {
    fn code(&self) -> ErrorCode {
        match self {
            AckError::DiskFull => ErrorCode::DiskFull,
            AckError::Deleted => ErrorCode::UnknownTopic,
            AckError::Failed(_) => ErrorCode::StorageFailed,
        }
    }
}

impl WireError for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Corrupt { .. } => ErrorCode::Quarantined,
            ReadError::Deleted => ErrorCode::UnknownTopic,
            _ => ErrorCode::StorageFailed,
        }
    }
}

impl WireError for FindError {
    fn code(&self) -> ErrorCode {
        match self {
            FindError::UnknownTopic(_) => ErrorCode::UnknownTopic,
            FindError::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        }
    }
}

impl WireError for TopicError {
    fn code(&self) -> ErrorCode {
        match self {
            TopicError::Name(_) => ErrorCode::InvalidTopicName,
            TopicError::PartitionCount(_) | TopicError::TooManyPartitions { .. } => {
                ErrorCode::InvalidPartitionCount
            }
            TopicError::Config(_) => ErrorCode::InvalidConfig,
            TopicError::Exists(_) => ErrorCode::TopicExists,
            TopicError::Unknown(_) => ErrorCode::UnknownTopic,
            TopicError::DiskFull(_) => ErrorCode::DiskFull,
            TopicError::Stopping => ErrorCode::ShuttingDown,
            TopicError::Storage(_) => ErrorCode::StorageFailed,
        }
    }
}
