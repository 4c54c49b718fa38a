//! The lock of a data folder, and the space left for it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core;
use crate::sim::Machine;
use crate::sys;

/// An exclusively locked file. The lock ends with this value, or with the process.
#[derive(Debug)]
pub struct LockedFile {
    _held: Held,
}

enum Held {
    Kernel { _file: OwnedFd },
    Simulated { machine: Rc<Machine>, path: PathBuf },
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Held::Kernel { _file } => f.debug_tuple("Kernel").field(_file).finish(),
            Held::Simulated { path, .. } => f.debug_tuple("Simulated").field(path).finish(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Held::Simulated { machine, path } = self {
            machine.unlock(path);
        }
    }
}

/// Makes the file at `path` if it is not there, and locks it (flock(2)); `None` if another process, or another
/// caller in this one, has it. Start-up only: it blocks the thread for the length of an open. Works on any thread.
///
/// # Errors
/// Those of open(2) and flock(2).
pub fn lock(path: impl AsRef<Path>) -> io::Result<Option<LockedFile>> {
    let path = path.as_ref();
    if let Some(machine) = core::try_with(|core| core.machine().cloned()).flatten() {
        if !machine.try_lock(path)? {
            return Ok(None);
        }
        return Ok(Some(LockedFile { _held: Held::Simulated { machine, path: path.to_path_buf() } }));
    }
    let file = sys::open(&sys::c_path(path)?, libc::O_RDWR | libc::O_CREAT, 0o644)?;
    let locked = sys::try_lock(file.as_raw_fd())?;
    Ok(locked.then_some(LockedFile { _held: Held::Kernel { _file: file } }))
}

/// Room in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Its whole size, in bytes.
    pub total_bytes: u64,
}

/// The space of the file system that holds `path` (statvfs(3)). Start-up and housekeeping only.
///
/// # Errors
/// Those of statvfs(3).
pub fn space(path: impl AsRef<Path>) -> io::Result<Space> {
    if let Some(space) = core::try_with(|core| core.machine().map(|machine| machine.space())).flatten() {
        return Ok(space);
    }
    let (free_bytes, total_bytes) = sys::file_system_space(&sys::c_path(path.as_ref())?)?;
    Ok(Space { free_bytes, total_bytes })
}
