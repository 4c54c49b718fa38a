//! Which CPU does what, and how busy they were.

use std::fs;
use std::time::Instant;

use ringlog_reactor::CoreConfig;

use crate::failure::Failure;

/// Where brokers, echo servers and disk writers run.
pub const SERVER_CPU: usize = 0;
/// Where the measuring client runs.
pub const CLIENT_CPU: usize = 1;

/// Clock ticks a second in `/proc`: 100 on every Linux that Ringlog runs on.
pub const TICKS_PER_SECOND: f64 = 100.0;
/// `PF_KTHREAD` in the flags of `/proc/<pid>/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What the server's core runs as.
pub fn server_core(name: &str) -> CoreConfig {
    CoreConfig { name: name.to_string(), cpu: Some(SERVER_CPU), ..CoreConfig::default() }
}

/// Runs the client on a thread of its own, pinned to its CPU: a reactor core is such a thread. `make` may block
/// it, or give a future that uses the reactor.
pub fn on_client_cpu<T, F>(make: impl FnOnce() -> F + Send) -> Result<T, Failure>
where
    T: Send,
    F: Future<Output = Result<T, Failure>>,
{
    on_core(CoreConfig { name: "client".into(), cpu: Some(CLIENT_CPU), ..CoreConfig::default() }, make)
}

/// The same on any core.
pub fn on_core<T, F>(config: CoreConfig, make: impl FnOnce() -> F + Send) -> Result<T, Failure>
where
    T: Send,
    F: Future<Output = Result<T, Failure>>,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || ringlog_reactor::run(config, async { make().await })?);
        thread.join().map_err(|_| "a measuring thread panicked")?
    })
}

/// The CPUs' work since it was made: of the whole machine, since kernel threads and interrupts escape a process's
/// own count, less what other programs used meanwhile.
pub struct Busy {
    begun: Instant,
    cpus: f64,
    idle: f64,
    others: f64,
    ours: Vec<u32>,
}

impl Busy {
    /// Begins to count. `ours` are the processes that belong to the measurement beside this one.
    pub fn begin(ours: &[u32]) -> Result<Busy, Failure> {
        let mut ours = ours.to_vec();
        ours.push(std::process::id());
        let (cpus, idle) = idle_seconds()?;
        Ok(Busy { begun: Instant::now(), cpus, idle, others: seconds_of_others(&ours)?, ours })
    }

    /// CPU seconds since then.
    pub fn seconds(&self) -> Result<f64, Failure> {
        let (_, idle) = idle_seconds()?;
        let passed = self.begun.elapsed().as_secs_f64() * self.cpus;
        let others = (seconds_of_others(&self.ours)? - self.others).max(0.0);
        // What is neither idle nor another program's is the measurement's, and the kernel's work for it. The kernel
        // measures idle time; busy time it only samples.
        Ok((passed - (idle - self.idle) - others).max(0.0))
    }
}

/// How many CPUs there are, and how long they were idle, or not ours to use, since the machine started.
fn idle_seconds() -> Result<(f64, f64), Failure> {
    const IDLE: usize = 4;
    const IOWAIT: usize = 5;
    const STEAL: usize = 8;
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = |line: &str, field: usize| -> f64 {
        line.split_whitespace().nth(field).and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    let lines: Vec<&str> =
        stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).collect();
    let idle: f64 =
        lines.iter().map(|line| ticks(line, IDLE) + ticks(line, IOWAIT) + ticks(line, STEAL)).sum();
    Ok((lines.len() as f64, idle / TICKS_PER_SECOND))
}

/// CPU seconds that all other programs, and their children that have ended, have used so far.
fn seconds_of_others(ours: &[u32]) -> Result<f64, Failure> {
    let mut ticks = 0.0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if ours.contains(&pid) {
            continue;
        }
        // It may be gone by now: then its parent has its time.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        ticks += user_ticks(&stat).unwrap_or(0.0);
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// utime, stime, cutime and cstime; none for a thread of the kernel.
fn user_ticks(stat: &str) -> Option<f64> {
    // Field 3 is the first behind the command name, which stands in parentheses and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3);
    if field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0 {
        return None;
    }
    (14..=17).map(|number| field(number)?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_counts_and_a_kernel_thread_does_not() {
        let program = "7 (a b) c) S 1 1 1 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1";
        assert_eq!(user_ticks(program), Some(100.0));
        let kernel = "7 (kworker) S 1 1 1 0 -1 2129984 1 2 3 4 10 20 30 40 20 0 1";
        assert_eq!(user_ticks(kernel), None);
    }

    #[test]
    fn work_of_our_own_counts() {
        let busy = Busy::begin(&[]).unwrap();
        let begun = Instant::now();
        // Beside other programs our share may be small, and the kernel counts theirs in whole ticks.
        while busy.seconds().unwrap() == 0.0 {
            assert!(begun.elapsed().as_secs() < 60, "work was done all the time");
            std::hint::spin_loop();
        }
    }
}
