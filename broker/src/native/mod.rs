//! Ringlog's own protocol: connections, sessions, and a handler for each request.

pub mod connection;
pub mod dispatch;
mod errors;
pub mod forwarded;
pub mod handlers;
pub mod handshake;
pub mod session;
#[cfg(test)]
pub mod wire_client;
