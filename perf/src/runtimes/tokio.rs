//! The echo on tokio: a runtime of one thread.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

use ringlog_reactor::print_line;

use crate::cpus::{on_core, server_core};
use crate::failure::Failure;
use crate::limits::echo::EchoSize;

/// Serves until the process is killed.
pub fn serve(size: EchoSize) -> Result<(), Failure> {
    // A core is a pinned thread; its ring stays idle while tokio has the thread.
    on_core(server_core("tokio"), || async {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        LocalSet::new().block_on(&runtime, accept(size))
    })
}

async fn accept(size: EchoSize) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    print_line!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The client may leave when it likes.
        spawn_local(async move { answer(stream, size).await.is_ok() });
    }
}

async fn answer(mut stream: TcpStream, size: EchoSize) -> std::io::Result<()> {
    let (mut request, reply) = (vec![0; size.request], vec![7; size.reply]);
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&reply).await?;
    }
}
