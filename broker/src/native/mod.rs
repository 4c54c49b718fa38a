//! Ringlog's own protocol: connections, sessions, and a handler for each request.

pub mod connection;
mod errors;
pub mod forwarded;
pub mod handlers;
pub mod handshake;
pub mod request;
pub mod session;
pub mod table;
#[cfg(test)]
pub mod wire_client;
