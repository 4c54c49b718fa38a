//! The first driver: a background thread with a reactor of its own, so that the API works under every runtime and without one.

use std::sync::Arc;

use ringlog_reactor::{CoreConfig, launch, mailbox};

use super::{Driver, DriverConfig};
use crate::command::Line;
use crate::error::ConnectError;
use crate::limits;

/// Receive buffers: enough for a window of deliveries; the session copies out of them at once.
const RECEIVE_BUFFERS: u16 = 64;

/// Starts the client's thread, which ends when the last `Line` is dropped. In a simulation it is a task of the same world.
pub(crate) fn start(config: DriverConfig) -> Result<Line, ConnectError> {
    let (commands, command_queue) = mailbox::channel(limits::COMMAND_QUEUE);
    let (doorbells, doorbell_queue) = mailbox::channel(limits::DOORBELL_QUEUE);
    let core = CoreConfig {
        name: "ringlog-client".into(),
        receive_buffers: RECEIVE_BUFFERS,
        ..CoreConfig::default()
    };
    // Nobody joins it: it ends by itself, and a panic there shows as closed handles.
    let _thread = launch(core, move || Driver::run(config, command_queue, doorbell_queue))
        .map_err(|error| ConnectError::NoReactor { reason: Arc::from(error.to_string()) })?;
    Ok(Line { commands, doorbells })
}
