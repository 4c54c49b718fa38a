//! Known bugs, built in behind switches, and the proof that runs find them.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its switch.
    pub name: &'static str,
    /// What it does wrong.
    pub what: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[];

/// The mutant of that name.
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.name == name)
}
