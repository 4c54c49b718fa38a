//! The folders that no shard has for itself: made before the shards recover, removed once nobody needs them.
//!
//! Invariants
//! - The folder of a new epoch is made anew, with its entry in the folder above it: an entry that a start before this one has
//!   made may be one whose sync has failed, and no later sync saves that.
//! - An epoch's folder that holds journal files is never removed before a later epoch is durably the live one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ringlog_reactor::fs::{self, DirEntry, Kind};
use ringlog_reactor::sim::reached;

use crate::error::{RecoveryError, SYNCING, StoreError};
use crate::layout;
use crate::reserve::Reserve;

/// Makes the folder of a new epoch, and those of all journals and all topics, durably. Call it before any shard recovers.
///
/// # Errors
/// When that cannot be done, or there are journals of this epoch or a later one: then the metadata that named the epoch before
/// is an old copy. Nothing was changed in that case.
pub async fn prepare_epoch(data_dir: &Path, epoch: u64) -> Result<(), RecoveryError> {
    match make_epoch(data_dir, epoch).await {
        // A folder takes a block.
        Err(error) if error.is_disk_full() => {
            let given_up = Reserve::of(data_dir).give_up_some().await;
            given_up.map_err(StoreError::io("cutting", Reserve::of(data_dir).path()))?;
            make_epoch(data_dir, epoch).await
        }
        made => made,
    }
}

async fn make_epoch(data_dir: &Path, epoch: u64) -> Result<(), RecoveryError> {
    refuse_later_journals(data_dir, epoch).await?;
    for begun in later_epochs(data_dir, epoch).await? {
        remove_folder(&begun).await?;
    }
    let (journals, topics) = (layout::journals_dir(data_dir), layout::topics_dir(data_dir));
    for folder in [&journals, &topics] {
        remove_if_empty(folder).await?;
    }
    make_durable(&topics, data_dir).await?;
    Ok(make_durable(&layout::epoch_dir(data_dir, epoch), data_dir).await?)
}

/// Makes a folder and those above it, and syncs each in the one above it, up to `root`. Folders that were there may be those of
/// an attempt that was killed, so they are synced too.
pub(crate) async fn make_durable(dir: &Path, root: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).await.map_err(StoreError::io("creating", dir))?;
    for above in dir.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        fs::sync_dir(above).await.map_err(StoreError::io(SYNCING, above))?;
    }
    Ok(())
}

/// Fails if there are journals of `epoch` or a later one.
pub(crate) async fn refuse_later_journals(data_dir: &Path, epoch: u64) -> Result<(), RecoveryError> {
    for path in later_epochs(data_dir, epoch).await? {
        for (shard, _) in list(&path).await? {
            let is_journal = |entry: &DirEntry| layout::journal_file_number(&entry.name).is_some();
            if list(&shard).await?.iter().any(|(_, entry)| is_journal(entry)) {
                reached("metadata file older than the journals");
                return Err(RecoveryError::OldMetadata { path });
            }
        }
    }
    Ok(())
}

/// The folders of `epoch` and later ones: of starts that ended before the metadata named their epoch.
async fn later_epochs(data_dir: &Path, epoch: u64) -> Result<Vec<PathBuf>, RecoveryError> {
    let folders = list(&layout::journals_dir(data_dir)).await?.into_iter();
    let later = |entry: &DirEntry| layout::epoch_number(&entry.name).is_some_and(|number| number >= epoch);
    Ok(folders.filter(|(_, entry)| later(entry)).map(|(path, _)| path).collect())
}

/// The largest id that a topic's folder has, 0 without any. A folder can be of a topic whose making failed.
///
/// # Errors
/// When the folders cannot be listed.
pub async fn last_topic_id(data_dir: &Path) -> Result<u64, RecoveryError> {
    let folders = list(&layout::topics_dir(data_dir)).await?;
    let ids = folders
        .iter()
        .filter(|(_, entry)| entry.kind == Kind::Folder)
        .filter_map(|(_, entry)| layout::topic_id(&entry.name));
    Ok(ids.max().unwrap_or(0))
}

/// What is in a folder; nothing, if there is none.
pub(crate) async fn list(dir: &Path) -> Result<Vec<(PathBuf, DirEntry)>, RecoveryError> {
    match fs::read_dir(dir).await {
        Ok(entries) => Ok(entries.into_iter().map(|entry| (dir.join(&entry.name), entry)).collect()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(StoreError::io("listing", dir)(error).into()),
    }
}

/// Removes an epoch's journals. Call it once every shard of the next epoch is active.
pub async fn remove_epoch(data_dir: &Path, epoch: u64) -> Result<(), StoreError> {
    remove_folder(&layout::epoch_dir(data_dir, epoch)).await
}

/// Keeps an epoch's journals, under a name that says that there was damage in them.
pub async fn keep_damaged_epoch(data_dir: &Path, epoch: u64) -> Result<(), StoreError> {
    let from = layout::epoch_dir(data_dir, epoch);
    let to = layout::damaged_epoch_dir(data_dir, epoch);
    reached("damaged epoch kept");
    absent_is_fine(fs::rename(&from, &to).await).map_err(StoreError::io("renaming", from))
}

/// Makes the folder of a new topic, durably. Those of its partitions are made with their first segments.
///
/// # Errors
/// When it cannot be made, or it is not certain that it stays.
pub async fn make_topic(data_dir: &Path, name: &str, id: u64) -> Result<(), StoreError> {
    ringlog_protocol::TopicName::check(name)?;
    make_durable(&layout::topic_dir(data_dir, name, id), data_dir).await
}

/// Removes the folder of a deleted topic, durably, with whatever an interrupted deletion has left in it.
///
/// # Errors
/// When it cannot be removed, or it is not certain that it stays so.
pub async fn remove_topic(data_dir: &Path, name: &str, id: u64) -> Result<(), StoreError> {
    ringlog_protocol::TopicName::check(name)?;
    remove_folder(&layout::topic_dir(data_dir, name, id)).await?;
    let topics = layout::topics_dir(data_dir);
    absent_is_fine(fs::sync_dir(&topics).await).map_err(StoreError::io(SYNCING, topics))
}

/// Removes the folders of topics that were never made: a creation that ended early leaves an empty one. `is_known` gets the id in
/// its name. What has something in it stays: the metadata may be an old copy.
///
/// # Errors
/// When the folders cannot be listed, or an empty one cannot be removed.
pub async fn remove_leftover_topics(
    data_dir: &Path,
    is_known: impl Fn(u64) -> bool,
) -> Result<(), RecoveryError> {
    for (path, entry) in list(&layout::topics_dir(data_dir)).await? {
        if layout::topic_id(&entry.name).is_some_and(|id| !is_known(id)) {
            reached("folder of a topic that was not made");
            remove_if_empty(&path).await?;
        }
    }
    Ok(())
}

async fn remove_folder(dir: &Path) -> Result<(), StoreError> {
    absent_is_fine(fs::remove_dir_all(dir).await).map_err(StoreError::io("removing", dir))
}

async fn remove_if_empty(dir: &Path) -> Result<(), StoreError> {
    use ErrorKind::{DirectoryNotEmpty, NotADirectory, ResourceBusy};
    match fs::remove_dir(dir).await {
        // An operator has mounted another disk there, or the name is a link to one: both are theirs.
        Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotADirectory | ResourceBusy) => Ok(()),
        removed => absent_is_fine(removed).map_err(StoreError::io("removing", dir)),
    }
}

/// Of a removal: what is not there is removed.
pub(crate) fn absent_is_fine(done: std::io::Result<()>) -> std::io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
