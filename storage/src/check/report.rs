//! What a check is told, and what it says.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::{PartitionSpec, PreviousEpoch};
use crate::partition_id::PartitionId;

/// What the metadata says there is.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The live epoch; none before the first start.
    pub previous: Option<PreviousEpoch>,
    /// All partitions of all topics.
    pub partitions: Vec<PartitionSpec>,
    /// Names and ids of topics whose files are still to be removed.
    pub deleted: Vec<(String, u64)>,
}

/// What something that was found means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing is lost, and nothing is to be done.
    Harmless,
    /// Damage that no start looks for: who reads there is told.
    OnRead,
    /// Damage that the next start finds, too.
    AtStart,
    /// There will be no start.
    RefusesStart,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The file or folder.
    pub path: PathBuf,
    /// The byte in it.
    pub offset: u64,
    /// The partition concerned, if it is one.
    pub partition: Option<PartitionId>,
    /// Offsets that cannot be read for it, as far as that is known.
    pub offsets: Option<Range<i64>>,
    /// What was found.
    pub what: String,
    /// What the next start does about it.
    pub outcome: String,
}

/// One partition that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPartition {
    /// Which one.
    pub id: PartitionId,
    /// The first offset that may be read.
    pub start_offset: i64,
    /// The offset after the last one known, in segments or journals.
    pub end_offset: i64,
    /// Segments that hold offsets.
    pub segments: u64,
    /// Records that were read and are sound, in segments and, behind them, in journals.
    pub records: u64,
    /// Bytes of the segments that were read.
    pub bytes: u64,
    /// Whether the next start takes no appends to it.
    pub quarantined: bool,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// In the order in which they were found: journals, then partition by partition, then folders.
    pub findings: Vec<Finding>,
    /// In the order of their ids.
    pub partitions: Vec<CheckedPartition>,
    /// Whole frames that the next start needs.
    pub journal_frames: u64,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Bytes of all segments there are to read.
    pub of_bytes: u64,
}

impl CheckReport {
    /// Whether nothing but harmless things was found.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight == Weight::Harmless)
    }

    pub(super) fn note(&mut self, path: PathBuf, what: impl Into<String>, outcome: &str) {
        self.findings.push(Finding {
            weight: Weight::Harmless,
            path,
            offset: 0,
            partition: None,
            offsets: None,
            what: what.into(),
            outcome: outcome.to_owned(),
        });
    }

    /// What was found in that place already.
    pub(super) fn at(&mut self, path: &Path, offset: u64) -> Option<&mut Finding> {
        self.findings.iter_mut().find(|finding| finding.path == path && finding.offset == offset)
    }
}
