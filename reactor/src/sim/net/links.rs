//! What the ways between hosts are like at the moment.

use std::collections::BTreeSet;

use super::stream::HELD;
use crate::clock::Random;

pub(super) struct Links {
    random: Random,
    least_nanos: u64,
    spread_nanos: u64,
    /// (from, to): nothing gets through that way.
    cuts: BTreeSet<(u32, u32)>,
    /// Hosts without power.
    dark: BTreeSet<u32>,
    reset_one_in: u64,
}

impl Links {
    pub(super) fn new(seed: u64) -> Links {
        Links {
            random: Random::new(seed ^ 0x4E37),
            least_nanos: 0,
            spread_nanos: 0,
            cuts: BTreeSet::new(),
            dark: BTreeSet::new(),
            reset_one_in: 0,
        }
    }

    pub(super) fn set_delay(&mut self, least_nanos: u64, spread_nanos: u64) {
        (self.least_nanos, self.spread_nanos) = (least_nanos, spread_nanos);
    }

    pub(super) fn set_reset_one_in(&mut self, packets: u64) {
        self.reset_one_in = packets;
    }

    pub(super) fn cut(&mut self, from: u32, to: u32) {
        self.cuts.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn set_power(&mut self, host: u32, on: bool) {
        if on {
            self.dark.remove(&host)
        } else {
            self.dark.insert(host)
        };
    }

    /// How long a packet takes beyond what it takes within a host.
    pub(super) fn delay(&self, from: u32, to: u32) -> u64 {
        if from == to || self.least_nanos + self.spread_nanos == 0 {
            return 0;
        }
        self.least_nanos + self.random.below(self.spread_nanos + 1)
    }

    /// When a packet arrives that is sent now.
    pub(super) fn arrival(&self, from: u32, to: u32, now: u64) -> u64 {
        if self.cuts.contains(&(from, to)) { HELD } else { now + self.delay(from, to) }
    }

    /// Whether two hosts hear and answer each other.
    pub(super) fn are_whole(&self, one: u32, other: u32) -> bool {
        let cut = self.cuts.contains(&(one, other)) || self.cuts.contains(&(other, one));
        !cut && !self.dark.contains(&one) && !self.dark.contains(&other)
    }

    pub(super) fn has_power(&self, host: u32) -> bool {
        !self.dark.contains(&host)
    }

    /// How many of `bytes` get through before the connection is lost, if it is lost now.
    pub(super) fn loses(&self, from: u32, to: u32, bytes: usize) -> Option<usize> {
        if from == to || self.reset_one_in == 0 || self.random.below(self.reset_one_in) != 0 {
            return None;
        }
        Some(self.random.below(bytes as u64 + 1) as usize)
    }

    /// How long it takes until what was held back is sent again: TCP tries at growing intervals.
    pub(super) fn until_sent_again(&self) -> u64 {
        const MOST_NANOS: u64 = 200_000_000;
        self.random.below(MOST_NANOS)
    }

    /// When the sender of what a host without power has not answered tries again, after it has tried for `outage`.
    pub(super) fn until_tried_again(&self, outage: u64) -> u64 {
        const MOST_NANOS: u64 = 120_000_000_000;
        1 + self.random.below(outage.clamp(1, MOST_NANOS))
    }
}
