//! What lies in the folders beside what is known: told, and left alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::report::{CheckReport, Known};
use crate::config::PreviousEpoch;
use crate::error::{RecoveryError, StoreError};
use crate::folders::list;
use crate::layout;
use crate::recovery::{Place, Survey};

use ringlog_reactor::fs::DirEntry;

const SET_ASIDE: &str =
    "a start puts it aside and then removes it: what of it was acknowledged is in the journal";
const LEFT_ALONE: &str = "a start leaves it alone";
const LEFT_UNLESS_EMPTY: &str = "a start removes it if it is empty, and leaves it alone otherwise";

/// Lists the folders of journals and topics.
pub(super) async fn look(
    data_dir: &Path,
    known: &Known,
    survey: &Survey,
    report: &mut CheckReport,
) -> Result<(), RecoveryError> {
    look_at_journals(data_dir, known.previous, report).await?;
    look_at_topics(data_dir, known, report).await?;
    for place in survey.places.values() {
        look_at_partition(place, report).await?;
    }
    Ok(())
}

async fn look_at_journals(
    data_dir: &Path,
    previous: Option<PreviousEpoch>,
    report: &mut CheckReport,
) -> Result<(), RecoveryError> {
    let live = previous.map(|previous| layout::epoch_dir(data_dir, previous.epoch));
    let next = previous.map_or(1, |previous| previous.epoch + 1);
    for (path, entry) in list(&layout::journals_dir(data_dir)).await? {
        let is_damaged = path.extension().is_some_and(|extension| extension == "damaged");
        match () {
            () if Some(&path) == live.as_ref() => {}
            () if layout::epoch_number(&entry.name).is_some_and(|epoch| epoch >= next) => {
                report.note(path, "journals of a start that did not end", "a start removes them");
            }
            () if is_damaged => {
                report.note(path, "journals that were kept because there was damage in them", LEFT_ALONE);
            }
            () => report.note(path, "journals of an epoch that is not the live one", LEFT_ALONE),
        }
    }
    Ok(())
}

async fn look_at_topics(
    data_dir: &Path,
    known: &Known,
    report: &mut CheckReport,
) -> Result<(), RecoveryError> {
    let deleted: BTreeSet<PathBuf> =
        known.deleted.iter().map(|(name, id)| layout::topic_dir(data_dir, name, *id)).collect();
    let known: BTreeSet<PathBuf> =
        known.partitions.iter().map(|spec| layout::partition_dir(data_dir, spec)).collect();
    let topics: BTreeSet<&Path> = known.iter().filter_map(|partition| partition.parent()).collect();
    for (topic, _) in list(&layout::topics_dir(data_dir)).await? {
        if deleted.contains(&topic) {
            report.note(topic, "a folder of a deleted topic", "a start removes it");
            continue;
        }
        if !topics.contains(topic.as_path()) {
            report.note(topic, "a folder of no topic that the metadata knows", LEFT_UNLESS_EMPTY);
            continue;
        }
        for (partition, entry) in list_or_note(&topic, report).await? {
            if layout::unsynced_dir_of(&entry.name).is_some() {
                report.note(partition, "put aside by an earlier start", SET_ASIDE);
            } else if !known.contains(&partition) {
                report.note(partition, "a folder of no partition that the metadata knows", LEFT_ALONE);
            }
        }
    }
    Ok(())
}

/// The entries of a folder. One that cannot be listed is named, if the reading half of a recovery has not named it.
async fn list_or_note(
    dir: &Path,
    report: &mut CheckReport,
) -> Result<Vec<(PathBuf, DirEntry)>, RecoveryError> {
    match list(dir).await {
        Err(RecoveryError::Store(StoreError::Io { action, path, error })) => {
            let what = StoreError::unreadable(action, &path, error)?;
            if report.at(&path, 0).is_none() {
                report.note(path, what, LEFT_ALONE);
            }
            Ok(Vec::new())
        }
        listed => listed,
    }
}

async fn look_at_partition(place: &Place, report: &mut CheckReport) -> Result<(), RecoveryError> {
    let set_aside = match place.is_quarantined() {
        true => LEFT_ALONE,
        false => SET_ASIDE,
    };
    for (path, entry) in list_or_note(&place.dir, report).await? {
        let base = layout::segment_base(&entry.name).or_else(|| layout::index_base(&entry.name));
        match base {
            Some(base) if place.unknown.contains(&base) => {
                report.note(path, "of a segment that neither checkpoint nor mark knows", set_aside);
            }
            Some(base) if place.knows(base) => {}
            Some(_) => report.note(path, "an index without its segment", LEFT_ALONE),
            None if layout::is_unsynced_file(&entry.name) => {
                report.note(path, "put aside by an earlier start", set_aside);
            }
            None => report.note(path, "not a file of Ringlog's, or one that was not finished", LEFT_ALONE),
        }
    }
    Ok(())
}
