//! Carries out file operations on the simulated disk.

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;

use super::disk::{Errno, PAGE};
use super::machine::{Machine, OpenFile};
use crate::buffer::DIRECT_ALIGN;
use crate::op::{Gather, Op};

fn path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// How long a file operation takes at least, in nanoseconds.
pub(super) fn least_nanos(machine: &Machine, op: &Op) -> u64 {
    let stall = match op {
        Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } => machine.disk().with(|disk| disk.stall()),
        _ => 0,
    };
    stall + usual_nanos(op)
}

fn usual_nanos(op: &Op) -> u64 {
    match op {
        Op::Write { data, sync, .. } => {
            let bytes: usize = data.remaining().iter().map(Bytes::len).sum();
            // A gigabyte a second, and a device's latency if it must get there.
            bytes as u64 + if *sync { 40_000 } else { 5_000 }
        }
        Op::Sync { .. } => 100_000,
        _ => 10_000,
    }
}

/// The descriptor that `op` is carried out on, if it is an operation on an open file.
pub(super) fn descriptor(op: &Op) -> Option<RawFd> {
    match op {
        Op::Read { fd, .. }
        | Op::Write { fd, .. }
        | Op::Sync { fd, .. }
        | Op::Allocate { fd, .. }
        | Op::Truncate { fd, .. } => Some(*fd),
        Op::Stat { fd, .. } => *fd,
        _ => None,
    }
}

/// The result of `op` if it is one on files or folders, as the kernel would give it. `target` is the open file it is
/// carried out on; it was looked up when the operation started, because the file may have been closed since.
pub(super) fn perform(machine: &Machine, op: &mut Op, target: Result<OpenFile, Errno>) -> Option<i32> {
    machine.disk().with(|disk| disk.now_ms = machine.wall_clock_ms());
    let result = match op {
        Op::Open { path: name, flags, opened, .. } => {
            let may = machine.check_open_files();
            let inode = may.and_then(|()| machine.disk().with(|disk| disk.open(path(name), *flags)));
            inode.map(|inode| {
                let direct = *flags & libc::O_DIRECT != 0;
                *opened = Some(machine.add_file(OpenFile { inode, direct }));
                0
            })
        }
        Op::Read { buf, offset, len, .. } => target.and_then(|file| {
            let memory = buf.spare_capacity_mut().as_ptr().addr();
            if file.direct
                && !(is_aligned(*offset) && is_aligned(u64::from(*len)) && is_aligned(memory as u64))
            {
                return Err(libc::EINVAL);
            }
            let bytes = machine.disk().with(|disk| disk.read(file, *offset, *len as usize))?;
            buf.extend_from_slice(&bytes);
            Ok(bytes.len() as i32)
        }),
        Op::Write { data, offset, sync, .. } => {
            target.and_then(|file| write(machine, file, data, *offset, *sync))
        }
        Op::Sync { .. } => target.and_then(|file| done(machine.disk().with(|disk| disk.sync(file.inode)))),
        Op::Allocate { offset, len, .. } => {
            target.and_then(|file| done(machine.disk().with(|disk| disk.allocate(file.inode, *offset, *len))))
        }
        Op::Truncate { len, .. } => {
            target.and_then(|file| done(machine.disk().with(|disk| disk.truncate(file.inode, *len))))
        }
        Op::Stat { fd, path: name, found, .. } => machine.disk().with(|disk| {
            let inode = match fd {
                Some(_) => target?.inode,
                None => disk.find(path(name))?,
            };
            *found = disk.stat(inode)?;
            Ok(0)
        }),
        Op::MakeDir { path: name } => done(machine.disk().with(|disk| disk.make_folder(path(name)))),
        Op::Rename { from, to } => done(machine.disk().with(|disk| disk.rename(path(from), path(to)))),
        Op::Unlink { path: name, folder } => {
            done(machine.disk().with(|disk| disk.remove(path(name), *folder)))
        }
        _ => return None,
    };
    Some(result.unwrap_or_else(|errno| -errno))
}

fn done(result: Result<(), Errno>) -> Result<i32, Errno> {
    result.map(|()| 0)
}

/// Writes `data`, or, now and then, only some whole pages of it: a short write is no error.
fn write(machine: &Machine, file: OpenFile, data: &Gather, offset: u64, sync: bool) -> Result<i32, Errno> {
    if file.direct && !(is_aligned(offset) && runs_are_aligned(data)) {
        return Err(libc::EINVAL);
    }
    let mut bytes = data.remaining().concat();
    if bytes.len() > PAGE && machine.world().random().below(32) == 0 {
        let pages = (bytes.len() - 1) / PAGE;
        bytes.truncate(PAGE * (1 + machine.world().random().below(pages as u64) as usize));
    }
    let written = machine.disk().with(|disk| disk.write(file, offset, &bytes, sync))?;
    Ok(written as i32)
}

/// What direct I/O asks of every offset, length and address. The simulation is as strict as [`DIRECT_ALIGN`] says,
/// though many a real disk would let 512 bytes pass.
fn is_aligned(number: u64) -> bool {
    number.is_multiple_of(DIRECT_ALIGN as u64)
}

/// Whether each run of slices that are neighbours in memory begins and ends at an aligned address.
fn runs_are_aligned(data: &Gather) -> bool {
    let mut end = 0;
    for slice in data.remaining().iter().filter(|slice| !slice.is_empty()) {
        let start = slice.as_ptr().addr() as u64;
        if start != end && !(is_aligned(start) && is_aligned(end)) {
            return false;
        }
        end = start + slice.len() as u64;
    }
    is_aligned(end)
}

/// The process ended while `op` was in flight: if it is a write it may get there, but nobody was promised anything.
pub(super) fn leave_behind(machine: &Machine, op: &Op, target: OpenFile) {
    if let Op::Write { data, offset, .. } = op {
        let bytes = data.remaining().concat();
        // An error has nobody left to be told of it.
        let _ = machine.disk().with(|disk| disk.write(target, *offset, &bytes, false));
    }
}
