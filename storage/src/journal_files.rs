//! The files of a journal: which one is written, which are full, which are free.
//!
//! Invariants:
//! - A file is free only when every frame in it is below the last checkpoint's `journal_from`.
//! - A frame is opened only if there is a place for it: what was taken needs no space on the disk any more to become durable.
//! - Frames go into one file after another; a frame never crosses a file's end, and no block is written twice between two
//!   checkpoints that free its file.
//! - A file is made under another name, filled with zeros and synced before it gets its own: writing into it later changes
//!   no metadata.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::{BufMut, Bytes};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::sim::mutant;

use crate::CommitSeq;
use crate::error::{SYNCING, StoreError};
use crate::format::journal_file;
use crate::layout;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES};

/// One journal file.
pub(crate) struct JournalFile {
    pub(crate) file: Rc<File>,
    /// There are frames in it already, of this epoch or an older one.
    pub(crate) used: bool,
}

struct Full {
    file: JournalFile,
    last: CommitSeq,
}

struct Active {
    file: JournalFile,
    position: u64,
}

#[derive(Default)]
struct State {
    active: Option<Active>,
    full: VecDeque<Full>,
    free: VecDeque<JournalFile>,
}

pub(crate) struct JournalFiles {
    file_bytes: u64,
    state: RefCell<State>,
}

/// Where a frame is to be written.
pub(crate) struct Place {
    pub(crate) file: Rc<File>,
    pub(crate) position: u64,
    /// The file before it is full now: a checkpoint is due.
    pub(crate) switched: bool,
    /// The file had frames that are given up now.
    pub(crate) recycled: bool,
}

impl JournalFiles {
    pub(crate) fn new(file_bytes: u64) -> JournalFiles {
        JournalFiles { file_bytes, state: RefCell::default() }
    }

    /// Adds a file without needed frames.
    pub(crate) fn add(&self, file: JournalFile) {
        self.state.borrow_mut().free.push_back(file);
    }

    /// The longest frame that has a place, if frames of these lengths get theirs first.
    pub(crate) fn room_behind(&self, waiting: impl Iterator<Item = usize>) -> usize {
        let state = self.state.borrow();
        let mut free = state.free.len();
        let mut position = state.active.as_ref().map_or(self.file_bytes, |active| active.position);
        for len in waiting {
            if position + len as u64 > self.file_bytes {
                let Some(left) = free.checked_sub(1) else { return 0 };
                (free, position) = (left, BLOCK_BYTES as u64);
            }
            position += len as u64;
        }
        let room = if free > 0 { self.file_bytes - BLOCK_BYTES as u64 } else { self.file_bytes - position };
        room as usize
    }

    /// The place of frame `sequence`, of `len` bytes; the one before it has had its own. There is one: see
    /// [`room_behind`](JournalFiles::room_behind).
    pub(crate) fn place(&self, len: usize, sequence: CommitSeq) -> Place {
        let len = len as u64;
        assert!(BLOCK_BYTES as u64 + len <= self.file_bytes, "appends that fit no file are refused");
        let mut state = self.state.borrow_mut();
        let fits = |active: &mut Active| active.position + len <= self.file_bytes;
        let full = state.active.take_if(|active| !fits(active));
        let mut switched = false;
        if let Some(Active { file, .. }) = full {
            state.full.push_back(Full { file, last: CommitSeq(sequence.0 - 1) });
            switched = true;
        }
        let mut recycled = false;
        if state.active.is_none() {
            let file = state.free.pop_front().expect("a frame is opened only if it has a place");
            recycled = file.used;
            state.active = Some(Active { file, position: BLOCK_BYTES as u64 });
        }
        let active = state.active.as_mut().expect("a file was opened above");
        let place =
            Place { file: Rc::clone(&active.file.file), position: active.position, switched, recycled };
        active.position += len;
        if mutant("rewrite-acked-block") && len > BLOCK_BYTES as u64 {
            active.position -= BLOCK_BYTES as u64;
        }
        place
    }

    /// Whether the file in use is the last: once it is full, the next frame waits for a checkpoint.
    pub(crate) fn are_short(&self) -> bool {
        self.state.borrow().free.is_empty()
    }

    /// Frees the files that hold nothing behind `upto`.
    pub(crate) fn free_upto(&self, upto: CommitSeq) {
        let mut state = self.state.borrow_mut();
        while let Some(full) = state.full.pop_front_if(|full| full.last <= upto) {
            state.free.push_back(JournalFile { used: true, ..full.file });
        }
    }
}

/// Makes a journal file of zeros; [`name`] makes it part of the journal.
pub(crate) async fn make(dir: &Path, number: u32, file_bytes: u64) -> Result<JournalFile, StoreError> {
    let path = layout::journal_file(dir, number);
    let temporary = temporary(&path);
    let options = OpenOptions::new().write(true).create(true).truncate(true).direct(true);
    let file = File::open(&temporary, &options).await.map_err(StoreError::io("creating", &temporary))?;
    if let Err(error) = fill(&file, file_bytes).await {
        // On a full disk others need the space of what there is of it.
        let _ = fs::remove_file(&temporary).await;
        return Err(StoreError::io("writing", &temporary)(error));
    }
    file.sync_all().await.map_err(StoreError::io(SYNCING, &temporary))?;
    Ok(JournalFile { file: Rc::new(file), used: false })
}

/// Gives a file that was made its name. The checkpoint is replaced in the same folder: a sync of the one that fails may take the
/// other's entry with it, so they are not done at the same time.
pub(crate) async fn name(dir: &Path, number: u32) -> Result<(), StoreError> {
    let path = layout::journal_file(dir, number);
    let temporary = temporary(&path);
    fs::rename(&temporary, &path).await.map_err(StoreError::io("renaming", &temporary))?;
    fs::sync_dir(dir).await.map_err(StoreError::io(SYNCING, dir))
}

/// Opens a journal file of an earlier epoch that was renamed to here.
pub(crate) async fn open_recycled(path: &Path) -> Result<JournalFile, StoreError> {
    let options = OpenOptions::new().write(true).direct(true);
    let file = File::open(path, &options).await.map_err(StoreError::io("opening", path))?;
    Ok(JournalFile { file: Rc::new(file), used: true })
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

async fn fill(file: &File, file_bytes: u64) -> std::io::Result<()> {
    // Where there is not enough space, this says so before any of it is taken.
    match file.allocate(0, file_bytes).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        allocated => allocated?,
    }
    let mut first = ringlog_reactor::aligned(BLOCK_BYTES);
    first.put_slice(&journal_file::encode(file_bytes));
    first.put_bytes(0, BLOCK_BYTES - first.len());
    let mut zeros = ringlog_reactor::aligned(CHUNK_BYTES);
    zeros.put_bytes(0, CHUNK_BYTES);
    let zeros: Bytes = zeros.freeze();
    let mut position = BLOCK_BYTES as u64;
    while position < file_bytes {
        let len = (file_bytes - position).min(CHUNK_BYTES as u64) as usize;
        file.write_at(vec![zeros.slice(..len)], position, Sync::None).await?;
        position += len as u64;
    }
    file.write_at(vec![first.freeze()], 0, Sync::None).await
}
