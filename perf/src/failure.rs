//! What goes wrong with a measurement.

/// Anything that keeps a measurement from being made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
