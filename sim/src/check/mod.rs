//! The checkers: one for each invariant, each over the whole history of a run.

mod acked;
mod facts;
mod liveness;
mod loss;
mod offsets;
mod order;
mod reads;
mod recovery;

use crate::history::History;
use crate::invariant::Violation;
use facts::Facts;

/// A checker: finds the first place where its invariant does not hold.
type Checker = fn(&History, &Facts<'_>) -> Result<(), Violation>;

const CHECKERS: [Checker; 7] =
    [reads::check, offsets::check, acked::check, loss::check, order::check, recovery::check, liveness::check];

/// Everything that is wrong with a history; one violation an invariant at most.
pub fn violations(history: &History) -> Vec<Violation> {
    let facts = Facts::of(history);
    CHECKERS.iter().filter_map(|check| check(history, &facts).err()).collect()
}
