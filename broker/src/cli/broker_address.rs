//! The way to a broker, for the subcommands that talk to one.

use clap::Args;
use ringlog_client::{Client, ConnectionEvent, block_on};
use ringlog_reactor::stdio::log_line;

use super::failure::Failure;

/// Addresses of one broker, or of several that are tried in turn.
#[derive(Args, Clone)]
pub struct BrokerAddress {
    /// The broker to talk to; several addresses, with commas between them, are tried in turn
    #[arg(
        long,
        env = "RINGLOG_BROKER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = ringlog_broker::config::DEFAULT_LISTEN,
        global = true
    )]
    broker: Vec<String>,
}

impl BrokerAddress {
    /// Connects. What becomes of the connection later is said on standard error.
    pub fn connect(&self) -> Result<Client, Failure> {
        // On the client's own thread, which must not wait.
        let say = |event: &ConnectionEvent| log_line(format!("ringlog: {event}\n").as_bytes());
        let addresses =
            self.broker.iter().map(|address| address.trim()).filter(|address| !address.is_empty());
        let connecting = Client::builder().on_connection_event(say).connect(addresses);
        block_on(connecting).map_err(Failure::said)
    }
}
