//! `ringlog serve`: runs a broker until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ringlog_broker::config::{self, BrokerConfig, Cores, FileConfig, parse_listen, parse_wait};
use ringlog_broker::{doctor, node::Node};
use ringlog_reactor::{WaitPolicy, probe, signal};
use tracing::{info, warn};

use super::failure::Failure;

/// Run a broker
///
/// Logs one line when it is ready: the address, the shards, and what recovery found. SIGTERM, SIGINT or SIGHUP stops
/// it: it accepts no more, finishes its commits, writes a checkpoint and exits with 0. Under nohup(1) SIGHUP does nothing.
/// What is acknowledged at `disk` survives any other end as well.
///
/// Logs go to standard error. When that is full, closed or not read, lines are dropped and counted, and the broker serves
/// on.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog serve
  ringlog serve --data /var/lib/ringlog --listen 0.0.0.0:7171 --cores 0-3 --wait spin:50us
  ringlog serve --config ringlog.toml

The configuration file may say all that the flags say, and flags win:
  data = \"/var/lib/ringlog\"
  listen = \"0.0.0.0:7171\"
  cores = \"0-3\"
  wait = \"block\"")]
pub struct ServeArgs {
    /// Folder for the data; made when missing [default: ringlog-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7171]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_listen)]
    listen: Option<SocketAddr>,
    /// One shard per core: `all`, a count (`2`), or a list with a comma or a dash (`0,2`, `0-3`) [default: all]
    #[arg(long, value_name = "N|all|LIST")]
    cores: Option<Cores>,
    /// What an idle shard does: sleep at once, spin for a while before it sleeps, or never sleep [default: block]
    #[arg(long, value_name = "block|spin:50us|busy", value_parser = parse_wait)]
    wait: Option<WaitPolicy>,
    /// TOML file with the same settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves until SIGTERM, SIGINT or SIGHUP.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    // Before any other thread exists: a thread that does not block them would be killed by them.
    signal::block_termination().map_err(|error| Failure::said(format!("cannot block signals: {error}")))?;
    raise_open_files();
    let file = match &args.config {
        Some(path) => config::load_file(path).map_err(Failure::said)?,
        None => FileConfig::default(),
    };
    let config = settle(args, file);
    doctor::refuse_if_unfit(&config.data_dir).map_err(Failure::said)?;
    let node = Node::start(config).map_err(Failure::said)?;
    info!("ready: {}", node.summary());
    node.wait().map_err(Failure::said)?;
    info!("stopped");
    Ok(())
}

/// A broker needs a descriptor for each client and segment; the soft limit is there for programs that use select(2).
fn raise_open_files() {
    if let Err(error) = probe::raise_nofile() {
        warn!("the limit of open files stays as it is: {error}");
    }
}

/// Flags win over the file, the file over the defaults.
fn settle(args: &ServeArgs, file: FileConfig) -> BrokerConfig {
    let default = BrokerConfig::default();
    BrokerConfig {
        data_dir: args.data.clone().or(file.data).unwrap_or(default.data_dir),
        listen: args.listen.or(file.listen).unwrap_or(default.listen),
        cores: args.cores.clone().or(file.cores).unwrap_or(default.cores),
        wait: args.wait.or(file.wait).unwrap_or(default.wait),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> ServeArgs {
        ServeArgs { data: None, listen: None, cores: None, wait: None, config: None }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let args = ServeArgs { data: Some("flag".into()), ..flags() };
        let file =
            FileConfig { data: Some("file".into()), cores: Some(Cores::Count(3)), ..FileConfig::default() };
        let config = settle(&args, file);
        assert_eq!(config.data_dir, PathBuf::from("flag"));
        assert_eq!(config.cores, Cores::Count(3));
        assert_eq!(config.listen, BrokerConfig::default().listen);
    }
}
