//! The first pass over the journals: which frames are whole, where each partition's log ends, and who cannot be shown to be
//! complete. Nothing is written.

use super::journals::{FrameAt, Journals, OldJournal};
use super::places::{Place, Places};
use super::{Damage, RecoverySummary};
use crate::config::PartitionId;
use crate::error::RecoveryError;
use crate::format::entry::Entry;
use crate::format::frame::{FrameError, FrameStep, JournalIdentity};
use crate::format::mark::Mark;

use bytes::Bytes;
use std::collections::BTreeMap;

/// The frames to replay: for each journal, in order.
pub(super) struct Plan {
    pub(super) frames: Vec<Vec<FrameAt>>,
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
    fn is_sound(&self) -> bool {
        match self {
            FrameItem::Entry(entry) => entry.sound,
            FrameItem::Mark(_) => true,
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

/// How far a partition's log is known to go.
struct Tracked {
    end: i64,
    /// Part of the journal is unreadable, and nothing read behind it has shown yet that this partition has lost nothing.
    suspect: bool,
}

struct Verifier<'a> {
    places: &'a mut Places,
    tracked: BTreeMap<PartitionId, Tracked>,
    summary: &'a mut RecoverySummary,
}

/// Verifies all journals and notes in `places` who is damaged.
pub(super) async fn verify(
    journals: &Journals,
    places: &mut Places,
    summary: &mut RecoverySummary,
) -> Result<Plan, RecoveryError> {
    // Other shards' partitions too: whether there is damage must come out the same on every shard.
    let known = journals.journals.iter().flat_map(|journal| &journal.checkpoint.partitions);
    let own = places.values().map(|place| &place.point);
    let tracked =
        known.chain(own).map(|point| (point.id, Tracked { end: point.next_offset, suspect: false }));
    let tracked = tracked.collect();
    let mut verifier = Verifier { places, tracked, summary };
    let mut plan = Plan { frames: Vec::new() };
    for (number, journal) in journals.journals.iter().enumerate() {
        plan.frames.push(verifier.journal(number, journal).await?);
    }
    Ok(plan)
}

impl Verifier<'_> {
    async fn journal(&mut self, number: usize, journal: &OldJournal) -> Result<Vec<FrameAt>, RecoveryError> {
        let identity = journal.checkpoint.journal;
        let proven = journal.frames.iter().map(|frame| frame.shows_durable).max().unwrap_or(0);
        let mut expected = journal.checkpoint.journal_from;
        let mut loaded: Option<(usize, Bytes)> = None;
        let mut whole = Vec::new();
        for frame in &journal.frames {
            if frame.sequence < expected {
                continue;
            }
            let image = match loaded.take_if(|(file, _)| *file == frame.file) {
                Some((_, image)) => image,
                None => journal.load(frame.file).await?,
            };
            let bytes = image.get(frame.offset as usize..).unwrap_or_default();
            if frame.sequence > expected && expected <= proven {
                let reason = format!("frames {expected} to {} are missing before it", frame.sequence - 1);
                self.hole(number, journal, frame, &reason);
            }
            let follows = frame.sequence <= expected.max(proven + 1);
            match read_frame(identity, bytes, frame.sequence) {
                Ok(items) if follows && items.iter().all(FrameItem::is_sound) => {
                    self.accept(journal, frame, &items);
                    whole.push(*frame);
                }
                // Nobody was told of it, nor of anything behind it.
                _ if frame.sequence > proven => {
                    self.summary.torn_tail_bytes += torn_bytes(bytes);
                    break;
                }
                Ok(items) => {
                    self.accept(journal, frame, &items);
                    self.summary.journal_damaged = true;
                    whole.push(*frame);
                }
                Err(error) => self.hole(number, journal, frame, &error.to_string()),
            }
            expected = frame.sequence + 1;
            loaded = Some((frame.file, image));
        }
        self.quarantine_suspects(journal);
        Ok(whole)
    }

    /// Follows each partition's log through a whole frame.
    fn accept(&mut self, journal: &OldJournal, frame: &FrameAt, items: &[FrameItem]) {
        for item in items {
            let FrameEntry { at, entry, sound } = match item {
                FrameItem::Entry(entry) => entry,
                FrameItem::Mark(mark) => {
                    self.follow_mark(mark);
                    continue;
                }
            };
            let Some(tracked) = self.tracked.get_mut(&entry.id()) else { continue };
            let (base, next) = (entry.header.base_offset, entry.header.next_offset());
            let end = tracked.end;
            let wrong = if next <= end {
                None
            } else if !sound {
                Some(format!("the batch at offset {base} is damaged"))
            } else if base > end {
                Some(format!("offsets {end} to {} are missing", base - 1))
            } else if base < end {
                Some(format!("the batch at offset {base} overlaps what ends at {end}"))
            } else {
                tracked.end = next;
                None
            };
            match wrong {
                None => tracked.suspect = false,
                Some(reason) => self.damaged(entry.id(), journal, frame, *at as u64, reason),
            }
        }
    }

    /// A mark says that the segments have everything below it. What an older checkpoint knows of them is less.
    fn follow_mark(&mut self, mark: &Mark) {
        let Some(tracked) = self.tracked.get_mut(&mark.id) else { return };
        tracked.suspect = false;
        if mark.next_offset <= tracked.end {
            return;
        }
        tracked.end = mark.next_offset;
        let place = self.places.get_mut(&mark.id);
        if let Some(place) = place.filter(|place| !place.is_quarantined()) {
            place.point.next_offset = mark.next_offset;
            place.point.active = Some(mark.segment);
            self.summary.marks += 1;
        }
    }

    fn damaged(&mut self, id: PartitionId, journal: &OldJournal, frame: &FrameAt, at: u64, reason: String) {
        self.summary.journal_damaged = true;
        let path = journal.files[frame.file].clone();
        let place = self.places.get_mut(&id);
        // One finding a partition: what follows from it is not news.
        if let Some(place) = place.filter(|place| place.damage.is_none()) {
            place.damaged_at(path, frame.offset + at, reason, self.summary);
        }
    }

    /// Part of the journal is unreadable: whose entries were there is not known.
    fn hole(&mut self, number: usize, journal: &OldJournal, frame: &FrameAt, reason: &str) {
        let damage = Damage {
            path: journal.files[frame.file].clone(),
            offset: frame.offset,
            partition: None,
            reason: format!("frame {}: {reason}", frame.sequence),
        };
        Journals::note(self.summary, damage);
        let may_be_there = |place: &&Place| place.journal.is_none_or(|journal| journal == number);
        for place in self.places.values().filter(may_be_there) {
            let tracked = self.tracked.get_mut(&place.spec.id).expect("every place is tracked");
            tracked.suspect = true;
        }
    }

    fn quarantine_suspects(&mut self, journal: &OldJournal) {
        let suspects = self.tracked.iter_mut().filter(|(_, tracked)| tracked.suspect);
        for (id, tracked) in suspects {
            tracked.suspect = false;
            let place = self.places.get_mut(id).expect("only a place is suspected");
            if place.damage.is_none() {
                let reason =
                    "part of the journal is unreadable, and nothing behind it shows that the log is complete";
                place.damaged(journal.dir.clone(), reason, self.summary);
            }
        }
    }
}

/// What is left of a frame that was never whole, as far as it can be told from zeros: to its last byte that is not zero,
/// within the longest frame there can be.
fn torn_bytes(bytes: &[u8]) -> u64 {
    let most = &bytes[..bytes.len().min(crate::limits::MAX_FRAME_BYTES)];
    most.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
