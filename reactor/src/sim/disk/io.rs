//! Reading, writing and syncing, with all that goes wrong there.
//!
//! Invariant: what a synced write or a sync has reported as good is durable, unless the disk was asked to lie
//! (`misdirect`, `lost_write`, `bit_rot`).

use super::super::machine::OpenFile;
use super::content::{Content, PAGE, SECTOR};
use super::tree::{Disk, Inode, Node};
use super::{Errno, TOTAL_BYTES};
use crate::fs::Space;

/// A write that is to be carried out.
#[derive(Clone, Copy)]
struct Write<'a> {
    file: OpenFile,
    offset: u64,
    bytes: &'a [u8],
    sync: bool,
}

impl Disk {
    pub(in super::super) fn space(&self) -> Space {
        let full = if self.faults.full { Some(0) } else { None };
        let free_bytes = full.or_else(|| self.room()).unwrap_or(TOTAL_BYTES / 2);
        Space { free_bytes, total_bytes: TOTAL_BYTES }
    }

    /// How much files may still grow; `None` is as much as they want.
    pub(super) fn room(&self) -> Option<u64> {
        if self.faults.full {
            return Some(0);
        }
        self.limit_bytes.map(|limit| limit.saturating_sub(self.used_bytes))
    }

    /// How many of `len` bytes at `offset` of a file of `file_len` there is room for.
    fn fitting(&self, file_len: u64, offset: u64, len: usize) -> Result<usize, Errno> {
        let growth = (offset + len as u64).saturating_sub(file_len);
        let Some(room) = self.room().filter(|room| *room < growth) else { return Ok(len) };
        // What is in whole blocks still gets there; the next write has no room at all.
        let fits = (file_len + room).saturating_sub(offset) as usize / PAGE * PAGE;
        if fits == 0 || self.faults.full { Err(libc::ENOSPC) } else { Ok(fits) }
    }

    /// Changes a file, and keeps account of its length.
    fn change_file<R>(&mut self, inode: Inode, f: impl FnOnce(&mut Content) -> R) -> Result<R, Errno> {
        let now_ms = self.now_ms;
        let content = self.file(inode)?;
        let before = content.len();
        content.times.modified_ms = now_ms;
        let result = f(content);
        let after = content.len();
        self.used_bytes = (self.used_bytes + after).saturating_sub(before);
        Ok(result)
    }

    pub(in super::super) fn read(&mut self, at: OpenFile, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if let Some(errno) = self.faults.read_error() {
            return Err(errno);
        }
        let len = self.faults.short_read(len, at.direct);
        let there = self.file(at.inode)?.len().saturating_sub(offset).min(len as u64);
        if let Some((byte, bit)) = self.faults.rot(there) {
            self.file(at.inode)?.flip_bit(offset + byte, bit);
            self.faults.lied(format!("has a bit rot at {}", offset + byte));
        }
        self.file(at.inode).map(|content| content.read(offset, len))
    }

    /// Writes a prefix of `bytes`, mostly all of them: how many. With `sync` they are durable.
    pub(in super::super) fn write(
        &mut self,
        file: OpenFile,
        offset: u64,
        bytes: &[u8],
        sync: bool,
    ) -> Result<usize, Errno> {
        let torn = self.random.below(1 + (bytes.len() / SECTOR) as u64) as usize * SECTOR;
        if let Some(errno) = self.faults.write_error() {
            self.change_file(file.inode, |content| content.write(offset, &bytes[..torn]))?;
            return Err(errno);
        }
        let len = self.faults.short_write(bytes.len(), file.direct);
        let file_len = self.file(file.inode)?.len();
        let len = self.fitting(file_len, offset, len)?;
        self.write_whole(Write { file, offset, bytes: &bytes[..len], sync })?;
        Ok(len)
    }

    fn write_whole(&mut self, write: Write<'_>) -> Result<(), Errno> {
        let Write { file, offset, bytes, sync } = write;
        let failed = if sync { self.faults.synced_write_error() } else { None };
        if failed.is_none() && (sync || file.direct) && self.faults.is_misdirected() {
            return self.misdirect(write);
        }
        if failed.is_none() && sync && self.faults.is_lost() {
            self.faults.lied(format!("loses a write at {offset}"));
            return self.lose(write);
        }
        self.change_file(file.inode, |content| {
            content.write(offset, bytes);
            match failed {
                Some(_) => content.sync_range_fails(offset, bytes.len()),
                None if sync => content.sync_range(offset, bytes.len()),
                None => {}
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The bytes never get to the disk. The length does: the file system knows it.
    fn lose(&mut self, write: Write<'_>) -> Result<(), Errno> {
        let Write { file, offset, bytes, sync } = write;
        self.change_file(file.inode, |content| {
            // What was written around the page cache is read around it, too.
            if !file.direct {
                content.write(offset, bytes);
            }
            content.sync_range_fails(offset, bytes.len());
            content.grow(offset + bytes.len() as u64, sync);
        })
    }

    /// The bytes get to another place that is in use, which may be in another file.
    fn misdirect(&mut self, write: Write<'_>) -> Result<(), Errno> {
        let Write { file, offset, bytes, sync } = write;
        let target = self.victim(file.inode);
        let target_name = self.path_of(target).unwrap_or_default();
        let target_len = self.file(target)?.len();
        let place = self.faults.draw(target_len.div_ceil(PAGE as u64).max(1)) * PAGE as u64;
        let len = (target_len.saturating_sub(place)).min(bytes.len() as u64) as usize;
        self.faults.lied(format!("puts the write at {offset} to {place} of {}", target_name.display()));
        self.lose(write)?;
        self.change_file(target, |content| {
            content.write(place, &bytes[..len]);
            if sync {
                content.sync_range(place, len);
            }
        })
    }

    /// Where a misdirected write goes: every other time to the file that was meant.
    fn victim(&mut self, meant: Inode) -> Inode {
        let files = self.files();
        if files.is_empty() || self.faults.draw(2) == 0 {
            return meant;
        }
        files[self.faults.draw(files.len() as u64) as usize].1
    }

    pub(in super::super) fn allocate(&mut self, inode: Inode, offset: u64, len: u64) -> Result<(), Errno> {
        let end = offset + len;
        let now = self.file(inode)?.len();
        if end <= now {
            return Ok(());
        }
        if self.room().is_some_and(|room| room < end - now) {
            return Err(libc::ENOSPC);
        }
        self.change_file(inode, |content| content.set_len(end))
    }

    pub(in super::super) fn truncate(&mut self, inode: Inode, len: u64) -> Result<(), Errno> {
        self.change_file(inode, |content| content.set_len(len))
    }

    pub(in super::super) fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        let failed = self.faults.sync_error();
        match self.nodes.get_mut(&inode) {
            Some(Node::File(content)) => match failed {
                Some(_) => content.sync_fails(),
                None if self.faults.is_lost() => {
                    content.lose_dirty();
                    self.faults.lied("loses what a sync should save".to_owned());
                }
                None => content.sync(),
            },
            _ => self.sync_folder(inode, failed.is_none()),
        }
        failed.map_or(Ok(()), Err)
    }

    /// How much longer than usual an operation takes, in nanoseconds.
    pub(in super::super) fn stall(&self) -> u64 {
        self.faults.stall()
    }

    /// What the last operation did, but did not say.
    pub(in super::super) fn take_lie(&mut self) -> Option<String> {
        self.faults.take_lie()
    }
}
