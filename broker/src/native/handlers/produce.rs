//! Produce: one record batch to the end of a partition.

use ringlog_protocol::messages;
use ringlog_protocol::{Ack, ErrorCode, Kind};

use crate::native::request::{Handled, Request};
use crate::ops::produce::{Produce, Produced, produce};

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// Appends the batch. `disk` is answered once it is on stable storage, as the session is told of it. The log may keep the memory of a
/// large one.
pub fn handle(request: Request<'_>) -> Handled {
    let (shard, session, number) = (request.shard, request.session, request.number());
    let verdict = session.take_verdict();
    let Some(partition) = request.partition() else { return Handled::Done };
    let flags = request.header.flags;
    let Some(ack) = Ack::from_flags(flags) else {
        let message = format!("ack level {flags} is none of 0 (none), 1 (memory), 2 (disk)");
        session.reply_error(number, ErrorCode::UnsupportedAck, &message);
        return Handled::Done;
    };
    let args = Produce { partition: &partition, ack, batch: request.into_payload(), verdict };
    match produce(shard, args, session, number.into()) {
        Ok(Produced::Acked { base_offset, start_offset }) => {
            session.reply(Kind::Produced, number, 0, &messages::Produced { base_offset, start_offset });
        }
        Ok(Produced::WhenDurable | Produced::Unasked) => {}
        Ok(Produced::NoRoom(verdict)) => {
            session.set_verdict(verdict);
            return Handled::NoRoom;
        }
        Ok(Produced::Unchecked { limit }) => return Handled::Unchecked { limit },
        Err(error) => session.refuse(number, &error),
    }
    Handled::Done
}
