//! A task of the application's own tokio runtime.

use std::future::{Future, poll_fn};
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

use super::carry::{Ended, RECEIVE_BYTES, Transport, gather, keepalive, while_alive};
use super::tasks::Tasks;
use super::timers::{Look, Timers};
use crate::error::ConnectError;

pub(crate) fn start(
    tasks: &Arc<Tasks>,
    timers: Arc<Timers>,
    driver: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ConnectError> {
    let handle = Handle::try_current().map_err(|_| ConnectError::NoRuntime { runtime: "tokio" })?;
    tasks.spawn(keep(timers));
    // Nobody joins it: it ends by itself, and a panic there shows as closed handles.
    drop(handle.spawn(driver));
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

pub(crate) fn carry(tasks: &Arc<Tasks>, address: SocketAddr, transport: Arc<impl Transport>) {
    let carriers = Arc::clone(tasks);
    tasks.spawn(async move {
        match while_alive(&*transport, connect(address)).await {
            Some(Ok(stream)) => {
                let (reader, mut writer) = stream.into_split();
                carriers.spawn(receive(reader, Arc::clone(&transport)));
                while_alive(&*transport, send(&mut writer, &*transport)).await;
                // The receiver sees the end of the stream.
                let _ = SockRef::from(writer.as_ref()).shutdown(std::net::Shutdown::Both);
            }
            Some(Err(error)) => transport.end(Ended::Io(error)),
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

async fn receive(mut reader: OwnedReadHalf, transport: Arc<impl Transport>) {
    let mut memory = vec![0; RECEIVE_BYTES];
    while !transport.has_ended() {
        let mut buffer = ReadBuf::new(&mut memory);
        match poll_fn(|context| Pin::new(&mut reader).poll_read(context, &mut buffer)).await {
            Ok(()) if buffer.filled().is_empty() => transport.end(Ended::Closed),
            Ok(()) => transport.receive(buffer.filled()),
            Err(error) => transport.end(Ended::Io(error)),
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, transport: &impl Transport) {
    let mut output = Vec::new();
    while transport.take_output(&mut output).await {
        let sent = gather(&mut output, |context, slices| {
            Pin::new(&mut *writer).poll_write_vectored(context, slices)
        });
        transport.sent(sent.await);
    }
}
