//! What one core owns, and how the cores of a node talk. Knows no socket.

pub mod acks;
pub mod mailbox;
pub mod state;
