//! The Ringlog broker.
#![forbid(unsafe_code)]
