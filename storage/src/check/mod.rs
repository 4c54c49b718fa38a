//! A look at a data folder at rest: every checksum and every rule of `docs/on_disk.md`, and nothing changed.
//!
//! The first half is the reading half of a recovery itself, so what a start would find is found here. Then every segment is
//! read whole, which a start does not, and every folder is listed.

mod folders;
mod report;
mod segments;

use std::path::Path;

pub use report::{CheckProgress, CheckReport, CheckedPartition, Finding, Known, Weight};

use crate::config::StoreConfig;
use crate::error::RecoveryError;
use crate::folders::refuse_later_journals;
use crate::partition::Shared;
use crate::recovery::{RecoverySummary, Survey, survey};

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
