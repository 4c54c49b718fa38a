//! The two copies of a shard's checkpoint: written one after the other, and read as one.
//!
//! Invariants:
//! - The second copy is touched only when the first is on stable storage: a crash leaves at least one that is whole.
//! - Nothing that an older copy needs is given up before both have been replaced, so a start may use either. It uses the newer
//!   one, which leaves less to replay.
//! - A copy that cannot be used while the other can costs nothing: it is named, and both are written at the first checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use ringlog_reactor::fs;
use ringlog_reactor::sim::{mutant, reached};

use crate::error::{RecoveryError, StoreError};
use crate::format::FormatError;
use crate::format::checkpoint::Checkpoint;
use crate::layout;
use crate::reading::tried;
use crate::reserve::replace_copies;

/// What the copies of a checkpoint say.
pub(crate) struct ReadCheckpoint {
    /// The newer one of those that are sound.
    pub(crate) best: Option<Checkpoint>,
    /// Both are sound, and need the same of the journal.
    pub(crate) agree: bool,
    /// The copies that cannot be used, and why.
    pub(crate) damaged: Vec<(PathBuf, String)>,
}

/// Replaces both copies, durably. After an error each is the old or the new one.
pub(crate) async fn write(dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let copies = if mutant("checkpoint-copy-unwritten") { 1 } else { 2 };
    replace_copies(dir, &layout::checkpoint_files(dir)[..copies], &checkpoint.encode()).await
}

/// Reads the checkpoint of a shard's journal.
pub(crate) async fn read(dir: &Path, epoch: u64, shard: u32) -> Result<ReadCheckpoint, RecoveryError> {
    let mut read = ReadCheckpoint { best: None, agree: false, damaged: Vec::new() };
    for path in layout::checkpoint_files(dir) {
        match read_copy(&path, epoch, shard).await? {
            Ok(copy) => {
                read.agree = read.best.as_ref().is_some_and(|best| best.journal_from == copy.journal_from);
                let is_newer = read.best.as_ref().is_none_or(|best| copy.is_newer_than(best));
                if is_newer != (mutant("older-checkpoint-preferred") && read.best.is_some()) {
                    read.best = Some(copy);
                }
            }
            Err(reason) => read.damaged.push((path, reason)),
        }
    }
    if read.best.is_some() && !read.damaged.is_empty() {
        reached("one copy of a checkpoint damaged");
    }
    Ok(read)
}

/// One copy, or what is wrong with it.
async fn read_copy(path: &Path, epoch: u64, shard: u32) -> Result<Result<Checkpoint, String>, RecoveryError> {
    let bytes = match tried(|| fs::read(path)).await {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(StoreError::unreadable("reading", path, error)?)),
    };
    match Checkpoint::decode(&bytes) {
        Ok(checkpoint) if (checkpoint.journal.epoch, checkpoint.journal.shard) == (epoch, shard) => {
            Ok(Ok(checkpoint))
        }
        Ok(_) => Ok(Err("it is of another journal".to_owned())),
        Err(error @ FormatError::Version(_)) => {
            Err(RecoveryError::Format { path: path.to_path_buf(), error })
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}
