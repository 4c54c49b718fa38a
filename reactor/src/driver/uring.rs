//! The real ring.
//!
//! Invariants:
//! - Every pointer in a submission points into memory that the operation's table entry owns (buffers, paths) or
//!   into its [`Scratch`] (iovecs, message header, addresses). Neither moves nor is freed before the operation's last
//!   completion, because the entry is not removed before.
//! - `in_flight` counts every submission that will still complete: the ring is freed only at zero.
//! - Submissions of a turn leave in this order: all that is named nowhere below; the first few sends; writes of files; the other
//!   sends; reads of files, cancellations and closes. Each kind keeps the order in which it was made. A cancellation or a close
//!   never overtakes an operation that it is for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::descriptor::Descriptor;
use crate::driver::scratch::{Outgoing, Scratch};
use crate::op::{Completion, Entry, Item, Op};
use crate::pool::Pool;
use crate::slab::{Key, Slab};

/// Completions that nobody waits for: closes and cancellations. Keys never have the top bit set.
const UNWATCHED: u64 = u64::MAX;
/// The read of the doorbell.
const DOORBELL: u64 = u64::MAX - 1;
/// The one buffer group of a ring.
const BUFFER_GROUP: u16 = 0;

/// So many sends of a turn leave before its writes of files, the others behind them. The kernel carries a direct write
/// to the device inside the system call that submits it, and what comes behind it waits for that, about as long as two
/// sends take: a few replies had better go first. But the device must not stand idle while many are sent.
const SENDS_BEFORE_FILES: usize = 2;

/// See the head of this file.
pub(crate) struct Uring {
    // Declared first, so dropped first: the ring goes before the memory it may know of.
    ring: IoUring,
    pool: Rc<Pool>,
    /// Runs parallel to the operation table: the scratch of slot n.
    scratch: Vec<Scratch>,
    /// Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Of this turn, to be put in order.
    turn: Turn,
    reaped: VecDeque<cqueue::Entry>,
    doorbell: RawFd,
    /// Where the kernel puts the doorbell's count.
    rung: Box<u64>,
    in_flight: usize,
    draining: bool,
}

/// The submissions of one turn that do not leave in the order they were made.
#[derive(Default)]
struct Turn {
    sends: Vec<squeue::Entry>,
    writes: Vec<squeue::Entry>,
    /// Reads of files, for which replies do not wait, cancellations and closes.
    last: Vec<squeue::Entry>,
}

impl Turn {
    /// Takes all out, in the order in which they are to leave.
    fn drain(&mut self) -> impl Iterator<Item = squeue::Entry> {
        let mut sends = self.sends.drain(..);
        let first: [Option<squeue::Entry>; SENDS_BEFORE_FILES] = std::array::from_fn(|_| sends.next());
        first.into_iter().flatten().chain(self.writes.drain(..)).chain(sends).chain(self.last.drain(..))
    }
}

/// How large a ring is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSize {
    pub(crate) submissions: u32,
    pub(crate) completions: u32,
}

/// Sets a ring up the way a core uses it. The doctor tries the very same.
pub(crate) fn set_up(size: RingSize) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Task work shows as a flag in shared memory, so a turn with nothing to do costs no system call.
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(size.completions)
        .build(size.submissions)
}

/// Registers `pool` with `ring`.
pub(crate) fn register_pool(ring: &IoUring, pool: &Pool) -> io::Result<()> {
    // SAFETY: the address is that of `count` ring entries, page-aligned. They live until after the ring is gone:
    // `Uring` drops its ring before its pool, and a `RecvBuf` that outlives the core holds the pool by itself.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(pool.ring_address(), pool.count(), BUFFER_GROUP, 0)
    }
}

impl Uring {
    pub(crate) fn new(size: RingSize, pool: Pool, doorbell: RawFd) -> io::Result<Uring> {
        let ring = set_up(size)?;
        register_pool(&ring, &pool)?;
        let mut uring = Uring {
            ring,
            pool: Rc::new(pool),
            scratch: Vec::new(),
            backlog: VecDeque::new(),
            turn: Turn::default(),
            reaped: VecDeque::new(),
            doorbell,
            rung: Box::new(0),
            in_flight: 0,
            draining: false,
        };
        uring.listen_for_doorbell();
        Ok(uring)
    }

    pub(crate) fn start(&mut self, key: Key, op: &mut Op) {
        if self.scratch.len() <= key.index() {
            self.scratch.resize_with(key.index() + 1, Scratch::default);
        }
        let entry = prepare(op, &mut self.scratch[key.index()]).user_data(key.to_u64());
        self.in_flight += 1;
        match op {
            Op::Send { .. } => self.turn.sends.push(entry),
            Op::Write { .. } => self.turn.writes.push(entry),
            op if op.reads_file() => self.turn.last.push(entry),
            _ => self.enqueue(entry),
        }
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.push_last(opcode::AsyncCancel::new(key.to_u64()).build());
    }

    pub(crate) fn close(&mut self, fd: RawFd) {
        self.push_last(opcode::Close::new(Fd(fd)).build());
    }

    fn listen_for_doorbell(&mut self) {
        let read =
            opcode::Read::new(Fd(self.doorbell), (&raw mut *self.rung).cast(), size_of::<u64>() as u32);
        self.in_flight += 1;
        // An eventfd has no position.
        self.enqueue(read.offset(u64::MAX).build().user_data(DOORBELL));
    }

    fn push_last(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        self.turn.last.push(entry.user_data(UNWATCHED));
    }

    fn enqueue(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        self.backlog.push_back(entry);
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry's pointers stay valid until its last completion: see the head of this file.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves what has not gone into the queue there, as far as it goes.
    fn refill(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        turn.drain().for_each(|entry| self.enqueue(entry));
        self.turn = turn;
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Submits, and runs the kernel's deferred work if there is any. Never waits; makes no system call if there is
    /// nothing to do.
    pub(crate) fn poke(&mut self) -> io::Result<()> {
        loop {
            self.refill();
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
            drop(queue);
            forgive(self.ring.submit())?;
            if self.backlog.is_empty() {
                return Ok(());
            }
            // Many submissions make many completions: keep the completion queue from overflowing.
            self.reap();
        }
    }

    /// Submits and waits for a completion, for at most `limit`.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.refill();
        if !self.backlog.is_empty() || self.has_completions() {
            return self.poke();
        }
        let submitter = self.ring.submitter();
        match limit {
            None => forgive(submitter.submit_and_wait(1)),
            Some(limit) => {
                let limit = Timespec::from(limit);
                forgive(submitter.submit_with_args(1, &SubmitArgs::new().timespec(&limit)))
            }
        }
    }

    /// Whether completions are there to be taken without a system call.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.reaped.is_empty() || !self.ring.completion().is_empty()
    }

    pub(crate) fn reap(&mut self) {
        self.reaped.extend(self.ring.completion());
    }

    pub(crate) fn next_completion(&mut self, ops: &mut Slab<Entry>) -> Option<Completion> {
        while let Some(cqe) = self.reaped.pop_front() {
            let more = cqueue::more(cqe.flags());
            if !more {
                self.in_flight -= 1;
            }
            match cqe.user_data() {
                UNWATCHED => {}
                DOORBELL => {
                    if !self.draining {
                        self.listen_for_doorbell();
                    }
                }
                raw => {
                    let key = Key::from_u64(raw);
                    let entry = ops.get_mut(key).expect("an operation stays until its last completion");
                    let item = self.finish(key, &mut entry.op, cqe.result(), cqe.flags());
                    return Some(Completion { key, result: cqe.result(), more, item });
                }
            }
        }
        None
    }

    /// Brings `op` up to date with what the kernel did.
    fn finish(&mut self, key: Key, op: &mut Op, result: i32, flags: u32) -> Option<Item> {
        let buffer = cqueue::buffer_select(flags);
        if let Some(id) = buffer {
            let received = self.pool.take_out(id, result.max(0) as u32);
            // A buffer that came with nothing in it goes straight back.
            return if result > 0 { Some(Item::Received(received)) } else { None };
        }
        if result < 0 {
            return None;
        }
        match op {
            Op::Open { opened, .. } => *opened = Some(Descriptor::new(result)),
            Op::AcceptMany { .. } => return Some(Item::Socket(Descriptor::new(result))),
            Op::Read { buf, .. } | Op::Receive { buf, .. } => {
                let len = buf.len() + result as usize;
                assert!(len <= buf.capacity(), "the kernel writes no more than it was asked for");
                // SAFETY: `len` is within the capacity, and the kernel has just initialized the bytes up to it.
                unsafe { buf.set_len(len) };
            }
            Op::Stat { found, .. } => *found = self.scratch[key.index()].metadata(),
            _ => {}
        }
        None
    }

    pub(crate) fn begin_drain(&mut self) {
        self.draining = true;
        self.push_last(opcode::AsyncCancel::new(DOORBELL).build());
    }

    pub(crate) fn drain_turn(&mut self) -> bool {
        if self.in_flight == 0 {
            return true;
        }
        if let Err(error) = self.wait(None) {
            // Memory that the kernel may still write to must not be freed, and there is no other way to find out
            // when it no longer will.
            crate::say!("ringlog-reactor: io_uring cannot be drained: {error}");
            std::process::abort();
        }
        false
    }
}

/// These are no failures of a submission: a signal came, the time is up, or the kernel first wants its
/// completions taken.
fn forgive(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

/// The submission for `op`. All it points to lies in `op` or `scratch`.
fn prepare(op: &mut Op, scratch: &mut Scratch) -> squeue::Entry {
    let here = Fd(libc::AT_FDCWD);
    match op {
        Op::Open { path, flags, mode, .. } => {
            opcode::OpenAt::new(here, path.as_ptr()).flags(*flags | libc::O_CLOEXEC).mode(*mode).build()
        }
        Op::Read { fd, buf, offset, len } => {
            let room = buf.spare_capacity_mut();
            assert!(*len as usize <= room.len(), "a read has room for what it asks");
            opcode::Read::new(Fd(*fd), room.as_mut_ptr().cast(), *len).offset(*offset).build()
        }
        Op::Write { fd, data, offset, sync } => {
            let flags = if *sync { libc::RWF_DSYNC } else { 0 };
            let (pointer, count) = scratch.gather(data);
            opcode::Writev::new(Fd(*fd), pointer, count).offset(*offset).rw_flags(flags).build()
        }
        Op::Sync { fd, data_only } => {
            let flags = if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            opcode::Fsync::new(Fd(*fd)).flags(flags).build()
        }
        Op::Allocate { fd, offset, len } => opcode::Fallocate::new(Fd(*fd), *len).offset(*offset).build(),
        Op::Truncate { fd, len } => opcode::Ftruncate::new(Fd(*fd), *len).build(),
        Op::Stat { fd, path, follow, .. } => {
            let flags = match (&fd, follow) {
                (Some(_), _) => libc::AT_EMPTY_PATH,
                (None, true) => 0,
                (None, false) => libc::AT_SYMLINK_NOFOLLOW,
            };
            let folder = fd.map_or(here, Fd);
            let mask = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_BTIME;
            opcode::Statx::new(folder, path.as_ptr(), scratch.statx()).flags(flags).mask(mask).build()
        }
        Op::MakeDir { path } => opcode::MkDirAt::new(here, path.as_ptr()).mode(0o755).build(),
        Op::Rename { from, to } => opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build(),
        Op::Unlink { path, folder } => {
            let flags = if *folder { libc::AT_REMOVEDIR } else { 0 };
            opcode::UnlinkAt::new(here, path.as_ptr()).flags(flags).build()
        }
        Op::Connect { fd, to } => {
            let (address, len) = scratch.address(*to);
            opcode::Connect::new(Fd(*fd), address, len).build()
        }
        Op::AcceptMany { fd } => opcode::AcceptMulti::new(Fd(*fd)).flags(libc::SOCK_CLOEXEC).build(),
        Op::ReceiveMany { fd } => opcode::RecvMulti::new(Fd(*fd), BUFFER_GROUP).build(),
        Op::Receive { fd, buf, len, whole } => {
            let flags = if *whole { libc::MSG_WAITALL } else { 0 };
            let room = buf.spare_capacity_mut();
            assert!(*len as usize <= room.len(), "a receive has room for what it asks");
            opcode::Recv::new(Fd(*fd), room.as_mut_ptr().cast(), *len).flags(flags).build()
        }
        Op::Send { fd, data } => {
            // MSG_WAITALL: the kernel itself goes on after a short send.
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            match scratch.outgoing(data) {
                Outgoing::Slice(start, len) => opcode::Send::new(Fd(*fd), start, len).flags(flags).build(),
                Outgoing::Message(message) => {
                    opcode::SendMsg::new(Fd(*fd), message).flags(flags as u32).build()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries<const N: usize>(numbers: [u64; N]) -> Vec<squeue::Entry> {
        numbers.iter().map(|number| opcode::Nop::new().build().user_data(*number)).collect()
    }

    fn order(sends: Vec<squeue::Entry>) -> Vec<u64> {
        let mut turn = Turn { sends, writes: entries([10, 11]), last: entries([20, 21]) };
        let order = turn.drain().map(|entry| entry.get_user_data()).collect();
        assert_eq!(turn.drain().count(), 0);
        order
    }

    #[test]
    fn two_replies_leave_before_the_writes_and_the_others_behind_them() {
        assert_eq!(order(entries([])), [10, 11, 20, 21]);
        assert_eq!(order(entries([1])), [1, 10, 11, 20, 21]);
        assert_eq!(order(entries([1, 2, 3, 4])), [1, 2, 10, 11, 3, 4, 20, 21]);
    }
}
