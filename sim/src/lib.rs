//! Whole nodes and their clients in a simulated world, with faults, and the checks of what they promise.
//!
//! A run is a function of its seed: the seed draws a *plan*, the plan is *played* on simulated machines, what the clients
//! saw is a *history*, and the *checkers* say whether the history keeps the product's promises. `docs/simulation.md` tells
//! how to run it and how to read a failure.
//!
//! # Map
//! - `plan`: sizes, lives, work and faults of a run, drawn from its seed; `themes`, `busy`, `random`.
//! - `play`: the run itself; `broker`, `evidence`, `faults`, `actors` (producers, consumers, the administrator, strangers, the census);
//!   `stage`: what they share; `segments`: what retention does on the disk.
//! - `history`, `record`: what was seen; `check`: one checker an invariant; `invariant`: their names.
//! - `controls`: every checker shown to fail; `mutants`: known bugs shown to be caught; `coverage`: rare states.
//! - `run`, `swarm`, `panics`: one run, many runs; `cli`, `report`, `ci`: what people see; `seeds`: past failures.
#![forbid(unsafe_code)]

mod actors;
mod broker;
mod busy;
mod check;
mod ci;
pub mod cli;
pub mod controls;
mod coverage;
mod draw;
mod evidence;
mod faults;
pub mod history;
pub mod invariant;
mod machines;
pub mod mutants;
mod panics;
pub mod plan;
mod play;
mod random;
pub mod record;
mod report;
pub mod run;
mod seeds;
mod segments;
mod small;
mod stage;
pub mod swarm;
mod tally;
mod themes;
