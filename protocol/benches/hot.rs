//! What happens to every produce request and its reply, piece by piece: `cargo bench -p ringlog-protocol`.
#![forbid(unsafe_code)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringlog_protocol::batch::{
    BatchBuilder, BatchHeader, RecordIter, check_for_produce, records_section, verify_crc,
};
use ringlog_protocol::messages::Produced;
use ringlog_protocol::{Ack, Kind, encode_into, encode_with_payload, split_frame};

const RECORD_BYTES: usize = 1024;
/// Records a batch: one, as a latency-bound producer sends, and a hundred.
const BATCHES: [usize; 2] = [1, 100];

fn batch_of(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for _ in 0..records {
        builder.push(0, None, Some(&[0x42; RECORD_BYTES]), []).expect("a hundred records fit");
    }
    builder.finish_plain()
}

fn produce_frame(batch: &[u8]) -> Vec<u8> {
    let head = encode_with_payload(Kind::Produce, 1, 7, Ack::Disk.flags(), &(), batch.len());
    [&head[..], batch].concat()
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let frame = produce_frame(&batch_of(1));
    group.bench_function("parse a produce", |bencher| bencher.iter(|| split_frame(black_box(&frame))));
    let mut out = BytesMut::with_capacity(1 << 16);
    group.bench_function("encode an ack", |bencher| {
        bencher.iter(|| {
            out.clear();
            let produced = Produced { base_offset: black_box(5), start_offset: 0 };
            encode_into(&mut out, Kind::Produced, 1, 0, 0, &produced, 0);
        });
    });
    let ack = out.freeze();
    group.bench_function("read an ack", |bencher| {
        bencher.iter(|| {
            let (frame, _) = split_frame(black_box(&ack)).expect("a good frame").expect("a whole frame");
            frame.access::<Produced>().expect("a good body").base_offset.to_native()
        });
    });
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for records in BATCHES {
        let batch = batch_of(records);
        let header = BatchHeader::parse(&batch).expect("a good batch");
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::new("check the header", records), |bencher| {
            bencher.iter(|| check_for_produce(black_box(&batch)));
        });
        group.bench_function(BenchmarkId::new("verify the CRC", records), |bencher| {
            bencher.iter(|| verify_crc(&header, black_box(&batch)));
        });
        group.bench_function(BenchmarkId::new("build", records), |bencher| {
            bencher.iter(|| batch_of(black_box(records)));
        });
        group.bench_function(BenchmarkId::new("read the records", records), |bencher| {
            bencher.iter(|| {
                let values = RecordIter::new(&header, records_section(black_box(&batch)));
                values
                    .map(|record| record.expect("a good record").value.map_or(0, <[u8]>::len))
                    .sum::<usize>()
            });
        });
    }
}

criterion_group!(hot, frames, batches);
criterion_main!(hot);
