//! The old epoch's journals: their checkpoints, their files, and where frames begin in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::sim::{mutant, reached};

use super::summary::{Damage, RecoverySummary};
use crate::checkpoint_file::{self, ReadCheckpoint};
use crate::config::StoreConfig;
use crate::error::{RecoveryError, SYNCING, StoreError};
use crate::format::checkpoint::Checkpoint;
use crate::format::{FormatError, journal_file};
use crate::layout;
use crate::limits::MAX_FRAME_BYTES;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_JOURNAL_FILE_BYTES, SCAN_READ_BYTES};
use crate::reading::{open_file, tried};

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
    /// The highest sequence of a frame, be it one that is not needed any more, and the file that has it.
    newest: (u64, usize),
    /// Both copies of the checkpoint say from where on frames are needed.
    is_agreed: bool,
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
        let ReadCheckpoint { best, agree, damaged } =
            checkpoint_file::read(&dir, previous.epoch, shard).await?;
        let damaged = damaged.into_iter();
        let damaged = damaged.map(|(path, reason)| Damage { path, offset: 0, partition: None, reason });
        match best {
            Some(checkpoint) => {
                summary.spare_copies.extend(damaged);
                found.journals.push(open(dir, checkpoint, agree, summary).await?);
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
    is_agreed: bool,
    summary: &mut RecoverySummary,
) -> Result<OldJournal, RecoveryError> {
    let (files, frames) = (Vec::new(), Vec::new());
    let mut journal = OldJournal { dir, checkpoint, files, is_cut: false, newest: (0, 0), is_agreed, frames };
    if journal.checkpoint.clean {
        reached("start after an orderly end");
        return Ok(journal);
    }
    let entries = match fs::read_dir(&journal.dir).await {
        Ok(entries) => entries,
        Err(error) => {
            let reason = StoreError::unreadable("listing", &journal.dir, error)?;
            journal.cut(journal.dir.clone(), 0, reason, summary);
            return Ok(journal);
        }
    };
    let mut files = Vec::new();
    for entry in &entries {
        let Some(number) = layout::journal_file_number(&entry.name) else { continue };
        let path = journal.dir.join(&entry.name);
        let mut file = FoundFile { number, path, bytes: entry.len, stated: None, is_readable: true };
        match journal.scan(&file.path, entry.len).await {
            Ok(stated) => file.stated = header_of(&file.path, stated, summary)?,
            Err(error) => {
                reached("journal file unreadable");
                let reason = StoreError::unreadable("reading", &file.path, error)?;
                journal.cut(file.path.clone(), 0, reason, summary);
                file.is_readable = false;
            }
        }
        files.push(file);
    }
    journal.frames.sort_unstable();
    journal.find_cut(&mut files, summary);
    journal.find_lost_end(summary);
    Ok(journal)
}

/// A journal file as it lies in its folder.
struct FoundFile {
    number: u32,
    path: PathBuf,
    bytes: u64,
    /// Its length, by its own header.
    stated: Option<u64>,
    is_readable: bool,
}

impl OldJournal {
    /// Notes the files that are missing, or not as long as they were made. All are of one length, and numbered from 0 before
    /// the first frame is written.
    fn find_cut(&mut self, files: &mut [FoundFile], summary: &mut RecoverySummary) {
        files.sort_unstable_by_key(|file| file.number);
        let usual = files.iter().filter_map(|file| file.stated).max();
        for file in files.iter().filter(|file| file.is_readable) {
            let made = file.stated.or(usual).unwrap_or(u64::MAX);
            if file.bytes < made {
                let reason = "the journal file ends here, and was longer".to_owned();
                self.cut(file.path.clone(), file.bytes, reason, summary);
            }
        }
        let was_begun = !self.frames.is_empty() || self.checkpoint.journal_from > 1;
        let missing = (0..).zip(files.iter()).find(|(number, file)| *number != file.number);
        if let Some((number, _)) = missing.filter(|_| was_begun) {
            let path = layout::journal_file(&self.dir, number);
            self.cut(path, 0, "the journal file is missing".to_owned(), summary);
        }
    }

    /// Notes that the newest frames that the checkpoint knows of are not there: the file with them was written again only with
    /// newer ones.
    fn find_lost_end(&mut self, summary: &mut RecoverySummary) {
        let known = self.checkpoint.journal_from - 1;
        let (newest, _) = self.newest;
        if newest < known && !self.is_cut {
            let reason = format!(
                "its last frame is {newest}, and the checkpoint was made behind frame {known}: the end of the journal is lost"
            );
            self.cut(self.dir.clone(), 0, reason, summary);
        }
    }

    /// Notes damage that leaves open which frames were last.
    fn cut(&mut self, path: PathBuf, offset: u64, reason: String, summary: &mut RecoverySummary) {
        Journals::note(summary, Damage { path, offset, partition: None, reason });
        self.is_cut = true;
    }

    /// Looks at the first bytes of every block of a file for the header of a frame of this journal. Returns what the file's own
    /// header says. Of a file that cannot be read to its end no frame is noted.
    async fn scan(&mut self, path: &Path, len: u64) -> io::Result<Result<u64, FormatError>> {
        let file = tried(|| open_file(path)).await?;
        let header = tried(|| file.read_at(BytesMut::with_capacity(BLOCK_BYTES), 0, BLOCK_BYTES)).await?;
        let stated = journal_file::decode(&header);
        let before = self.frames.len();
        let mut position = 0;
        while position < len {
            let step = (len - position).min(SCAN_READ_BYTES as u64) as usize;
            let bytes = match tried(|| file.read_at(BytesMut::with_capacity(step), position, step)).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.frames.truncate(before);
                    return Err(error);
                }
            };
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
            let sequence = header.as_ref().map_or(0, |header| header.sequence);
            self.newest = self.newest.max((sequence, self.files.len()));
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

    /// Cuts the files of which nothing is needed down to their headers: a start on a full disk needs their space. Both copies of
    /// the checkpoint must say so, or another try could use the one that needs more; and the newest frame stays, which shows that the
    /// end of the journal is there. A header says the new length first: a file that is shorter than its header says is damaged.
    async fn cut_free_files(&self) -> Result<(), StoreError> {
        let is_needed =
            |file: usize| self.newest.1 == file || self.frames.iter().any(|frame| frame.file == file);
        if !self.is_agreed || self.is_cut {
            return Ok(());
        }
        for (_, path) in self.files.iter().enumerate().filter(|(file, _)| !is_needed(*file)) {
            reached("free journal file cut on a full disk");
            let file = File::open(path, &OpenOptions::new().write(true)).await;
            let file = file.map_err(StoreError::io("opening", path))?;
            let header = Bytes::copy_from_slice(&journal_file::encode(BLOCK_BYTES as u64));
            file.write_at(vec![header], 0, Sync::Data).await.map_err(StoreError::io("writing", path))?;
            file.truncate(BLOCK_BYTES as u64).await.map_err(StoreError::io("truncating", path))?;
            file.sync_all().await.map_err(StoreError::io(SYNCING, path))?;
        }
        Ok(())
    }

    /// The whole of one of the journal's files.
    pub(super) async fn load(&self, file: usize) -> Result<BytesMut, RecoveryError> {
        let path = &self.files[file];
        let opened = open_file(path).await.map_err(StoreError::io("opening", path))?;
        let len = opened.len().await.map_err(StoreError::io("reading", path))?;
        // Larger than anything that is written: what is behind cannot be a frame.
        let len = len.min(MAX_JOURNAL_FILE_BYTES) as usize;
        let bytes = opened.read_at(BytesMut::with_capacity(len), 0, len).await;
        Ok(bytes.map_err(StoreError::io("reading", path))?)
    }
}

/// The file's length by its own header. The frames speak for themselves, so a file with a damaged header is still read.
fn header_of(
    path: &Path,
    stated: Result<u64, FormatError>,
    summary: &mut RecoverySummary,
) -> Result<Option<u64>, RecoveryError> {
    match stated {
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

    /// Gives back the space of the files of this shard's old journal of which nothing is needed.
    pub(super) async fn cut_free_files(&self, shard: u32) -> Result<(), StoreError> {
        for journal in self.journals.iter().filter(|journal| journal.checkpoint.journal.shard == shard) {
            journal.cut_free_files().await?;
        }
        Ok(())
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
