//! The table of requests: which core each belongs to, how large its body may be, and which handler takes it.

use std::rc::Rc;

use ringlog_protocol::{ErrorCode, Frame, Kind, split_frame};

use crate::control::controller::HOME_SHARD;
use crate::metadata::topic::owner;
use crate::native::handlers::{fetch, metadata, offsets, open, produce, subscribe, topics};
use crate::native::handshake;
use crate::native::request::{Handled, Request};
use crate::native::session::{Session, shard_of};
use crate::net::reassembly::PartialFrame;
use crate::ops::produce::Batch;
use crate::shard::state::Shard;

/// Which core a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one that has the client.
    Any,
    /// The controller's.
    Controller,
    /// The owner of the partition that its body names.
    Named,
    /// The owner of the partition that its handle names.
    Handle,
}

/// What there is to know of a kind of request.
pub struct Row {
    /// Which core it belongs to.
    pub scope: Scope,
    /// The largest body it may have, in bytes. A frame with a larger one is refused as it is cut out of the stream.
    #[cfg_attr(not(test), expect(dead_code, reason = "the decoder holds frames to it; a test compares"))]
    pub max_body: usize,
    /// The file of its handler.
    #[cfg_attr(not(test), expect(dead_code, reason = "the page of the wire names it; a test compares"))]
    pub file: &'static str,
    /// Its handler.
    pub handle: fn(Request<'_>) -> Handled,
}

const FILE: &str = file!();

/// The row of a kind; none for what a broker sends. A new kind does not compile before it stands here.
pub const fn row(kind: Kind) -> Option<Row> {
    let (scope, file, handle): (Scope, _, fn(Request<'_>) -> Handled) = match kind {
        Kind::Hello => (Scope::Any, handshake::FILE, handshake::handle_another),
        Kind::Metadata => (Scope::Any, metadata::FILE, metadata::handle),
        Kind::CreateTopic => (Scope::Controller, topics::FILE, topics::handle_create),
        Kind::DeleteTopic => (Scope::Controller, topics::FILE, topics::handle_delete),
        Kind::Ping => (Scope::Any, FILE, handle_ping),
        Kind::Open => (Scope::Named, open::FILE, open::handle),
        Kind::Close => (Scope::Handle, open::FILE, open::handle_close),
        Kind::Produce => (Scope::Handle, produce::FILE, produce::handle),
        Kind::Fetch => (Scope::Handle, fetch::FILE, fetch::handle),
        Kind::Subscribe => (Scope::Handle, subscribe::FILE, subscribe::handle),
        Kind::Credit => (Scope::Handle, subscribe::FILE, subscribe::handle_credit),
        Kind::Unsubscribe => (Scope::Handle, subscribe::FILE, subscribe::handle_unsubscribe),
        Kind::ListOffsets => (Scope::Handle, offsets::FILE, offsets::handle),
        Kind::Welcome
        | Kind::MetadataReply
        | Kind::CreateTopicReply
        | Kind::DeleteTopicReply
        | Kind::PingReply
        | Kind::Opened
        | Kind::CloseReply
        | Kind::Produced
        | Kind::Fetched
        | Kind::Subscribed
        | Kind::Delivery
        | Kind::UnsubscribeReply
        | Kind::ListOffsetsReply
        | Kind::Error => return None,
    };
    Some(Row { scope, max_body: kind.max_body_bytes(), file, handle })
}

/// The shard a request belongs to.
pub fn route(shard: &Shard, frame: &Frame<'_>) -> u32 {
    match row(frame.header.kind).map(|row| row.scope) {
        Some(Scope::Handle) => shard_of(frame.header.handle),
        Some(Scope::Controller) => HOME_SHARD,
        Some(Scope::Named) => owner_of_named(shard, frame).unwrap_or(shard.index()),
        Some(Scope::Any) | None => shard.index(),
    }
}

fn owner_of_named(shard: &Shard, frame: &Frame<'_>) -> Option<u32> {
    let (topic, partition) = open::partition_named_in(frame)?;
    let id = shard.topics().borrow().get(&topic)?.id;
    Some(owner(id, partition, shard.peers().count()))
}

/// Handles a request that was gathered, on the shard it belongs to. The log may keep a large one's memory.
pub fn handle_gathered(shard: &Rc<Shard>, session: &Rc<Session>, gathered: &mut PartialFrame) -> Handled {
    match split_frame(gathered.bytes()) {
        Ok(Some((Frame { header, .. }, _))) if header.kind == Kind::Produce && gathered.is_large() => {
            let memory = Batch::Owned(gathered.memory());
            handle(Request::with_memory(shard, session, header, memory))
        }
        Ok(Some((frame, _))) => handle(Request::new(shard, session, &frame)),
        _ => unreachable!("it was cut out of the stream as a whole frame"),
    }
}

/// Handles a request on the shard it belongs to.
pub fn handle(request: Request<'_>) -> Handled {
    // Number 0 is the connection's own: an answer with it would be about the connection.
    if request.number() == 0 {
        let message = "request number 0 is the connection's own; count requests from 1";
        request.session.break_off(ErrorCode::MalformedFrame, message);
        return Handled::Done;
    }
    let kind = request.header.kind;
    let Some(Row { handle, .. }) = row(kind) else {
        request.session.break_off(ErrorCode::UnknownKind, &format!("{kind:?} is a broker's to send"));
        return Handled::Done;
    };
    handle(request)
}

fn handle_ping(request: Request<'_>) -> Handled {
    request.session.reply(Kind::PingReply, request.number(), 0, &());
    Handled::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/wire.md");

    /// The cells of the page's line for a kind.
    fn cells(kind: Kind) -> Vec<&'static str> {
        let number = format!("| {:#04x} | `{kind:?}` |", kind as u8).to_lowercase();
        let mut lines = PAGE.lines().filter(|line| line.to_lowercase().starts_with(&number));
        let line = lines.next().unwrap_or_else(|| panic!("docs/wire.md has no line for {kind:?}"));
        assert!(lines.next().is_none(), "docs/wire.md has two lines for {kind:?}");
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn every_request_has_a_row_and_a_line_on_the_page_that_say_the_same() {
        for &kind in Kind::ALL {
            let (cells, row) = (cells(kind), row(kind));
            assert_eq!(row.is_some(), kind.is_request(), "{kind:?}");
            assert_eq!(row.is_some(), cells[2] == "C → B", "{kind:?}");
            let has_no_body = row.as_ref().is_some_and(|row| row.max_body == 0);
            assert!(row.is_none() || has_no_body == cells[3].starts_with("none"), "{kind:?}");
            let file = row.as_ref().map_or(String::new(), |row| format!("`{}`", row.file));
            assert_eq!(cells[5], file, "{kind:?}");
            let by_handle = row.is_some_and(|row| row.scope == Scope::Handle);
            assert!(!by_handle || kind as u8 >= 0x10, "{kind:?}: what has a handle comes after Open");
        }
    }

    #[test]
    fn the_file_of_a_row_is_there() {
        for row in Kind::ALL.iter().filter_map(|kind| row(*kind)) {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(row.file);
            assert!(path.is_file(), "{}", path.display());
        }
    }
}
