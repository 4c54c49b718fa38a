//! Hello: the first frame of a connection. It says which versions the client speaks and which core it wants;
//! the socket is handed to that core before it is answered.

use bytes::{Bytes, BytesMut};
use ringlog_protocol::limits::{MAX_BATCH_BYTES, MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES};
use ringlog_protocol::messages::{HELLO_MAGIC, Hello, Welcome};
use ringlog_protocol::{
    ErrorCode, Kind, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, encode_error, split_frame, try_encode,
};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::timeout;

use crate::limits::HANDSHAKE_WITHIN;
use crate::native::request::{Handled, Request};
use crate::peers::Introduced;

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// A Hello behind the first frame.
pub fn handle_another(request: Request<'_>) -> Handled {
    request.session.break_off(ErrorCode::NotHandshaken, "Hello was said already");
    Handled::Done
}

/// Reads a Hello. A client that does not say one in time, or says it wrong, is told why; `None` then.
pub async fn receive(stream: &TcpStream, shards: u32) -> Option<Introduced> {
    let refusal = match timeout(HANDSHAKE_WITHIN, read_hello(stream)).await {
        Ok(Ok(Some((request, hello)))) => match agree(&hello, shards) {
            Ok((version, shard)) => return Some(Introduced { request, version, shard }),
            Err((code, message)) => encode_error(request, 0, code, &message),
        },
        Ok(Ok(None)) => return None,
        Ok(Err((code, message))) => encode_error(0, 0, code, &message),
        Err(_) => {
            let message = format!("no Hello within {} s", HANDSHAKE_WITHIN.as_secs());
            encode_error(0, 0, ErrorCode::NotHandshaken, &message)
        }
    };
    refuse(stream, refusal.freeze()).await;
    None
}

/// Tells a client why it is not served, and closes.
pub async fn refuse(stream: &TcpStream, refusal: Bytes) {
    let _ = timeout(HANDSHAKE_WITHIN, stream.send(vec![refusal])).await;
    stream.shutdown();
}

type Refusal = (ErrorCode, String);

/// Reads exactly one frame: a client says nothing more before it is welcomed, so no bytes are left over
/// that would have to travel with the socket.
async fn read_hello(stream: &TcpStream) -> Result<Option<(u32, Hello)>, Refusal> {
    let mut received = BytesMut::new();
    loop {
        match split_frame(&received) {
            Err(error) => return Err((error.code(), error.to_string())),
            Ok(Some((frame, used))) => {
                if frame.header.kind != Kind::Hello {
                    return Err((ErrorCode::NotHandshaken, "the first frame must be Hello".into()));
                }
                if used < received.len() {
                    return Err((ErrorCode::NotHandshaken, "wait for Welcome before the next frame".into()));
                }
                let hello = frame.message::<Hello>().map_err(|error| (error.code(), error.to_string()))?;
                return Ok(Some((frame.header.request, hello)));
            }
            Ok(None) if received.len() >= MAX_HANDSHAKE_BYTES => {
                return Err((ErrorCode::NotHandshaken, "the first frame must be Hello".into()));
            }
            Ok(None) => {}
        }
        match stream.recv_once(MAX_HANDSHAKE_BYTES).await {
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => received.extend_from_slice(&bytes),
            Err(_) => return Ok(None),
        }
    }
}

fn agree(hello: &Hello, shards: u32) -> Result<(u16, u32), Refusal> {
    if hello.magic != HELLO_MAGIC {
        return Err((
            ErrorCode::NotHandshaken,
            "this is a Ringlog broker, and that is no Ringlog client".into(),
        ));
    }
    let Some(version) = hello.agree_version() else {
        let message = format!(
            "this broker speaks protocol versions {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, the client {} to {}",
            hello.version_min, hello.version_max
        );
        return Err((ErrorCode::UnsupportedVersion, message));
    };
    // A client that remembers another number of shards is put somewhere: requests for other cores are forwarded.
    let shard = hello.shard.unwrap_or(0) % shards;
    Ok((version, shard))
}

/// The answer of the shard that took the client in.
pub fn welcome(request: u32, version: u16, shard: u32, shards: u32) -> Bytes {
    let welcome = Welcome {
        version,
        broker: env!("CARGO_PKG_VERSION").to_string(),
        node: 0,
        shard,
        shards,
        max_frame_bytes: MAX_FRAME_BYTES as u32,
        max_batch_bytes: MAX_BATCH_BYTES as u32,
    };
    try_encode(Kind::Welcome, request, 0, 0, &welcome).expect("a welcome is short").freeze()
}
