//! What every measurement needs: the folder on the disk, the disk's pace, servers, and how long to measure.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::limits::disk::{DiskProbe, synced};
use crate::process::Server;
use crate::wait::Wait;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Rounds of A B B A.
    pub rounds: usize,
    /// Operations of one depth-1 sample.
    pub operations: usize,
    /// A sample that goes by time.
    pub sample: Duration,
    /// Whole seconds for tools that know no parts.
    pub tool_seconds: u64,
    /// Bytes of one bulk sample.
    pub bulk_bytes: usize,
    /// What fits into the broker's memory with room to spare.
    pub memory_bytes: usize,
    /// Partitions of the measurements with many.
    pub partitions: u32,
    /// Partitions beside them that nobody uses; with them as many as a node takes.
    pub idle_partitions: u32,
    /// To watch an idle broker.
    pub idle: Duration,
}

impl Scale {
    /// About ten minutes for all goals.
    pub const FULL: Scale = Scale {
        rounds: 10,
        operations: 1000,
        sample: Duration::from_millis(700),
        tool_seconds: 1,
        bulk_bytes: 512 << 20,
        memory_bytes: 64 << 20,
        partitions: 1000,
        idle_partitions: 99_000,
        idle: Duration::from_secs(10),
    };

    /// About two minutes: the same in fewer rounds.
    pub const QUICK: Scale =
        Scale { rounds: 3, idle: Duration::from_secs(3), sample: Duration::from_millis(500), ..Scale::FULL };

    /// A few seconds, to see that it runs.
    pub const TINY: Scale = Scale {
        rounds: 1,
        operations: 20,
        sample: Duration::from_millis(50),
        tool_seconds: 1,
        bulk_bytes: 8 << 20,
        memory_bytes: 4 << 20,
        partitions: 20,
        idle_partitions: 200,
        idle: Duration::from_millis(50),
    };
}

/// Where measurements are made.
pub struct World {
    folder: PathBuf,
    next_folder: Cell<u32>,
    /// D's file.
    pub disk: DiskProbe,
    /// The waiting policy of what is measured.
    pub wait: Wait,
    /// How much is measured.
    pub scale: Scale,
}

impl World {
    /// In an empty folder on the disk under measurement.
    pub fn make(folder: &Path, wait: Wait, scale: Scale) -> Result<World, Failure> {
        let disk = DiskProbe::make(&folder.join("probe"))?;
        Ok(World { folder: folder.to_path_buf(), next_folder: Cell::new(0), disk, wait, scale })
    }

    /// A broker on a fresh data folder.
    pub fn broker(&self) -> Result<Server, Failure> {
        Server::broker(&self.fresh_folder(), self.wait)
    }

    /// Removes the data folders of brokers that are gone: all together a run writes tens of gigabytes.
    pub fn clear(&self) -> Result<(), Failure> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// A folder that is not there yet.
    pub fn fresh_folder(&self) -> PathBuf {
        let number = self.next_folder.get();
        self.next_folder.set(number + 1);
        self.folder.join(format!("data-{number}"))
    }

    /// p50 of synced 4 KiB writes, in microseconds: the disk's pace at this moment.
    pub fn disk_pace_us(&self) -> Result<f64, Failure> {
        Ok(self.disk.write(synced(4096, (self.scale.operations / 2).max(1)))?.percentile_us(50.0))
    }
}
