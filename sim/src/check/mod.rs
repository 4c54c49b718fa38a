//! The checkers, each of one invariant over the whole history of a run.

mod acked;
mod facts;
mod kept;
mod left;
mod liveness;
mod loss;
mod offsets;
mod order;
mod positions;
mod protocol;
mod reads;
mod recovery;

use crate::history::History;
use crate::invariant::Violation;
use facts::Facts;

/// A checker: finds the first place where its invariant does not hold.
type Checker = fn(&History, &Facts<'_>) -> Result<(), Violation>;

/// Liveness is the last: it asks for ends that a run may not have come to.
const CHECKERS: [Checker; 11] = [
    reads::check,
    offsets::check,
    acked::check,
    loss::check,
    order::check,
    positions::check,
    recovery::check,
    kept::check,
    left::check,
    protocol::check,
    liveness::check,
];

/// Whether something is wrong with the history of a run that is not over.
pub fn is_broken(history: &History) -> bool {
    let facts = Facts::of(history);
    CHECKERS[..CHECKERS.len() - 1].iter().any(|check| check(history, &facts).is_err())
}

/// Everything that is wrong with a history; one violation an invariant at most.
pub fn violations(history: &History) -> Vec<Violation> {
    let facts = Facts::of(history);
    let (liveness, others) = CHECKERS.split_last().expect("there are checkers");
    let mut found: Vec<Violation> = others.iter().filter_map(|check| check(history, &facts).err()).collect();
    if found.is_empty() {
        // A run that was broken off has much that came to no end.
        found.extend(liveness(history, &facts).err());
    }
    found
}
