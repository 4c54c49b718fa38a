//! A look at a data folder at rest: every checksum and every rule of `docs/on_disk.md`, and nothing changed.
//!
//! The first half is the reading half of a recovery itself, so what a start would find is found here. Then every segment is
//! read whole, which a start does not, and every folder is listed.

mod folders;
mod segments;

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::{PartitionId, PartitionSpec, PreviousEpoch, StoreConfig};
use crate::error::RecoveryError;
use crate::folders::refuse_later_journals;
use crate::partition::Shared;
use crate::recovery::{RecoverySummary, Survey, survey};

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

    fn note(&mut self, path: PathBuf, what: impl Into<String>, outcome: &str) {
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
    fn at(&mut self, path: &Path, offset: u64) -> Option<&mut Finding> {
        self.findings.iter_mut().find(|finding| finding.path == path && finding.offset == offset)
    }
}

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

/// Looks at everything below `data_dir` that the storage has written, and changes nothing. The caller holds the folder's lock.
///
/// # Errors
/// What keeps a start from recovering, too: a file of another version, or one that cannot be read.
pub async fn check(
    data_dir: &Path,
    known: &Known,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, RecoveryError> {
    let epoch = known.previous.map_or(1, |previous| previous.epoch + 1);
    let config = StoreConfig { previous: known.previous, ..StoreConfig::new(data_dir, 0, epoch) };
    let shared = Shared::new(&config);
    let mut report = CheckReport::default();
    let mut summary = RecoverySummary::default();
    refuse_later_journals(data_dir, epoch).await?;
    let survey = survey(&config, known.partitions.clone(), &shared, &mut summary, true).await?;
    tell_survey(&survey, &summary, &mut report);
    segments::look(&survey, &shared, &mut report, progress).await?;
    folders::look(data_dir, known, &survey, &mut report).await?;
    Ok(report)
}

/// What the reading half of a recovery has found.
fn tell_survey(survey: &Survey, summary: &RecoverySummary, report: &mut CheckReport) {
    report.journal_frames = survey.plan.frames.iter().map(|frames| frames.len() as u64).sum();
    for damage in &summary.damage {
        let outcome = match damage.partition {
            Some(_) => QUARANTINES,
            None => KEEPS_JOURNALS,
        };
        report.findings.push(Finding {
            weight: Weight::AtStart,
            path: damage.path.clone(),
            offset: damage.offset,
            partition: damage.partition,
            offsets: None,
            what: damage.reason.clone(),
            outcome: outcome.to_owned(),
        });
    }
    for copy in &summary.spare_copies {
        report.findings.push(Finding {
            weight: Weight::AtStart,
            path: copy.path.clone(),
            offset: copy.offset,
            partition: None,
            offsets: None,
            what: copy.reason.clone(),
            outcome: SPARE_COPY.to_owned(),
        });
    }
    for place in survey.places.values().filter(|place| place.point.quarantined) {
        report.findings.push(Finding {
            weight: Weight::AtStart,
            path: place.dir.clone(),
            offset: 0,
            partition: Some(place.spec.id),
            offsets: None,
            what: "quarantined by an earlier start, which had found damage".to_owned(),
            outcome: "the quarantine stays: no appends; what the segments hold is served".to_owned(),
        });
    }
    for torn in &survey.plan.torn {
        report.findings.push(Finding {
            weight: Weight::Harmless,
            path: torn.path.clone(),
            offset: torn.offset,
            partition: None,
            offsets: None,
            what: format!(
                "a torn tail: {} bytes from frame {} on, never acknowledged",
                torn.bytes, torn.sequence
            ),
            outcome: "a start cuts it".to_owned(),
        });
    }
}

const SPARE_COPY: &str =
    "nothing is lost: a start uses the other copy, and both are written again at the first checkpoint";
const QUARANTINES: &str =
    "a start quarantines the partition: no appends; what its segments hold up to the checkpoint is served";
const KEEPS_JOURNALS: &str = "a start names it, keeps this epoch's journals as `.damaged`, and quarantines the partitions that \
     cannot be shown to be complete";
