//! The bytes of one simulated file: what reads see, and what a power failure leaves.
//!
//! Invariants:
//! - `now` differs from `durable` only in sectors that are `dirty`, whose sync has failed, or whose write the disk has
//!   lost. The latter two are gone after a crash whatever is synced later, as on Linux (Rebello et al., ATC'20).
//! - A page that is absent is all zeros, so a pre-zeroed file costs nothing. A page that was synced as a whole is one
//!   memory in both, until it is written again.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::clock::Random;
use crate::op::FileTimes;

/// What is written at once when nothing goes wrong, in bytes.
pub(in super::super) const PAGE: usize = 4096;
/// What is written at once even in a crash, in bytes.
pub(super) const SECTOR: usize = 512;
const SECTORS_PER_PAGE: usize = PAGE / SECTOR;

/// Some sectors of one page, a bit for each.
type Sectors = u8;
const ALL: Sectors = Sectors::MAX;
const _: () = assert!(SECTORS_PER_PAGE == Sectors::BITS as usize, "a bit for each");

type Pages = BTreeMap<u64, Rc<[u8; PAGE]>>;

#[derive(Clone, Default)]
pub(super) struct Content {
    now: Pages,
    durable: Pages,
    len: u64,
    durable_len: u64,
    pub(super) times: FileTimes,
    /// By page; none is empty.
    dirty: BTreeMap<u64, Sectors>,
}

impl Content {
    /// An empty file.
    pub(super) fn made_at(now_ms: i64) -> Content {
        Content { times: FileTimes { modified_ms: now_ms, made_ms: now_ms }, ..Content::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = (len as u64).min(self.len.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; len];
        for (page, within, span) in pages(offset, len) {
            if let Some(found) = self.now.get(&page) {
                let end = within + span.len();
                bytes[span].copy_from_slice(&found[within..end]);
            }
        }
        bytes
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, span) in pages(offset, bytes.len()) {
            let piece = &bytes[span];
            let known = self.now.contains_key(&page) || self.durable.contains_key(&page);
            if !known && piece.iter().all(|&byte| byte == 0) {
                continue;
            }
            if let Ok(whole) = <[u8; PAGE]>::try_from(piece) {
                self.now.insert(page, Rc::new(whole));
                continue;
            }
            let target = Rc::make_mut(self.now.entry(page).or_insert_with(|| Rc::new([0; PAGE])));
            target[within..within + piece.len()].copy_from_slice(piece);
        }
        self.soil(offset, bytes.len());
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    fn soil(&mut self, offset: u64, len: usize) {
        for (page, within, span) in pages(offset, len) {
            *self.dirty.entry(page).or_default() |= sectors(within, span.len());
        }
    }

    fn clean(&mut self, page: u64, sectors: Sectors) {
        if let Some(dirty) = self.dirty.get_mut(&page) {
            *dirty &= !sectors;
            if *dirty == 0 {
                self.dirty.remove(&page);
            }
        }
    }

    /// `RWF_DSYNC`: these bytes, and a length that reaches them, are safe.
    pub(super) fn sync_range(&mut self, offset: u64, len: usize) {
        if len == 0 {
            return;
        }
        for (page, within, span) in pages(offset, len) {
            let sectors = sectors(within, span.len());
            self.keep(page, sectors);
            self.clean(page, sectors);
        }
        self.durable_len = self.durable_len.max(offset + len as u64);
    }

    pub(super) fn sync(&mut self) {
        for (page, sectors) in std::mem::take(&mut self.dirty) {
            self.keep(page, sectors);
        }
        self.durable_len = self.len;
    }

    /// A sync failed: the kernel takes the pages for clean, though they never reached the disk.
    pub(super) fn sync_fails(&mut self) {
        self.dirty.clear();
    }

    /// The same for a write that should have been synced at once.
    pub(super) fn sync_range_fails(&mut self, offset: u64, len: usize) {
        for (page, within, span) in pages(offset, len) {
            self.clean(page, sectors(within, span.len()));
        }
    }

    /// A sync that says it has saved what it has not: all but the length, which the file system keeps.
    pub(super) fn lose_dirty(&mut self) {
        self.dirty.clear();
        self.durable_len = self.len;
    }

    /// The file reaches to `end` at least, with nothing in what is new.
    pub(super) fn grow(&mut self, end: u64, sync: bool) {
        self.len = self.len.max(end);
        if sync {
            self.durable_len = self.durable_len.max(end);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let gap = (self.len - len) as usize;
            for (page, within, span) in pages(len, gap) {
                if let Some(found) = self.now.get_mut(&page) {
                    Rc::make_mut(found)[within..within + span.len()].fill(0);
                }
            }
            self.soil(len, gap);
        }
        self.len = len;
    }

    /// Some sectors of a page, from what is now to what is durable.
    fn keep(&mut self, page: u64, sectors: Sectors) {
        let now = self.now.get(&page);
        if sectors == ALL {
            match now {
                Some(now) => drop(self.durable.insert(page, Rc::clone(now))),
                None => drop(self.durable.remove(&page)),
            }
            return;
        }
        if sectors == 0 || (now.is_none() && !self.durable.contains_key(&page)) {
            return;
        }
        let target = Rc::make_mut(self.durable.entry(page).or_insert_with(|| Rc::new([0; PAGE])));
        for sector in each(sectors) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            match now {
                Some(now) => target[range.clone()].copy_from_slice(&now[range]),
                None => target[range].fill(0),
            }
        }
    }

    /// The power fails. Of each dirty page all, nothing, or any of its sectors got through; about `percent` in all.
    pub(super) fn crash(&mut self, random: &Random, percent: u64) {
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            let kept = match Fate::draw(random, percent) {
                Fate::Kept => dirty,
                Fate::Lost => 0,
                Fate::Torn => {
                    each(dirty).filter(|_| random.below(2) == 0).fold(0, |kept, sector| kept | 1 << sector)
                }
            };
            self.keep(page, kept);
        }
        if self.len != self.durable_len && random.below(100) < percent {
            self.durable_len = self.len;
        }
        self.len = self.durable_len;
        self.now = self.durable.clone();
        let len = self.len;
        // What lies behind the end is not there, whatever reached the disk.
        let last = len / PAGE as u64;
        self.now.retain(|&page, _| page <= last);
        if let Some(tail) = self.now.get_mut(&last) {
            Rc::make_mut(tail)[(len % PAGE as u64) as usize..].fill(0);
        }
        self.durable = self.now.clone();
    }

    /// One bit rots, in memory and on the disk.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let page = offset / PAGE as u64;
        let within = (offset % PAGE as u64) as usize;
        for pages in [&mut self.now, &mut self.durable] {
            let target = Rc::make_mut(pages.entry(page).or_insert_with(|| Rc::new([0; PAGE])));
            target[within] ^= 1 << (bit % 8);
        }
    }
}

/// What becomes of a dirty page in a crash.
enum Fate {
    Kept,
    Lost,
    Torn,
}

impl Fate {
    fn draw(random: &Random, percent: u64) -> Fate {
        if random.below(8) == 0 && percent > 0 && percent < 100 {
            Fate::Torn
        } else if random.below(100) < percent {
            Fate::Kept
        } else {
            Fate::Lost
        }
    }
}

/// Cuts a range into pages: (page, offset within it, span of the range).
fn pages(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let step = (PAGE - within).min(len - done);
        let span = done..done + step;
        done += step;
        Some((at / PAGE as u64, within, span))
    })
}

/// The sectors that a piece of a page touches. It is not empty.
fn sectors(within: usize, len: usize) -> Sectors {
    let (first, last) = (within / SECTOR, (within + len - 1) / SECTOR);
    (ALL << first) & (ALL >> (SECTORS_PER_PAGE - 1 - last))
}

fn each(sectors: Sectors) -> impl Iterator<Item = usize> {
    (0..SECTORS_PER_PAGE).filter(move |sector| sectors & 1 << sector != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_bytes_are_read_until_the_power_fails() {
        let mut content = Content::default();
        content.write(10, b"safe");
        content.sync();
        content.write(5_000, b"not safe");
        assert_eq!(content.read(5_000, 100), b"not safe");
        content.crash(&Random::new(1), 0);
        assert_eq!(content.len(), 14);
        assert_eq!(content.read(10, 100), b"safe");
    }

    #[test]
    fn a_synced_write_survives_without_its_neighbours() {
        let mut content = Content::default();
        content.write(0, &[1; 2 * PAGE]);
        content.write(PAGE as u64, &[2; PAGE]);
        content.sync_range(PAGE as u64, PAGE);
        content.crash(&Random::new(1), 0);
        assert_eq!(content.read(0, PAGE), [0; PAGE]);
        assert_eq!(content.read(PAGE as u64, PAGE), [2; PAGE]);
    }

    #[test]
    fn a_piece_touches_the_sectors_it_overlaps() {
        assert_eq!(sectors(0, PAGE), ALL);
        assert_eq!(sectors(0, 1), 0b1);
        assert_eq!(sectors(SECTOR - 1, 2), 0b11);
        assert_eq!(sectors(7 * SECTOR, SECTOR), 0b1000_0000);
        assert_eq!(each(0b1010).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_page_that_is_written_after_its_sync_is_as_it_was_after_a_crash() {
        let mut content = Content::default();
        content.write(0, &[1; PAGE]);
        content.sync_range(0, PAGE);
        content.write(10, &[2; 10]);
        content.write(SECTOR as u64, &[3; SECTOR]);
        content.sync_range(SECTOR as u64, SECTOR);
        assert_eq!(content.read(10, 1), [2]);
        content.crash(&Random::new(1), 0);
        assert_eq!(content.read(0, SECTOR), [1; SECTOR]);
        assert_eq!(content.read(SECTOR as u64, SECTOR), [3; SECTOR]);
        assert_eq!(content.read(2 * SECTOR as u64, SECTOR), [1; SECTOR]);
    }

    #[test]
    fn a_crash_tears_pages_at_sectors() {
        let mut torn = 0;
        for seed in 0..100 {
            let mut content = Content::default();
            content.write(0, &[0; PAGE]);
            content.sync();
            content.write(0, &[7; PAGE]);
            content.crash(&Random::new(seed), 50);
            let bytes = content.read(0, PAGE);
            assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|&byte| byte == sector[0])));
            torn += usize::from(bytes.contains(&0) && bytes.contains(&7));
        }
        assert!(torn > 0);
    }

    #[test]
    fn after_a_failed_sync_a_later_one_saves_nothing() {
        let mut content = Content::default();
        content.write(0, &[1; PAGE]);
        content.sync();
        content.write(0, &[2; PAGE]);
        content.sync_fails();
        content.sync();
        assert_eq!(content.read(0, 1), [2]);
        content.crash(&Random::new(1), 100);
        assert_eq!(content.read(0, 1), [1]);
    }

    #[test]
    fn a_cut_file_reads_zeros_when_it_grows_again() {
        let mut content = Content::default();
        content.write(0, &[1; 10]);
        content.set_len(4);
        content.set_len(10);
        assert_eq!(content.read(0, 10), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    }
}
