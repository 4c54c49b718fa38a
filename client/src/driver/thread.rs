//! Not yet written.
use super::DriverConfig;
use crate::command::Line;
use crate::error::ConnectError;
use crate::limits;
use ringlog_reactor::mailbox;
use std::sync::{Arc, OnceLock};
pub(crate) fn start(_config: DriverConfig) -> Result<Line, ConnectError> {
    let (commands, _) = mailbox::channel(limits::COMMAND_QUEUE);
    let (doorbells, _) = mailbox::channel(limits::MAX_HANDLES);
    Ok(Line { commands, doorbells, start_error: Arc::new(OnceLock::new()) })
}
