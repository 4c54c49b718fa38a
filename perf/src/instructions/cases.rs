//! What is counted: every piece of the way of a record that does no I/O, on both sides.

use std::hint::black_box;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use ringlog_client::probe::SessionProbe;
use ringlog_protocol::batch::{
    BatchBuilder, BatchHeader, RecordIter, check_records, records_section, split_batches, verify_crc,
};
use ringlog_protocol::messages::{Delivery, Produced};
use ringlog_protocol::{Ack, Kind, encode_into, encode_with_payload, split_frame};
use ringlog_reactor::sim::Simulation;
use ringlog_storage::{
    CommitSeq, Partition, PartitionConfig, PartitionId, PartitionSpec, Store, StoreConfig, recover,
};

/// One piece: its name, and what runs it so many times.
pub struct Case {
    /// As it stands in the file of budgets.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(u64),
}

/// All of them, in the order of a record's way. Counts are per batch, and a batch has one record where its name does not
/// say otherwise.
pub const CASES: &[Case] = &[
    Case { name: "client: build a batch", run: |count| build(count, 1) },
    Case { name: "client: build a batch of 100", run: |count| build(count, 100) },
    Case { name: "client: send a batch", run: send },
    Case { name: "broker: append a batch", run: |count| append(count, 1) },
    Case { name: "broker: append a batch of 100", run: |count| append(count, 100) },
    Case { name: "broker: acknowledge", run: acknowledge },
    Case { name: "client: take an ack", run: take_ack },
    Case { name: "broker: push a batch", run: push },
    Case { name: "client: take a pushed batch", run: |count| take_pushed(count, 1) },
    Case { name: "client: take a pushed batch of 100", run: |count| take_pushed(count, 100) },
];

/// Small, so that a count is of the work for a record and not of the copying of its bytes, which the goals time.
const RECORD_BYTES: usize = 100;
const HANDLE: u32 = 7;
const ACK: u8 = Ack::Disk.flags();

/// Callgrind counts while this is on the stack, and nothing else.
#[inline(never)]
fn counted_by_callgrind(step: &mut dyn FnMut()) {
    step();
    // Not a tail call: that would leave this function before the step begins.
    black_box(());
}

fn builder() -> BatchBuilder {
    BatchBuilder::new(1 << 20)
}

fn fill(builder: &mut BatchBuilder, records: usize) -> Bytes {
    for number in 0..records {
        let pushed = builder.push(number as i64, None, Some(&[0x42; RECORD_BYTES]), []);
        pushed.expect("a hundred records fit");
    }
    builder.finish_plain()
}

fn build(count: u64, records: usize) {
    let mut builder = builder();
    for _ in 0..count {
        counted_by_callgrind(&mut || {
            black_box(fill(&mut builder, records));
        });
    }
}

fn send(count: u64) {
    let batch = fill(&mut builder(), 1);
    let mut client = SessionProbe::new();
    let mut ack = BytesMut::new();
    for request in 1..=count as u32 {
        counted_by_callgrind(&mut || {
            black_box(client.produce(HANDLE, Ack::Disk, batch.clone()));
        });
        // Answered, so that one request is in flight.
        ack.clear();
        encode_ack(&mut ack, request);
        assert_eq!(client.receive(&ack), 1);
    }
}

fn take_ack(count: u64) {
    let batch = fill(&mut builder(), 1);
    let mut client = SessionProbe::new();
    let mut ack = BytesMut::new();
    for request in 1..=count as u32 {
        client.produce(HANDLE, Ack::Disk, batch.clone());
        ack.clear();
        encode_ack(&mut ack, request);
        counted_by_callgrind(&mut || assert_eq!(client.receive(&ack), 1));
    }
}

fn encode_ack(out: &mut BytesMut, request: u32) {
    let produced = Produced { base_offset: i64::from(request), start_offset: 0 };
    encode_into(out, Kind::Produced, request, 0, 0, &produced, 0);
}

fn acknowledge(count: u64) {
    let mut out = BytesMut::with_capacity(1 << 12);
    for request in 1..=count as u32 {
        counted_by_callgrind(&mut || encode_ack(&mut out, request));
        out.clear();
    }
}

fn append(count: u64, records: usize) {
    /// A commit gathers what this many producers sent.
    const COMMIT: u64 = 8;
    let batch = fill(&mut builder(), records);
    let head = encode_with_payload(Kind::Produce, 1, HANDLE, ACK, &(), batch.len());
    let request = [&head[..], &batch].concat();
    Simulation::new(1).run(async move {
        let (store, partition) = open_store().await;
        let mut last = CommitSeq::default();
        for number in 1..=count {
            counted_by_callgrind(&mut || {
                let (frame, _) = split_frame(&request).expect("a good frame").expect("a whole frame");
                assert_eq!(Ack::from_flags(frame.header.flags), Some(Ack::Disk));
                let header = store.check(&partition, frame.payload).expect("a good header");
                let walked = check_records(&header, records_section(frame.payload), usize::MAX);
                assert!(walked.is_ok(), "good records");
                last = store
                    .append_checked(&partition, frame.payload, &header)
                    .expect("there is room")
                    .commit
                    .expect("small batches go through the journal");
            });
            while number % COMMIT == 0 && store.durable() < last {
                store.committed(store.durable()).await.expect("a healthy disk");
            }
        }
    });
}

async fn open_store() -> (Store, std::rc::Rc<Partition>) {
    let config = StoreConfig::new(Path::new("/data"), 0, 1);
    let id = PartitionId { topic: 1, partition: 0 };
    let spec = PartitionSpec { id, topic_name: "counted".into(), config: PartitionConfig::default().into() };
    let (recovered, _) = recover(config, Vec::new()).await.expect("nothing to recover");
    let store = recovered.activate().await.expect("a fresh disk");
    let partition = store.create_partition(spec).expect("a new partition");
    (store, partition)
}

fn push(count: u64) {
    let batch = fill(&mut builder(), 1);
    let mut out = BytesMut::with_capacity(1 << 12);
    for number in 0..count {
        counted_by_callgrind(&mut || {
            let delivery = Delivery { high_watermark: number as i64 };
            encode_into(&mut out, Kind::Delivery, 1, 0, 0, &delivery, batch.len());
        });
        out.clear();
    }
}

fn take_pushed(count: u64, records: usize) {
    let batch = fill(&mut builder(), records);
    let mut client = SessionProbe::new();
    let mut left = 0;
    let mut subscription = 0;
    for _ in 0..count {
        if left < batch.len() {
            left = 1 << 30;
            subscription = client.subscribe(HANDLE, left as u32);
        }
        left -= batch.len();
        let delivery = Delivery { high_watermark: 1 };
        let head = encode_with_payload(Kind::Delivery, subscription, 0, 0, &delivery, batch.len());
        let pushed = [&head[..], &batch].concat();
        counted_by_callgrind(&mut || {
            black_box(client.receive(&pushed));
            let (header, bytes) = split_batches(&batch).next().expect("a batch").expect("a good batch");
            assert_eq!(read(&header, bytes), records);
        });
    }
}

fn read(header: &BatchHeader, batch: &[u8]) -> usize {
    verify_crc(header, batch).expect("a good CRC");
    let records = RecordIter::new(header, records_section(batch));
    records.inspect(|record| assert!(record.is_ok(), "a good record")).count()
}
