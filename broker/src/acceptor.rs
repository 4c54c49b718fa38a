//! The one listening port: clients are accepted on shard 0, say Hello, and go to the core they asked for.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringlog_protocol::{ErrorCode, encode_error};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::{Task, sleep, spawn};

use crate::handlers::hello;
use crate::limits::MAX_CONNECTIONS;
use crate::peers::{PeerMessage, Peers};

/// Handshakes under way at a time.
pub(crate) const MAX_HANDSHAKES: usize = 1_024;
/// After a failed accept (too many open files), before the next try.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts for ever.
pub async fn accept(listener: Listener, peers: Peers) {
    let mut handshakes = VecDeque::new();
    let mut complained = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                complained = false;
                make_room(&mut handshakes);
                handshakes.push_back(spawn(introduce(stream, peers.clone())));
            }
            // Connections that failed by themselves are passed over by the listener: this one is out of descriptors
            // or memory.
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "cannot accept connections; raise the limit of open files");
                    complained = true;
                }
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

/// A flood of clients that say nothing must not keep out one that does: the oldest handshake gives way. An honest
/// one takes milliseconds, so it is never that old.
fn make_room(handshakes: &mut VecDeque<Task<()>>) {
    if handshakes.len() >= MAX_HANDSHAKES {
        handshakes.retain(|handshake| !handshake.is_finished());
    }
    if handshakes.len() >= MAX_HANDSHAKES {
        handshakes.pop_front();
    }
}

async fn introduce(stream: TcpStream, peers: Peers) {
    let Some(introduced) = hello::receive(&stream, peers.count()).await else { return };
    if peers.connections().load(Ordering::Relaxed) >= MAX_CONNECTIONS {
        let message = format!("this broker serves {MAX_CONNECTIONS} connections at a time; try again later");
        let refusal = encode_error(introduced.request, 0, ErrorCode::Overloaded, &message);
        return hello::refuse(&stream, refusal.freeze()).await;
    }
    let shard = introduced.shard;
    peers.tell(shard, PeerMessage::Adopt(stream.into_parts(), introduced)).await;
}
