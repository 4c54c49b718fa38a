//! A background thread with a reactor of its own, so that the client works under every runtime and without one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{CoreConfig, WaitPolicy, launch, now, spawn, timeout};

use super::timers::{Look, Timers};
use super::{Runtime, World, while_alive};
use crate::command::Orders;
use crate::driver::DriverConfig;
use crate::driver::link::{End, Link};
use crate::error::ConnectError;

/// Receive buffers: enough for a window of deliveries; the session copies out of them at once.
const RECEIVE_BUFFERS: u16 = 64;

/// Starts the client's thread. In a simulation it is a task of the same world.
pub(crate) fn start(spin: Duration, config: DriverConfig, orders: Orders) -> Result<(), ConnectError> {
    let core = CoreConfig {
        name: "ringlog-client".into(),
        wait: if spin.is_zero() { WaitPolicy::Block } else { WaitPolicy::Spin(spin) },
        receive_buffers: RECEIVE_BUFFERS,
        ..CoreConfig::default()
    };
    let main = move || {
        let runtime = Runtime::new(World::Reactor);
        spawn(keep(Arc::clone(&runtime.timers))).detach();
        runtime.run(config, orders)
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

pub(crate) fn carry(address: SocketAddr, link: Arc<Link>) {
    spawn(async move {
        match while_alive(&link, TcpStream::connect(address)).await {
            Some(Ok(stream)) => {
                spawn(receive(stream.clone(), Arc::clone(&link))).detach();
                while_alive(&link, send(&stream, &link)).await;
                // The receiver sees the end of the stream.
                stream.shutdown();
            }
            Some(Err(error)) => link.end(End::Io(error)),
            None => {}
        }
    })
    .detach();
}

async fn receive(stream: TcpStream, link: Arc<Link>) {
    while !link.has_ended() {
        match stream.recv().await {
            Ok(Some(bytes)) => link.receive(&bytes),
            Ok(None) => link.end(End::Closed),
            Err(error) => link.end(End::Io(error)),
        }
    }
}

async fn send(stream: &TcpStream, link: &Link) {
    let mut output = Vec::new();
    while link.take_output(&mut output).await {
        link.sent(stream.send_from(&mut output).await);
    }
}
