//! The machine that results come from, as far as others must know it to make sense of them. Not its name.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

/// What results are headed by.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    memory_gib: f64,
    kernel: String,
    disk: String,
    filesystem: String,
}

impl Machine {
    /// This machine, with the disk that holds `folder`.
    pub fn describe(folder: &Path) -> Result<Machine, Failure> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib: f64 = value(&memory, "MemTotal:").split(' ').next().unwrap_or("").parse().unwrap_or(0.0);
        let device = fs::metadata(folder)?.st_dev();
        let (major, minor) = (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00);
        Ok(Machine {
            cpu: format!("{}{}", value(&cpuinfo, "model name"), virtualized(&cpuinfo)),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: (kib / 104_857.6).round() / 10.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_string(),
            disk: disk(&format!("{major}:{minor}")),
            filesystem: filesystem(&format!("{major}:{minor}"))?,
        })
    }

    /// On one line.
    pub fn line(&self) -> String {
        let Machine { cpu, cpus, memory_gib, kernel, disk, filesystem } = self;
        format!("{cpus} × {cpu}, {memory_gib} GiB, Linux {kernel}, {filesystem} on {disk}")
    }
}

/// Behind the label and a colon, on its line.
fn value<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or("");
    line.trim_start_matches([' ', '\t', ':'])
}

fn virtualized(cpuinfo: &str) -> &'static str {
    if value(cpuinfo, "flags").split(' ').any(|flag| flag == "hypervisor") { " (virtual)" } else { "" }
}

/// Sort of disk, and its write cache, from sysfs; a partition's disk is one folder up.
fn disk(numbers: &str) -> String {
    let device = format!("/sys/dev/block/{numbers}");
    let whole = if Path::new(&format!("{device}/partition")).exists() { "/.." } else { "" };
    let read = |name: &str| {
        fs::read_to_string(format!("{device}{whole}/{name}")).unwrap_or_default().trim().to_string()
    };
    let name = fs::canonicalize(format!("{device}{whole}"))
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "unknown disk".into());
    let sort = match name.as_str() {
        nvme if nvme.starts_with("nvme") => "NVMe",
        virtio if virtio.starts_with("vd") => "virtio",
        _ if read("queue/rotational") == "1" => "rotating disk",
        _ => "disk",
    };
    format!("{sort} ({}, FUA {})", read("queue/write_cache"), read("queue/fua"))
}

fn filesystem(numbers: &str) -> Result<String, Failure> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(numbers));
    let kind = mount.and_then(|line| line.split_once(" - ")).and_then(|(_, rest)| rest.split(' ').next());
    Ok(kind.unwrap_or("unknown file system").to_string())
}
