//! Files damaged at random, and then the checker and a start: they agree on what is damaged, everything else is served, nothing
//! is served in a place where it was not acknowledged, and nothing that is damaged is thrown away.
//!
//! `scripts/damage-loop` runs as many cycles as one likes. A seed that failed goes into `PAST`.

mod common;

use std::path::Path;

use common::folders::id;
use common::vandal::{Random, Wound, damage, files_of, is_kept};
use common::{Broker, Model, Started, on_ring};
use ringlog_storage::check::{CheckReport, CheckedPartition, Finding, Known, Weight, check};
use ringlog_storage::{Partition, ReadError};

const PARTITIONS: u32 = 3;
const CYCLES: u64 = 30;
/// Seeds that have found something once.
const PAST: [u64; 1] = [52];

#[test]
fn damage_at_random_is_told_alike_by_checker_and_start_and_the_rest_is_served() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let cycles = number("RINGLOG_DAMAGE_CYCLES").unwrap_or(CYCLES);
    let seed = number("RINGLOG_DAMAGE_SEED").unwrap_or(1);
    let seeds = PAST.into_iter().chain(seed..seed + cycles);
    let damaged = seeds.filter(|seed| one_cycle(*seed)).count();
    assert!(damaged as u64 > cycles / 4, "damage was found in {damaged} of {cycles} cycles only");
}

/// True if there was something to find.
fn one_cycle(seed: u64) -> bool {
    println!("RINGLOG_DAMAGE_SEED={seed}");
    let dir = tempfile::tempdir().expect("a folder");
    let mut random = Random::new(seed);
    let (mut broker, model) = lives(dir.path(), &mut random);
    let files = files_of(dir.path());
    let wounds: Vec<Wound> = (0..1 + random.below(3)).filter_map(|_| damage(&files, &mut random)).collect();
    println!("{wounds:#?}");
    let report = on_ring(async {
        let known =
            Known { previous: broker.previous, partitions: broker.specs.clone(), deleted: Vec::new() };
        check(dir.path(), &known, &mut |_| ()).await.expect("it can be checked")
    });
    println!("{:#?}", report.findings);
    // A later wound may have wiped out an earlier one.
    let is_named = |wound: &&Wound| {
        let mut named = report.findings.iter().filter(|finding| finding.weight != Weight::Harmless);
        // One of two copies, and the other is sound.
        let is_spare = |finding: &&Finding| finding.outcome.starts_with("nothing is lost");
        named.any(|finding| finding.path == wound.path && !is_spare(&finding)) && is_kept(dir.path(), wound)
    };
    let to_keep: Vec<&Wound> = wounds.iter().filter(is_named).collect();
    on_ring(async {
        let started = broker.start(1 + random.below(2) as u32).await;
        compare(&report, &started);
        for checked in &report.partitions {
            serve(&report, checked, &started, &model, &wounds).await;
        }
    });
    for wound in to_keep {
        assert!(is_kept(dir.path(), wound), "{wound:?} is gone");
    }
    !report.is_sound()
}

/// A few lives, each with an end of its own.
fn lives(dir: &Path, random: &mut Random) -> (Broker, Model) {
    let mut broker = Broker::new(dir, PARTITIONS);
    broker.bypass_bytes = 16 << 10;
    let mut model = Model::default();
    for _ in 0..1 + random.below(3) {
        on_ring(async {
            let started = broker.start(1 + random.below(2) as u32).await;
            for _ in 0..5 + random.below(40) {
                let partition = random.below(PARTITIONS as usize) as u32;
                let bytes = if random.one_in(4) { 30_000 } else { 5_000 };
                model.append(&started, partition, 30 + random.below(bytes)).await;
            }
            if random.one_in(2) {
                started.shutdown().await;
            }
        });
    }
    (broker, model)
}

/// What the checker has said a start would find is what it has found.
fn compare(report: &CheckReport, started: &Started) {
    let mut told: Vec<_> = report.partitions.iter().filter(|checked| checked.quarantined).collect();
    told.sort_by_key(|checked| checked.id);
    let mut quarantined: Vec<_> =
        started.summaries.iter().flat_map(|summary| summary.quarantined.clone()).collect();
    quarantined.sort();
    assert_eq!(told.iter().map(|checked| checked.id).collect::<Vec<_>>(), quarantined);
    let at_start = report.findings.iter().any(|finding| finding.weight == Weight::AtStart);
    let named = started
        .summaries
        .iter()
        .any(|summary| !summary.damage.is_empty() || !summary.spare_copies.is_empty());
    assert_eq!(at_start, named, "{:?}", started.summaries);
    let kept = started.summaries.iter().any(|summary| summary.journal_damaged);
    assert!(!kept || named, "journals are kept for a reason that is named");
}

/// Reads a partition to its end, over the places that the checker has named and over no others.
async fn serve(
    report: &CheckReport,
    checked: &CheckedPartition,
    started: &Started,
    model: &Model,
    wounds: &[Wound],
) {
    let number = checked.id.partition;
    assert_eq!(checked.id, id(number));
    let acked = model.batches.get(&number).map_or(&[][..], Vec::as_slice);
    let (_, partition) = started.partition(number);
    if checked.end_offset < 3 * acked.len() as i64 {
        let journal_hit = wounds.iter().any(|wound| wound.path.starts_with(journals(wound)));
        assert!(checked.quarantined || journal_hit, "partition {number} ends at {}", checked.end_offset);
    }
    assert_eq!(partition.log_end(), checked.end_offset);
    let mut records = 0;
    let mut offset = checked.start_offset;
    while offset < checked.end_offset {
        match next_batch(&partition, offset).await {
            Ok(batch) => {
                assert_eq!(batch, acked[offset as usize / 3], "partition {number} at offset {offset}");
                (offset, records) = (offset + 3, records + 3);
            }
            Err(error) => {
                let told = report.findings.iter().filter(|finding| finding.partition == Some(checked.id));
                let mut lost = told.filter_map(|finding| finding.offsets.clone());
                let lost = lost.find(|lost| lost.contains(&offset));
                offset = lost.unwrap_or_else(|| panic!("partition {number}: {error} was not told")).end;
            }
        }
    }
    assert_eq!(records, checked.records, "of partition {number} as much is served as was told");
}

async fn next_batch(partition: &Partition, offset: i64) -> Result<bytes::Bytes, ReadError> {
    partition.read(offset, 1).await.map(|read| read.batches[0].clone())
}

/// The folder of journals that the wounded file is in; a path that it is not in, if it is in none.
fn journals(wound: &Wound) -> &Path {
    let in_journals = |path: &&Path| path.file_name().is_some_and(|name| name == "journal");
    wound.path.ancestors().find(in_journals).unwrap_or(Path::new("/none"))
}
