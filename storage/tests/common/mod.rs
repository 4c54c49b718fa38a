//! What the tests share: a stand-in for the broker, which remembers the epoch, and a model of what was acknowledged.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod aging;
pub mod folders;
pub mod full;
pub mod lives;
pub mod lost_end;
pub mod rot;
pub mod scenarios;
pub mod vandal;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_protocol::batch::{BatchBuilder, BatchHeader, patch};
use ringlog_reactor::{CoreConfig, aligned};
use ringlog_storage::format::envelope::ENVELOPE_BYTES;
use ringlog_storage::limits::round_up;
use ringlog_storage::{
    AppendError, Appended, FolderTurn, Partition, PartitionConfig, PartitionId, PartitionSpec, PreviousEpoch,
    ReadError, RecoverySummary, Store, StoreConfig, TopicAck, keep_damaged_epoch, prepare_epoch, recover,
    remove_epoch,
};

/// Runs on the real ring.
pub fn on_ring<F: Future>(main: F) -> F::Output {
    ringlog_reactor::run(CoreConfig::default(), main).expect("this machine has io_uring")
}

pub fn spec(partition: u32, config: PartitionConfig) -> PartitionSpec {
    PartitionSpec {
        id: PartitionId { topic: 7, partition },
        topic_name: "orders".into(),
        config: config.into(),
    }
}

/// Settings with which everything happens soon.
pub fn tiny() -> PartitionConfig {
    PartitionConfig { segment_bytes: 64 << 10, ..PartitionConfig::default() }
}

pub fn in_memory() -> PartitionConfig {
    PartitionConfig { ack: TopicAck::Memory, ..tiny() }
}

/// What the metadata would hold, and how the stores are set up.
#[derive(Clone)]
pub struct Broker {
    pub dir: PathBuf,
    pub specs: Vec<PartitionSpec>,
    pub previous: Option<PreviousEpoch>,
    pub journal_file_bytes: u64,
    pub journal_files: u32,
    pub tail_bytes: u64,
    pub bypass_bytes: usize,
    pub folder_turn: FolderTurn,
}

/// A started broker's storage: one store a shard, all on this core.
pub struct Started {
    pub stores: Vec<Store>,
    pub summaries: Vec<RecoverySummary>,
}

impl Broker {
    pub fn new(dir: &Path, partitions: u32) -> Broker {
        Broker {
            dir: dir.to_path_buf(),
            specs: (0..partitions).map(|partition| spec(partition, tiny())).collect(),
            previous: None,
            journal_file_bytes: 128 << 10,
            journal_files: 3,
            tail_bytes: 4 << 20,
            bypass_bytes: 256 << 10,
            folder_turn: FolderTurn::default(),
        }
    }

    fn config(&self, shard: u32) -> StoreConfig {
        StoreConfig {
            previous: self.previous,
            journal_file_bytes: self.journal_file_bytes,
            journal_files: self.journal_files,
            tail_bytes: self.tail_bytes,
            bypass_bytes: self.bypass_bytes,
            folder_turn: self.folder_turn.clone(),
            ..StoreConfig::new(&self.dir, shard, self.next_epoch())
        }
    }

    pub fn next_epoch(&self) -> u64 {
        self.previous.map_or(1, |previous| previous.epoch + 1)
    }

    fn specs_of(&self, shard: u32, shards: u32) -> Vec<PartitionSpec> {
        self.specs.iter().filter(|spec| spec.id.partition % shards == shard).cloned().collect()
    }

    /// Recovers only: as if the machine stopped before the new epoch was made durable.
    pub async fn recover_only(&self, shards: u32) -> Vec<RecoverySummary> {
        let mut summaries = Vec::new();
        prepare_epoch(&self.dir, self.next_epoch()).await.expect("prepared");
        for shard in 0..shards {
            let recovered = recover(self.config(shard), self.specs_of(shard, shards)).await;
            summaries.push(recovered.expect("recovery succeeds").1);
        }
        summaries
    }

    pub async fn start(&mut self, shards: u32) -> Started {
        self.start_noting(shards, |_| ()).await
    }

    /// Starts. `note` is told of the new epoch at the moment when the metadata would make it durable.
    pub async fn start_noting(&mut self, shards: u32, note: impl Fn(PreviousEpoch)) -> Started {
        let mut all = Vec::new();
        let mut summaries = Vec::new();
        prepare_epoch(&self.dir, self.next_epoch()).await.expect("prepared");
        for shard in 0..shards {
            let recovered = recover(self.config(shard), self.specs_of(shard, shards)).await;
            let (recovered, summary) = recovered.expect("recovery succeeds");
            all.push(recovered);
            summaries.push(summary);
        }
        let new = PreviousEpoch { epoch: self.next_epoch(), shards };
        let old = self.previous.replace(new);
        note(new);
        let mut stores = Vec::new();
        for recovered in all {
            stores.push(recovered.activate().await.expect("activation succeeds"));
        }
        if let Some(old) = old {
            match summaries.iter().any(|summary| summary.journal_damaged) {
                true => keep_damaged_epoch(&self.dir, old.epoch).await.expect("kept"),
                false => remove_epoch(&self.dir, old.epoch).await.expect("removed"),
            }
        }
        Started { stores, summaries }
    }

    pub fn shard_dir(&self, shard: u32) -> PathBuf {
        let epoch = self.previous.expect("it was started").epoch;
        self.dir.join("journal").join(format!("{epoch:010}")).join(format!("shard-{shard}"))
    }

    pub fn partition_dir(&self, partition: u32) -> PathBuf {
        self.dir.join("topics").join("orders@7").join(partition.to_string())
    }
}

impl Started {
    pub fn partition(&self, partition: u32) -> (Store, Rc<Partition>) {
        let id = PartitionId { topic: 7, partition };
        let found = self.stores.iter().find_map(|store| Some((store.clone(), store.partition(id)?)));
        found.expect("some shard has the partition")
    }

    pub async fn shutdown(self) {
        for store in &self.stores {
            store.shutdown().await.expect("an orderly end");
        }
    }
}

/// What was acknowledged, batch by batch.
#[derive(Default, Clone)]
pub struct Model {
    pub batches: BTreeMap<u32, Vec<Bytes>>,
    made: u64,
}

impl Model {
    /// A batch that no other is like.
    pub fn batch(&mut self, bytes: usize) -> Bytes {
        self.made += 1;
        batch(self.made, bytes)
    }

    /// Appends until there is room, and waits until it is durable.
    pub async fn append(&mut self, started: &Started, partition: u32, bytes: usize) -> Appended {
        let batch = self.batch(bytes);
        let appended = self.append_unacked(started, partition, &batch).await;
        let (store, waiting) = started.partition(partition);
        wait_for(&store, &waiting, appended).await;
        self.acked(partition, &batch, appended);
        appended
    }

    pub async fn append_unacked(&self, started: &Started, partition: u32, batch: &[u8]) -> Appended {
        let (store, partition) = started.partition(partition);
        append_with_room(&store, &partition, batch).await
    }

    pub fn acked(&mut self, partition: u32, batch: &[u8], appended: Appended) {
        self.batches.entry(partition).or_default().push(patched(batch, appended.base_offset));
    }

    /// Reads everything and compares byte for byte. What comes behind the acknowledged is not looked at.
    pub async fn check(&self, started: &Started) {
        for (partition, expected) in &self.batches {
            let (_, partition) = started.partition(*partition);
            check_partition(&partition, expected).await;
        }
    }
}

pub async fn append_with_room(store: &Store, partition: &Rc<Partition>, batch: &[u8]) -> Appended {
    loop {
        let room = store.room();
        match store.append(partition, batch) {
            Ok(appended) => return appended,
            Err(AppendError::Full | AppendError::DiskFull) => room.await,
            Err(error) => panic!("append failed: {error}"),
        }
    }
}

/// Memory that an owned append can take: the batch behind room for its envelope.
pub fn owned(batch: &[u8]) -> BytesMut {
    let mut memory = aligned(round_up(ENVELOPE_BYTES + batch.len()));
    memory.put_bytes(0xaa, ENVELOPE_BYTES);
    memory.put_slice(batch);
    memory
}

/// Checks and appends a batch that lies in [`owned`] memory.
pub fn append_owned(
    store: &Store,
    partition: &Rc<Partition>,
    memory: &mut BytesMut,
) -> Result<Appended, AppendError> {
    let header = store.check(partition, &memory[ENVELOPE_BYTES..])?;
    store.append_owned(partition, memory, &header)
}

pub async fn append_owned_with_room(store: &Store, partition: &Rc<Partition>, batch: &[u8]) -> Appended {
    let mut memory = owned(batch);
    loop {
        let room = store.room();
        match append_owned(store, partition, &mut memory) {
            Ok(appended) => return appended,
            Err(AppendError::Full | AppendError::DiskFull) => room.await,
            Err(error) => panic!("append failed: {error}"),
        }
    }
}

pub async fn wait_for(store: &Store, partition: &Partition, appended: Appended) {
    let mut durable = store.durable();
    while partition.durable_end() <= appended.last_offset {
        assert!(appended.commit.is_none_or(|commit| commit > durable), "its commit makes it durable");
        durable = store.committed(durable).await.expect("the store has not failed");
    }
}

pub async fn check_partition(partition: &Partition, expected: &[Bytes]) {
    let all = read_all(partition, 100_000).await.expect("everything can be read");
    assert!(all.len() >= expected.len(), "{} batches of {}", all.len(), expected.len());
    for (found, expected) in all.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

/// Reads from the start to the high watermark, and checks that nothing is skipped.
pub async fn read_all(partition: &Partition, max_bytes: usize) -> Result<Vec<Bytes>, ReadError> {
    let mut offset = partition.start_offset();
    let mut all = Vec::new();
    while offset < partition.high_watermark() {
        let read = partition.read(offset, max_bytes).await?;
        for batch in &read.batches {
            let header = BatchHeader::parse(batch).expect("a batch");
            assert_eq!(header.base_offset, offset, "offsets are consecutive");
            offset = header.next_offset();
        }
        assert_eq!(read.next_offset, offset);
        assert!(offset <= partition.high_watermark(), "nothing is read before it is durable");
        all.extend(read.batches);
    }
    Ok(all)
}

pub fn patched(batch: &[u8], base_offset: i64) -> Bytes {
    let mut copy = BytesMut::from(batch);
    patch(&mut copy, base_offset, 0);
    copy.freeze()
}

/// A batch of about `bytes` bytes in three records, with a timestamp of `seed` seconds.
pub fn batch(seed: u64, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(8 << 20);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..3 {
        let mut value = vec![0; bytes / 3];
        for byte in &mut value {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        builder.push(seed as i64 * 1000, None, Some(&value), []).expect("it fits");
    }
    builder.finish_plain()
}

/// Changes one byte of a file.
pub fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    bytes[at as usize] ^= 0x5a;
    std::fs::write(path, bytes).expect("the file can be written");
}

/// Where `needle` stands in a file.
pub fn find_in(path: &Path, needle: &[u8]) -> Option<u64> {
    let bytes = std::fs::read(path).expect("the file is there");
    bytes.windows(needle.len()).position(|window| window == needle).map(|at| at as u64)
}

/// The journal files of a folder, with the place of `needle` in the one that has it.
pub fn find_in_journal(dir: &Path, needle: &[u8]) -> (PathBuf, u64) {
    let entries = std::fs::read_dir(dir).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let journal = files.filter(|path| path.to_string_lossy().contains("journal-"));
    let mut found = journal.filter_map(|path| find_in(&path, needle).map(|at| (path, at)));
    found.next().expect("the journal has it")
}
