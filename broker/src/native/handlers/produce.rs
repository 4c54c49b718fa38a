//! Produce: one record batch to the end of a partition.

use std::rc::Rc;

use bytes::BytesMut;
use ringlog_protocol::messages;
use ringlog_protocol::{Ack, ErrorCode, Frame, FrameHeader, Kind};

use crate::native::handlers::{Handled, partition};
use crate::native::session::Session;
use crate::ops::produce::{self, Batch, Produce, Produced};
use crate::shard::state::Shard;

/// Appends the batch. `disk` is answered once it is on stable storage, as the session is told of it.
pub fn handle(shard: &Shard, session: &Rc<Session>, frame: &Frame<'_>) -> Handled {
    produce(shard, session, &frame.header, Batch::Received(frame.payload))
}

/// The same for a large batch in memory of its own, behind room for its envelope, which the log may keep.
pub fn handle_owned(
    shard: &Shard,
    session: &Rc<Session>,
    header: &FrameHeader,
    memory: &mut BytesMut,
) -> Handled {
    produce(shard, session, header, Batch::Owned(memory))
}

fn produce(shard: &Shard, session: &Rc<Session>, header: &FrameHeader, batch: Batch<'_>) -> Handled {
    let verdict = session.take_verdict();
    let request = header.request;
    let Some(partition) = partition(session, header) else { return Handled::Done };
    let Some(ack) = Ack::from_flags(header.flags) else {
        let message = format!("ack level {} is none of 0 (none), 1 (memory), 2 (disk)", header.flags);
        session.reply_error(request, ErrorCode::UnsupportedAck, &message);
        return Handled::Done;
    };
    let args = Produce { partition: &partition, ack, batch, verdict };
    match produce::produce(shard, args, session, request.into()) {
        Ok(Produced::Acked { base_offset, start_offset }) => {
            session.reply(Kind::Produced, request, 0, &messages::Produced { base_offset, start_offset });
        }
        Ok(Produced::WhenDurable | Produced::Unasked) => {}
        Ok(Produced::NoRoom(verdict)) => {
            session.set_verdict(verdict);
            return Handled::NoRoom;
        }
        Ok(Produced::Unchecked { limit }) => return Handled::Unchecked { limit },
        Err(error) => session.refuse(request, &error),
    }
    Handled::Done
}
