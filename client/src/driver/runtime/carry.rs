//! What a carrier moves bytes for, and what the carriers of all worlds have in common.

use std::future::{Future, poll_fn};
use std::io;
#[cfg(any(feature = "tokio", feature = "glommio"))]
use std::io::IoSlice;
use std::pin::pin;
#[cfg(any(feature = "tokio", feature = "glommio"))]
use std::task::Context;
use std::task::Poll;
#[cfg(any(feature = "tokio", feature = "glommio"))]
use std::time::Duration;

use bytes::Bytes;

/// Why a carrier ends a connection.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The socket failed, or never was connected.
    Io(io::Error),
    /// The other side closed it.
    Closed,
}

/// One connection, as its carrier sees it.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Whether it has ended.
    fn has_ended(&self) -> bool;
    /// Waits until it has ended.
    fn ended(&self) -> impl Future<Output = ()> + Send;
    /// Takes bytes that came.
    fn receive(&self, bytes: &[u8]);
    /// Puts what is to be sent into `output`, which is empty, when there is something. False: it has ended. One caller at a time,
    /// who says with `sent` what came of it.
    fn take_output(&self, output: &mut Vec<Bytes>) -> impl Future<Output = bool> + Send;
    /// The socket has taken the output, or has failed.
    fn sent(&self, result: io::Result<()>);
    /// Ends it.
    fn end(&self, why: Ended);
}

/// Slices in one send.
#[cfg(any(feature = "tokio", feature = "glommio"))]
const SLICES: usize = 64;
/// Where received bytes stand until the session has them.
#[cfg(any(feature = "tokio", feature = "glommio"))]
pub(super) const RECEIVE_BYTES: usize = 64 << 10;

/// Runs `future` unless the transport ends first: neither a connection that is never made nor a peer that takes no bytes may hold a
/// socket longer than that.
pub(super) async fn while_alive<F: Future>(transport: &impl Transport, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut ended = pin!(transport.ended());
    poll_fn(|context| match ended.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

/// What the reactor's sockets have as well: a peer that vanished is noticed after 90 seconds of silence.
#[cfg(any(feature = "tokio", feature = "glommio"))]
pub(super) fn keepalive() -> socket2::TcpKeepalive {
    let second = Duration::from_secs(1);
    socket2::TcpKeepalive::new().with_time(60 * second).with_interval(10 * second).with_retries(3)
}

/// Sends all of `output` through a socket's vectored write, and leaves it empty.
#[cfg(any(feature = "tokio", feature = "glommio"))]
pub(super) async fn gather(
    output: &mut Vec<Bytes>,
    mut poll_write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
) -> io::Result<()> {
    let (mut first, mut skip) = (0, 0);
    while first < output.len() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = SLICES.min(output.len() - first);
        for (slice, bytes) in slices.iter_mut().zip(&output[first..]) {
            *slice = IoSlice::new(bytes);
        }
        slices[0] = IoSlice::new(&output[first][skip..]);
        let sent = poll_fn(|context| poll_write(context, &slices[..count])).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        skip += sent;
        while first < output.len() && skip >= output[first].len() {
            skip -= output[first].len();
            first += 1;
        }
    }
    output.clear();
    Ok(())
}
