//! From a recovered log to a running store.
//!
//! Invariant: this runs only after the metadata durably names the new epoch, so nothing of the old journals is needed.

use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{fs, spawn};

use crate::error::{SYNCING, StoreError};
use crate::inner::Inner;
use crate::journal::Journal;
use crate::journal_files::{self, JournalFile};
use crate::limits::BLOCK_BYTES;
use crate::limits::MAX_FRAME_BYTES;
use crate::partition_folders;
use crate::recovery::Recovered;
use crate::stats::count;
use crate::store::Store;
use crate::{checkpoint, commit, layout, retention};

impl Recovered {
    /// Opens the new epoch's journal and starts the commit and flush tasks on this core. Call it once every shard has
    /// recovered and the metadata durably names the new epoch.
    pub async fn activate(self) -> Result<Store, StoreError> {
        self.remove_unsynced().await;
        let recycled = self.recycle().await?;
        let Recovered { config, identity, partitions, shared, .. } = self;
        let max_frame_bytes = MAX_FRAME_BYTES.min(config.journal_file_bytes as usize - BLOCK_BYTES);
        let journal = Journal::new(identity, config.tail_bytes, max_frame_bytes);
        let inner = Rc::new(Inner::new(config, journal, partitions, shared));
        let mut files = recycled.len() as u32;
        recycled.into_iter().for_each(|file| inner.committer.files.add(file));
        if files == 0 {
            let file = journal_files::make(&inner.dir, 0, inner.config.journal_file_bytes).await?;
            journal_files::name(&inner.dir, 0).await?;
            inner.committer.files.add(file);
            count(&inner.shared.counters.journal_files_made);
            files = 1;
        }
        spawn(commit::run(Rc::clone(&inner))).detach();
        spawn(checkpoint::run(Rc::clone(&inner))).detach();
        inner.partitions.borrow().values().for_each(|partition| partition.note_recovered());
        spawn(retention::run(Rc::clone(&inner))).detach();
        spawn(checkpoint::make_files(Rc::clone(&inner), files)).detach();
        Ok(Store { inner })
    }

    /// Removes what recovery has put aside: all of it was in the journal, and is in segments now.
    async fn remove_unsynced(&self) {
        for path in &self.unsynced {
            if let Err(error) = partition_folders::remove_aside(path).await {
                tracing::warn!(path = %path.display(), %error, "a superseded segment could not be removed");
            }
        }
    }

    /// Takes over the journal files of the same shard in the epoch before: their blocks are written and need no zeros.
    async fn recycle(&self) -> Result<Vec<JournalFile>, StoreError> {
        let config = &self.config;
        let Some(previous) = config.previous.filter(|_| !self.journal_damaged) else { return Ok(Vec::new()) };
        let from = layout::shard_dir(&config.data_dir, previous.epoch, config.shard);
        let to = layout::shard_dir(&config.data_dir, config.epoch, config.shard);
        let mut moved = Vec::new();
        for name in self.recyclable(&from).await?.into_iter().take(config.journal_files as usize) {
            let (old, new) = (from.join(name), layout::journal_file(&to, moved.len() as u32));
            fs::rename(&old, &new).await.map_err(StoreError::io("renaming", old))?;
            reached("journal file taken over");
            moved.push(new);
        }
        // A frame must never be in a file that a crash can put back into the old folder.
        for dir in [&to, &from] {
            if !moved.is_empty() && !mutant("taken-over-unsynced") {
                fs::sync_dir(dir).await.map_err(StoreError::io(SYNCING, dir))?;
            }
        }
        let mut files = Vec::new();
        for path in moved {
            files.push(journal_files::open_recycled(&path).await?);
        }
        Ok(files)
    }

    async fn recyclable(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("listing", dir)(error)),
        };
        let wanted = self.config.journal_file_bytes;
        let fits = entries.into_iter().filter(|entry| is_journal_file(&entry.name) && entry.len == wanted);
        Ok(fits.map(|entry| entry.name).collect())
    }
}

fn is_journal_file(name: &str) -> bool {
    layout::journal_file_number(name).is_some()
}
