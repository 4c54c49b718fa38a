//! The machine's own limits.

pub mod disk;
pub mod echo;
pub mod fio;
pub mod loopback;
mod table;
pub mod tool;

pub use table::{Options, run};
