//! What one core owns. Knows no socket.

pub mod acks;
pub mod state;
