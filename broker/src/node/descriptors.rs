//! How the process's limit of open files is shared out.
//!
//! Invariants:
//! - What the cores need at all, what storage may have open, and what clients may have connected are together within the limit.
//!   So a flood of clients does not take what storage needs, nor storage what a client needs to be let in.
//! - Any limit that leaves each of them its least works, if slowly. One that does not is refused at the start.

use ringlog_storage::limits::MIN_OPEN_FILES;

use crate::limits::{MAX_CONNECTIONS, MAX_HANDSHAKES};

/// Standard streams, the lock, the listening socket, and the ring, the event and the signals of the thread that waits for signals.
const PROCESS: usize = 8;
/// A ring and an event.
const SHARD: usize = 2;
/// The metadata file, folders that no shard has for itself, and what the process inherited or a library opens.
const SPARE: usize = 16;
/// The least for clients: see [`Share::of`].
const MIN_CLIENTS: usize = 24;
const MIN_HANDSHAKES: usize = 4;

/// What each may have open at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Clients that are connected and have said Hello.
    pub connections: usize,
    /// Clients that are about to.
    pub handshakes: usize,
    /// One shard's storage, without its journal files.
    pub storage: usize,
}

/// The limit of open files is too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {shards} {} {needed} at least; raise it (ulimit -n {enough}, or \
     LimitNOFILE={enough} for systemd){}",
    if *shards == 1 { "shard needs" } else { "shards need" },
    if *shards == 1 { "" } else { ", or run fewer shards with --cores" },
)]
pub struct TooFewFiles {
    limit: usize,
    shards: usize,
    needed: usize,
    enough: usize,
}

/// What a broker without a client or an open segment has.
fn fixed(shards: usize, journal_files: usize) -> usize {
    PROCESS + SPARE + shards * (SHARD + journal_files)
}

/// The lowest limit of open files with which a broker works.
pub fn needed(shards: usize, journal_files: usize) -> usize {
    fixed(shards, journal_files) + MIN_CLIENTS + shards * MIN_OPEN_FILES
}

impl Share {
    /// What clients may have in all.
    pub fn clients(&self) -> usize {
        // As many again as there are handshakes are accepted by the kernel before the broker can look at them.
        self.connections + 2 * self.handshakes
    }

    /// Of `limit` descriptors: half of what is not needed at all for clients, as far as there may be so many; the rest for
    /// storage.
    ///
    /// # Errors
    /// When they do not suffice.
    pub fn of(limit: usize, shards: usize, journal_files: usize) -> Result<Share, TooFewFiles> {
        let needed = needed(shards, journal_files);
        if limit < needed {
            return Err(TooFewFiles { limit, shards, needed, enough: needed.max(ENOUGH_FILES) });
        }
        let rest = limit - fixed(shards, journal_files);
        let most = rest - shards * MIN_OPEN_FILES;
        let clients = (rest / 2).max(MIN_CLIENTS).min(most);
        let handshakes = (clients / 8).clamp(MIN_HANDSHAKES, MAX_HANDSHAKES);
        let connections = (clients - 2 * handshakes).min(MAX_CONNECTIONS);
        let share = Share { connections, handshakes, storage: 0 };
        Ok(Share { storage: (rest - share.clients()) / shards, ..share })
    }
}

/// With this many, neither clients nor partitions of a busy broker run out.
pub const ENOUGH_FILES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_is_within_the_limit_and_has_its_least() {
        for shards in [1, 2, 3, 16, 256] {
            for journal_files in [1, 4, 64] {
                let needed = needed(shards, journal_files);
                assert_eq!(Share::of(needed - 1, shards, journal_files).unwrap_err().needed, needed);
                for limit in (needed..needed + 300).chain([1 << 16, 1 << 20, 1 << 30]) {
                    let share = Share::of(limit, shards, journal_files).unwrap();
                    let Share { connections, handshakes, storage } = share;
                    let all = fixed(shards, journal_files) + share.clients() + shards * storage;
                    assert!(all <= limit, "{share:?} of {limit}");
                    assert!(storage >= MIN_OPEN_FILES && connections >= 16 && handshakes >= 4, "{share:?}");
                    assert!(connections <= MAX_CONNECTIONS && handshakes <= MAX_HANDSHAKES, "{share:?}");
                }
            }
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_the_one_that_is_needed() {
        let refused = Share::of(16, 2, 4).unwrap_err().to_string();
        assert!(refused.contains("is 16, and 2 shards need 68 at least"), "{refused}");
    }
}
