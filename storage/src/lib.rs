//! Not yet written.
#![forbid(unsafe_code)]
