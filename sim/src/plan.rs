//! What happens in a run: drawn from its seed before it begins, so that it can be told.
//!
//! Every kind of fault and of work is on or off by the seed (a *swarm*): a run with everything at once never gets far
//! enough for some of it to matter.

use std::fmt;
use std::time::Duration;

use ringlog_client::{Ack, Compression};

use crate::history::Trust;

/// Everything that is decided beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Sizes of the broker's storage.
    pub sizes: Sizes,
    /// How topics are made.
    pub topics: Vec<TopicPlan>,
    /// The broker's lives, one after the other, on the same disk.
    pub lives: Vec<LifePlan>,
    /// Producers, each on a client's machine.
    pub producers: Vec<ProducerPlan>,
    /// Consumers.
    pub consumers: Vec<ConsumerPlan>,
    /// Topics are deleted and made again.
    pub admin: bool,
    /// So many in a life.
    pub topic_changes: u64,
    /// Strangers that do not keep to the protocol.
    pub strangers: bool,
    /// Clients without the bundled library, which look at every frame.
    pub wire_clients: bool,
    /// Clients' machines.
    pub clients: usize,
    /// A client's machine is killed now and then.
    pub kill_clients: bool,
    /// What the network does.
    pub network: NetworkPlan,
    /// What the disk does.
    pub disk: DiskPlan,
    /// What is wrong with the disk beyond what a log can live with. Such runs have no other faults.
    pub damage: Option<Damage>,
    /// The broker's process is stopped for a while now and then (SIGSTOP).
    pub pauses: bool,
    /// The broker's wall clock jumps.
    pub clock_jumps: bool,
}

/// Sizes of the broker's storage, per shard.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of a journal file.
    pub journal_file_bytes: u64,
    /// Journal files at most.
    pub journal_files: u32,
    /// Bytes of log memory.
    pub tail_bytes: u64,
    /// Size from which a batch goes past the journal.
    pub bypass_bytes: usize,
    /// Descriptors beyond the fewest that a broker starts with; none: as many as it likes.
    pub open_files: Option<usize>,
}

/// How a topic is made.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// How many partitions.
    pub partitions: u32,
    /// `ack=memory`.
    pub volatile: bool,
    /// Where segments are sealed.
    pub segment_bytes: u64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub brokers_time: bool,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`.
    pub retention_ms: Option<u64>,
}

impl TopicPlan {
    /// Whether old segments are removed.
    pub fn retains(&self) -> bool {
        self.retention_bytes.is_some() || self.retention_ms.is_some()
    }
}

/// One life of the broker.
#[derive(Clone, Debug)]
pub struct LifePlan {
    /// How many shards it has.
    pub shards: usize,
    /// Everything is read before clients work. Where it is not, what is read first is read late, beside new work.
    pub counted: bool,
    /// How the start itself is killed, once or more often.
    pub killed_starts: Vec<KilledStart>,
    /// How long clients work before the end, in virtual time.
    pub length: Duration,
    /// The end comes with so many acknowledgements, if that is earlier.
    pub acks: Option<u64>,
    /// How it ends.
    pub end: Death,
    /// The end comes so many polls after its time: at any await.
    pub end_polls: u64,
}

/// A start that does not get far.
#[derive(Clone, Copy, Debug)]
pub struct KilledStart {
    /// Folder entries that are made, renamed or removed before: what is done in a wrong order shows there.
    pub changes: Option<u64>,
    /// Polls behind that.
    pub polls: u64,
    /// How it ends.
    pub death: Death,
    /// The disk fails as the plan says, so the start may end by itself.
    pub faults: bool,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// In order.
    Stop,
    /// SIGKILL: the page cache stays.
    Kill,
    /// The power fails: what was not synced is lost, torn or kept.
    PowerOff,
}

/// How a producer works.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    /// The ack level.
    pub ack: Ack,
    /// See the client.
    pub linger: Duration,
    /// See the client.
    pub batch_bytes: usize,
    /// See the client.
    pub compression: Compression,
    /// See the client.
    pub in_flight: usize,
    /// See the client.
    pub buffer_bytes: usize,
    /// Records in a life.
    pub records: u64,
    /// The smallest value.
    pub least_bytes: u64,
    /// The largest value.
    pub value_bytes: u64,
    /// The longest pause between two bursts.
    pub pause: Duration,
    /// Records without a pause between them.
    pub burst: u64,
}

/// How a consumer works.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// Bytes that may be on their way to it.
    pub prefetch_bytes: usize,
    /// The longest it waits between two records.
    pub pause: Duration,
    /// Records after which it begins anew, somewhere else.
    pub records: u64,
}

/// What the network does; zero or false: nothing.
#[derive(Clone, Debug, Default)]
pub struct NetworkPlan {
    /// The least delay of a packet, and what may be added.
    pub delay: Option<(Duration, Duration)>,
    /// One packet in so many ends its connection.
    pub reset_one_in: u64,
    /// Directions are cut for a while.
    pub cuts: bool,
    /// One direction of connections ends.
    pub half_closes: bool,
}

/// What the disk does; zero or false: nothing. Numbers are one in so many operations.
#[derive(Clone, Debug, Default)]
pub struct DiskPlan {
    /// Failing reads.
    pub read_error: u64,
    /// Failing writes.
    pub write_error: u64,
    /// Failing syncs.
    pub sync_error: u64,
    /// Operations that take long.
    pub stall: u64,
    /// How long.
    pub stall_for: Duration,
    /// Writes that do less than they were asked for.
    pub short_write: u64,
    /// Reads that give less than they were asked for.
    pub short_read: u64,
    /// The disk is full for a while.
    pub full: bool,
    /// For a while the system has no descriptor for another file.
    pub no_descriptors: bool,
    /// All files together have so many bytes at the most, while clients work. What retention lets go makes room again.
    pub capacity_bytes: Option<u64>,
}

/// What a disk does that nobody can do anything about but notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Between two lives, bits of segments, indexes, checkpoints or metadata flip: so many.
    Rot(u64),
    /// Between two lives, bits of any file flip: so many.
    RotAnywhere(u64),
    /// Writes that were reported good land somewhere else: one in so many.
    Misdirected(u64),
    /// Writes that were reported good are forgotten: one in so many.
    Lost(u64),
    /// Bits rot where they are read: one read in so many.
    RotOnRead(u64),
}

impl Plan {
    /// Whether all that goes wrong is that the broker ends and is started again.
    pub fn is_calm(&self) -> bool {
        let NetworkPlan { delay, reset_one_in, cuts, half_closes } = self.network;
        let network = delay.is_some() || reset_one_in > 0 || cuts || half_closes;
        let disk = self.disk.may_fail()
            || self.disk.capacity_bytes.is_some()
            || self.disk.stall > 0
            || self.disk.no_descriptors
            || self.damage.is_some();
        !network && !disk && !self.pauses && !self.kill_clients
    }

    /// How far this run's disk can be trusted.
    pub fn trust(&self) -> Trust {
        match self.damage {
            None => Trust::Sound,
            Some(Damage::Rot(_)) => Trust::Rots,
            Some(_) => Trust::Lies,
        }
    }
}

/// With its key and framing, a batch of just the default limit.
pub const LARGEST_VALUE: u64 = (1 << 20) - 200;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { journal_file_bytes, journal_files, tail_bytes, bypass_bytes, open_files } = self.sizes;
        writeln!(
            f,
            "  storage    {journal_files} journal files of {journal_file_bytes} bytes, {tail_bytes} bytes of log memory, bypass from {bypass_bytes}, descriptors beyond the least {open_files:?}"
        )?;
        for topic in &self.topics {
            let TopicPlan {
                partitions,
                volatile,
                segment_bytes,
                brokers_time,
                retention_bytes,
                retention_ms,
            } = topic;
            let ack = if *volatile { "memory" } else { "disk" };
            writeln!(
                f,
                "  topic      {partitions} partitions, ack={ack}, segments of {segment_bytes}, broker's time {brokers_time}, retention {retention_bytes:?} bytes {retention_ms:?} ms"
            )?;
        }
        for life in &self.lives {
            let LifePlan { shards, counted, killed_starts, length, acks, end, end_polls } = life;
            let acks = acks.map_or(String::new(), |acks| format!(" or {acks} acks"));
            writeln!(
                f,
                "  life       {shards} shards, read first {counted}, {length:?}{acks}, then {end:?} after {end_polls} polls; starts that are killed {killed_starts:?}"
            )?;
        }
        self.producers.iter().try_for_each(|producer| writeln!(f, "  producer   {producer:?}"))?;
        self.consumers.iter().try_for_each(|consumer| writeln!(f, "  consumer   {consumer:?}"))?;
        writeln!(f, "  network    {:?}", self.network)?;
        writeln!(f, "  disk       {:?}, damage {:?}", self.disk, self.damage)?;
        write!(
            f,
            "  and        clients {}, killed {}; topics deleted {} ({} in a life); strangers {}; by the wire {}; pauses {}; clock jumps {}",
            self.clients,
            self.kill_clients,
            self.admin,
            self.topic_changes,
            self.strangers,
            self.wire_clients,
            self.pauses,
            self.clock_jumps
        )
    }
}
