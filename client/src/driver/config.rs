//! What a client was built with.

use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connections;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct DriverConfig {
    pub addresses: Vec<Arc<str>>,
    pub client_id: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub connections: Connections,
}
