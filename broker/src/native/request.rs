//! One request, as a handler gets it: parsed once, on the shard it belongs to.

use std::rc::Rc;

use ringlog_protocol::{Body, ErrorCode, Frame, FrameHeader};
use ringlog_storage::Partition;

use crate::native::session::Session;
use crate::ops::produce::Batch;
use crate::shard::state::Shard;

/// See the head of this file.
pub struct Request<'a> {
    /// The core that serves it.
    pub shard: &'a Rc<Shard>,
    /// Who asks.
    pub session: &'a Rc<Session>,
    /// The frame's header.
    pub header: FrameHeader,
    body: &'a [u8],
    payload: Batch<'a>,
}

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

impl<'a> Request<'a> {
    /// A request that lies in a buffer.
    pub fn new(shard: &'a Rc<Shard>, session: &'a Rc<Session>, frame: &Frame<'a>) -> Request<'a> {
        let Frame { header, body, payload } = *frame;
        Request { shard, session, header, body, payload: Batch::Received(payload) }
    }

    /// A request without a body whose payload has memory of its own.
    pub fn with_memory(
        shard: &'a Rc<Shard>,
        session: &'a Rc<Session>,
        header: FrameHeader,
        payload: Batch<'a>,
    ) -> Request<'a> {
        Request { shard, session, header, body: &[], payload }
    }

    /// Its number, which the reply repeats.
    pub fn number(&self) -> u32 {
        self.header.request
    }

    /// Its body. One that cannot be read breaks the connection off.
    pub fn message<T: Body>(&self) -> Option<T> {
        match (Frame { header: self.header, body: self.body, payload: &[] }).message::<T>() {
            Ok(message) => Some(message),
            Err(error) => {
                self.session.break_off(error.code(), &error.to_string());
                None
            }
        }
    }

    /// The partition that its handle names, or an error reply.
    pub fn partition(&self) -> Option<Rc<Partition>> {
        let handle = self.header.handle;
        let partition = self.session.partition(handle);
        if partition.is_none() {
            let message = format!("handle {handle:#x} is not open on this connection; open it again");
            self.session.reply_error(self.number(), ErrorCode::UnknownHandle, &message);
        }
        partition
    }

    /// What stands behind its body.
    pub fn into_payload(self) -> Batch<'a> {
        self.payload
    }
}
