//! What happens to every entry of the journal and every look into an index: `cargo bench -p ringlog-storage`.
#![forbid(unsafe_code)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringlog_protocol::batch::BatchBuilder;
use ringlog_storage::PartitionId;
use ringlog_storage::format::envelope::{EntryKind, Envelope, PREFIX_BYTES};
use ringlog_storage::format::frame::FrameStep;
use ringlog_storage::format::identity::JournalIdentity;
use ringlog_storage::format::index::{Index, IndexEntry};

const RECORD_BYTES: usize = 1024;
/// Entries a journal frame: what one commit gathers from as many producers.
const FRAMES: [usize; 2] = [1, 32];
const INDEX_ENTRIES: u32 = 16_384;

const IDENTITY: JournalIdentity = JournalIdentity { epoch: 3, shard: 0, salt: 0x5EED };
const PARTITION: PartitionId = PartitionId { topic: 7, partition: 0 };

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(0, None, Some(&[0x42; RECORD_BYTES]), []).expect("one record fits");
    builder.finish_plain()
}

/// The bytes of a frame, written as the journal does: the batch's CRC in the pass that copies it.
fn frame_into(out: &mut Vec<u8>, batch: &[u8], entries: usize) {
    out.clear();
    out.extend_from_slice(&IDENTITY.header(1, 0));
    let mut chain = IDENTITY.chain(1);
    for _ in 0..entries {
        let prefix = batch.first_chunk::<PREFIX_BYTES>().expect("a batch is longer than its prefix");
        let envelope = Envelope::of(PARTITION, EntryKind::Journaled, batch.len() as u32, prefix);
        chain = chain.with(envelope.crc);
        out.extend_from_slice(&envelope.encode());
        out.extend_from_slice(batch);
        black_box(crc32c::crc32c(&batch[PREFIX_BYTES..]));
    }
    let length = out.len() + ringlog_storage::format::frame::END_BYTES;
    out.extend_from_slice(&IDENTITY.end_marker(1, length as u32, chain));
}

fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal frame");
    let batch = batch();
    for entries in FRAMES {
        let mut frame = Vec::new();
        frame_into(&mut frame, &batch, entries);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::new("walk", entries), |bencher| {
            bencher.iter(|| {
                let mut walk = IDENTITY.walk(black_box(&frame), 1);
                while let FrameStep::Entry { sound, .. } = walk.step().expect("a good frame") {
                    assert!(sound, "a good batch");
                }
            });
        });
        group.bench_function(BenchmarkId::new("write", entries), |bencher| {
            bencher.iter(|| frame_into(&mut frame, black_box(&batch), entries));
        });
    }
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    let entry = |number| IndexEntry {
        relative_offset: number * 4,
        position: 4096 * (number + 1),
        timestamp_before: i64::from(number),
    };
    let index = Index {
        covered_bytes: 4096 * u64::from(INDEX_ENTRIES + 1),
        next_offset: i64::from(INDEX_ENTRIES) * 4,
        max_timestamp: i64::from(INDEX_ENTRIES),
        entries: (0..INDEX_ENTRIES).map(entry).collect(),
        ..Index::empty(0)
    };
    let mut offset = 0;
    group.bench_function("look an offset up", |bencher| {
        bencher.iter(|| {
            offset = (offset + 7919) % index.next_offset;
            index.entry_at_or_before(black_box(offset))
        });
    });
    let file = index.encode();
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("read the file", |bencher| {
        bencher.iter(|| Index::decode(black_box(&file)).expect("a good file"));
    });
}

criterion_group!(hot, journal, index);
criterion_main!(hot);
