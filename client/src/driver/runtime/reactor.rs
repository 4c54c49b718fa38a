//! A background thread with a reactor of its own, so that the client works under every runtime and without one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{CoreConfig, WaitPolicy, launch, now, spawn, timeout};

use super::carry::{Ended, Transport, while_alive};
use super::timers::{Look, Timers};
use crate::error::ConnectError;

/// Receive buffers: enough for a window of deliveries; the session copies out of them at once.
const RECEIVE_BUFFERS: u16 = 64;

/// Starts the client's thread. In a simulation it is a task of the same world.
pub(crate) fn start(
    spin: Duration,
    timers: Arc<Timers>,
    driver: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ConnectError> {
    let core = CoreConfig {
        name: "ringlog-client".into(),
        wait: if spin.is_zero() { WaitPolicy::Block } else { WaitPolicy::Spin(spin) },
        receive_buffers: RECEIVE_BUFFERS,
        ..CoreConfig::default()
    };
    let main = move || {
        spawn(keep(timers)).detach();
        driver
    };
    // Nobody joins it: it ends by itself, and a panic there shows as closed handles.
    let _thread =
        launch(core, main).map_err(|error| ConnectError::NoReactor { reason: error.to_string().into() })?;
    Ok(())
}

async fn keep(timers: Arc<Timers>) {
    loop {
        let changed = timers.changed.notified();
        match timers.fire() {
            Look::At(deadline) => drop(timeout(deadline - now(), changed).await),
            Look::WhenChanged => changed.await,
            Look::NeverAgain => return,
        }
    }
}

pub(crate) fn carry(address: SocketAddr, transport: Arc<impl Transport>) {
    spawn(async move {
        match while_alive(&*transport, TcpStream::connect(address)).await {
            Some(Ok(stream)) => {
                spawn(receive(stream.clone(), Arc::clone(&transport))).detach();
                while_alive(&*transport, send(&stream, &*transport)).await;
                // The receiver sees the end of the stream.
                stream.shutdown();
            }
            Some(Err(error)) => transport.end(Ended::Io(error)),
            None => {}
        }
    })
    .detach();
}

async fn receive(stream: TcpStream, transport: Arc<impl Transport>) {
    while !transport.has_ended() {
        match stream.recv().await {
            Ok(Some(bytes)) => transport.receive(&bytes),
            Ok(None) => transport.end(Ended::Closed),
            Err(error) => transport.end(Ended::Io(error)),
        }
    }
}

async fn send(stream: &TcpStream, transport: &impl Transport) {
    let mut output = Vec::new();
    while transport.take_output(&mut output).await {
        transport.sent(stream.send_from(&mut output).await);
    }
}
