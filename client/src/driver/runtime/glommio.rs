//! A task of the application's own glommio executor, with its sockets on that executor's ring.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::panic::catch_unwind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::select;
use glommio_ng::net::TcpStream;
use glommio_ng::spawn_local;
use glommio_ng::timer::Timer;
use ringlog_reactor::now;
use socket2::{Domain, Protocol, Socket, Type};

use super::carry::{Ended, RECEIVE_BYTES, Transport, gather, keepalive, while_alive};
use super::timers::{Look, Timers};
use crate::driver::lock::Lock;
use crate::error::ConnectError;

pub(crate) fn start(
    timers: Arc<Timers>,
    driver: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ConnectError> {
    // glommio has no other way to ask: outside of its executors this panics.
    if catch_unwind(|| glommio_ng::executor().id()).is_err() {
        return Err(ConnectError::NoRuntime { runtime: "glommio" });
    }
    spawn_local(keep(timers)).detach();
    // Nobody joins it: it ends by itself, and a panic there shows as closed handles.
    spawn_local(live(driver)).detach();
    Ok(())
}

/// Runs a driver until it ends, or its executor does.
///
/// An executor that goes forgets the tasks that wait, and never drops them: who waits for a record's ack would wait for ever. But it
/// drops the wakers of its timers, so that of a timer that never fires takes the driver with it.
async fn live(driver: impl Future<Output = ()> + Send + 'static) {
    let driver: Held = Arc::new(Lock::new(Some(Box::pin(driver))));
    let mut never = pin!(Timer::new(NEVER));
    let guard = Waker::from(Arc::new(Guard(Arc::clone(&driver))));
    let _pending = never.as_mut().poll(&mut Context::from_waker(&guard));
    drop(guard);
    poll_fn(|context| match &mut *driver.lock() {
        Some(driver) => driver.as_mut().poll(context),
        None => Poll::Ready(()),
    })
    .await;
}

/// A century.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

type Held = Arc<Lock<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

/// Takes a driver with it.
struct Guard(Held);

impl Wake for Guard {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        let driver = self.0.lock().take();
        drop(driver);
    }
}

async fn keep(timers: Arc<Timers>) {
    loop {
        let changed = timers.changed.notified();
        match timers.fire() {
            Look::At(deadline) => drop(select(pin!(changed), Timer::new(deadline - now())).await),
            Look::WhenChanged => changed.await,
            Look::NeverAgain => return,
        }
    }
}

pub(crate) fn carry(address: SocketAddr, transport: Arc<impl Transport>) {
    spawn_local(async move {
        match while_alive(&*transport, Connection::open(address)).await {
            Some(Ok(connection)) => {
                let connection = Rc::new(connection);
                spawn_local(receive(Rc::clone(&connection), Arc::clone(&transport))).detach();
                while_alive(&*transport, send(&connection, &*transport)).await;
                // The receiver sees the end of the stream.
                let _ = connection.socket.shutdown(Shutdown::Both);
            }
            Some(Err(error)) => transport.end(Ended::Io(error)),
            None => {}
        }
    })
    .detach();
}

struct Connection {
    /// Borrowed for single polls only: one task receives while another sends.
    stream: RefCell<TcpStream>,
    /// The same socket, for what glommio's stream cannot do.
    socket: Socket,
}

impl Connection {
    /// Connects with the same settings as the reactor's sockets have. glommio's own `connect` gives no way to make them.
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive())?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let stream = RefCell::new(TcpStream::from(socket.try_clone()?));
        let connection = Self { stream, socket };
        // A send of nothing ends when the connection is made, or could not be.
        poll_fn(|context| Pin::new(&mut *connection.stream.borrow_mut()).poll_write(context, &[])).await?;
        Ok(connection)
    }
}

fn is_under_way(error: &io::Error) -> bool {
    // EINPROGRESS, for which the standard library has no stable kind.
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(115)
}

async fn receive(connection: Rc<Connection>, transport: Arc<impl Transport>) {
    let mut memory = vec![0; RECEIVE_BYTES];
    while !transport.has_ended() {
        let received =
            poll_fn(|context| Pin::new(&mut *connection.stream.borrow_mut()).poll_read(context, &mut memory));
        match received.await {
            Ok(0) => transport.end(Ended::Closed),
            Ok(length) => transport.receive(&memory[..length]),
            Err(error) => transport.end(Ended::Io(error)),
        }
    }
}

async fn send(connection: &Connection, transport: &impl Transport) {
    let mut output = Vec::new();
    while transport.take_output(&mut output).await {
        let sent = gather(&mut output, |context, slices| {
            Pin::new(&mut *connection.stream.borrow_mut()).poll_write_vectored(context, slices)
        });
        transport.sent(sent.await);
    }
}
