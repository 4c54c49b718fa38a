//! System calls that are no operations of the ring: they do not block, or are documented as start-up only.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use libc::c_int;

use crate::descriptor::Descriptor;

/// A negative result means: look at errno.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "Linux has a monotonic clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) fn close(fd: RawFd) {
    // SAFETY: the caller owns `fd` and does not use it again. Errors of close(2) leave nothing to be done.
    unsafe { libc::close(fd) };
}

/// An eventfd whose reads wait.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: `fd` was made just now and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd, which wakes its reader.
pub(crate) fn ring_eventfd(fd: &OwnedFd) {
    let one = 1u64;
    // SAFETY: `one` is eight readable bytes. The write cannot wait: nobody rings 2^64 times without a read.
    unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

/// Lets whoever else waits for this CPU have it.
pub(crate) fn yield_cpu() {
    // SAFETY: it takes nothing and touches no memory. It cannot fail on Linux: sched_yield(2).
    unsafe { libc::sched_yield() };
}

/// Binds this thread to one CPU.
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is plain bits, so zero is a value of it; `cpu` is below its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: `set` is a valid set of the size given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

/// The CPUs this thread may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    cpus_of(0).map(|set| list(&set))
}

/// The CPUs that the process began with: its first thread is never pinned.
pub(crate) fn cpus_of_process() -> io::Result<Vec<usize>> {
    cpus_of(std::process::id() as libc::pid_t).map(|set| list(&set))
}

/// Lets this thread, which a pinned one started, run on all CPUs of the process.
pub(crate) fn unpin() -> io::Result<()> {
    let set = cpus_of(std::process::id() as libc::pid_t)?;
    // SAFETY: `set` is a valid set of the size given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

/// The CPUs of a thread; 0 is the calling one.
fn cpus_of(thread: libc::pid_t) -> io::Result<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t is plain bits, so zero is a value of it.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a valid place of the size given.
    check(unsafe { libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    Ok(set)
}

fn list(set: &libc::cpu_set_t) -> Vec<usize> {
    // SAFETY: every index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, set) }).collect()
}

/// Lowers this thread's priority. On Linux a nice value is a thread's own: setpriority(2), "C library/kernel differences".
pub(crate) fn give_way(nice: c_int) -> io::Result<()> {
    // SAFETY: it takes no pointers; 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Sets a file's length.
pub(crate) fn truncate(fd: RawFd, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::ftruncate(fd, len) }).map(drop)
}

/// Takes the exclusive lock of an open file without waiting; false if someone else has it.
pub(crate) fn try_lock(fd: RawFd) -> io::Result<bool> {
    // SAFETY: the call takes no pointers.
    match check(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Free (to this user) and total bytes of the file system that holds `path`.
pub(crate) fn file_system_space(path: &CStr) -> io::Result<(u64, u64)> {
    // SAFETY: a statvfs is plain numbers, so zero is a value of it.
    let mut found: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: `path` is a C string and `found` a valid place for the result.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut found) })?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

/// The magic number of the file system that holds `path` (statfs(2)).
pub(crate) fn file_system_magic(path: &CStr) -> io::Result<i64> {
    // SAFETY: a statfs is plain numbers, so zero is a value of it.
    let mut found: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `path` is a C string and `found` a valid place for the result.
    check(unsafe { libc::statfs(path.as_ptr(), &raw mut found) })?;
    Ok(found.f_type)
}

/// What statx(2) says of direct I/O on an open file: alignment of memory and of offsets; `None` where the file
/// system does not say.
pub(crate) fn direct_alignment(fd: RawFd) -> io::Result<Option<(u32, u32)>> {
    let mut found = empty_statx();
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is a C string and `found` a valid place for the result.
    check(unsafe { libc::statx(fd, c"".as_ptr(), flags, mask, &raw mut found) })?;
    let said = found.stx_mask & mask != 0 && found.stx_dio_mem_align != 0;
    Ok(said.then_some((found.stx_dio_mem_align, found.stx_dio_offset_align)))
}

/// Opens a file in the calling thread.
pub(crate) fn open(path: &CStr, flags: c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: `fd` was made just now and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path for the kernel.
pub(crate) fn c_path(path: &std::path::Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path holds a zero byte"))
}

pub(crate) fn empty_statx() -> libc::statx {
    // SAFETY: a statx is plain numbers, so zero is a value of it.
    unsafe { mem::zeroed() }
}

pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr is numbers and pointers that may be null, so zero is a value of it.
    unsafe { mem::zeroed() }
}

/// A socket address as the kernel has it.
pub(crate) struct Address {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl Address {
    fn empty() -> Address {
        // SAFETY: a sockaddr_storage is plain numbers, so zero is a value of it.
        let storage = unsafe { mem::zeroed() };
        Address { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    pub(crate) fn new(address: SocketAddr) -> Address {
        let mut result = Address::empty();
        let place = &raw mut result.storage;
        match address {
            SocketAddr::V4(v4) => {
                let mut raw: libc::sockaddr_in = empty_v4();
                raw.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                // SAFETY: a sockaddr_storage is large enough and aligned for every kind of address.
                unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
                result.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                let mut raw: libc::sockaddr_in6 = empty_v6();
                raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_flowinfo = v6.flowinfo();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_scope_id = v6.scope_id();
                // SAFETY: a sockaddr_storage is large enough and aligned for every kind of address.
                unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
                result.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        result
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }

    fn to_socket_addr(&self) -> io::Result<SocketAddr> {
        let place = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that a sockaddr_in is what the storage holds; both are plain numbers.
                let raw = unsafe { place.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that a sockaddr_in6 is what the storage holds; both are plain numbers.
                let raw = unsafe { place.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Ok(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }
}

fn empty_v4() -> libc::sockaddr_in {
    // SAFETY: a sockaddr_in is plain numbers, so zero is a value of it.
    unsafe { mem::zeroed() }
}

fn empty_v6() -> libc::sockaddr_in6 {
    // SAFETY: a sockaddr_in6 is plain numbers, so zero is a value of it.
    unsafe { mem::zeroed() }
}

/// A TCP socket of the right family for `address`.
pub(crate) fn tcp_socket(address: SocketAddr) -> io::Result<Descriptor> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    Ok(Descriptor::new(fd))
}

fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: `value` is readable for the length given.
    check(unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<c_int>() as libc::socklen_t)
    })
    .map(drop)
}

/// A socket that listens on `address`.
pub(crate) fn listen(address: SocketAddr, backlog: c_int) -> io::Result<Descriptor> {
    let socket = tcp_socket(address)?;
    set_option(socket.raw(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let raw = Address::new(address);
    // SAFETY: `raw` holds an address of the length given.
    check(unsafe { libc::bind(socket.raw(), raw.as_ptr(), raw.len()) })?;
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::listen(socket.raw(), backlog) })?;
    Ok(socket)
}

/// Sends small writes at once.
pub(crate) fn set_nodelay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// When a silent peer is asked whether it is still there (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    /// Silence before the first probe.
    pub(crate) idle_s: c_int,
    /// Time from probe to probe.
    pub(crate) interval_s: c_int,
    /// Unanswered probes after which the connection is given up.
    pub(crate) probes: c_int,
}

/// Asks a silent peer whether it is still there.
pub(crate) fn set_keepalive(fd: RawFd, keepalive: KeepAlive) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, keepalive.idle_s)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, keepalive.interval_s)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, keepalive.probes)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

pub(crate) fn local_addr(fd: RawFd) -> io::Result<SocketAddr> {
    let mut address = Address::empty();
    // SAFETY: both are valid places, and the length is that of the storage.
    check(unsafe { libc::getsockname(fd, (&raw mut address.storage).cast(), &raw mut address.len) })?;
    address.to_socket_addr()
}

pub(crate) fn peer_addr(fd: RawFd) -> io::Result<SocketAddr> {
    let mut address = Address::empty();
    // SAFETY: both are valid places, and the length is that of the storage.
    check(unsafe { libc::getpeername(fd, (&raw mut address.storage).cast(), &raw mut address.len) })?;
    address.to_socket_addr()
}

/// Ends both directions of a connection.
pub(crate) fn shutdown_socket(fd: RawFd) {
    // SAFETY: the call takes no pointers. It fails only if there is no connection left to end.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain bits, and sigemptyset makes a valid set of it before signals are added.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Blocks signals in this thread and in those it starts later; the mask as it was.
pub(crate) fn block_signals(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let set = signal_set(signals);
    change_signal_mask(libc::SIG_BLOCK, &set)
}

fn change_signal_mask(how: c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = signal_set(&[]);
    // SAFETY: `set` is a valid set, and `before` a valid place for the result.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut before) } {
        0 => Ok(before),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Calls `start` with all signals blocked, for a thread that is to get none.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: a sigset_t is plain bits, and sigfillset makes a valid set of it.
    let all = unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        all
    };
    let before = change_signal_mask(libc::SIG_SETMASK, &all)?;
    let started = start();
    change_signal_mask(libc::SIG_SETMASK, &before)?;
    started
}

/// Waits until one of these signals, which must be blocked, has come, and takes it.
pub(crate) fn wait_for_signal(signals: &[c_int]) -> io::Result<c_int> {
    let set = signal_set(signals);
    loop {
        // SAFETY: `set` is a valid set; more about the signal is not asked for.
        match check(unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            came => return came,
        }
    }
}

/// Whether a signal is ignored, as nohup(1) has it for SIGHUP.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a sigaction is plain data, so zero is a value of it.
    let mut found: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: nothing is changed, and `found` is a valid place for the result.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut found) };
    asked == 0 && found.sa_sigaction == libc::SIG_IGN
}

/// Ignores a signal in the whole process.
pub(crate) fn ignore(signal: c_int) {
    // SAFETY: SIG_IGN runs no code. It fails only for a number that is no signal.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// One bit for each standard stream that was closed when the process began.
static CLOSED_AT_START: AtomicU8 = AtomicU8::new(0);

/// Runs before `main`: Rust's runtime opens `/dev/null` in place of a closed standard stream, and what is not written to a
/// closed stream would then look written. Which `/dev/null` the caller meant cannot be told later.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED_STREAMS: extern "C" fn() = note_closed_streams;

extern "C" fn note_closed_streams() {
    for stream in 0..3 {
        // SAFETY: the call takes no pointers. It fails only if the descriptor is not open.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } < 0 {
            CLOSED_AT_START.fetch_or(1 << stream, Ordering::Relaxed);
        }
    }
}

/// Whether a standard stream (0, 1 or 2) was closed when the process began.
pub(crate) fn was_closed_at_start(stream: RawFd) -> bool {
    CLOSED_AT_START.load(Ordering::Relaxed) & 1 << stream != 0
}

/// Writes to a descriptor in the calling thread.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is readable for the length given.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Reads from a descriptor in the calling thread.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is writable for the length given.
    let read = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Waits in the calling thread until a descriptor is ready for `event`, or has an error to report.
pub(crate) fn wait_until_ready(fd: RawFd, event: libc::c_short) -> io::Result<()> {
    let mut asked = libc::pollfd { fd, events: event, revents: 0 };
    // SAFETY: `asked` is one valid pollfd.
    match check(unsafe { libc::poll(&raw mut asked, 1, -1) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// A resource's soft and hard limit (getrlimit(2)).
pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises a soft limit (setrlimit(2)).
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is readable.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// What [`set_keepalive`] has set, if it is on.
#[cfg(test)]
pub(crate) fn keepalive(fd: RawFd) -> io::Result<Option<KeepAlive>> {
    let option = |level, name| {
        let (mut value, mut len): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: both are valid places, and the length is that of the value.
        check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) })?;
        io::Result::Ok(value)
    };
    let found = KeepAlive {
        idle_s: option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE)?,
        interval_s: option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL)?,
        probes: option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT)?,
    };
    Ok((option(libc::SOL_SOCKET, libc::SO_KEEPALIVE)? != 0).then_some(found))
}
