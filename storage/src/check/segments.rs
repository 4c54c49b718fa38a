//! Every segment of every partition, read from its first entry to its last, beside its index.

use std::io::ErrorKind;
use std::path::Path;

use ringlog_reactor::fs;

use super::report::{CheckProgress, CheckReport, CheckedPartition, Finding, Weight};
use crate::error::{RecoveryError, StoreError};
use crate::format::index::Index;
use crate::layout;
use crate::limits::{BLOCK_BYTES, round_up_position};
use crate::partition::{Partition, Shared};
use crate::recovery::{Place, Survey};
use crate::segment::{Segment, WalkError, WalkedEntry};

const BLOCK: u64 = BLOCK_BYTES as u64;

const REFUSES_READS: &str = "a start does not look here; who reads these offsets is refused, and then the partition takes no appends \
     until the next start";
const REBUILDS: &str = "it is a cache: it is built again when it is needed";

/// Reads all partitions' segments.
pub(super) async fn look(
    survey: &Survey,
    shared: &Shared,
    report: &mut CheckReport,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<(), RecoveryError> {
    let mut partitions = Vec::new();
    for place in survey.places.values() {
        let spec = place.spec.clone();
        let partition = Partition::at_rest(spec, &place.point, &place.sealed, shared.clone());
        partitions.push((place, partition));
    }
    let all = partitions.iter().flat_map(|(_, partition)| partition.segments());
    let mut done = CheckProgress { bytes: 0, of_bytes: all.map(|segment| segment.written()).sum() };
    for (place, partition) in partitions {
        // What would be replayed of a quarantined partition is not taken.
        let end = match place.is_quarantined() {
            true => place.point.next_offset,
            false => survey.plan.ends.get(&place.spec.id).copied().unwrap_or(place.point.next_offset),
        };
        let mut checked = CheckedPartition {
            id: place.spec.id,
            start_offset: place.point.start_offset,
            end_offset: end,
            segments: 0,
            records: (end - place.point.next_offset).unsigned_abs(),
            bytes: 0,
            quarantined: place.is_quarantined(),
        };
        for segment in partition.segments() {
            look_at(place, &segment, &mut checked, report).await?;
            done.bytes += segment.written();
            progress(done);
        }
        report.partitions.push(checked);
    }
    Ok(())
}

async fn look_at(
    place: &Place,
    segment: &Segment,
    checked: &mut CheckedPartition,
    report: &mut CheckReport,
) -> Result<(), RecoveryError> {
    if segment.end_offset() <= place.point.start_offset {
        let what = "a segment below the start offset";
        report.note(segment.path(), what, "it is not read; retention removes it in its next round");
        return Ok(());
    }
    checked.segments += 1;
    checked.bytes += segment.written();
    let index_path = layout::index_file(&place.dir, segment.base_offset());
    let index = read_index(&index_path, place, segment, report).await?;
    let mut look = Look { place, segment, index: index.map(IndexLook::new), checked, report };
    let end = look.walk().await;
    let wrong = look.index.and_then(|index| index.finish(segment.end_offset()));
    if let Some(what) = wrong {
        note_index(report, &index_path, &what);
    }
    let sealed = place.point.active.is_none_or(|active| active.base_offset != segment.base_offset());
    if sealed && end.is_some_and(|end| round_up_position(end) < segment.written()) {
        report.note(segment.path(), "bytes behind the segment's last entry", "nobody reads them");
    }
    Ok(())
}

/// The index, if it is one of this segment.
async fn read_index(
    path: &Path,
    place: &Place,
    segment: &Segment,
    report: &mut CheckReport,
) -> Result<Option<Index>, RecoveryError> {
    let bytes = match fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            note_index(report, path, &StoreError::unreadable("reading", path, error)?);
            return Ok(None);
        }
    };
    let wrong = match Index::decode(&bytes) {
        Err(error) => format!("a damaged index: {error}"),
        Ok(index) if index.segment_base != segment.base_offset() => "an index of another segment".to_owned(),
        // A write under way when the process ended: the checkpoint, or the mark, says less.
        Ok(index) if index.covered_bytes > segment.written() => "an index of more than is synced".to_owned(),
        Ok(index) => return Ok(Some(index)),
    };
    let active = place.point.active.is_some_and(|active| active.base_offset == segment.base_offset());
    match active {
        true => report.note(path.to_path_buf(), wrong, "a start removes it: it is a cache"),
        false => note_index(report, path, &wrong),
    }
    Ok(None)
}

fn note_index(report: &mut CheckReport, path: &Path, what: &str) {
    report.note(path.to_path_buf(), what, REBUILDS);
}

/// A segment that is being read.
struct Look<'a> {
    place: &'a Place,
    segment: &'a Segment,
    index: Option<IndexLook>,
    checked: &'a mut CheckedPartition,
    report: &'a mut CheckReport,
}

impl Look<'_> {
    /// Reads the segment, over places that cannot be read as far as the index leads behind them. Returns where the last
    /// entry ends, if nothing was in the way.
    async fn walk(&mut self) -> Option<u64> {
        let (mut position, mut offset) = (BLOCK, self.segment.base_offset());
        let mut whole = true;
        loop {
            let mut unsound = Vec::new();
            let (index, records) = (&mut self.index, &mut self.checked.records);
            let start = self.place.point.start_offset;
            let mut see = |entry: &WalkedEntry| {
                if let Some(index) = index {
                    index.see(entry);
                }
                match entry.damage() {
                    None if entry.header.base_offset >= start => {
                        *records += entry.header.record_count.unsigned_abs() as u64
                    }
                    None => {}
                    Some(damage) => unsound.push((damage, entry.header.next_offset())),
                }
            };
            let walked = self.segment.walk(position, offset, &mut see).await;
            for (damage, next) in unsound {
                self.tell(damage, next);
                whole = false;
            }
            let damage = match walked {
                Ok(end) => return whole.then_some(end),
                Err(damage) => damage,
            };
            whole = false;
            let behind = self.index.as_mut().and_then(|index| index.behind(&damage));
            self.tell(damage, behind.map_or(self.segment.end_offset(), |(_, offset)| offset));
            (position, offset) = behind?;
        }
    }

    /// Names damage that ends where `until` is read again.
    fn tell(&mut self, damage: WalkError, until: i64) {
        let path = self.segment.path();
        let (position, offset, reason) = match damage {
            WalkError::Io(error) => (0, self.segment.base_offset(), format!("it cannot be read: {error}")),
            WalkError::Damaged { position, offset, reason } => (position, offset, reason),
        };
        // The reading half of a recovery may have come to the same place.
        if let Some(told) = self.report.at(&path, position) {
            told.offsets = Some(offset..until);
            return;
        }
        self.report.findings.push(Finding {
            weight: Weight::OnRead,
            path,
            offset: position,
            partition: Some(self.checked.id),
            offsets: Some(offset..until),
            what: reason,
            outcome: REFUSES_READS.to_owned(),
        });
    }
}

/// An index that is compared with what stands in its segment.
struct IndexLook {
    index: Index,
    /// The entry that comes next.
    next: usize,
    max_timestamp: i64,
    /// Some entries were not seen: what comes of their timestamps is not known.
    skipped: bool,
    /// What it says of its end was compared.
    ended: bool,
    wrong: Option<String>,
}

impl IndexLook {
    fn new(index: Index) -> IndexLook {
        IndexLook { index, next: 0, max_timestamp: i64::MIN, skipped: false, ended: false, wrong: None }
    }

    fn see(&mut self, entry: &WalkedEntry) {
        if !self.ended && entry.position >= self.index.covered_bytes {
            self.end(entry.header.base_offset);
        }
        if let Some(next) =
            self.index.entries.get(self.next).filter(|next| u64::from(next.position) <= entry.position)
        {
            let relative = entry.header.base_offset - self.index.segment_base;
            let agrees = u64::from(next.position) == entry.position
                && i64::from(next.relative_offset) == relative
                && (self.skipped || next.timestamp_before == self.max_timestamp);
            if !agrees {
                let what = format!("an index that points to byte {} for something else", next.position);
                self.wrong.get_or_insert(what);
            }
            self.next += 1;
        }
        self.max_timestamp = self.max_timestamp.max(entry.header.max_timestamp);
    }

    /// Compares what it says of its end, before the entry at `offset`.
    fn end(&mut self, offset: i64) {
        self.ended = true;
        let agrees = self.index.next_offset == offset
            && (self.skipped || self.index.max_timestamp == self.max_timestamp);
        if !agrees {
            self.wrong.get_or_insert_with(|| "an index that tells its end wrong".to_owned());
        }
    }

    /// The first place behind the damage that it knows, which is where reads go on.
    fn behind(&mut self, damage: &WalkError) -> Option<(u64, i64)> {
        // With a header that is wrong, nothing of the file is read.
        let WalkError::Damaged { position: position @ 1.., offset, .. } = damage else { return None };
        self.skipped = true;
        let offset_of = |relative: u32| self.index.segment_base + i64::from(relative);
        let known = |entry: &crate::format::index::IndexEntry| {
            u64::from(entry.position) > *position && offset_of(entry.relative_offset) > *offset
        };
        let entries = &self.index.entries;
        self.next = entries.iter().position(known).unwrap_or(entries.len());
        // Behind its last entry a reader goes on where it ends.
        let end = (self.index.covered_bytes, self.index.next_offset);
        let found = entries
            .get(self.next)
            .map_or(end, |entry| (entry.position.into(), offset_of(entry.relative_offset)));
        (found.0 > *position && found.1 > *offset).then_some(found)
    }

    /// What is wrong with it, when the segment was read to its end.
    fn finish(mut self, end_offset: i64) -> Option<String> {
        if !self.ended && !self.skipped {
            self.end(end_offset);
        }
        self.wrong
    }
}
