//! What one run of the engine does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringlog_reactor::WaitPolicy;

use crate::workload::{Keys, Load, PayloadSource, Sizes};

/// One run. Everything that a worker needs to know before the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the stamps of this run name.
    pub run: u64,
    /// Topics; producer and consumer `i` take topic `i` modulo their number.
    pub topics: Vec<String>,
    /// Partitions of each topic that is made.
    pub partitions: u32,
    /// How many producers.
    pub producers: u32,
    /// How many consumers; the partitions are shared out among them.
    pub consumers: u32,
    /// How many connections, as the target's client means them.
    pub connections: u32,
    /// Worker threads.
    pub threads: u32,
    /// What drives the producers.
    pub load: Load,
    /// How large the records are.
    pub sizes: Sizes,
    /// What they hold.
    pub payload: PayloadSource,
    /// Which keys they have.
    pub keys: Keys,
    /// Everything random follows from it.
    pub seed: u64,
    /// Records due before this has passed are sent and verified, and not measured.
    pub warm_up: Duration,
    /// How long records are due after that; none means until all `records` are sent, or all is read.
    pub duration: Option<Duration>,
    /// How many measured records are sent, over all producers.
    pub records: Option<u64>,
    /// Where consumers begin.
    pub read_from: ReadFrom,
    /// After the consumers have caught up with the producers, go on for this long and end; see [`Plan::give_up`].
    pub after_catching_up: Option<Duration>,
    /// The longest that consumers may take to catch up.
    pub give_up: Duration,
    /// How long a record may take, and how long nothing at all may happen, before the target is taken for dead.
    pub timeout: Duration,
    /// How long after the end records that were due before it may still begin.
    pub drain: Duration,
    /// Go on after a record has failed.
    pub keep_going: bool,
    /// Records without an answer, over all producers; at this bound producers wait, and their schedules do not.
    pub max_outstanding: u64,
    /// What idle workers do.
    pub wait: WaitPolicy,
    /// For how long before a record is due the worker polls instead of sleeping.
    pub spin: Duration,
    /// Delete the topics at the end.
    pub delete_topics: bool,
}

/// Where consumers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record that is there.
    Begin,
    /// Behind the last one before the start.
    End,
}

impl Plan {
    /// The topic of a producer or consumer.
    pub fn topic_of(&self, index: u32) -> usize {
        index as usize % self.topics.len()
    }

    /// Whether consumers follow what others produce.
    pub fn follows(&self) -> bool {
        self.producers == 0 && self.read_from == ReadFrom::End
    }

    /// The partitions of its topic that producer `index` sends to when records have no keys: producers of a topic share
    /// them out; when there are more producers than partitions, each has one.
    pub fn partitions_of_producer(&self, index: u32, partitions: u32) -> Vec<u32> {
        share(index, self.producers, self.topics.len() as u32, partitions, true)
    }

    /// The partitions of its topic that consumer `index` reads. May be none.
    pub fn partitions_of_consumer(&self, index: u32, partitions: u32) -> Vec<u32> {
        share(index, self.consumers, self.topics.len() as u32, partitions, false)
    }
}

/// The partitions of member `index` of `members`, who stand round-robin on `topics`.
fn share(index: u32, members: u32, topics: u32, partitions: u32, at_least_one: bool) -> Vec<u32> {
    let topic = index % topics;
    let rank = index / topics;
    // Members on the same topic: those with the same remainder.
    let peers = (members - topic).div_ceil(topics).max(1);
    if at_least_one && rank >= partitions {
        return vec![rank % partitions];
    }
    (rank..partitions).step_by(peers as usize).collect()
}

/// What all threads of a run see.
#[derive(Debug, Default)]
pub struct Control {
    /// When the first record may be due.
    pub start_ns: AtomicU64,
    /// When records begin to be measured.
    pub measure_ns: AtomicU64,
    /// No record is due from then on.
    pub stop_ns: AtomicU64,
    /// Records admitted by clients.
    pub sent: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// Records that failed.
    pub failed: AtomicU64,
    /// Records received.
    pub received: AtomicU64,
}

impl Control {
    /// Everything that shows that the target still answers.
    pub fn progress(&self) -> u64 {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        load(&self.acked) + load(&self.failed) + load(&self.received)
    }
}

impl Plan {
    /// Whether records are due by a schedule.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.load, Load::Rate { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(members: u32, topics: u32, partitions: u32, at_least_one: bool) -> Vec<Vec<u32>> {
        (0..members).map(|index| share(index, members, topics, partitions, at_least_one)).collect()
    }

    #[test]
    fn every_partition_of_every_topic_has_one_member() {
        for (members, topics, partitions) in [(1, 1, 4), (3, 1, 10), (4, 1, 4), (5, 2, 7), (6, 4, 3)] {
            let shares = shares(members, topics, partitions, false);
            for topic in 0..topics {
                let mut all: Vec<u32> = (topic..members)
                    .step_by(topics as usize)
                    .flat_map(|m| shares[m as usize].clone())
                    .collect();
                all.sort_unstable();
                assert_eq!(all, (0..partitions).collect::<Vec<_>>(), "{members} {topics} {partitions}");
            }
        }
    }

    #[test]
    fn producers_beyond_the_partitions_share_them() {
        assert_eq!(shares(3, 1, 2, true), [vec![0], vec![1], vec![0]]);
        assert_eq!(shares(3, 1, 2, false), [vec![0], vec![1], vec![]]);
    }
}
