//! What is written: topics that take different ways through the broker, and the bytes of each record.

use std::ops::Range;

use ringlog_client::Ack;

use super::random::Random;

/// A topic and the load on it.
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// How many partitions it has; records go to them in turn.
    pub partitions: u32,
    /// The level it acknowledges at.
    pub ack: Ack,
    /// Settings besides that.
    settings: &'static [&'static str],
    /// Bytes of its values.
    sizes: Range<usize>,
    /// Records that are sent in a millisecond at the most.
    pub per_ms: f64,
    /// Bytes that make a batch full.
    pub batch_bytes: usize,
}

/// Large batches go past the journal from 256 KiB on; segments of 64 KiB roll all the time.
pub const TOPICS: [Topic; 4] = [
    Topic {
        name: "disk",
        partitions: 3,
        ack: Ack::Disk,
        settings: &[],
        sizes: 8..400,
        per_ms: 2.0,
        batch_bytes: 4 << 10,
    },
    Topic {
        name: "memory",
        partitions: 2,
        ack: Ack::Memory,
        settings: &[],
        sizes: 8..400,
        per_ms: 2.0,
        batch_bytes: 4 << 10,
    },
    Topic {
        name: "large",
        partitions: 2,
        ack: Ack::Disk,
        settings: &["segment.bytes=4194304"],
        sizes: 1_000..900_000,
        per_ms: 0.008,
        batch_bytes: 1_000_000,
    },
    Topic {
        name: "tiny-segments",
        partitions: 2,
        ack: Ack::Disk,
        settings: &["segment.bytes=65536"],
        sizes: 8..30_000,
        per_ms: 0.05,
        batch_bytes: 32 << 10,
    },
];

impl Topic {
    /// The command that makes it, without retention.
    pub fn create_command(&self) -> Vec<&'static str> {
        let ack = if self.ack == Ack::Memory { "ack=memory" } else { "ack=disk" };
        let partitions = ["1", "2", "3"][self.partitions as usize - 1];
        let mut command = vec!["topic", "create", self.name, "--partitions", partitions];
        let always = ["retention.ms=-1", "retention.bytes=-1", ack];
        for setting in always.iter().chain(self.settings) {
            command.extend(["--set", setting]);
        }
        command
    }

    /// The partition of a record.
    pub fn partition_of(&self, sequence: u64) -> u32 {
        (sequence % u64::from(self.partitions)) as u32
    }

    /// The bytes of a record: its sequence, and noise that follows from it.
    pub fn value(&self, sequence: u64) -> Vec<u8> {
        let mut random = Random::new(sequence ^ u64::from(self.name.as_bytes()[0]) << 56);
        let bytes = self.sizes.start as u64 + random.below((self.sizes.end - self.sizes.start) as u64);
        let words = bytes.div_ceil(8).max(1) - 1;
        let noise = (0..words).map(|_| random.next().to_le_bytes());
        std::iter::once(sequence.to_le_bytes()).chain(noise).collect::<Vec<_>>().concat()
    }

    /// The sequence of a record, if these are its bytes.
    pub fn sequence_of(&self, value: &[u8]) -> Option<u64> {
        let sequence = u64::from_le_bytes(*value.first_chunk()?);
        (self.value(sequence) == value).then_some(sequence)
    }
}
