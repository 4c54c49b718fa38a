//! Watches the segment files on the broker's disk: what retention removes, and what is left then.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use ringlog_reactor::sim::SimDisk;
use ringlog_reactor::wall_clock_ms;

use crate::history::{Event, Place, Remaining, SegmentGone};
use crate::stage::Stage;

/// The segments of each partition: base offsets, and bytes of their files.
pub type Segments = BTreeMap<Place, BTreeMap<i64, u64>>;

/// The segments on a disk.
pub fn on(disk: &SimDisk) -> Segments {
    let mut segments = Segments::new();
    for (path, bytes) in disk.files() {
        if let Some((place, base)) = parse(&path) {
            segments.entry(place).or_default().insert(base, bytes);
        }
    }
    segments
}

/// Where the logs on a disk begin, by their segments.
pub fn remaining(disk: &SimDisk) -> Remaining {
    let begins = on(disk).into_iter().filter_map(|(place, segments)| Some((place, *segments.keys().next()?)));
    Remaining { wall_ms: wall_clock_ms(), begins: begins.collect() }
}

/// `…/topics/<name>@<id>/<partition>/<base offset>.log`
fn parse(path: &Path) -> Option<(Place, i64)> {
    let base = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    let partition = path.parent()?;
    let (_, topic) = partition.parent()?.file_name()?.to_str()?.rsplit_once('@')?;
    let place =
        Place { topic: topic.parse().ok()?, partition: partition.file_name()?.to_str()?.parse().ok()? };
    Some((place, base))
}

/// Writes down which segments go from the beginning of a log while the broker is up. `clock_jumps`: its wall clock is not
/// this one.
pub async fn watch(stage: Rc<Stage>, disk: SimDisk, clock_jumps: bool) {
    let mut before = on(&disk);
    loop {
        disk.folders_changed(1).await;
        let now = on(&disk);
        if stage.is_broker_up() {
            for (place, old) in &before {
                let left = now.get(place).filter(|left| !left.is_empty());
                left.into_iter().for_each(|left| note_gone(&stage, *place, old, left, clock_jumps));
            }
        }
        before = now;
    }
}

fn note_gone(
    stage: &Stage,
    place: Place,
    old: &BTreeMap<i64, u64>,
    left: &BTreeMap<i64, u64>,
    clock_jumps: bool,
) {
    let Some(first) = left.keys().next().copied() else { return };
    let mut bytes_left: u64 = left.values().sum();
    let mut next = first;
    // Those that went together went oldest first.
    for (base, bytes) in old.range(..first).rev() {
        let wall_ms = (!clock_jumps).then(wall_clock_ms);
        stage.saw(Event::SegmentGone(SegmentGone { place, base: *base, next, bytes_left, wall_ms }));
        (next, bytes_left) = (*base, bytes_left + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_told_by_its_path() {
        let place = Place { topic: 7, partition: 3 };
        let path = "/data/topics/a@b@7/3/00000000000000000120.log";
        assert_eq!(parse(Path::new(path)), Some((place, 120)));
        for other in ["/data/topics/a@7/3/00000000000000000120.index", "/data/journal/1/shard-0/journal-0"] {
            assert_eq!(parse(Path::new(other)), None);
        }
    }
}
