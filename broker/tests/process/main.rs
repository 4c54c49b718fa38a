//! The real binary as a process, talked to over TCP and by the command line, as people use it.
//!
//! One test program, so that the helpers are built once and the brokers of all tests share the machine's cores as
//! the test runner hands them out.
#![forbid(unsafe_code)]

mod bad_input;
mod check;
mod consume;
mod crash;
mod damage;
mod demo;
mod faults;
mod helpers;
mod large;
mod produce;
mod readers;
mod rescue;
mod startup;
mod stopping;
mod streams;
mod topic;
#[path = "../../../storage/tests/common/vandal.rs"]
mod vandal;
mod wire;
