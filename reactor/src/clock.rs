//! Time and randomness: the only source of both for the crates above, so that a simulation can own them.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core;
use crate::sys;

/// A point on the core's monotonic clock, in nanoseconds since some fixed moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Nanoseconds since the clock's zero; only differences mean something.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`, or zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time passed since this instant.
    pub fn elapsed(self) -> Duration {
        now().saturating_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the clock's end, some 584 years away.
    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

/// The time on the current core's clock: `CLOCK_MONOTONIC`, or the virtual clock of the simulation. On a thread
/// that is no core it is `CLOCK_MONOTONIC`.
pub fn now() -> Instant {
    match core::try_with(|core| core.simulated_nanos()).flatten() {
        Some(nanos) => Instant(nanos),
        None => Instant(sys::monotonic_nanos()),
    }
}

/// Milliseconds since the Unix epoch on the wall clock. It may jump; measure with [`now`].
pub fn wall_clock_ms() -> i64 {
    if let Some(ms) = core::try_with(|core| core.machine().map(|machine| machine.wall_clock_ms())).flatten() {
        return ms;
    }
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// A random number, good for identifiers and jitter, not for secrets. Reproducible in a simulation.
pub fn random_u64() -> u64 {
    core::try_with(|core| core.random()).unwrap_or_else(|| OUTSIDE.with(Random::next))
}

thread_local! {
    /// For threads that are no core.
    static OUTSIDE: Random = Random::from_entropy();
}

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, fast, and full-period from any seed.
#[derive(Clone)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    pub(crate) fn from_entropy() -> Random {
        // The standard library seeds its hash maps from the kernel; a hash of nothing hands that seed out.
        Random::new(RandomState::new().build_hasher().finish())
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform enough for a simulation: 0 <= result < bound.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.next() % bound
    }
}
