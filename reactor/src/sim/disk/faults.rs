//! What goes wrong on a disk.

use std::time::Duration;

use super::Errno;
use super::content::PAGE;
use crate::clock::Random;

/// How often a disk fails, and how ([`SimDisk::set_faults`](super::SimDisk::set_faults)). Each number but the last two is "about once in so
/// many operations"; 0 means never, and the default is a disk without a fault.
///
/// The first ones are those that a program must live with. The last ones are lies: nothing is said when they happen, and
/// all that can be asked for is that the damage is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// A read fails with `EIO`.
    pub read_error: u64,
    /// A write fails with `EIO`, after any part of it was written.
    pub write_error: u64,
    /// A sync, or a synced write, fails with `EIO`. What it should have saved is lost in the next crash.
    pub sync_error: u64,
    /// A read, write or sync takes `stall_for` longer.
    pub stall: u64,
    /// A read gives less than it was asked for: whole blocks of a file opened for direct I/O, any bytes of others.
    pub short_read: u64,
    /// A write writes less than it was asked for: whole blocks or any bytes, as above. Long writes are short now and then
    /// even without this.
    pub short_write: u64,
    /// A direct or synced write lands in another place of this or another file, and is reported as good.
    pub misdirect: u64,
    /// A synced write, or all that a sync should save, never gets to the disk, and is reported as good. With direct I/O
    /// the next read sees that, otherwise the first one after a crash.
    pub lost_write: u64,
    /// A bit of what is read has rotted, for good.
    pub bit_rot: u64,
    /// See `stall`.
    pub stall_for: Duration,
    /// Files may grow by so many bytes in all from now on. What is removed makes room again.
    pub full_after_bytes: Option<u64>,
    /// All files together may have so many bytes.
    pub capacity_bytes: Option<u64>,
}

/// The faults of one disk, asked for and drawn.
#[derive(Clone)]
pub(super) struct Faults {
    /// Drawn from apart, so that a disk without faults fares the same whatever it is asked.
    random: Random,
    pub(super) plan: DiskFaults,
    pub(super) next_write: Option<Errno>,
    /// A sync that fails, behind so many that do not.
    pub(super) next_sync: Option<(u64, Errno)>,
    pub(super) next_read: Option<Errno>,
    pub(super) full: bool,
    /// The last lie, in words.
    lie: Option<String>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Faults {
        Faults {
            random: Random::new(seed ^ 0xFA17),
            plan: DiskFaults::default(),
            next_write: None,
            next_sync: None,
            next_read: None,
            full: false,
            lie: None,
        }
    }

    /// The same fate without a fault.
    pub(super) fn without_plan(&self) -> Faults {
        Faults { random: self.random.clone(), ..Faults::new(0) }
    }

    fn happens(&self, one_in: u64) -> bool {
        one_in > 0 && self.random.below(one_in) == 0
    }

    fn error(&self, one_in: u64) -> Option<Errno> {
        self.happens(one_in).then_some(libc::EIO)
    }

    pub(super) fn read_error(&mut self) -> Option<Errno> {
        self.next_read.take().or_else(|| self.error(self.plan.read_error))
    }

    pub(super) fn write_error(&mut self) -> Option<Errno> {
        self.next_write.take().or_else(|| self.error(self.plan.write_error))
    }

    pub(super) fn sync_error(&mut self) -> Option<Errno> {
        match &mut self.next_sync {
            Some((0, errno)) => {
                let errno = *errno;
                self.next_sync = None;
                return Some(errno);
            }
            Some((others, _)) => *others -= 1,
            None => {}
        }
        self.error(self.plan.sync_error)
    }

    /// The same for a write that is synced at once. A fault that was asked for by name waits for a plain sync.
    pub(super) fn synced_write_error(&self) -> Option<Errno> {
        self.error(self.plan.sync_error)
    }

    /// How much longer an operation takes, in nanoseconds.
    pub(super) fn stall(&self) -> u64 {
        if !self.happens(self.plan.stall) {
            return 0;
        }
        u64::try_from(self.plan.stall_for.as_nanos()).unwrap_or(u64::MAX / 4)
    }

    pub(super) fn short_read(&self, len: usize, direct: bool) -> usize {
        if self.happens(self.plan.short_read) { self.shorten(len, direct) } else { len }
    }

    pub(super) fn short_write(&self, len: usize, direct: bool) -> usize {
        if self.happens(self.plan.short_write) { self.shorten(len, direct) } else { len }
    }

    fn shorten(&self, len: usize, direct: bool) -> usize {
        let unit = if direct { PAGE } else { 1 };
        if len <= unit {
            return len;
        }
        unit * (1 + self.random.below(((len - 1) / unit) as u64) as usize)
    }

    pub(super) fn is_misdirected(&self) -> bool {
        self.happens(self.plan.misdirect)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.happens(self.plan.lost_write)
    }

    /// Which of `len` bytes rots, if one does, and which bit of it.
    pub(super) fn rot(&self, len: u64) -> Option<(u64, u8)> {
        let rots = len > 0 && self.happens(self.plan.bit_rot);
        rots.then(|| (self.random.below(len), self.random.below(8) as u8))
    }

    /// Draws one of `choices`, of which there is at least one.
    pub(super) fn draw(&self, choices: u64) -> u64 {
        self.random.below(choices)
    }

    /// Remembers a lie, for those who read how a run went.
    pub(super) fn lied(&mut self, how: String) {
        self.lie = Some(how);
    }

    pub(super) fn take_lie(&mut self) -> Option<String> {
        self.lie.take()
    }
}
