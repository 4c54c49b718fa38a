//! The echo on glommio: one executor.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio_ng::net::{TcpListener, TcpStream};
use glommio_ng::{LocalExecutorBuilder, Placement, spawn_local};

use ringlog_reactor::print_line;

use crate::cpus::SERVER_CPU;
use crate::failure::Failure;
use crate::limits::echo::EchoSize;
use crate::wait::Wait;

/// Serves until the process is killed.
pub fn serve(size: EchoSize, wait: Wait) -> Result<(), Failure> {
    let mut builder = LocalExecutorBuilder::new(Placement::Fixed(SERVER_CPU));
    if let Wait::Spin(limit) = wait {
        builder = builder.spin_before_park(limit);
    }
    let executor = builder.make().map_err(said)?;
    executor.run(accept(size))
}

async fn accept(size: EchoSize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    print_line!("{}", listener.local_addr().map_err(said)?);
    loop {
        let stream = listener.accept().await.map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        // The client may leave when it likes.
        spawn_local(async move { answer(stream, size).await.is_ok() }).detach();
    }
}

async fn answer(mut stream: TcpStream, size: EchoSize) -> std::io::Result<()> {
    let (mut request, reply) = (vec![0; size.request], vec![7; size.reply]);
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&reply).await?;
    }
}

/// glommio's errors are not `Sync`.
fn said(error: impl std::fmt::Display) -> Failure {
    format!("glommio: {error}").into()
}
