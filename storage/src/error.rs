//! One small error per operation.

use std::io;
use std::path::PathBuf;

use ringlog_protocol::batch::BatchError;

use crate::descriptors::is_out_of_descriptors;
use crate::format::FormatError;
use crate::partition_id::PartitionId;

/// The action of a [`StoreError::Io`] that waited for stable storage.
pub(crate) const SYNCING: &str = "syncing";

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Log memory or the journal is at its bound: wait for [`Store::room`](crate::Store::room) and try again.
    #[error("log memory is full")]
    Full,
    /// The disk is full. Appends are taken again, by themselves, when there is space.
    #[error("the disk is full")]
    DiskFull,
    /// The store is shutting down.
    #[error("the store is shutting down")]
    ShuttingDown,
    /// A write or sync failed: this shard takes no more appends until a restart has recovered it.
    #[error("the storage has failed: {0}")]
    Failed(String),
    /// The partition's log is damaged.
    #[error("the partition is quarantined: {0}")]
    Quarantined(String),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The batch is not one that may be appended.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is longer than the partition takes.
    #[error("a batch of {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// The batch's bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The partition's offsets are used up.
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
}

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is before the start or past the high watermark.
    #[error("the offset is out of range: the log has {start} to {end}")]
    OutOfRange {
        /// The first offset there is.
        start: i64,
        /// The high watermark.
        end: i64,
    },
    /// What stands on disk there is damaged, or is missing.
    #[error("the log is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// The offset that was to be read.
        offset: i64,
        /// What was found.
        reason: String,
    },
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The file could not be read.
    #[error("reading the log failed: {0}")]
    Io(String),
}

/// The store acknowledges nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the storage has failed: {0}")]
pub struct StoreFailure(pub String);

/// Why an operation on the whole store did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{action} {path}: {error}", path = path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The disk is full; what could not be flushed is still in the journal.
    #[error("the disk is full; the next start recovers what is in the journal")]
    DiskFull,
    /// An earlier write or sync failed.
    #[error(transparent)]
    Failed(#[from] StoreFailure),
    /// There is such a partition already.
    #[error("there is a {0} already")]
    Exists(PartitionId),
    /// There is no such partition.
    #[error("there is no {0}")]
    Unknown(PartitionId),
    /// The topic's name cannot be a folder's.
    #[error(transparent)]
    Name(#[from] ringlog_protocol::NameError),
}

/// Why recovery could not be done. Nothing was lost or changed that the next try needs.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file operation failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no space for what is only in the journals.
    #[error(
        "the disk is full: a start moves up to {needed} bytes from the journals into segments ({error}); nothing is lost: free that much, or delete a topic with `ringlog topic delete NAME --data FOLDER`, and start again"
    )]
    DiskFull {
        /// How many bytes are needed at the most.
        needed: u64,
        /// What found no space.
        error: StoreError,
    },
    /// The metadata file is not the newest one.
    #[error("{path} holds journals of a later epoch than the metadata file knows: that file is an old copy; nothing was changed: put back the newest one", path = path.display())]
    OldMetadata {
        /// The journals.
        path: PathBuf,
    },
    /// Another version of the program wrote a file.
    #[error("{path}: {error}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: FormatError,
    },
}

impl RecoveryError {
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            RecoveryError::DiskFull { .. } => true,
            RecoveryError::Store(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// The same, with what is needed, if it is for want of space.
    pub(crate) fn on_full_disk(self, needed: u64) -> RecoveryError {
        match self {
            RecoveryError::Store(error) if error.is_disk_full() => RecoveryError::DiskFull { needed, error },
            other => other,
        }
    }
}

impl StoreError {
    /// For `map_err`: what was done to which file.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |error| StoreError::Io { action, path, error }
    }

    /// What is wrong with a file that could not be opened or read, which is then taken for damaged. It is no damage when nothing
    /// at all can be opened at the moment.
    ///
    /// # Errors
    /// When there is no descriptor or no memory to open it.
    pub fn unreadable(
        action: &'static str,
        path: impl Into<PathBuf>,
        error: io::Error,
    ) -> Result<String, StoreError> {
        if error.kind() == io::ErrorKind::NotFound {
            return Ok("it is missing".to_owned());
        }
        let reason = match error.kind() {
            // What stands there instead is said already.
            io::ErrorKind::InvalidInput => error.to_string(),
            _ => format!("it cannot be read: {error}"),
        };
        match StoreError::io(action, path)(error) {
            error if error.is_out_of_descriptors() || error.is_out_of_memory() => Err(error),
            _ => Ok(reason),
        }
    }

    fn is_out_of_memory(&self) -> bool {
        matches!(self, StoreError::Io { error, .. } if error.kind() == io::ErrorKind::OutOfMemory)
    }

    /// Whether what failed may be tried again.
    pub(crate) fn can_be_waited_out(&self) -> bool {
        self.is_disk_full() || self.is_out_of_descriptors()
    }

    /// Whether a file could not be opened because too many are open: nothing was done, and it ends by itself.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        matches!(self, StoreError::Io { error, .. } if is_out_of_descriptors(error))
    }

    /// Whether there was no space, which ends by itself, unlike every other failure.
    pub fn is_disk_full(&self) -> bool {
        match self {
            // A sync that failed must not be tried again, whatever it says.
            StoreError::Io { action, error, .. } if *action != SYNCING => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
