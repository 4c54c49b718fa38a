//! Files and folders.
//!
//! Everything goes through the ring and blocks no thread, except what says "start-up only". Paths are taken as
//! they are; relative ones begin at the process's working folder. Errors are the kernel's, with
//! their number (`raw_os_error`), which tells a full disk from a broken one.

mod file;
mod folder;
mod lock;

pub use crate::op::{FileTimes, Kind};
pub use file::{File, OpenOptions, Sync};
pub use folder::{
    DirEntry, create_dir_all, exists, kind, read, read_dir, remove_dir, remove_dir_all, remove_file, rename,
    replace, sync_dir, times, unmake,
};
pub use lock::{LockedFile, Space, lock, space};
