//! What a request does, whatever protocol it comes by: typed arguments, typed results. Knows no frame and no error code of a
//! wire.

pub mod fetch;
pub mod offsets;
pub mod produce;
pub mod record_checks;
pub mod subscribe;
pub mod timestamps;
pub mod topics;
