//! What code under test says to the simulation it runs in: rare states it has reached, lines of the test's own, and
//! whether it is to have a known bug.

use crate::core;

/// Counts that the rare state `mark` was reached, for [`Simulation::reached`](super::Simulation::reached): a test that
/// never gets there shows nothing. For cold paths. Outside of a simulation it does nothing.
pub fn reached(mark: &'static str) {
    core::try_with(|core| {
        if let Some(machine) = core.machine() {
            machine.world().reach(mark);
        }
    });
}

/// Puts a line of the test's own among the events, and into their hash. Outside of a simulation it does nothing.
pub fn note(text: &str) {
    core::try_with(|core| {
        if let Some(machine) = core.machine() {
            machine.world().remark(machine.host_name(), text);
        }
    });
}

/// Whether this simulation has asked for the known bug `name`
/// ([`Simulation::set_mutant`](super::Simulation::set_mutant)): a test that does not find it is too weak.
#[cfg(feature = "mutants")]
pub fn mutant(name: &'static str) -> bool {
    core::try_with(|core| core.machine().is_some_and(|machine| machine.world().mutant() == Some(name)))
        .unwrap_or(false)
}

/// Whether this simulation has asked for the known bug `name`. Never without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn mutant(_name: &'static str) -> bool {
    false
}
