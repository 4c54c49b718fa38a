//! What each request does, a file a kind. Called by the dispatcher, on the shard that owns what is asked for.

pub mod fetch;
pub mod metadata;
pub mod offsets;
pub mod open;
pub mod produce;
pub mod subscribe;
pub mod topics;

use std::rc::Rc;

use ringlog_protocol::{Body, ErrorCode, Frame, FrameHeader};
use ringlog_storage::Partition;

use crate::native::session::Session;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was answered, or will be.
    Done,
    /// Nothing was done: offer it again when the store has room.
    NoRoom,
    /// Nothing was done: have the records of its batch checked, tell the session, and offer it again.
    Unchecked {
        /// What the batch may unpack to, in bytes.
        limit: usize,
    },
}

/// The request's body. One that cannot be read breaks the connection off.
fn body<T: Body>(session: &Session, frame: &Frame<'_>) -> Option<T> {
    match frame.message::<T>() {
        Ok(message) => Some(message),
        Err(error) => {
            session.break_off(error.code(), &error.to_string());
            None
        }
    }
}

/// The partition the request's handle names, or an error reply.
fn partition(session: &Session, header: &FrameHeader) -> Option<Rc<Partition>> {
    let partition = session.partition(header.handle);
    if partition.is_none() {
        let message = format!("handle {:#x} is not open on this connection; open it again", header.handle);
        session.reply_error(header.request, ErrorCode::UnknownHandle, &message);
    }
    partition
}
