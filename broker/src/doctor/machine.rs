//! What the machine offers: the kernel, io_uring, limits and CPUs.

use std::io;

use ringlog_reactor::probe::{self, Limit, OLDEST_KERNEL};

use ringlog_storage::limits::DEFAULT_JOURNAL_FILES;

use super::line::Line;
use crate::node::descriptors::{self, Share};

/// Receive buffers are pinned memory, some 4 MiB a core, and older kernels count them against this limit.
const ENOUGH_LOCKED_BYTES: u64 = 8 << 20;
/// Connections, segments and journals: below this a busy broker has to close files that it needs again.
const ENOUGH_FILES: u64 = 4_096;

/// One line for each.
pub fn lines() -> Vec<Line> {
    vec![kernel(), allowed(), ring(), locked_memory(), open_files(), cpus()]
}

fn kernel() -> Line {
    const WHAT: &str = "kernel";
    match probe::kernel_version() {
        Ok(version) if version >= OLDEST_KERNEL => Line::ok(WHAT, format!("Linux {version}")),
        Ok(version) => {
            let detail = format!("Linux {version} lacks what Ringlog needs of io_uring");
            Line::fail(WHAT, detail, format!("run Linux {OLDEST_KERNEL} or newer"))
        }
        Err(error) => {
            Line::warning(WHAT, format!("its version cannot be told: {error}"), "make /proc readable")
        }
    }
}

fn allowed() -> Line {
    const WHAT: &str = "io_uring allowed";
    match probe::io_uring_disabled() {
        None => Line::ok(WHAT, "this kernel has no switch that forbids it"),
        Some(0) => Line::ok(WHAT, "kernel.io_uring_disabled = 0"),
        Some(1) => Line::warning(
            WHAT,
            "kernel.io_uring_disabled = 1: only for privileged processes and the group kernel.io_uring_group",
            "add the broker's user to that group, or run: sysctl kernel.io_uring_disabled=0",
        ),
        Some(value) => Line::fail(
            WHAT,
            format!("kernel.io_uring_disabled = {value}: for nobody"),
            "run as root: sysctl kernel.io_uring_disabled=0 (and keep it in /etc/sysctl.d)",
        ),
    }
}

fn ring() -> Line {
    const WHAT: &str = "io_uring";
    let report = probe::ring();
    match report.set_up {
        Err(error) => Line::fail(WHAT, format!("a ring cannot be set up: {error}"), advice_for(&error)),
        Ok(()) if !report.missing_operations.is_empty() => {
            let missing = report.missing_operations.join(", ");
            Line::fail(
                WHAT,
                format!("the kernel lacks {missing}"),
                format!("run Linux {OLDEST_KERNEL} or newer"),
            )
        }
        Ok(()) => Line::ok(WHAT, "a ring with all that a core needs was set up"),
    }
}

/// The errors of io_uring_setup(2), as far as they have different remedies.
fn advice_for(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "something forbids it: the sysctl above, or a seccomp filter (containers: allow io_uring_setup, \
             io_uring_enter and io_uring_register in the profile, for Docker by --security-opt seccomp=FILE)"
                .to_owned()
        }
        io::ErrorKind::OutOfMemory => {
            "raise the limit of locked memory: ulimit -l unlimited, or LimitMEMLOCK=infinity for systemd"
                .to_owned()
        }
        io::ErrorKind::Unsupported => {
            "this kernel is built without io_uring: use a distribution's kernel".to_owned()
        }
        _ => format!("run Linux {OLDEST_KERNEL} or newer"),
    }
}

fn locked_memory() -> Line {
    const WHAT: &str = "locked memory";
    limit_line(
        WHAT,
        probe::locked_memory(),
        |limit| limit.soft >= ENOUGH_LOCKED_BYTES,
        |value| format!("{} KiB", value >> 10),
        "if rings cannot be set up: ulimit -l unlimited, or LimitMEMLOCK=infinity for systemd",
    )
}

fn open_files() -> Line {
    let cpus = probe::allowed_cpus().map_or(1, |cpus| cpus.len());
    open_files_line(probe::open_files(), cpus)
}

/// What a broker makes of the limit of open files. It raises its soft limit by itself.
fn open_files_line(limit: io::Result<Limit>, cpus: usize) -> Line {
    const WHAT: &str = "open files";
    let line = limit_line(
        WHAT,
        limit.as_ref().copied().map_err(|error| io::Error::other(error.to_string())),
        |limit| limit.hard >= ENOUGH_FILES,
        |value| value.to_string(),
        &format!(
            "files are closed and opened again, and clients refused, before it runs out; many clients or partitions need more: \
             ulimit -Hn {0}, or LimitNOFILE={0} for systemd",
            descriptors::ENOUGH_FILES
        ),
    );
    let Ok(limit) = limit else { return line };
    let hard = usize::try_from(limit.hard).unwrap_or(usize::MAX);
    let share = |shards| Share::of(hard, shards, DEFAULT_JOURNAL_FILES as usize);
    match (share(cpus), share(1)) {
        (Ok(share), _) => {
            let detail = format!(
                "{}: {} connections, {} files kept open by each of {cpus} shards",
                line.detail, share.connections, share.storage
            );
            Line { detail, ..line }
        }
        (Err(error), Ok(_)) => {
            Line::warning(WHAT, error, "without --cores, `ringlog serve` refuses to start")
        }
        (Err(_), Err(error)) => Line::fail(WHAT, error, "raise the limit"),
    }
}

fn limit_line(
    what: &'static str,
    limit: io::Result<Limit>,
    enough: impl Fn(&Limit) -> bool,
    show: impl Fn(u64) -> String,
    advice: &str,
) -> Line {
    let show = |value| if value == u64::MAX { "unlimited".to_owned() } else { show(value) };
    match limit {
        Ok(limit) => {
            let detail = format!("limit {}, may be raised to {}", show(limit.soft), show(limit.hard));
            if enough(&limit) { Line::ok(what, detail) } else { Line::warning(what, detail, advice) }
        }
        Err(error) => Line::warning(what, format!("the limit cannot be told: {error}"), advice),
    }
}

fn cpus() -> Line {
    const WHAT: &str = "CPUs";
    match probe::allowed_cpus() {
        Ok(cpus) => Line::ok(WHAT, format!("{} for this process: {cpus:?}", cpus.len())),
        Err(error) => Line::warning(WHAT, format!("cannot be told: {error}"), "say --cores with a count"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_low_limit_is_a_warning_with_advice() {
        let line = limit_line(
            "x",
            Ok(Limit { soft: 1, hard: 2 }),
            |limit| limit.soft > 1,
            |v| v.to_string(),
            "more",
        );
        assert_eq!((line.status, line.advice.as_deref()), (Status::Warning, Some("more")));
    }

    #[test]
    fn a_limit_of_open_files_that_no_broker_can_start_with_is_a_fail_with_the_figure() {
        let line = |hard| open_files_line(Ok(Limit { soft: hard, hard }), 16);
        let fail = line(descriptors::needed(1, 4) as u64 - 1);
        assert!(fail.status == Status::Fail && fail.detail.contains("needs 58 at least"), "{fail}");
        let warning = line(descriptors::needed(16, 4) as u64 - 1);
        assert!(warning.status == Status::Warning && warning.detail.contains("16 shards need"), "{warning}");
        assert_eq!(line(1_024).status, Status::Warning);
        let ok = line(1 << 20);
        assert!(ok.status == Status::Ok && ok.detail.contains("10000 connections"), "{ok}");
    }

    #[test]
    fn no_limit_reads_as_unlimited() {
        let limit = Limit { soft: u64::MAX, hard: u64::MAX };
        let line = limit_line("x", Ok(limit), |_| true, |v| v.to_string(), "");
        assert_eq!(line.detail, "limit unlimited, may be raised to unlimited");
    }
}
