//! D and S by our own writer: direct writes into extents that are written already, as a journal's are.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringlog_reactor::fs::{File, OpenOptions, Sync};
use ringlog_reactor::{aligned, now, spawn};

use crate::cpus::{on_core, server_core};
use crate::failure::Failure;
use crate::stats::Latencies;

/// The file that is written into.
pub const PROBE_FILE_BYTES: usize = 64 << 20;
const MAKE_BYTES: usize = 1 << 20;

/// A file with written extents on the disk under measurement.
#[derive(Clone)]
pub struct DiskProbe {
    path: PathBuf,
}

/// What to write.
#[derive(Clone, Copy)]
pub struct Writes {
    /// Bytes of one write.
    pub bytes: usize,
    /// Writes in flight.
    pub depth: usize,
    /// Writes altogether.
    pub count: usize,
    /// Whether each is durable before it counts.
    pub sync: Sync,
}

/// D's write of this size, one after another.
pub const fn synced(bytes: usize, count: usize) -> Writes {
    Writes { bytes, depth: 1, count, sync: Sync::Data }
}

impl DiskProbe {
    /// Makes the file.
    pub fn make(path: &Path) -> Result<DiskProbe, Failure> {
        on_core(server_core("zero"), || async {
            let options = OpenOptions::new().write(true).create(true).direct(true);
            let file = File::open(path, &options).await?;
            let mut zeros = aligned(MAKE_BYTES);
            zeros.resize(MAKE_BYTES, 0);
            let zeros = zeros.freeze();
            for at in (0..PROBE_FILE_BYTES).step_by(MAKE_BYTES) {
                file.write_at(vec![zeros.clone()], at as u64, Sync::None).await?;
            }
            Ok(file.sync_all().await?)
        })?;
        Ok(DiskProbe { path: path.to_path_buf() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes through the file, round and round, on the server's CPU.
    pub fn write(&self, writes: Writes) -> Result<Latencies, Failure> {
        on_core(server_core("write"), || write_all(self.path.clone(), writes))
    }
}

async fn write_all(path: PathBuf, writes: Writes) -> Result<Latencies, Failure> {
    let options = OpenOptions::new().write(true).direct(true);
    let file = Rc::new(File::open(&path, &options).await?);
    let next = Rc::new(Cell::new(0));
    let latencies = Rc::new(RefCell::new(Latencies::default()));
    let writers: Vec<_> = (0..writes.depth)
        .map(|_| spawn(write_some(file.clone(), writes, next.clone(), latencies.clone())))
        .collect();
    for writer in writers {
        writer.await?;
    }
    Ok(latencies.take())
}

async fn write_some(
    file: Rc<File>,
    writes: Writes,
    next: Rc<Cell<usize>>,
    latencies: Rc<RefCell<Latencies>>,
) -> Result<(), Failure> {
    let mut block = aligned(writes.bytes);
    block.resize(writes.bytes, 0x5A);
    let block = block.freeze();
    while next.get() < writes.count {
        let number = next.replace(next.get() + 1);
        let at = number % (PROBE_FILE_BYTES / writes.bytes) * writes.bytes;
        let begun = now();
        file.write_at(vec![block.clone()], at as u64, writes.sync).await?;
        latencies.borrow_mut().record(begun.elapsed());
    }
    Ok(())
}
