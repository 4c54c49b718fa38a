//! Every operation a core can ask of its backend, and the table entry that keeps one while it is in flight.
//!
//! Invariants:
//! - An operation owns all memory it names. It gives that memory back only with its last completion.
//! - An abandoned operation (its future was dropped) stays in the table until then; what it produces (an open
//!   file, a socket, a received buffer) is released and not leaked.

use std::collections::VecDeque;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};

use crate::core;
use crate::descriptor::Descriptor;
use crate::pool::RecvBuf;
use crate::slab::Key;

/// What the kernel takes in one gather operation (`IOV_MAX`); more slices are sent in several.
pub(crate) const MAX_SLICES: usize = 1024;

/// An operation with everything it needs and, in the end, what it produced.
#[derive(Debug)]
pub(crate) enum Op {
    /// open(2)
    Open { path: CString, flags: i32, mode: u32, opened: Option<Descriptor> },
    /// Reads at most `len` bytes into the spare room of `buf`. `offset` is `u64::MAX` for what has none.
    Read { fd: RawFd, buf: BytesMut, offset: u64, len: u32 },
    /// Writes a prefix of `data`; with `sync` it is on stable storage at completion (`RWF_DSYNC`).
    Write { fd: RawFd, data: Gather, offset: u64, sync: bool },
    /// fdatasync(2) with `data_only`, else fsync(2)
    Sync { fd: RawFd, data_only: bool },
    /// fallocate(2), mode 0
    Allocate { fd: RawFd, offset: u64, len: u64 },
    /// ftruncate(2); `EINVAL` where the kernel's ring has none
    Truncate { fd: RawFd, len: u64 },
    /// statx(2) of an open file, or of a path if there is none; of a symbolic link itself without `follow`.
    Stat { fd: Option<RawFd>, path: CString, follow: bool, found: Metadata },
    /// mkdir(2)
    MakeDir { path: CString },
    /// rename(2)
    Rename { from: CString, to: CString },
    /// unlink(2), or rmdir(2) for a `folder`
    Unlink { path: CString, folder: bool },
    /// connect(2)
    Connect { fd: RawFd, to: SocketAddr },
    /// accept(2), again and again: each connection is an [`Item::Socket`].
    AcceptMany { fd: RawFd },
    /// recv(2), again and again, into the core's buffers: each is an [`Item::Received`].
    ReceiveMany { fd: RawFd },
    /// recv(2) of at most `len` bytes into the spare room of `buf`; with `whole` (`MSG_WAITALL`) of fewer only at the
    /// end of the stream, or when the backend likes it better
    Receive { fd: RawFd, buf: BytesMut, len: u32, whole: bool },
    /// Sends a prefix of `data`.
    Send { fd: RawFd, data: Gather },
}

impl Op {
    /// Whether one start gives many results.
    pub(crate) fn is_multishot(&self) -> bool {
        matches!(self, Op::AcceptMany { .. } | Op::ReceiveMany { .. })
    }

    /// How many results may wait unread before the operation is stopped: the back-pressure of a socket.
    fn unread_limit(&self) -> usize {
        match self {
            Op::ReceiveMany { .. } => 8,
            _ => 64,
        }
    }

    /// Whether it reads a file at an offset.
    pub(crate) fn reads_file(&self) -> bool {
        matches!(self, Op::Read { offset, .. } if *offset != u64::MAX)
    }

    /// Whether a cancellation can shorten it. Operations on files run to their end.
    pub(crate) fn is_cancellable(&self) -> bool {
        match self {
            Op::Connect { .. } | Op::Receive { .. } | Op::Send { .. } => true,
            // Reads without an offset wait for an event (a signal); reads of files do not wait.
            Op::Read { offset, .. } => *offset == u64::MAX,
            _ => self.is_multishot(),
        }
    }
}

/// What stands under a name in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Other,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::File => "a file",
            Kind::Folder => "a folder",
            Kind::Link => "a symbolic link",
            Kind::Other => "a device, pipe or socket",
        })
    }
}

/// What the upper layers ask of a file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Metadata {
    pub(crate) len: u64,
    pub(crate) kind: Kind,
    pub(crate) times: FileTimes,
}

/// When a file was made and written, in milliseconds since the Unix epoch, by the wall clock of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileTimes {
    /// When its content last changed.
    pub modified_ms: i64,
    /// When it was made; where the file system does not know, the same as `modified_ms`.
    pub made_ms: i64,
}

/// Slices to be written or sent in order; a short write takes some off the front.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    slices: Vec<Bytes>,
    /// The first slice not wholly done.
    first: usize,
}

impl Gather {
    pub(crate) fn new(slices: Vec<Bytes>) -> Gather {
        let mut gather = Gather { slices, first: 0 };
        gather.skip_empty();
        gather
    }

    fn skip_empty(&mut self) {
        while self.slices.get(self.first).is_some_and(Bytes::is_empty) {
            self.first += 1;
        }
    }

    /// Its memory, for the next.
    pub(crate) fn into_empty(mut self) -> Vec<Bytes> {
        self.slices.clear();
        self.slices
    }

    pub(crate) fn is_done(&self) -> bool {
        self.first == self.slices.len()
    }

    pub(crate) fn remaining(&self) -> &[Bytes] {
        &self.slices[self.first..]
    }

    /// The first `bytes` bytes are done.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let slice = &mut self.slices[self.first];
            let step = bytes.min(slice.len());
            slice.advance(step);
            bytes -= step;
            self.skip_empty();
        }
    }
}

/// One result of a multishot operation. Dropping it releases what it holds.
#[derive(Debug)]
pub(crate) enum Item {
    Socket(Descriptor),
    Received(RecvBuf),
}

/// One completion, as a driver reports it.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) key: Key,
    /// As the kernel gives it: a count or a descriptor, or a negated errno.
    pub(crate) result: i32,
    /// More completions of this operation will come.
    pub(crate) more: bool,
    pub(crate) item: Option<Item>,
}

/// An operation in flight, or completed and not yet looked at.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) op: Op,
    waker: Option<Waker>,
    items: VecDeque<Item>,
    /// The last completion's result.
    outcome: Option<i32>,
    abandoned: bool,
    cancelling: bool,
}

/// What a completion left to do once the table is no longer borrowed.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    pub(crate) waker: Option<Waker>,
    /// Too much is unread: stop the operation.
    pub(crate) cancel: bool,
    /// Abandoned, and this was its last completion: take it out.
    pub(crate) remove: bool,
    /// Nobody wants it.
    pub(crate) refused: Option<Item>,
}

impl Entry {
    pub(crate) fn new(op: Op) -> Entry {
        Entry { op, waker: None, items: VecDeque::new(), outcome: None, abandoned: false, cancelling: false }
    }

    pub(crate) fn apply(&mut self, completion: Completion) -> Aftermath {
        let mut aftermath = Aftermath { refused: completion.item, ..Aftermath::default() };
        if !self.abandoned {
            self.items.extend(aftermath.refused.take());
            aftermath.waker = self.waker.take();
        }
        if !completion.more {
            self.outcome = Some(completion.result);
            aftermath.remove = self.abandoned;
        } else if self.items.len() >= self.op.unread_limit() && !self.cancelling {
            self.cancelling = true;
            aftermath.cancel = true;
        }
        aftermath
    }

    /// Nobody waits any more. True if it has completed and can be taken out now.
    pub(crate) fn abandon(&mut self) -> (bool, Option<Waker>, VecDeque<Item>) {
        self.abandoned = true;
        (self.outcome.is_some(), self.waker.take(), std::mem::take(&mut self.items))
    }

    /// True the first time a running, cancellable operation is to be stopped.
    pub(crate) fn begin_cancel(&mut self) -> bool {
        let begin = self.outcome.is_none() && !self.cancelling && self.op.is_cancellable();
        self.cancelling |= begin;
        begin
    }

    pub(crate) fn next_item(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    pub(crate) fn outcome(&self) -> Option<i32> {
        self.outcome
    }

    pub(crate) fn wait(&mut self, waker: Waker) -> Option<Waker> {
        self.waker.replace(waker)
    }

    pub(crate) fn into_op(self) -> Op {
        self.op
    }
}

/// The claim on an operation in the current core's table. Dropping it abandons the operation.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Keys of one core mean nothing on another, so the claim remembers whose it is.
    core: u64,
    key: Option<Key>,
    local: PhantomData<Rc<()>>,
}

/// What a multishot operation has to say.
#[derive(Debug)]
pub(crate) enum Event {
    Item(Item),
    /// It ended with this result, and must be started again for more.
    Ended(i32),
}

impl Ticket {
    /// Starts `op` on the current core.
    pub(crate) fn start(op: Op) -> Ticket {
        core::with(|core| Ticket { core: core.id(), key: Some(core.start(op)), local: PhantomData })
    }

    fn key(&self) -> Key {
        self.key.expect("a completed operation is not polled again")
    }

    fn poll_single(&mut self, cx: &Context<'_>) -> Poll<(i32, Op)> {
        let key = self.key();
        let done = core::with(|core| {
            assert_eq!(core.id(), self.core, "an operation is awaited on the core that started it");
            core.poll_single(key, cx)
        });
        if done.is_ready() {
            self.key = None;
        }
        done
    }

    /// Stops the operation, if it can be: what it has produced until then is still to be had.
    pub(crate) fn cancel(&self) {
        let key = self.key();
        core::with(|core| core.cancel(key));
    }

    pub(crate) fn poll_event(&mut self, cx: &Context<'_>) -> Poll<Event> {
        let key = self.key();
        let event = core::with(|core| {
            assert_eq!(core.id(), self.core, "a socket is used on the core it belongs to");
            core.poll_event(key, cx)
        });
        if let Poll::Ready(Event::Ended(_)) = event {
            self.key = None;
        }
        event
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        core::try_with(|core| {
            if core.id() == self.core {
                core.abandon(key);
            }
        });
    }
}

/// A single operation as a future: its result, and itself with the memory it owned.
#[must_use = "dropping an operation cancels it"]
pub(crate) struct Operation(Ticket);

impl Operation {
    pub(crate) fn start(op: Op) -> Operation {
        debug_assert!(!op.is_multishot());
        Operation(Ticket::start(op))
    }
}

impl Future for Operation {
    type Output = (io::Result<usize>, Op);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_single(cx).map(|(result, op)| (to_result(result), op))
    }
}

/// The kernel's way to say it, as a `Result`.
pub(crate) fn to_result(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gather_forgets_what_is_done_and_skips_empty_slices() {
        let mut gather = Gather::new(vec![
            Bytes::new(),
            Bytes::from_static(b"abc"),
            Bytes::new(),
            Bytes::from_static(b"defg"),
        ]);
        gather.advance(2);
        assert_eq!(gather.remaining()[0], "c");
        gather.advance(3);
        assert_eq!(gather.remaining(), [Bytes::from_static(b"fg")]);
        gather.advance(2);
        assert!(gather.is_done());
        assert!(Gather::new(vec![Bytes::new()]).is_done());
    }
}
