//! What a broker can be told: flags and a TOML file that may say all that the flags say.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ringlog_reactor::WaitPolicy;
use ringlog_storage::limits;
use serde::Deserialize;

use crate::limits::MAX_SHARDS;

/// Where a broker keeps its data when nobody says otherwise.
pub const DEFAULT_DATA_DIR: &str = "ringlog-data";
/// Where a broker listens when nobody says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7171";
/// More are not asked for: 10,000 connections, and as many segments kept open as a node has partitions.
pub const DEFAULT_OPEN_FILES: usize = 131_072;

/// Everything a node needs to start.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The folder that holds metadata, journals and segments.
    pub data_dir: PathBuf,
    /// The one address all shards are reached at; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Which CPUs get a shard.
    pub cores: Cores,
    /// How a shard waits when it has nothing to do.
    pub wait: WaitPolicy,
    /// Sizes of the journals and of the memory behind them.
    pub storage: StorageSizes,
    /// How many files and sockets it may have open, if the process's own limit allows.
    pub open_files: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            data_dir: DEFAULT_DATA_DIR.into(),
            listen: DEFAULT_LISTEN.parse().expect("the default address is one"),
            cores: Cores::All,
            wait: WaitPolicy::Block,
            storage: StorageSizes::default(),
            open_files: DEFAULT_OPEN_FILES,
        }
    }
}

/// Sizes, per shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSizes {
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Journal files at the most.
    pub journal_files: u32,
    /// Bytes of recent log kept in memory.
    pub tail_bytes: u64,
    /// Size, in bytes, from which a batch goes straight into its segment.
    pub bypass_bytes: usize,
}

impl Default for StorageSizes {
    fn default() -> Self {
        StorageSizes {
            journal_file_bytes: limits::DEFAULT_JOURNAL_FILE_BYTES,
            journal_files: limits::DEFAULT_JOURNAL_FILES,
            tail_bytes: limits::DEFAULT_TAIL_BYTES,
            bypass_bytes: limits::DEFAULT_BYPASS_BYTES,
        }
    }
}

/// Which CPUs get a shard: all that the process may use, the first N, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU this process is allowed to run on.
    All,
    /// This many shards, on the first CPUs; more shards than CPUs are not pinned.
    Count(usize),
    /// One shard on each of these CPUs.
    List(Vec<usize>),
}

impl Cores {
    /// The CPU of each shard, in shard order; `None` leaves a shard unpinned.
    ///
    /// # Errors
    /// When a listed CPU is not one of `allowed`.
    pub fn assign(&self, allowed: &[usize]) -> Result<Vec<Option<usize>>, ConfigError> {
        match self {
            Cores::All => Ok(allowed.iter().take(MAX_SHARDS).map(|&cpu| Some(cpu)).collect()),
            Cores::Count(count) if *count > allowed.len() => Ok(vec![None; *count]),
            Cores::Count(count) => Ok(allowed[..*count].iter().map(|&cpu| Some(cpu)).collect()),
            Cores::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(&cpu) => Err(ConfigError::CpuNotAllowed { cpu, allowed: allowed.to_vec() }),
                None => Ok(list.iter().map(|&cpu| Some(cpu)).collect()),
            },
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cores::All => f.write_str("all"),
            Cores::Count(count) => write!(f, "{count}"),
            Cores::List(list) => {
                let names: Vec<String> = list.iter().map(usize::to_string).collect();
                write!(f, "{}", names.join(","))
            }
        }
    }
}

impl FromStr for Cores {
    type Err = ConfigError;

    /// `all`, a count (`2`), or a list, which has a comma or a dash (`0,2`, `0-3`, `0-1,4`).
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Cores(text.to_string());
        if text == "all" {
            return Ok(Cores::All);
        }
        if !text.contains([',', '-']) {
            let count = text.parse().map_err(|_| bad())?;
            return if (1..=MAX_SHARDS).contains(&count) { Ok(Cores::Count(count)) } else { Err(bad()) };
        }
        let mut list = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.parse().map_err(|_| bad())?;
            let last: usize = last.parse().map_err(|_| bad())?;
            if first > last || last - first >= MAX_SHARDS {
                return Err(bad());
            }
            list.extend(first..=last);
        }
        let mut distinct = list.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if list.is_empty() || distinct.len() != list.len() || list.len() > MAX_SHARDS {
            return Err(bad());
        }
        Ok(Cores::List(list))
    }
}

/// Reads a wait policy: `block`, `spin:50us` (`us`, `ms` or `s`), or `busy`.
///
/// # Errors
/// [`ConfigError::Wait`] for anything else.
pub fn parse_wait(text: &str) -> Result<WaitPolicy, ConfigError> {
    let bad = || ConfigError::Wait(text.to_string());
    match text.split_once(':') {
        None if text == "block" => Ok(WaitPolicy::Block),
        None if text == "busy" => Ok(WaitPolicy::Busy),
        Some(("spin", duration)) => parse_short_duration(duration).map(WaitPolicy::Spin).ok_or_else(bad),
        _ => Err(bad()),
    }
}

/// Reads an address to listen on: an IP address or the name of a host, a colon, and a port. Of a name that has several
/// addresses the first of IPv4 is taken, because clients that name no broker try that of loopback.
///
/// # Errors
/// [`ConfigError::Listen`] when it is no such thing, or the name has no address.
pub fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let bad = |why: String| ConfigError::Listen { text: text.to_string(), why };
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|error| bad(error.to_string()))?.collect();
    let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    address.copied().ok_or_else(|| bad("the name has no address".to_string()))
}

/// Reads `50us`, `5ms` or `1s`.
pub fn parse_short_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "us" | "µs" => Some(Duration::from_micros(count)),
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        _ => None,
    }
}

/// The configuration file: the flags of `ringlog serve`, in TOML. A flag wins over the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// `data = "/var/lib/ringlog"`
    pub data: Option<PathBuf>,
    /// `listen = "0.0.0.0:7171"`, or `"localhost:7171"`
    #[serde(default, deserialize_with = "read_listen")]
    pub listen: Option<SocketAddr>,
    /// `cores = "0-3"`, `"all"`, or a count
    #[serde(default, deserialize_with = "read_cores")]
    pub cores: Option<Cores>,
    /// `wait = "spin:50us"`
    #[serde(default, deserialize_with = "read_wait")]
    pub wait: Option<WaitPolicy>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CountOrText {
    Count(usize),
    Text(String),
}

fn read_cores<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Cores>, D::Error> {
    let text = match CountOrText::deserialize(from)? {
        CountOrText::Count(count) => count.to_string(),
        CountOrText::Text(text) => text,
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn read_listen<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    parse_listen(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

fn read_wait<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<WaitPolicy>, D::Error> {
    parse_wait(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read, is no TOML, or has a key or value Ringlog does not know; the error names it.
pub fn load_file(path: &Path) -> Result<FileConfig, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::File { path: path.to_path_buf(), message: error.to_string() })
}

/// What can be wrong with what a broker was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `--cores` is neither `all`, a count nor a list.
    #[error(
        "cores `{0}`: want `all`, a count from 1 to 256 (`2`), or a list of different CPUs (`0,2` or `0-3`)"
    )]
    Cores(String),
    /// `--listen` is no address.
    #[error(
        "listen `{text}`: {why}; want ADDRESS:PORT or NAME:PORT, such as `0.0.0.0:7171` or `localhost:7171`"
    )]
    Listen {
        /// What was given.
        text: String,
        /// Why it is none.
        why: String,
    },
    /// `--wait` is none of the three policies.
    #[error("wait `{0}`: want `block`, `spin:50us` or `busy`")]
    Wait(String),
    /// A listed CPU does not exist or is not ours to use.
    #[error("CPU {cpu} is not one this process may use; allowed are {allowed:?}")]
    CpuNotAllowed {
        /// The CPU asked for.
        cpu: usize,
        /// The CPUs there are.
        allowed: Vec<usize>,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something Ringlog does not understand.
    #[error("configuration file {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_count_a_list_or_all() {
        assert_eq!("all".parse::<Cores>().unwrap(), Cores::All);
        assert_eq!("2".parse::<Cores>().unwrap(), Cores::Count(2));
        assert_eq!("0,2".parse::<Cores>().unwrap(), Cores::List(vec![0, 2]));
        assert_eq!("0-2,5".parse::<Cores>().unwrap(), Cores::List(vec![0, 1, 2, 5]));
        for wrong in ["", "0", "257", "x", "3-1", "1,1", "1-", "-", "0-99999999999"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_named() {
        let error = Cores::List(vec![0, 7]).assign(&[0, 1]).unwrap_err();
        assert!(error.to_string().contains("CPU 7"), "{error}");
        assert_eq!(Cores::Count(3).assign(&[0, 1]).unwrap(), vec![None; 3]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ringlog.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nretention = 5\n").unwrap();
        let error = load_file(&path).unwrap_err().to_string();
        assert!(error.contains("retention"), "{error}");
    }

    #[test]
    fn a_file_says_all_that_flags_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ringlog.toml");
        std::fs::write(&path, "data = \"/d\"\nlisten = \"[::1]:9\"\ncores = 2\nwait = \"spin:20us\"\n")
            .unwrap();
        let file = load_file(&path).unwrap();
        assert_eq!(file.cores, Some(Cores::Count(2)));
        assert!(matches!(file.wait, Some(WaitPolicy::Spin(d)) if d == Duration::from_micros(20)));
    }

    #[test]
    fn an_address_to_listen_on_may_have_the_name_of_a_host() {
        assert_eq!(parse_listen("[::1]:9").unwrap().to_string(), "[::1]:9");
        assert_eq!(parse_listen("0.0.0.0:0").unwrap().to_string(), "0.0.0.0:0");
        assert!(parse_listen("localhost:7171").unwrap().ip().is_loopback());
        for wrong in
            ["", "here", ":", "localhost", "localhost:", "localhost:x", "127.0.0.1:70000", "no such:1"]
        {
            let words = parse_listen(wrong).unwrap_err().to_string();
            assert!(words.contains("such as"), "{wrong:?}: {words}");
        }
    }

    #[test]
    fn wait_policies_are_three() {
        assert!(matches!(parse_wait("busy"), Ok(WaitPolicy::Busy)));
        for wrong in ["", "spin", "spin:", "spin:5", "spin:5h", "blocked"] {
            assert!(parse_wait(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
