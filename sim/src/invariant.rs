//! What must never go wrong, by name. The numbers are those of the checks in `docs/simulation.md`.

use std::fmt;

/// One promise of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// 1: what was acknowledged is there, byte for byte, after any crash.
    Acked,
    /// 2: an offset of a partition is one record for ever, and a record has one offset.
    Offset,
    /// 3: no reader sees what certainly was not sent, or not taken, or was sent to another topic.
    Reads,
    /// 4: what was read, and what was acknowledged before it, can be read again.
    NoLoss,
    /// 5: the log has a producer's order; a subscription has no gap and no repeat.
    Order,
    /// 6: recovering twice is recovering once; nothing damaged is served.
    Recovery,
    /// 7: without faults everything is answered within bounded time.
    Liveness,
    /// 8: the same seed gives the same run.
    Determinism,
    /// 9: no process ends by a panic.
    NoPanic,
    /// 10: retention removes nothing that a topic's settings keep.
    Retention,
    /// 11: the broker keeps to the protocol.
    Protocol,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 11] = [
        Invariant::Acked,
        Invariant::Offset,
        Invariant::Reads,
        Invariant::NoLoss,
        Invariant::Order,
        Invariant::Recovery,
        Invariant::Liveness,
        Invariant::Determinism,
        Invariant::NoPanic,
        Invariant::Retention,
        Invariant::Protocol,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::Acked => "1 acked",
            Invariant::Offset => "2 offset",
            Invariant::Reads => "3 reads",
            Invariant::NoLoss => "4 no loss",
            Invariant::Order => "5 order",
            Invariant::Recovery => "6 recovery",
            Invariant::Liveness => "7 liveness",
            Invariant::Determinism => "8 determinism",
            Invariant::NoPanic => "9 no panic",
            Invariant::Retention => "10 retention",
            Invariant::Protocol => "11 protocol",
        }
    }

    /// What it says.
    pub fn words(self) -> &'static str {
        match self {
            Invariant::Acked => "what was acknowledged is there, byte for byte, after any crash",
            Invariant::Offset => {
                "an offset of a partition is one record for ever, and a record has one offset"
            }
            Invariant::Reads => {
                "no reader sees what certainly was not sent, or not taken, or was sent to another topic"
            }
            Invariant::NoLoss => "what was read, and what was acknowledged before it, can be read again",
            Invariant::Order => "the log has a producer's order; a subscription has no gap and no repeat",
            Invariant::Recovery => "recovering twice is recovering once; nothing damaged is served",
            Invariant::Liveness => "without faults everything is answered within bounded time",
            Invariant::Determinism => "the same seed gives the same run",
            Invariant::NoPanic => "no process ends by a panic",
            Invariant::Retention => {
                "retention removes nothing that a topic's settings keep, and what is too old in time"
            }
            Invariant::Protocol => "the broker keeps to the protocol",
        }
    }
}

/// An invariant that does not hold, and where that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// A broken invariant.
    pub fn new(invariant: Invariant, seen: impl Into<String>) -> Violation {
        Violation { invariant, seen: seen.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.invariant.name(), self.invariant.words(), self.seen)
    }
}
