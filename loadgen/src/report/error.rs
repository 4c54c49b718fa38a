//! Why a report cannot be made.

use std::io;
use std::path::PathBuf;

use crate::result::ResultError;

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A result cannot be read.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The table cannot be written.
    #[error("cannot write the table: {0}")]
    Output(io::Error),
    /// An HDR log is of one run.
    #[error("--hdr takes one result: an HDR log has one beginning; call report once for each")]
    SeveralInOneLog,
    /// Sweeps are drawn over the load, everything else over time.
    #[error("a sweep and another command's result do not fit on one page; call report for each kind")]
    MixedPage,
}
