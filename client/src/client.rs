//! The entrance: a client is a handle to one driver, which owns all connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::command::{Command, Line};
use crate::connection::{ConnectionEvent, Connections, Listener};
use crate::consumer::ConsumerBuilder;
use crate::driver;
use crate::driver::config::DriverConfig;
use crate::driver::runtime::Driver;
use crate::error::ConnectError;
use crate::limits;
use crate::producer::ProducerBuilder;

/// A client of a Ringlog broker. Clones share the driver, which is a background thread unless [`ClientBuilder::driver`] says otherwise, and its
/// connections, one for each shard of the broker that is used; the driver ends when the client and all that was made from it are dropped.
#[derive(Clone, Debug)]
pub struct Client {
    line: Line,
}

impl Client {
    /// Connects with default settings. One address that answers is enough.
    pub async fn connect<A>(addresses: impl IntoIterator<Item = A>) -> Result<Client, ConnectError>
    where
        A: Into<String>,
    {
        Self::builder().connect(addresses).await
    }

    /// Settings to be changed before connecting.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Topics and offsets.
    pub fn admin(&self) -> Admin {
        Admin::new(self.line.clone())
    }

    /// Prepares a producer for a topic.
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.line.clone(), topic)
    }

    /// Prepares a consumer of a topic.
    pub fn consumer(&self, topic: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.line.clone(), topic)
    }
}

/// Settings of a client.
#[derive(Clone)]
#[must_use = "call connect() to get the client"]
pub struct ClientBuilder {
    client_id: String,
    connect_timeout: Duration,
    request_timeout: Duration,
    driver: Driver,
    spin: Duration,
    listener: Option<Listener>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            client_id: format!("ringlog-client/{}", env!("CARGO_PKG_VERSION")),
            connect_timeout: limits::DEFAULT_CONNECT_TIMEOUT,
            request_timeout: limits::DEFAULT_REQUEST_TIMEOUT,
            driver: Driver::default(),
            spin: Duration::ZERO,
            listener: None,
        }
    }
}

impl ClientBuilder {
    /// What the client calls itself in the broker's logs; at most 256 bytes are sent.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// How long connecting to one address may take, handshake included; default five seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may wait for its reply before the broker is taken for dead and the connection is cut; default 30 seconds.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Where the connections live; default [`Driver::Thread`].
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }

    /// How long the client's own thread polls for something to do before it sleeps; default zero, it sleeps at once. Spinning saves the
    /// wake-up of that thread, some microseconds a record, and takes a CPU while it lasts. Without effect under other drivers.
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = time;
        self
    }

    /// Calls `listener` when a connection is lost and when there is one again: for logs and health checks, since the client connects
    /// again by itself. It runs where the connections live, and must not block.
    pub fn on_connection_event(
        mut self,
        listener: impl Fn(&ConnectionEvent) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Starts the driver and connects: to the first address that answers, once each.
    ///
    /// Host names are looked up by the system's resolver, on a thread of its own.
    pub async fn connect<A>(self, addresses: impl IntoIterator<Item = A>) -> Result<Client, ConnectError>
    where
        A: Into<String>,
    {
        let addresses: Vec<Arc<str>> =
            addresses.into_iter().map(|address| Arc::from(address.into())).collect();
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let mut client_id = self.client_id;
        client_id.truncate(client_id.floor_char_boundary(limits::MAX_CLIENT_ID_BYTES));
        let config = DriverConfig {
            addresses,
            client_id,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            connections: Connections::new(self.listener),
        };
        let line = driver::start(self.driver, self.spin, config)?;
        line.request(|reply| Command::Connect { reply }).await?;
        Ok(Client { line })
    }
}
