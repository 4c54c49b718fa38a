//! A task of the application's own tokio runtime.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use ringlog_reactor::now;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::timers::{Look, Timers};
use super::{RECEIVE_BYTES, Runtime, World, gather, keepalive, while_alive};
use crate::command::Orders;
use crate::driver::DriverConfig;
use crate::driver::link::{End, Link};
use crate::error::ConnectError;

pub(crate) fn start(config: DriverConfig, orders: Orders) -> Result<(), ConnectError> {
    let handle = Handle::try_current().map_err(|_| ConnectError::NoRuntime { runtime: "tokio" })?;
    let runtime = Runtime::new(World::Tokio);
    runtime.spawn(keep(Arc::clone(&runtime.timers)));
    // Nobody joins it: it ends by itself, and a panic there shows as closed handles.
    drop(handle.spawn(runtime.run(config, orders)));
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

pub(crate) fn carry(runtime: &Arc<Runtime>, address: SocketAddr, link: Arc<Link>) {
    let tasks = Arc::clone(&runtime.tasks);
    runtime.spawn(async move {
        match while_alive(&link, connect(address)).await {
            Some(Ok(stream)) => {
                let (reader, mut writer) = stream.into_split();
                tasks.spawn(receive(reader, Arc::clone(&link)));
                while_alive(&link, send(&mut writer, &link)).await;
                // The receiver sees the end of the stream.
                let _ = SockRef::from(writer.as_ref()).shutdown(std::net::Shutdown::Both);
            }
            Some(Err(error)) => link.end(End::Io(error)),
            None => {}
        }
    });
}

/// Connects with the same settings as the reactor's sockets have.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    Ok(stream)
}

async fn receive(mut reader: OwnedReadHalf, link: Arc<Link>) {
    let mut memory = vec![0; RECEIVE_BYTES];
    while !link.has_ended() {
        let mut buffer = ReadBuf::new(&mut memory);
        match poll_fn(|context| Pin::new(&mut reader).poll_read(context, &mut buffer)).await {
            Ok(()) if buffer.filled().is_empty() => link.end(End::Closed),
            Ok(()) => link.receive(buffer.filled()),
            Err(error) => link.end(End::Io(error)),
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, link: &Link) {
    let mut output = Vec::new();
    while link.take_output(&mut output).await {
        let sent = gather(&mut output, |context, slices| {
            Pin::new(&mut *writer).poll_write_vectored(context, slices)
        });
        link.sent(sent.await);
    }
}
