//! The shard's memory for long replies that wait to be sent: `MetadataReply` may have the length of a frame.
//!
//! Invariants
//! - Long replies of one shard take no more than [`REPLY_BYTES`] together, however many clients ask and do not read.
//! - While one waits for memory, the clients that take their replies more slowly than [`SLOWEST_BYTES_PER_SECOND`] are cut
//!   off: those that read are not held up by those that do not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringlog_reactor::sim::reached;
use ringlog_reactor::{Instant, Notify, now, timeout};

use crate::limits::REPLY_BYTES;
use crate::net::holder::Holder;

/// What a client has to take its replies with while others wait for theirs, after a moment for its round trips.
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;
const FIRST_MOMENT: Duration = Duration::from_secs(1);
/// How often one that waits looks for others that are too slow.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When a reply should have left, and what it waits for.
type Waiting = (Instant, Weak<dyn Holder>);

/// The shard's memory for long replies.
pub struct ReplyBudget {
    free: Cell<usize>,
    returned: Notify,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    next: Cell<u64>,
}

impl Default for ReplyBudget {
    fn default() -> Self {
        ReplyBudget {
            free: Cell::new(REPLY_BYTES),
            returned: Notify::new(),
            waiting: RefCell::default(),
            next: Cell::new(0),
        }
    }
}

impl ReplyBudget {
    /// Takes memory for a reply of at most `bytes`, if it is free.
    pub fn try_take(
        self: &Rc<Self>,
        bytes: usize,
        holder: &Rc<impl Holder + 'static>,
    ) -> Option<ReplyPermit> {
        let bytes = bytes.min(REPLY_BYTES);
        self.free.set(self.free.get().checked_sub(bytes)?);
        let number = self.next.get();
        self.next.set(number + 1);
        let within = FIRST_MOMENT + Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND as f64);
        let holder: Weak<dyn Holder> = Rc::downgrade(holder) as _;
        self.waiting.borrow_mut().insert(number, (now() + within, holder));
        Some(ReplyPermit { budget: self.clone(), bytes, number })
    }

    /// Waits for memory for a reply of at most `bytes`.
    pub async fn take(self: &Rc<Self>, bytes: usize, holder: &Rc<impl Holder + 'static>) -> ReplyPermit {
        loop {
            let returned = self.returned.notified();
            if let Some(permit) = self.try_take(bytes, holder) {
                return permit;
            }
            reached("long reply waits for memory");
            self.cut_off_slow_ones();
            let _ = timeout(LOOK_EVERY, returned).await;
        }
    }

    fn cut_off_slow_ones(&self) {
        let now = now();
        let late: Vec<_> = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.extract_if(.., |_, (due, _)| *due < now).map(|(_, (_, holder))| holder).collect()
        };
        late.iter().filter_map(Weak::upgrade).for_each(|holder| holder.cut_off());
    }
}

/// Memory of one reply, returned on drop.
pub struct ReplyPermit {
    budget: Rc<ReplyBudget>,
    bytes: usize,
    number: u64,
}

impl ReplyPermit {
    /// The reply has only so many bytes: the rest goes back.
    pub fn keep(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.bytes -= more;
        self.budget.free.set(self.budget.free.get() + more);
    }
}

impl Drop for ReplyPermit {
    fn drop(&mut self) {
        self.budget.waiting.borrow_mut().remove(&self.number);
        self.budget.free.set(self.budget.free.get() + self.bytes);
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ringlog_reactor::sim::Simulation;
    use ringlog_reactor::spawn;

    use super::*;
    use crate::net::outbox::Outbox;

    const REPLY: usize = 1 << 20;

    #[test]
    fn replies_that_are_not_read_take_a_bounded_part_and_a_reader_is_served_in_a_moment() {
        Simulation::new(1).run(async {
            let budget = Rc::new(ReplyBudget::default());
            let silent: Vec<_> = (0..2_000).map(|_| Rc::new(Outbox::default())).collect();
            let mut held = 0;
            for outbox in &silent {
                if let Some(permit) = budget.try_take(2 * REPLY, outbox) {
                    outbox.push_long(Bytes::from(vec![0; REPLY]), permit);
                    held += REPLY;
                }
            }
            assert_eq!(held, REPLY_BYTES - REPLY, "what a reply does not need goes back");
            let begun = now();
            let reader = Rc::new(Outbox::default());
            let permit = budget.take(2 * REPLY, &reader).await;
            let waited = now() - begun;
            assert!(waited > Duration::ZERO && waited < Duration::from_secs(5), "{waited:?}");
            assert!(silent.iter().any(|outbox| outbox.is_closed()));
            drop(permit);
            drop(silent);
            assert_eq!(budget.free.get(), REPLY_BYTES);
        });
    }

    #[test]
    fn memory_goes_back_when_the_reply_has_left_or_the_client_has() {
        Simulation::new(1).run(async {
            let budget = Rc::new(ReplyBudget::default());
            let outbox = Rc::new(Outbox::default());
            outbox.push_small(|to| to.extend_from_slice(b"before"));
            for _ in 0..2 {
                let permit = budget.take(REPLY, &outbox).await;
                outbox.push_long(Bytes::from(vec![0; REPLY]), permit);
            }
            let mut pieces = Vec::new();
            let mut sent = 0;
            while sent < 6 + REPLY {
                assert_eq!(budget.free.get(), REPLY_BYTES - 2 * REPLY, "after {sent} bytes");
                assert!(outbox.take(&mut pieces).await);
                let bytes = pieces.drain(..).map(|piece| piece.len()).sum::<usize>();
                outbox.sent(bytes);
                sent += bytes;
            }
            assert_eq!(budget.free.get(), REPLY_BYTES - REPLY);
            outbox.close();
            assert_eq!(budget.free.get(), REPLY_BYTES);
            let waiting = budget.clone();
            let all = budget.take(REPLY_BYTES, &outbox).await;
            let next = spawn(async move { waiting.take(REPLY, &Rc::new(Outbox::default())).await });
            ringlog_reactor::yield_now().await;
            assert!(!next.is_finished());
            drop(all);
            drop(next.await);
        });
    }
}
