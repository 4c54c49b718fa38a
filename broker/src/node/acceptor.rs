//! The one listening port: clients are accepted on shard 0, say Hello, and go to the core they asked for.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringlog_protocol::{ErrorCode, encode_error};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::{Task, sleep, spawn};

use crate::limits::MAX_CONNECTIONS;
use crate::native::handshake;
use crate::node::descriptors::Share;
use crate::peers::{PeerMessage, Peers};

/// After a failed accept (too many open files), before the next try.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts for ever, as many clients at a time as there are descriptors for.
pub async fn accept(listener: Listener, peers: Peers, share: Share) {
    let mut handshakes = VecDeque::new();
    let mut complained = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                complained = false;
                make_room(&mut handshakes, share.handshakes);
                handshakes.push_back(spawn(introduce(stream, peers.clone(), share.connections)));
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
fn make_room(handshakes: &mut VecDeque<Task<()>>, most: usize) {
    if handshakes.len() >= most {
        handshakes.retain(|handshake| !handshake.is_finished());
    }
    if handshakes.len() >= most {
        handshakes.pop_front();
    }
}

async fn introduce(stream: TcpStream, peers: Peers, most: usize) {
    let Some(introduced) = handshake::receive(&stream, peers.count()).await else { return };
    // Counted before it reaches its shard: those on their way there have descriptors, too.
    if peers.connections().fetch_add(1, Ordering::Relaxed) >= most {
        peers.connections().fetch_sub(1, Ordering::Relaxed);
        let refusal = encode_error(introduced.request, 0, ErrorCode::Overloaded, &refusal(most));
        return handshake::refuse(&stream, refusal.freeze()).await;
    }
    let shard = introduced.shard;
    peers.tell(shard, PeerMessage::Adopt(stream.into_parts(), introduced)).await;
}

fn refusal(most: usize) -> String {
    let because = match most {
        MAX_CONNECTIONS => "",
        _ => ", because of its limit of open files",
    };
    format!("this broker serves {most} connections at a time{because}; try again later")
}
