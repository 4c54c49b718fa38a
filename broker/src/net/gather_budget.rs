//! The shard's memory for gathering large frames, and who gets how much of it.
//!
//! A client that announces a frame of 8 MiB has sent 16 bytes. So only half of the memory is given for an announcement,
//! whole, which costs no copy; the other half is given in steps, each at most [`STEP_FACTOR`] times what has come of the
//! frame. When that is not there either, a frame waits for its next step or, for all it needs, for the first half.
//!
//! Invariants
//! - No more than [`GATHER_BYTES`] are given.
//! - What is announced and not sent never takes the memory of what is sent.
//! - Frames that hold a step while they wait for the next cannot stop each other for good: those that have all they need
//!   come to an end within `STALLED_AFTER`, and those that wait come before new ones.
//! - While one waits, the connections that fill their memory more slowly than [`SLOWEST_BYTES_PER_SECOND`] are cut off.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringlog_reactor::sim::reached;
use ringlog_reactor::{Instant, Notify, now, timeout};

use crate::limits::{GATHER_BYTES, GATHER_FREE_BYTES};
use crate::net::holder::Holder;

/// How much memory is given at most for each byte that has come: with more, less is copied from step to step, and less has to
/// be sent to hold memory.
const STEP_FACTOR: usize = 4;
/// What a connection has to fill its memory with while others wait for theirs, after a moment for its round trips.
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;
const FIRST_MOMENT: Duration = Duration::from_secs(1);
/// How often one that waits looks for others that are too slow.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who holds a share of the memory, and when it should be filled.
type Holding = (Instant, Weak<dyn Holder>);

/// The two halves of the memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Half {
    Announced,
    Filled,
}

/// The shard's memory for gathering large frames.
pub struct GatherBudget {
    free: [Cell<usize>; 2],
    returned: Notify,
    waiting: Cell<usize>,
    holders: RefCell<BTreeMap<u64, Holding>>,
    next_holder: Cell<u64>,
}

impl Default for GatherBudget {
    fn default() -> Self {
        let half = || Cell::new(GATHER_BYTES / 2);
        GatherBudget {
            free: [half(), half()],
            returned: Notify::new(),
            waiting: Cell::new(0),
            holders: RefCell::default(),
            next_holder: Cell::new(0),
        }
    }
}

impl GatherBudget {
    /// Memory for a frame of which the header has come, if there is some to spare.
    pub fn try_take_whole(self: &Rc<Self>, whole: usize, holder: &Weak<dyn Holder>) -> Option<GatherPermit> {
        // Those that wait come first.
        if self.waiting.get() > 0 { None } else { self.try_take(Half::Announced, whole, holder) }
    }

    /// Waits for memory for a frame of `whole` bytes of which `have` have come: for a step, or for all of it.
    pub async fn take_step(
        self: &Rc<Self>,
        have: usize,
        whole: usize,
        holder: &Weak<dyn Holder>,
    ) -> GatherPermit {
        let step = whole.min(have.max(GATHER_FREE_BYTES) * STEP_FACTOR);
        let take = || {
            let step = self.try_take(Half::Filled, step, holder);
            step.or_else(|| self.try_take(Half::Announced, whole, holder))
        };
        if let Some(permit) = take() {
            return permit;
        }
        reached("large frame waits for memory");
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let returned = self.returned.notified();
            if let Some(permit) = take() {
                return permit;
            }
            self.cut_off_slow_ones();
            let _ = timeout(LOOK_EVERY, returned).await;
        }
    }

    fn try_take(
        self: &Rc<Self>,
        half: Half,
        bytes: usize,
        holder: &Weak<dyn Holder>,
    ) -> Option<GatherPermit> {
        let free = &self.free[half as usize];
        free.set(free.get().checked_sub(bytes)?);
        let number = self.next_holder.get();
        self.next_holder.set(number + 1);
        let filled_within =
            FIRST_MOMENT + Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND as f64);
        self.holders.borrow_mut().insert(number, (now() + filled_within, holder.clone()));
        Some(GatherPermit { budget: self.clone(), half, bytes, number })
    }

    fn cut_off_slow_ones(&self) {
        let now = now();
        let is_late = |due: &Instant| *due < now;
        let late: Vec<_> = {
            let mut holders = self.holders.borrow_mut();
            holders.extract_if(.., |_, (due, _)| is_late(due)).map(|(_, (_, holder))| holder).collect()
        };
        for holder in late.iter().filter_map(Weak::upgrade) {
            reached("slow sender of a large frame cut off");
            holder.cut_off();
        }
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Waiting<'a> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A share of the budget, returned on drop.
pub struct GatherPermit {
    budget: Rc<GatherBudget>,
    half: Half,
    bytes: usize,
    number: u64,
}

impl GatherPermit {
    /// How much of a frame may be held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was waited for has come: the holder is no longer one that is waited for.
    pub fn is_filled(&self) {
        self.budget.holders.borrow_mut().remove(&self.number);
    }
}

impl Drop for GatherPermit {
    fn drop(&mut self) {
        self.is_filled();
        let free = &self.budget.free[self.half as usize];
        free.set(free.get() + self.bytes);
        self.budget.returned.notify_all();
    }
}
