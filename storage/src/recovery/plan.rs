//! What is to be replayed, and what stands in a frame.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::journals::FrameAt;
use crate::format::entry::Entry;
use crate::format::frame::{FrameError, FrameStep};
use crate::format::identity::JournalIdentity;
use crate::format::mark::Mark;
use crate::partition_id::PartitionId;

/// The frames to replay: for each journal, in order.
pub(crate) struct Plan {
    pub(crate) frames: Vec<Vec<FrameAt>>,
    /// Where a journal's tail was cut.
    pub(crate) torn: Vec<TornTail>,
    /// Where each partition's log ends, with what is to be replayed.
    pub(crate) ends: BTreeMap<PartitionId, i64>,
}

/// A frame whose commit had not ended: nobody was told of it, nor of any behind it.
pub(crate) struct TornTail {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
}

/// An entry of a frame that was walked to its end.
pub(super) struct FrameEntry {
    /// Offset from the frame's first byte.
    pub(super) at: usize,
    pub(super) entry: Entry,
    pub(super) sound: bool,
}

/// What stands in a frame.
pub(super) enum FrameItem {
    Entry(FrameEntry),
    Mark(Mark),
}

impl FrameItem {
    /// Whether nothing is wrong with it as far as it can tell itself.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            FrameItem::Entry(entry) => entry.sound,
            FrameItem::Mark(_) => true,
        }
    }

    pub(super) fn into_entry(self) -> Option<FrameEntry> {
        match self {
            FrameItem::Entry(entry) => Some(entry),
            FrameItem::Mark(_) => None,
        }
    }
}

/// Walks the frame at the front of `bytes`. What it returns was written there, and is all that was.
pub(super) fn read_frame(
    journal: JournalIdentity,
    bytes: &[u8],
    sequence: u64,
) -> Result<Vec<FrameItem>, FrameError> {
    let mut walk = journal.walk(bytes, sequence);
    let mut items = Vec::new();
    loop {
        match walk.step()? {
            FrameStep::Entry { at, entry, sound } => {
                items.push(FrameItem::Entry(FrameEntry { at, entry, sound }))
            }
            FrameStep::Mark(mark) => items.push(FrameItem::Mark(mark)),
            FrameStep::End { .. } => return Ok(items),
        }
    }
}
