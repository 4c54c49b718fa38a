//! fio, the reference for D and S.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::disk::PROBE_FILE_BYTES;
use super::tool::{ToolError, json, number};
use crate::cpus::SERVER_CPU;

/// Percentiles of one run, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
}

/// D: synced direct writes of `bytes` into the written extents of `file`, `depth` in flight.
pub fn synced_writes(
    file: &Path,
    bytes: usize,
    depth: usize,
    count: usize,
) -> Result<Percentiles, ToolError> {
    // The file is opened with O_DSYNC, which is RWF_DSYNC for each of its writes.
    let report = json(
        "fio",
        command(file, bytes, depth).args(["--sync=dsync", &format!("--io_size={}", bytes * count)]),
    )?;
    percentiles(&report)
}

/// S: sequential direct writes of 1 MiB, in bytes a second.
pub fn sequential_write(file: &Path, depth: usize, total_bytes: usize) -> Result<f64, ToolError> {
    let report = json("fio", command(file, 1 << 20, depth).arg(format!("--io_size={total_bytes}")))?;
    number(&report, "/jobs/0/write/bw_bytes")
}

/// Synced direct writes of 1 MiB into a new `file` that has its space but no written block, in bytes a second. It is removed.
pub fn synced_new_file(file: &Path, depth: usize, total_bytes: usize) -> Result<f64, ToolError> {
    let mut command = common(file, 1 << 20, depth);
    command.args(["--fallocate=native", "--sync=dsync", "--unlink=1"]).arg(format!("--size={total_bytes}"));
    number(&json("fio", &mut command)?, "/jobs/0/write/bw_bytes")
}

/// Writes into the written extents of `file`.
fn command(file: &Path, bytes: usize, depth: usize) -> Command {
    let mut command = common(file, bytes, depth);
    command
        .args(["--overwrite=1", "--fallocate=none", "--allow_file_create=0"])
        .arg(format!("--size={PROBE_FILE_BYTES}"));
    command
}

fn common(file: &Path, bytes: usize, depth: usize) -> Command {
    let mut command = Command::new("fio");
    command
        .args(["--name=probe", "--ioengine=io_uring", "--direct=1", "--rw=write", "--output-format=json"])
        .args(["--percentile_list=50:99:99.9", "--lat_percentiles=1", "--clat_percentiles=0"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--bs={bytes}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--cpus_allowed={SERVER_CPU}"));
    command
}

fn percentiles(report: &Value) -> Result<Percentiles, ToolError> {
    let of = |percent: &str| {
        Ok::<f64, ToolError>(number(report, &format!("/jobs/0/write/lat_ns/percentile/{percent}"))? / 1000.0)
    };
    Ok(Percentiles { p50: of("50.000000")?, p99: of("99.000000")?, p999: of("99.900000")? })
}
