//! What this machine offers, for the doctor and for start-up. Everything here blocks the calling thread for a
//! moment: start-up only. Nothing needs a core.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use io_uring::{Probe, opcode};

use crate::buffer::{DIRECT_ALIGN, aligned};
use crate::driver::uring::{RingSize, register_pool, set_up};
use crate::pool::Pool;
use crate::runtime::CoreConfig;
use crate::sys;

/// The oldest kernel that has all the ring needs: the first long-term one with deferred task work and multishot
/// receives (6.0 and 6.1).
pub const OLDEST_KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

/// A kernel's version, as far as it decides what the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the start of a release such as `6.1.0-28-amd64`.
    fn parse(release: &str) -> Option<KernelVersion> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(KernelVersion { major, minor })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The running kernel's version.
///
/// # Errors
/// If `/proc/sys/kernel/osrelease` cannot be read or understood.
pub fn kernel_version() -> io::Result<KernelVersion> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let words = || format!("not a kernel release: {}", release.trim());
    KernelVersion::parse(&release).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, words()))
}

/// The sysctl `kernel.io_uring_disabled`: 0 = everybody may use io_uring, 1 = only the privileged and the group
/// `kernel.io_uring_group`, 2 = nobody. `None` where the kernel has no such switch (before 6.6).
pub fn io_uring_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// Whether a core could run here.
#[derive(Debug)]
pub struct RingReport {
    /// Sets up a ring with the flags, sizes and receive buffers of a default core. `EPERM` means it is forbidden
    /// (sysctl, seccomp), `ENOSYS` that there is none, `EINVAL` that the kernel is too old, `ENOMEM` that locked
    /// memory is limited.
    pub set_up: io::Result<()>,
    /// The operations a core uses and this kernel lacks.
    pub missing_operations: Vec<&'static str>,
}

impl RingReport {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.set_up.is_ok() && self.missing_operations.is_empty()
    }
}

/// The operations a core uses.
const OPERATIONS: [(u8, &str); 16] = [
    (opcode::AsyncCancel::CODE, "async_cancel"),
    (opcode::Close::CODE, "close"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Read::CODE, "read"),
    (opcode::Writev::CODE, "writev"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::Statx::CODE, "statx"),
    (opcode::MkDirAt::CODE, "mkdirat"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::Connect::CODE, "connect"),
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::Recv::CODE, "recv"),
    (opcode::RecvMulti::CODE, "multishot recv"),
    (opcode::SendMsg::CODE, "sendmsg"),
];

/// Tries to set a ring up.
pub fn ring() -> RingReport {
    let config = CoreConfig::default();
    let pool = Pool::new(config.receive_buffers, config.receive_buffer_bytes);
    let size = RingSize { submissions: config.submission_entries, completions: config.completion_entries };
    let mut supported = Probe::new();
    let set_up = set_up(size).and_then(|ring| {
        register_pool(&ring, &pool)?;
        ring.submitter().register_probe(&mut supported)
        // The ring goes here, before the pool.
    });
    let mut missing_operations = Vec::new();
    if set_up.is_ok() {
        let missing = OPERATIONS.iter().filter(|(code, _)| !supported.is_supported(*code));
        missing_operations.extend(missing.map(|(_, name)| *name));
    }
    RingReport { set_up, missing_operations }
}

/// A limit of this process (getrlimit(2)); `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// How many bytes may be locked in memory (`RLIMIT_MEMLOCK`).
///
/// # Errors
/// Those of getrlimit(2).
pub fn locked_memory() -> io::Result<Limit> {
    sys::limit(libc::RLIMIT_MEMLOCK).map(|(soft, hard)| Limit { soft, hard })
}

/// How many files and sockets may be open (`RLIMIT_NOFILE`).
///
/// # Errors
/// Those of getrlimit(2).
pub fn open_files() -> io::Result<Limit> {
    sys::limit(libc::RLIMIT_NOFILE).map(|(soft, hard)| Limit { soft, hard })
}

/// Raises the soft limit of open files to the hard one, and returns what holds then. Call it early in `main`.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_nofile() -> io::Result<Limit> {
    let limit = open_files()?;
    if limit.soft < limit.hard {
        sys::set_limit(libc::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    }
    open_files()
}

/// How a folder takes direct I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectIo {
    /// A file was opened with `O_DIRECT`, and a write of one aligned block went through.
    pub works: bool,
    /// The alignment that memory needs, in bytes, where the file system says so (statx(2), Linux 6.1).
    pub memory_align: Option<u32>,
    /// The same for offsets and lengths.
    pub offset_align: Option<u32>,
}

/// Tries direct I/O in `folder`, with a small file that is removed again.
///
/// # Errors
/// If the file cannot be made at all.
pub fn direct_io(folder: impl AsRef<Path>) -> io::Result<DirectIo> {
    let path = folder.as_ref().join(format!(".direct-io-probe-{}", std::process::id()));
    let result = try_direct_io(&path);
    // It may not have come into being; an error in making it has been kept.
    let _ = fs::remove_file(&path);
    result
}

fn try_direct_io(path: &Path) -> io::Result<DirectIo> {
    let c_path = sys::c_path(path)?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    let file = match sys::open(&c_path, flags | libc::O_DIRECT, 0o600) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Ok(DirectIo { works: false, memory_align: None, offset_align: None });
        }
        Err(error) => return Err(error),
    };
    let said = sys::direct_alignment(file.as_raw_fd())?;
    let works = write_one_block(file).is_ok();
    Ok(DirectIo { works, memory_align: said.map(|said| said.0), offset_align: said.map(|said| said.1) })
}

fn write_one_block(file: OwnedFd) -> io::Result<()> {
    let mut block = aligned(DIRECT_ALIGN);
    block.resize(DIRECT_ALIGN, 0);
    fs::File::from(file).write_all_at(&block, 0)
}

/// The kind of file system that holds `path`, by the name people know it by, or its magic number.
///
/// # Errors
/// Those of statfs(2).
pub fn file_system(path: impl AsRef<Path>) -> io::Result<String> {
    let magic = sys::file_system_magic(&sys::c_path(path.as_ref())?)?;
    // Numbers from statfs(2).
    let name = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x6969 => "nfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0x6573_5546 => "fuse",
        other => return Ok(format!("unknown ({other:#x})")),
    };
    Ok(name.to_owned())
}

/// The CPUs this process may run on, ascending.
///
/// # Errors
/// Those of sched_getaffinity(2).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    sys::allowed_cpus()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_sorts_are_understood() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::parse("6.1.0-28-amd64"), version(6, 1));
        assert_eq!(KernelVersion::parse("5.15.167.4-microsoft-standard-WSL2\n"), version(5, 15));
        assert_eq!(KernelVersion::parse("6.18-rc1"), version(6, 18));
        assert_eq!(KernelVersion::parse("six"), None);
        assert_eq!(KernelVersion::parse(""), None);
        assert!(version(6, 18) > version(6, 1) && version(5, 19) < Some(OLDEST_KERNEL));
    }

    #[test]
    fn this_machine_can_run_a_core() {
        let report = ring();
        assert!(report.is_good(), "{report:?}");
        assert!(kernel_version().expect("a version") >= OLDEST_KERNEL);
        assert_ne!(io_uring_disabled(), Some(2));
        assert!(!allowed_cpus().expect("a set").is_empty());
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let limit = raise_nofile().expect("raising a soft limit is allowed");
        assert_eq!(limit.soft, limit.hard);
        locked_memory().expect("a limit");
    }

    #[test]
    fn direct_io_is_tried_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        direct_io(folder.path()).expect("a file can be made");
        assert_eq!(fs::read_dir(folder.path()).expect("a listing").count(), 0);
        assert!(!file_system(folder.path()).expect("a name").is_empty());
        assert!(direct_io(folder.path().join("missing")).is_err());
    }
}
