//! What a producer wants to have happened before it is answered.

use rkyv::{Archive, Deserialize, Serialize};

/// The acknowledgement level of a `Produce` (in the frame's flags), and of a topic (in `Opened`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Archive, Serialize, Deserialize,
)]
#[rkyv(derive(Debug, Clone, Copy, PartialEq, Eq))]
#[repr(u8)]
pub enum Ack {
    /// Sent: no answer unless it fails.
    None = 0,
    /// In the leader's memory.
    Memory = 1,
    /// On stable storage. The default.
    #[default]
    Disk = 2,
}

impl Ack {
    /// The level that a `Produce` frame's flags ask for; `None` if they ask for something unknown.
    pub const fn from_flags(flags: u8) -> Option<Ack> {
        match flags {
            0 => Some(Ack::None),
            1 => Some(Ack::Memory),
            2 => Some(Ack::Disk),
            _ => None,
        }
    }

    /// The level as a `Produce` frame's flags.
    pub const fn flags(self) -> u8 {
        self as u8
    }

    /// The word for it in configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Ack::None => "none",
            Ack::Memory => "memory",
            Ack::Disk => "disk",
        }
    }
}

impl From<&ArchivedAck> for Ack {
    fn from(archived: &ArchivedAck) -> Ack {
        match archived {
            ArchivedAck::None => Ack::None,
            ArchivedAck::Memory => Ack::Memory,
            ArchivedAck::Disk => Ack::Disk,
        }
    }
}
