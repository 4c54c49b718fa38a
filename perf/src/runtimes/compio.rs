//! The echo on compio: one runtime.

use std::net::Ipv4Addr;

use compio::BufResult;
use compio::io::{AsyncReadExt, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, spawn};

use ringlog_reactor::print_line;

use crate::cpus::{on_core, server_core};
use crate::failure::Failure;
use crate::limits::echo::EchoSize;

/// Serves until the process is killed.
pub fn serve(size: EchoSize) -> Result<(), Failure> {
    // A core is a pinned thread; its ring stays idle while compio has the thread.
    on_core(server_core("compio"), || async { Runtime::new()?.block_on(accept(size)) })
}

async fn accept(size: EchoSize) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    print_line!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The client may leave when it likes.
        spawn(async move { answer(stream, size).await.is_ok() }).detach();
    }
}

async fn answer(mut stream: TcpStream, size: EchoSize) -> std::io::Result<()> {
    let (mut request, mut reply) = (Vec::with_capacity(size.request), vec![7; size.reply]);
    loop {
        request.clear();
        let BufResult(read, buffer) = stream.read_exact(request).await;
        read?;
        request = buffer;
        let BufResult(written, buffer) = stream.write_all(reply).await;
        written?;
        reply = buffer;
    }
}
