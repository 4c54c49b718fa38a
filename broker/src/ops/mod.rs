//! What a request does, whatever protocol it comes by.

pub mod record_checks;
pub mod timestamps;
