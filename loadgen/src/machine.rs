//! What the system says of the machine, of this process and of the broker's, from /proc.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use crate::executor::now_ns;
use crate::result::{Environment, Target};
use crate::target::Description;

/// Clock ticks a second in /proc: 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU used so far, in seconds of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTimes {
    /// When it was read, or how long passed between two readings, in seconds.
    pub at: f64,
    /// By this process.
    pub own: f64,
    /// By the broker, if its process is known.
    pub broker: Option<f64>,
    /// By everything on the machine, interrupts included.
    pub machine: f64,
}

impl CpuTimes {
    /// Now.
    pub fn now(broker_pid: Option<u32>) -> CpuTimes {
        CpuTimes {
            at: now_ns() as f64 / 1e9,
            own: of_process("self").unwrap_or(0.0),
            broker: broker_pid.and_then(|pid| of_process(&pid.to_string())),
            machine: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|stat| busy_seconds(&stat))
                .unwrap_or(0.0),
        }
    }

    /// What was used since then.
    pub fn since(&self, before: &CpuTimes) -> CpuTimes {
        CpuTimes {
            at: self.at - before.at,
            own: self.own - before.own,
            broker: self.broker.zip(before.broker).map(|(after, before)| after - before),
            machine: self.machine - before.machine,
        }
    }
}

fn of_process(pid: &str) -> Option<f64> {
    process_seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5).
fn process_seconds(stat: &str) -> Option<f64> {
    // The command's name, in parentheses, may hold spaces.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// All but idle and iowait of the first line of /proc/stat; guest time is in user time already.
fn busy_seconds(stat: &str) -> Option<f64> {
    let ticks: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

/// The process on this machine that listens at an address, as far as this user may see.
pub fn process_that_listens(address: &str) -> Option<u32> {
    let address = address.split(',').next()?.to_socket_addrs().ok()?.next()?;
    // Only an address of this machine can be bound to; the same port may be another's here.
    UdpSocket::bind((address.ip(), 0)).ok()?;
    let inode = listening_inode(address)?;
    let wanted = format!("socket:[{inode}]");
    let pids =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| open_files(*pid).any(|file| file == wanted))
}

fn listening_inode(address: SocketAddr) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| inode_if_listening(line, address.port()))
    })
}

/// The columns of proc_net_tcp: the local address with its port in hexadecimal, the state (0A listens), the inode.
fn inode_if_listening(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let found = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    (found == port && *fields.get(3)? == "0A").then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

fn open_files(pid: u32) -> impl Iterator<Item = String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    files.filter_map(|file| Some(fs::read_link(file.ok()?.path()).ok()?.to_str()?.to_owned()))
}

/// Where a run takes place.
pub fn environment(description: &Description, broker_pid: Option<u32>, client_driver: &str) -> Environment {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (filesystem, disk) = broker_pid.and_then(data_mount).unzip();
    Environment {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: value_of(&read("/proc/cpuinfo"), "model name")
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cpus: std::thread::available_parallelism().map_or(0, |count| count.get() as u64),
        memory_bytes: value_of(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok())
            .map_or(0, |kib| kib << 10),
        filesystem,
        disk,
        loadgen_version: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target {
            name: description.name.clone(),
            version: description.version.clone(),
            address: description.address.clone(),
            ack_class: description.ack_class,
            settings: description
                .settings
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect(),
        },
        client_driver: client_driver.to_owned(),
    }
}

fn value_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// File system and device of the files that a broker has open, those that are no libraries or devices.
fn data_mount(pid: u32) -> Option<(String, String)> {
    let data = open_files(pid).find(|path| {
        path.starts_with('/')
            && !["/dev/", "/proc/", "/sys/", "/usr/"].iter().any(|folder| path.starts_with(folder))
    })?;
    mount_of(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?, &data)
}

/// The type and source of the mount that holds a path: fields 5 and those behind the dash of proc_pid_mountinfo(5).
fn mount_of(mounts: &str, path: &str) -> Option<(String, String)> {
    let holds =
        |point: &str| point == "/" || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
    let parse = |line: &str| {
        let point = line.split(' ').nth(4)?.to_owned();
        let mut behind = line.split_once(" - ")?.1.split(' ');
        Some((point, behind.next()?.to_owned(), behind.next()?.to_owned()))
    };
    let mounts = mounts.lines().filter_map(parse).filter(|(point, _, _)| holds(point));
    // The last of equals is mounted over the others.
    mounts.max_by_key(|(point, _, _)| point.len()).map(|(_, kind, source)| (kind, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_has_its_times() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 5 0 0";
        assert_eq!(process_seconds(stat), Some(4.0));
    }

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        assert_eq!(busy_seconds("cpu  100 20 30 9999 500 5 40 5 7 0\ncpu0 1 1 1\n"), Some(2.0));
    }

    #[test]
    fn the_process_behind_an_address_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        assert_eq!(process_that_listens(&address), Some(std::process::id()));
        let elsewhere = address.replace("127.0.0.1", "192.0.2.1");
        assert_eq!(process_that_listens(&elsewhere), None, "the port is another machine's");
        drop(listener);
        assert_eq!(process_that_listens(&address), None);
    }

    #[test]
    fn the_longest_mount_point_holds_a_path() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 8:2 / /data rw,x shared:1 - xfs /dev/vdb rw\n";
        let mount = |path| mount_of(mounts, path).map(|(kind, _)| kind);
        assert_eq!(mount("/data/x").as_deref(), Some("xfs"));
        assert_eq!(mount("/database").as_deref(), Some("ext4"));
    }

    #[test]
    fn time_passes_for_this_process() {
        let before = CpuTimes::now(Some(std::process::id()));
        let mut sum = 0_u64;
        while CpuTimes::now(None).since(&before).own < 0.05 {
            sum = (0..1_000_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        let used = CpuTimes::now(Some(std::process::id())).since(&before);
        // A process is counted in ticks of 10 ms, and loses a part of one at each end.
        assert!(used.broker.is_some_and(|used| used >= 0.03) && used.machine > 0.0);
    }
}
