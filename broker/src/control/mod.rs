//! Who decides about topics.

pub mod controller;
