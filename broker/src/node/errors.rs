//! Why a node does not start, or does not stop cleanly.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::descriptors::TooFewFiles;
use crate::config::ConfigError;
use crate::metadata::file::MetadataError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What it was told makes no sense here.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The process may not have enough files open.
    #[error("{0}")]
    Files(#[from] TooFewFiles),
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}: {source}; name a folder this user may write with --data", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another broker has it.
    #[error("the data folder {} is in use by another broker; stop that one, or name another folder with --data", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The metadata file cannot be used.
    #[error("data folder {}: {source}", path.display())]
    Metadata {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: MetadataError,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A core cannot be started.
    #[error("cannot start a core: {0}; `ringlog doctor` says what is missing")]
    Core(#[source] std::io::Error),
    /// Recovery failed.
    #[error("cannot recover the data folder {}: {why}", path.display())]
    Recovery {
        /// The folder.
        path: PathBuf,
        /// Which shard, and why.
        why: String,
    },
}

/// Why a node did not stop cleanly. Nothing acknowledged is lost: the next start recovers it.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not stop cleanly: {0}; what was acknowledged is recovered at the next start")]
pub struct StopError(pub(super) String);

/// How a node came to a bad end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not stop cleanly.
    #[error(transparent)]
    Stop(StopError),
}
