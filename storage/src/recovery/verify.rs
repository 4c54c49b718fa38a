//! The first pass over the journals: which frames are whole, where each partition's log ends, and who cannot be shown to be
//! complete. Nothing is written.

use super::journals::{FrameAt, Journals, OldJournal};
use super::places::{Place, Places};
use super::plan::{FrameEntry, FrameItem, Plan, TornTail, read_frame};
use super::summary::{Damage, RecoverySummary};
use crate::error::RecoveryError;
use crate::format::entry::Entry;
use crate::format::frame::FrameError;
use crate::format::mark::Mark;
use crate::partition_id::PartitionId;

use bytes::Bytes;
use ringlog_reactor::sim::{mutant, reached};
use std::collections::BTreeMap;

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
    let (mut frames, mut torn) = (Vec::new(), Vec::new());
    for (number, journal) in journals.journals.iter().enumerate() {
        frames.push(verifier.journal(number, journal, &mut torn).await?);
    }
    let ends = verifier.tracked.iter().map(|(id, tracked)| (*id, tracked.end)).collect();
    Ok(Plan { frames, torn, ends })
}

impl Verifier<'_> {
    async fn journal(
        &mut self,
        number: usize,
        journal: &OldJournal,
        torn: &mut Vec<TornTail>,
    ) -> Result<Vec<FrameAt>, RecoveryError> {
        let proven = journal.frames.iter().map(|frame| frame.shows_durable).max().unwrap_or(0);
        let mut expected = journal.checkpoint.journal_from;
        let mut reader = FrameReader { journal, loaded: None };
        let mut whole = Vec::new();
        for places in journal.frames.chunk_by(|one, next| one.sequence == next.sequence) {
            let (frame, items) = reader.read(places).await?;
            if frame.sequence > expected && expected <= proven {
                let reason = format!("frames {expected} to {} are missing before it", frame.sequence - 1);
                self.hole(number, journal, &frame, &reason);
            }
            let follows = frame.sequence <= expected.max(proven + 1);
            if !follows {
                reached("frame survived without the one before it");
            }
            match items {
                Ok(items) if follows && items.iter().all(FrameItem::is_sound) => {
                    self.accept(journal, &frame, &items);
                    whole.push(frame);
                }
                // Nobody was told of it, nor of anything behind it.
                _ if frame.sequence > proven || mutant("cut-mid-log") => {
                    reached("torn tail cut");
                    let bytes = torn_bytes(&reader.bytes(&frame).await?);
                    self.summary.torn_tail_bytes += bytes;
                    let FrameAt { sequence, offset, .. } = frame;
                    torn.push(TornTail { path: journal.files[frame.file].clone(), offset, sequence, bytes });
                    if !mutant("torn-tail-skipped") {
                        break;
                    }
                }
                Ok(items) => {
                    self.accept(journal, &frame, &items);
                    self.summary.journal_damaged = true;
                    whole.push(frame);
                }
                Err(error) => self.hole(number, journal, &frame, &error.to_string()),
            }
            expected = frame.sequence + 1;
        }
        if journal.is_cut {
            self.suspect_all(number);
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
            let is_own = self.places.contains_key(&entry.id());
            if !is_own && !sound {
                self.name_unsound(journal, frame, *at, entry);
            }
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
                None => {
                    tracked.suspect = false;
                    if is_own && !sound {
                        self.name_unsound(journal, frame, *at, entry);
                    }
                }
                Some(reason) => self.damaged(entry.id(), journal, frame, *at as u64, reason),
            }
        }
    }

    /// Names a damaged batch that quarantines nobody here: it is in a segment already, of a deleted topic, or of another
    /// shard, which cannot be told apart.
    fn name_unsound(&mut self, journal: &OldJournal, frame: &FrameAt, at: usize, entry: &Entry) {
        let path = journal.files[frame.file].clone();
        let reason = format!("the batch at offset {} of {} is damaged", entry.header.base_offset, entry.id());
        let offset = frame.offset + at as u64;
        Journals::note(self.summary, Damage { path, offset, partition: None, reason });
    }

    /// A mark says that the segments have everything below it. What an older checkpoint knows of them is less.
    fn follow_mark(&mut self, mark: &Mark) {
        let Some(tracked) = self.tracked.get_mut(&mark.id) else { return };
        tracked.suspect = false;
        if mark.next_offset <= tracked.end || mutant("marks-ignored") {
            return;
        }
        reached("mark followed");
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
        reached("hole in the journal");
        let damage = Damage {
            path: journal.files[frame.file].clone(),
            offset: frame.offset,
            partition: None,
            reason: format!("frame {}: {reason}", frame.sequence),
        };
        Journals::note(self.summary, damage);
        self.suspect_all(number);
    }

    /// Everybody whose entries may have been in a part of a journal that is lost.
    fn suspect_all(&mut self, number: usize) {
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

/// Reads frames out of the files of one journal, of which it holds the last one asked for.
struct FrameReader<'a> {
    journal: &'a OldJournal,
    loaded: Option<(usize, Bytes)>,
}

impl FrameReader<'_> {
    /// The frame that begins in one of these places. A block that was written where it does not belong shows a header
    /// twice: the frame is where it is whole.
    async fn read(
        &mut self,
        places: &[FrameAt],
    ) -> Result<(FrameAt, Result<Vec<FrameItem>, FrameError>), RecoveryError> {
        let mut best = self.read_at(&places[0]).await?;
        let mut place = places[0];
        for other in &places[1..] {
            if soundness(&best) == Soundness::Sound {
                break;
            }
            let read = self.read_at(other).await?;
            if soundness(&read) > soundness(&best) {
                (place, best) = (*other, read);
            }
        }
        Ok((place, best))
    }

    async fn read_at(
        &mut self,
        frame: &FrameAt,
    ) -> Result<Result<Vec<FrameItem>, FrameError>, RecoveryError> {
        let bytes = self.bytes(frame).await?;
        Ok(read_frame(self.journal.checkpoint.journal, &bytes, frame.sequence))
    }

    /// From the frame's first byte to the file's end.
    async fn bytes(&mut self, frame: &FrameAt) -> Result<Bytes, RecoveryError> {
        let image = match self.loaded.take_if(|(file, _)| *file == frame.file) {
            Some((_, image)) => image,
            None => self.journal.load(frame.file).await?.freeze(),
        };
        self.loaded = Some((frame.file, image.clone()));
        Ok(image.slice(image.len().min(frame.offset as usize)..))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Soundness {
    NotWhole,
    Unsound,
    Sound,
}

fn soundness(read: &Result<Vec<FrameItem>, FrameError>) -> Soundness {
    match read {
        Err(_) => Soundness::NotWhole,
        Ok(items) if items.iter().all(FrameItem::is_sound) => Soundness::Sound,
        Ok(_) => Soundness::Unsound,
    }
}

/// What is left of a frame that was never whole, as far as it can be told from zeros: to its last byte that is not zero,
/// within the longest frame there can be.
fn torn_bytes(bytes: &[u8]) -> u64 {
    let most = &bytes[..bytes.len().min(crate::limits::MAX_FRAME_BYTES)];
    most.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
