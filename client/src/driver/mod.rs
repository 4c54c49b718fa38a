//! Not yet written.
pub(crate) mod thread;
use std::sync::Arc;
use std::time::Duration;
#[derive(Clone, Debug)]
pub(crate) struct DriverConfig {
    pub addresses: Vec<Arc<str>>,
    pub client_id: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
}
