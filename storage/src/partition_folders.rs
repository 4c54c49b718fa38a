//! The folders of partitions: each is made when its first segment is about to be.
//!
//! Invariants
//! - The entry of a partition's folder in its topic's folder is on stable storage before a segment in it is used.
//! - An entry that an earlier life has made, for a partition of which neither checkpoint nor journal knows a segment, is made
//!   again after it was removed: its sync may have failed, and no later sync saves it then.
//! - Shards share the folders of topics. A sync that fails may take an entry of another shard along, whose own sync would then say
//!   that all is well. So one shard at a time makes entries and syncs them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringlog_reactor::fs;
use ringlog_reactor::sim::{mutant, reached};

use crate::error::{SYNCING, StoreError};
use crate::folders::make_durable;
use crate::layout;
use crate::limits::SYNCS_IN_FLIGHT;
use crate::parallel::in_parallel;
use crate::partition::{Folder, Partition, Shared};

/// Makes the folders that these partitions lack, and syncs each topic's folder once for all of them. The caller has entered the
/// partitions' [activities](crate::permits::Activity).
pub(crate) async fn make(
    shared: &Shared,
    partitions: impl Iterator<Item = &Partition>,
) -> Result<(), StoreError> {
    let lacking: Vec<_> = partitions.filter(|partition| partition.lacks_folder()).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let _turn = shared.folder_turn.take().await;
    make_entries(shared, &lacking).await?;
    let topics: BTreeSet<_> =
        lacking.iter().filter_map(|partition| partition.dir().parent().map(Path::to_path_buf)).collect();
    for topic in topics.iter().filter(|_| !mutant("partition-folder-unsynced")) {
        shared.descriptors.sync_dir(topic).await.map_err(StoreError::io(SYNCING, topic))?;
    }
    lacking.iter().for_each(|partition| partition.set_folder(Folder::Durable));
    Ok(())
}

/// Makes the entries, several at a time. What is made when another cannot be made is not made again.
async fn make_entries(shared: &Shared, lacking: &[&Partition]) -> Result<(), StoreError> {
    let unknown = lacking.iter().enumerate().filter(|(_, partition)| partition.folder() == Folder::Unknown);
    let unknown: Vec<_> = unknown.map(|(at, partition)| (at, partition.dir())).collect();
    let made: Rc<RefCell<Vec<usize>>> = Rc::default();
    let result = in_parallel(SYNCS_IN_FLIGHT, unknown.iter(), |(at, dir)| {
        let (shared, made) = (shared.clone(), Rc::clone(&made));
        async move {
            make_anew(&shared, &dir).await?;
            made.borrow_mut().push(at);
            Ok(())
        }
    })
    .await;
    made.borrow().iter().for_each(|at| lacking[*at].set_folder(Folder::Made));
    result
}

async fn make_anew(shared: &Shared, dir: &Path) -> Result<(), StoreError> {
    let made = fs::create_dir_all(dir).await.map_err(StoreError::io("creating", dir))?;
    match made.len() {
        1 => return Ok(()),
        0 => {}
        // The topic's folder was gone, too.
        _ => {
            let topic = dir.parent().unwrap_or(dir);
            return make_durable(topic, &shared.data_dir).await;
        }
    }
    reached("partition folder made anew");
    match fs::remove_dir(dir).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => drop(put_aside(dir).await?),
        // An operator has mounted another disk there, or the name is a link to one.
        Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::ResourceBusy) => {}
        Err(error) => return Err(StoreError::io("removing", dir)(error)),
    }
    fs::create_dir_all(dir).await.map(drop).map_err(StoreError::io("creating", dir))
}

/// Gives a partition's folder a name that says that nothing in it is known. Returns that.
pub(crate) async fn put_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let mut attempt = 0;
    loop {
        let to = layout::unsynced_dir(dir, attempt);
        if !fs::exists(&to).await.map_err(StoreError::io("reading", &to))? {
            fs::rename(dir, &to).await.map_err(StoreError::io("renaming", dir))?;
            return Ok(to);
        }
        attempt += 1;
    }
}

/// Removes what a recovery has put aside: a segment, or the folder of a partition. That it is gone already is no error.
pub(crate) async fn remove_aside(path: &Path) -> io::Result<()> {
    let is_folder = path.file_name().and_then(|name| name.to_str()).and_then(layout::unsynced_dir_of);
    let removed = match is_folder {
        Some(_) => remove_folder(path).await,
        None => fs::remove_file(path).await,
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes the files of ours that are in it, and the folder, if nothing else is in it.
async fn remove_folder(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).await? {
        let is_ours = layout::segment_base(&entry.name).or_else(|| layout::index_base(&entry.name)).is_some()
            || layout::is_unsynced_file(&entry.name);
        if is_ours {
            fs::remove_file(dir.join(&entry.name)).await?;
        }
    }
    match fs::remove_dir(dir).await {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}
