//! The old epoch's journals: their checkpoints, their files, and where frames begin in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions};
use ringlog_reactor::sim::{mutant, reached};

use super::{Damage, RecoverySummary};
use crate::checkpoint_file::{self, ReadCheckpoint};
use crate::config::StoreConfig;
use crate::error::{RecoveryError, StoreError};
use crate::format::checkpoint::Checkpoint;
use crate::format::{FormatError, journal_file};
use crate::layout;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_FRAME_BYTES, MAX_JOURNAL_FILE_BYTES, SCAN_READ_BYTES};

/// All journals of the old epoch.
pub(crate) struct Journals {
    pub(crate) journals: Vec<OldJournal>,
    /// Both copies of a checkpoint could not be used: which partitions it named is not known.
    pub(super) checkpoint_lost: bool,
}

/// A journal whose checkpoint is sound.
pub(crate) struct OldJournal {
    pub(crate) dir: PathBuf,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) files: Vec<PathBuf>,
    /// A file is missing, or shorter than it was: which frames were last is not known.
    pub(crate) is_cut: bool,
    /// Where frames begin that the checkpoint has not freed, by sequence.
    pub(crate) frames: Vec<FrameAt>,
}

/// The place of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameAt {
    pub(crate) sequence: u64,
    /// The last frame that was durable when this one was written.
    pub(crate) shows_durable: u64,
    /// Which of the journal's files.
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

/// Finds the journals of the epoch before.
pub(super) async fn find(
    config: &StoreConfig,
    summary: &mut RecoverySummary,
) -> Result<Journals, RecoveryError> {
    let mut found = Journals { journals: Vec::new(), checkpoint_lost: false };
    let Some(previous) = config.previous else { return Ok(found) };
    for shard in 0..previous.shards {
        if shard != config.shard && mutant("other-journals-unread") {
            continue;
        }
        let dir = layout::shard_dir(&config.data_dir, previous.epoch, shard);
        let ReadCheckpoint { best, damaged } = checkpoint_file::read(&dir, previous.epoch, shard).await?;
        let damaged = damaged.into_iter();
        let damaged = damaged.map(|(path, reason)| Damage { path, offset: 0, partition: None, reason });
        match best {
            Some(checkpoint) => {
                summary.spare_copies.extend(damaged);
                found.journals.push(open(dir, checkpoint, summary).await?);
            }
            None => {
                reached("checkpoint damaged");
                found.checkpoint_lost = true;
                damaged.for_each(|damage| Journals::note(summary, damage));
            }
        }
    }
    Ok(found)
}

async fn open(
    dir: PathBuf,
    checkpoint: Checkpoint,
    summary: &mut RecoverySummary,
) -> Result<OldJournal, RecoveryError> {
    let mut journal = OldJournal { dir, checkpoint, files: Vec::new(), is_cut: false, frames: Vec::new() };
    if journal.checkpoint.clean {
        reached("start after an orderly end");
        return Ok(journal);
    }
    let entries = fs::read_dir(&journal.dir).await.map_err(StoreError::io("listing", &journal.dir))?;
    let mut files = Vec::new();
    for entry in &entries {
        let Some(number) = layout::journal_file_number(&entry.name) else { continue };
        let path = journal.dir.join(&entry.name);
        let stated = journal.scan(&path, entry.len, summary).await?;
        files.push(FoundFile { number, path, bytes: entry.len, stated });
    }
    journal.frames.sort_unstable();
    journal.find_cut(&mut files, summary);
    Ok(journal)
}

/// A journal file as it lies in its folder.
struct FoundFile {
    number: u32,
    path: PathBuf,
    bytes: u64,
    /// Its length, by its own header.
    stated: Option<u64>,
}

impl OldJournal {
    /// Notes the files that are missing, or not as long as they were made. All are of one length, and numbered from 0 before
    /// the first frame is written.
    fn find_cut(&mut self, files: &mut [FoundFile], summary: &mut RecoverySummary) {
        files.sort_unstable_by_key(|file| file.number);
        let usual = files.iter().filter_map(|file| file.stated).max();
        for file in files.iter() {
            let made = file.stated.or(usual).unwrap_or(u64::MAX);
            if file.bytes < made {
                let reason = "the journal file ends here, and was longer".to_owned();
                let (path, offset) = (file.path.clone(), file.bytes);
                Journals::note(summary, Damage { path, offset, partition: None, reason });
                self.is_cut = true;
            }
        }
        let was_begun = !self.frames.is_empty() || self.checkpoint.journal_from > 1;
        let missing = (0..).zip(files.iter()).find(|(number, file)| *number != file.number);
        if let Some((number, _)) = missing.filter(|_| was_begun) {
            let path = layout::journal_file(&self.dir, number);
            let reason = "the journal file is missing".to_owned();
            Journals::note(summary, Damage { path, offset: 0, partition: None, reason });
            self.is_cut = true;
        }
    }

    /// Looks at the first bytes of every block of a file for the header of a frame of this journal. Returns the length that
    /// the file's own header says.
    async fn scan(
        &mut self,
        path: &Path,
        len: u64,
        summary: &mut RecoverySummary,
    ) -> Result<Option<u64>, RecoveryError> {
        let file = open_file(path).await?;
        let header = file.read_at(BytesMut::with_capacity(BLOCK_BYTES), 0, BLOCK_BYTES).await;
        let stated = check_header(path, &header.map_err(StoreError::io("reading", path))?, summary)?;
        let mut position = 0;
        while position < len {
            let step = (len - position).min(SCAN_READ_BYTES as u64) as usize;
            let bytes = file.read_at(BytesMut::with_capacity(step), position, step).await;
            let bytes = bytes.map_err(StoreError::io("reading", path))?;
            self.note_frames(&bytes, position);
            if bytes.len() < step {
                break;
            }
            position += step as u64;
        }
        self.files.push(path.to_path_buf());
        Ok(stated)
    }

    fn note_frames(&mut self, bytes: &[u8], from: u64) {
        for (block, at) in bytes.chunks(BLOCK_BYTES).zip((from..).step_by(BLOCK_BYTES)) {
            let header = self.checkpoint.journal.frame_at(block);
            let Some(header) = header.filter(|header| header.sequence >= self.checkpoint.journal_from) else {
                continue;
            };
            self.frames.push(FrameAt {
                sequence: header.sequence,
                shows_durable: header.shows_durable(),
                file: self.files.len(),
                offset: at,
            });
        }
    }

    /// The whole of one of the journal's files.
    pub(super) async fn load(&self, file: usize) -> Result<Bytes, RecoveryError> {
        let path = &self.files[file];
        let opened = open_file(path).await?;
        let len = opened.len().await.map_err(StoreError::io("reading", path))?;
        // Larger than anything that is written: what is behind cannot be a frame.
        let len = len.min(MAX_JOURNAL_FILE_BYTES) as usize;
        let bytes = opened.read_at(BytesMut::with_capacity(len), 0, len).await;
        Ok(bytes.map_err(StoreError::io("reading", path))?.freeze())
    }
}

async fn open_file(path: &Path) -> Result<File, StoreError> {
    // Through the page cache: every shard reads every journal, and twice.
    File::open(path, &OpenOptions::new().read(true)).await.map_err(StoreError::io("opening", path))
}

/// The frames speak for themselves, so a file with a damaged header is still read.
fn check_header(
    path: &Path,
    bytes: &[u8],
    summary: &mut RecoverySummary,
) -> Result<Option<u64>, RecoveryError> {
    match journal_file::decode(bytes) {
        Ok(stated) => Ok(Some(stated)),
        Err(error @ FormatError::Version(_)) => {
            Err(RecoveryError::Format { path: path.to_path_buf(), error })
        }
        Err(error) => {
            let reason = format!("journal file header: {error}");
            Journals::note(summary, Damage { path: path.to_path_buf(), offset: 0, partition: None, reason });
            Ok(None)
        }
    }
}

impl Journals {
    /// About how many bytes a start puts from the journals into segments: it needs no more than that, but for the padding of many
    /// partitions.
    pub(super) fn bytes_to_replay(&self) -> u64 {
        self.journals.iter().map(OldJournal::bytes_to_replay).sum()
    }
}

impl OldJournal {
    fn bytes_to_replay(&self) -> u64 {
        let mut of_files: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for frame in &self.frames {
            let (first, end) = of_files.entry(frame.file).or_insert((frame.offset, frame.offset));
            (*first, *end) = ((*first).min(frame.offset), (*end).max(frame.offset));
        }
        of_files.values().map(|(first, end)| end - first + MAX_FRAME_BYTES.min(CHUNK_BYTES) as u64).sum()
    }
}
