//! The machine's own limits.

pub mod disk;
pub mod echo;
pub mod fio;
pub mod loopback;
pub mod tool;
