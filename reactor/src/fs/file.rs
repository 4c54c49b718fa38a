//! One open file.

use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::buffer::DIRECT_ALIGN;
use crate::descriptor::Descriptor;
use crate::op::{Gather, Op, Operation};
use crate::sim::mutant;
use crate::sys;

/// How to open a file. All off to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
    direct: bool,
}

impl OpenOptions {
    /// All off.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Allows reading.
    pub fn read(mut self, on: bool) -> OpenOptions {
        self.read = on;
        self
    }

    /// Allows writing.
    pub fn write(mut self, on: bool) -> OpenOptions {
        self.write = on;
        self
    }

    /// Makes the file if it is not there.
    pub fn create(mut self, on: bool) -> OpenOptions {
        self.create = on;
        self
    }

    /// Makes the file, and fails if it is there.
    pub fn create_new(mut self, on: bool) -> OpenOptions {
        self.create_new = on;
        self
    }

    /// Empties the file.
    pub fn truncate(mut self, on: bool) -> OpenOptions {
        self.truncate = on;
        self
    }

    /// Goes around the page cache (`O_DIRECT`), where the file system can: see [`File::is_direct`].
    pub fn direct(mut self, on: bool) -> OpenOptions {
        self.direct = on;
        self
    }

    fn flags(self) -> i32 {
        let access = match (self.read, self.write) {
            (_, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
        };
        let mut flags = access;
        for (on, flag) in [
            (self.create, libc::O_CREAT),
            (self.create_new, libc::O_CREAT | libc::O_EXCL),
            (self.truncate, libc::O_TRUNC),
            (self.direct, libc::O_DIRECT),
        ] {
            if on {
                flags |= flag;
            }
        }
        flags
    }
}

/// Whether a write waits for stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The write is complete when the kernel has the bytes.
    None,
    /// The bytes, and the metadata needed to read them, are on stable storage (`RWF_DSYNC`).
    Data,
}

/// An open file. Closed, in the background, when it is dropped.
///
/// It stays on its core: a ring closes a descriptor behind its own operations only, so on another core's ring the
/// close could overtake an operation of this one, which would then reach whatever file got the number next.
///
/// ```compile_fail,E0277
/// fn crosses<T: Send>() {}
/// crosses::<ringlog_reactor::fs::File>();
/// ```
///
/// ```compile_fail,E0277
/// fn is_shared<T: Sync>() {}
/// is_shared::<ringlog_reactor::fs::File>();
/// ```
#[derive(Debug)]
pub struct File {
    descriptor: Descriptor,
    direct: bool,
    local: PhantomData<Rc<()>>,
}

/// The most one operation reads: the kernel's own limit is 2 GiB less a page.
const MAX_READ: usize = 1 << 30;

impl File {
    fn new(descriptor: Descriptor, direct: bool) -> File {
        File { descriptor, direct, local: PhantomData }
    }

    /// Opens `path`.
    ///
    /// # Errors
    /// Those of open(2).
    pub async fn open(path: impl AsRef<Path>, options: &OpenOptions) -> io::Result<File> {
        let path = path.as_ref();
        let flags = options.flags();
        match open_once(path, flags).await {
            Ok(descriptor) => Ok(File::new(descriptor, options.direct)),
            Err(error) if options.direct && error.raw_os_error() == Some(libc::EINVAL) => {
                // The file system refuses O_DIRECT. It does so after it has made the file, so an exclusive
                // creation has succeeded at this point, and must not be asked for again.
                let flags = flags & !(libc::O_DIRECT | libc::O_EXCL);
                let descriptor = open_once(path, flags).await?;
                Ok(File::new(descriptor, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads `len` bytes from `offset` into the room behind what `buf` holds, and returns it. The result is
    /// shorter only at the end of the file.
    ///
    /// On a direct file `offset`, `len` and the memory behind `buf`'s content must be aligned to
    /// [`DIRECT_ALIGN`](crate::DIRECT_ALIGN).
    ///
    /// # Errors
    /// Those of pread(2), and `InvalidInput` if `buf` has no room for `len` bytes.
    pub async fn read_at(&self, mut buf: BytesMut, offset: u64, len: usize) -> io::Result<BytesMut> {
        if buf.capacity() - buf.len() < len {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the buffer is too small for the read"));
        }
        let mut done = 0;
        while done < len {
            let step = (len - done).min(MAX_READ) as u32;
            let op = Op::Read { fd: self.descriptor.raw(), buf, offset: offset + done as u64, len: step };
            let (result, op) = Operation::start(op).await;
            let Op::Read { buf: back, .. } = op else { unreachable!("a read comes back as a read") };
            buf = back;
            let read = result?;
            done += read;
            // Direct reads come in whole blocks except at the end of the file, and could not go on from an
            // unaligned place anyway.
            if read == 0 || (self.direct && !read.is_multiple_of(DIRECT_ALIGN)) {
                break;
            }
        }
        Ok(buf)
    }

    /// Writes all of `data`, slice after slice, at `offset`. Slices that are neighbours in memory are written as
    /// one.
    ///
    /// On a direct file offset, memory and length of each run of neighbours must be aligned to
    /// [`DIRECT_ALIGN`](crate::DIRECT_ALIGN). Dropping the future does not stop the write.
    ///
    /// # Errors
    /// Those of pwritev2(2). After an error any part of `data` may have been written.
    pub async fn write_at(&self, data: Vec<Bytes>, mut offset: u64, sync: Sync) -> io::Result<()> {
        let mut data = Gather::new(data);
        let sync = sync == Sync::Data;
        while !data.is_done() {
            let op = Op::Write { fd: self.descriptor.raw(), data, offset, sync };
            let (result, op) = Operation::start(op).await;
            let Op::Write { data: back, .. } = op else { unreachable!("a write comes back as a write") };
            data = back;
            let written = result?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data.advance(written);
            offset += written as u64;
            if mutant("short-write-taken-for-whole") {
                break;
            }
        }
        Ok(())
    }

    /// Waits until what was written, and the metadata needed to read it, is on stable storage (fdatasync(2)).
    /// It says nothing about the file's entry in its folder: see [`sync_dir`](super::sync_dir).
    ///
    /// # Errors
    /// Those of fdatasync(2). A failed sync must not be tried again: the kernel may have dropped the data.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    /// The same with all metadata (fsync(2)).
    ///
    /// # Errors
    /// As [`sync_data`](File::sync_data).
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        Operation::start(Op::Sync { fd: self.descriptor.raw(), data_only }).await.0.map(drop)
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Those of statx(2).
    pub async fn len(&self) -> io::Result<u64> {
        let fd = Some(self.descriptor.raw());
        let op = Op::Stat { fd, path: c"".to_owned(), follow: true, found: Default::default() };
        let (result, op) = Operation::start(op).await;
        let Op::Stat { found, .. } = op else { unreachable!("a stat comes back as a stat") };
        result.map(|_| found.len)
    }

    /// Reserves space for `len` bytes from `offset` and makes the file at least that long (fallocate(2)).
    ///
    /// # Errors
    /// Those of fallocate(2): `ENOSPC` on a full disk, `EOPNOTSUPP` where the file system cannot.
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        Operation::start(Op::Allocate { fd: self.descriptor.raw(), offset, len }).await.0.map(drop)
    }

    /// Sets the length in bytes (ftruncate(2)). Before Linux 6.9, whose ring is the first to have it, this is a call that this thread
    /// makes: giving many blocks back, or discarding them, may take tens of milliseconds.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        let fd = self.descriptor.raw();
        match Operation::start(Op::Truncate { fd, len }).await.0 {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::truncate(fd, len),
            result => result.map(drop),
        }
    }

    /// Whether the page cache is gone around: it was asked for, and the file system did not refuse.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

async fn open_once(path: &Path, flags: i32) -> io::Result<Descriptor> {
    let op = Op::Open { path: sys::c_path(path)?, flags, mode: 0o644, opened: None };
    let (result, op) = Operation::start(op).await;
    result?;
    let Op::Open { opened, .. } = op else { unreachable!("an open comes back as an open") };
    Ok(opened.expect("a successful open has a descriptor"))
}
