//! A connection fed with a client's bytes, cut anywhere and changed, on a node of two cores: nothing panics, an honest
//! client is served all the while, and what it wrote is all that is there of it.

use bytes::Bytes;
use ringlog_fuzz::{Random, Target, Verdict};
use ringlog_protocol::frame_len;
use ringlog_protocol::messages::Hello;
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::sim::Simulation;
use ringlog_reactor::timeout;

use super::{SimNode, batch_of, create_topic, open};
use crate::limits::STALLED_AFTER;
use crate::native::wire_client::WireClient;
use std::time::Duration;

/// Pieces of a stream: awkward, and large.
const PIECES: [usize; 6] = [1, 15, 16, 17, 100, 1 << 16];

/// What was sent and what came back, in words that tell how far it got.
async fn stranger(address: std::net::SocketAddr, bytes: &[u8]) -> Verdict {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    // The first frame goes alone: a client waits for its welcome.
    let first = frame_len(bytes).ok().flatten().unwrap_or(bytes.len()).min(bytes.len());
    let mut random = Random::new(bytes.len() as u64);
    let (mut rest, mut sent) = (bytes, 0);
    while !rest.is_empty() {
        let most = PIECES[random.below(PIECES.len())].min(rest.len());
        let piece = if sent < first { most.min(first - sent) } else { most };
        let (now, later) = rest.split_at(piece);
        if stream.send(vec![Bytes::copy_from_slice(now)]).await.is_err() {
            return Err("cut off".to_owned());
        }
        (rest, sent) = (later, sent + piece);
        if sent == first {
            let mut answer = Vec::new();
            // It may come in pieces.
            while answer.len() <= 4 {
                match timeout(Duration::from_secs(1), stream.recv()).await {
                    Ok(Ok(Some(piece))) => answer.extend_from_slice(&piece),
                    _ => return Err("not welcome".to_owned()),
                }
            }
            if answer[4] != 0x81 {
                return Err("not welcome".to_owned());
            }
        }
    }
    // Sound requests are answered and the connection stays; who stops within a frame is cut off by rule.
    let mut kinds = Vec::new();
    loop {
        match timeout(Duration::from_millis(200), stream.recv()).await {
            Ok(Ok(Some(frame))) => kinds.push(frame.get(4).copied()),
            Ok(_) => return Err(format!("cut off after {kinds:?}")),
            Err(_) => return Ok(()),
        }
    }
}

fn check(bytes: &[u8]) -> Verdict {
    let seed = bytes.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    Simulation::new(seed).run(async {
        let node = SimNode::start(2).await;
        let mut honest = WireClient::connect(node.address, Some(1)).await;
        create_topic(&mut honest, 2).await;
        let handle = open(&mut honest, 0).await;
        let verdict = timeout(4 * STALLED_AFTER, stranger(node.address, bytes)).await;
        let produced = honest.try_send_batch(handle, batch_of(&["still served"])).await;
        // The stranger may delete the topic: it is a client like any other.
        let gone = |error: &ringlog_protocol::ErrorReply| {
            error.error_code() == ringlog_protocol::ErrorCode::UnknownTopic
        };
        assert!(
            produced.as_ref().is_ok_and(|done| done.base_offset >= 0) || produced.as_ref().is_err_and(gone)
        );
        drop(honest);
        node.stop().await;
        verdict.unwrap_or_else(|_| Err("never ended".to_owned()))
    })
}

#[test]
fn fuzz_connection() {
    let hello =
        ringlog_protocol::try_encode(ringlog_protocol::Kind::Hello, 0, 0, 0, &Hello::new("fuzz", Some(0)));
    let hello = hello.expect("a hello is short").to_vec();
    // A node of its own for each: its files and buffers are most of the memory.
    let target = Target::new("connection").seeds([hello]).corpus(env!("CARGO_MANIFEST_DIR"));
    target.allowing(1 << 30, 0).rounds(30).run(check);
}
