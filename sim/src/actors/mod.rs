//! Who plays: the bundled client in its three roles, and strangers. Each works until the stage finishes.

pub mod admin;
pub mod census;
pub mod consumer;
pub mod producer;
pub mod stranger;
pub mod wire;

use std::time::Duration;

use ringlog_client::{Client, ConnectError};

use crate::stage::BROKER_ADDRESS;

/// How long a client waits for a connection, and for an answer, before it takes the broker for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the broker; tries until there is one.
pub async fn connect(address: &str) -> Client {
    loop {
        let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).request_timeout(REQUEST_TIMEOUT);
        match builder.connect([address]).await {
            Ok(client) => return client,
            Err(ConnectError::NoBroker { .. } | ConnectError::NoAnswer { .. }) => {}
            Err(ConnectError::Refused { refusal, .. }) if refusal.retryable => {}
            // What the network cut off in the middle of a handshake.
            Err(ConnectError::NotABroker { .. }) => {}
            Err(error) => panic!("a client cannot connect: {error}"),
        }
        ringlog_reactor::sleep(Duration::from_millis(20)).await;
    }
}

/// A client of the broker of the run.
pub async fn connect_to_broker() -> Client {
    connect(BROKER_ADDRESS).await
}
