//! fio, the reference for S.

use std::path::Path;
use std::process::Command;

use super::disk::PROBE_FILE_BYTES;
use super::tool::{ToolError, json, number};
use crate::cpus::SERVER_CPU;

/// S: sequential direct writes of 1 MiB, in bytes a second.
pub fn sequential_write(file: &Path, depth: usize, total_bytes: usize) -> Result<f64, ToolError> {
    let report = json("fio", command(file, 1 << 20, depth).arg(format!("--io_size={total_bytes}")))?;
    number(&report, "/jobs/0/write/bw_bytes")
}

fn command(file: &Path, bytes: usize, depth: usize) -> Command {
    let mut command = Command::new("fio");
    command
        .args(["--name=probe", "--ioengine=io_uring", "--direct=1", "--rw=write", "--overwrite=1"])
        .args(["--fallocate=none", "--allow_file_create=0", "--output-format=json"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={PROBE_FILE_BYTES}"))
        .arg(format!("--bs={bytes}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--cpus_allowed={SERVER_CPU}"));
    command
}
