//! The real binary against a real broker, which is healthy, missing, paused, hung or killed: it tells the truth each time.
#![forbid(unsafe_code)]

mod commands;
mod faults;
mod helpers;
