//! The first frame of each side.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// What every `Hello` begins with: a stranger's bytes are told from a client's.
pub const HELLO_MAGIC: [u8; 8] = *b"RINGLOG\0";

/// The client's first frame. It sends nothing more until `Welcome` is there, because the socket may change cores.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Hello {
    /// [`HELLO_MAGIC`].
    pub magic: [u8; 8],
    /// The oldest protocol version the client speaks.
    pub version_min: u16,
    /// The newest protocol version the client speaks.
    pub version_max: u16,
    /// What the client calls itself, for the broker's logs.
    pub client: String,
    /// The shard this connection should live on; `None` for any.
    pub shard: Option<u32>,
    /// Reserved for authentication; `None` now.
    pub credentials: Option<Vec<u8>>,
}

impl Hello {
    /// A hello with this crate's magic and versions, and no credentials.
    pub fn new(client: impl Into<String>, shard: Option<u32>) -> Hello {
        Hello {
            magic: HELLO_MAGIC,
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION,
            client: client.into(),
            shard,
            credentials: None,
        }
    }

    /// The version a broker of this crate speaks with that client: the newest that both know, if there is one.
    pub fn agree_version(&self) -> Option<u16> {
        let version = self.version_max.min(PROTOCOL_VERSION);
        (version >= self.version_min.max(PROTOCOL_VERSION_MIN)).then_some(version)
    }
}

/// The broker's answer to `Hello`, sent by the core where the connection now lives.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version of everything that follows.
    pub version: u16,
    /// The broker's software version, for people.
    pub broker: String,
    /// The broker's number in its cluster.
    pub node: u32,
    /// The shard where this connection lives.
    pub shard: u32,
    /// How many shards the broker has.
    pub shards: u32,
    /// The largest frame the broker takes, in bytes, header included.
    pub max_frame_bytes: u32,
    /// The largest record batch any of its topics can take, in bytes.
    pub max_batch_bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaking(version_min: u16, version_max: u16) -> Option<u16> {
        Hello { version_min, version_max, ..Hello::new("test", None) }.agree_version()
    }

    #[test]
    fn the_newest_version_in_common_is_agreed() {
        assert_eq!(speaking(1, 1), Some(1));
        assert_eq!(speaking(0, 9), Some(1));
    }

    #[test]
    fn without_a_version_in_common_there_is_no_agreement() {
        assert_eq!(speaking(2, 9), None);
        assert_eq!(speaking(0, 0), None);
        assert_eq!(speaking(9, 1), None);
    }
}
