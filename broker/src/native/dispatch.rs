//! The one table of requests: which core a request belongs to, and which handler takes it.

use std::rc::Rc;

use ringlog_protocol::{ErrorCode, Frame, FrameHeader, Kind, split_frame};

use crate::metadata::topic::owner;
use crate::native::handlers::{Handled, fetch, metadata, offsets, open, produce, subscribe, topics};
use crate::native::session::{Session, shard_of};
use crate::net::reassembly::PartialFrame;
use crate::shard::state::Shard;

/// The shard a request belongs to.
pub fn route(shard: &Shard, frame: &Frame<'_>) -> u32 {
    match frame.header.kind {
        Kind::CreateTopic | Kind::DeleteTopic => crate::control::controller::HOME_SHARD,
        Kind::Open => open::partition_named_in(frame)
            .and_then(|(topic, partition)| {
                let id = shard.topics().borrow().get(&topic)?.id;
                Some(owner(id, partition, shard.peers().count()))
            })
            .unwrap_or(shard.index()),
        Kind::Close
        | Kind::Produce
        | Kind::Fetch
        | Kind::Subscribe
        | Kind::Credit
        | Kind::Unsubscribe
        | Kind::ListOffsets => shard_of(frame.header.handle),
        _ => shard.index(),
    }
}

/// Handles a request that was gathered, on the shard it belongs to. The log may keep a large one's memory.
pub fn dispatch_gathered(shard: &Rc<Shard>, session: &Rc<Session>, gathered: &mut PartialFrame) -> Handled {
    match split_frame(gathered.bytes()) {
        Ok(Some((Frame { header, .. }, _))) if header.kind == Kind::Produce && gathered.is_large() => {
            if !has_own_number(session, &header) {
                return Handled::Done;
            }
            produce::handle_owned(shard, session, &header, gathered.memory())
        }
        Ok(Some((frame, _))) => dispatch(shard, session, &frame),
        _ => unreachable!("it was cut out of the stream as a whole frame"),
    }
}

/// Number 0 is the connection's own: an answer with it would be about the connection.
fn has_own_number(session: &Session, header: &FrameHeader) -> bool {
    if header.request == 0 {
        let message = "request number 0 is the connection's own; count requests from 1";
        session.break_off(ErrorCode::MalformedFrame, message);
    }
    header.request != 0
}

/// Handles a request on the shard it belongs to.
pub fn dispatch(shard: &Rc<Shard>, session: &Rc<Session>, frame: &Frame<'_>) -> Handled {
    let header = &frame.header;
    if !has_own_number(session, header) {
        return Handled::Done;
    }
    match header.kind {
        Kind::Produce => return produce::handle(shard, session, frame),
        Kind::Fetch => fetch::handle(shard, session, frame),
        Kind::Credit => subscribe::handle_credit(session, frame),
        Kind::Subscribe => subscribe::handle(session, frame),
        Kind::Unsubscribe => subscribe::handle_unsubscribe(session, frame),
        Kind::ListOffsets => offsets::handle(session, frame),
        Kind::Open => open::handle(shard, session, frame),
        Kind::Close => open::handle_close(session, frame),
        Kind::Metadata => metadata::handle(shard, session, frame),
        Kind::CreateTopic => topics::handle_create(shard, session, frame),
        Kind::DeleteTopic => topics::handle_delete(shard, session, frame),
        Kind::Ping => session.reply(Kind::PingReply, header.request, 0, &()),
        Kind::Hello => session.break_off(ErrorCode::NotHandshaken, "Hello was said already"),
        other => session.break_off(ErrorCode::UnknownKind, &format!("{other:?} is a broker's to send")),
    }
    Handled::Done
}
