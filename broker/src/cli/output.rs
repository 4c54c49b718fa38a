//! Standard output for data: gathered while more is at hand, out at once when there is nothing to do but wait.

use std::env;
use std::future::{Future, poll_fn};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringlog_client::{block_on, block_on_timeout};
use ringlog_reactor::stdio::Stdout;

use super::failure::Failure;

/// Enough that a fast reader costs one system call in some thousand records.
const BUFFER_BYTES: usize = 128 << 10;

/// Colours are for terminals whose user has not set `NO_COLOR`.
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Buffered standard output.
pub struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    /// Standard output, of which a subcommand has one. Open it before anything is done that cannot be undone: it fails
    /// where standard output is closed.
    pub fn open() -> Result<Output, Failure> {
        let out = Stdout::open().map_err(|error| Failure::output(&error))?;
        Ok(Output { out: BufWriter::with_capacity(BUFFER_BYTES, out) })
    }

    /// Writes by `print`; the bytes may wait in the buffer.
    pub fn write(
        &mut self,
        print: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        print(&mut self.out).map_err(|error| Failure::output(&error))
    }

    /// Sends out what waits in the buffer.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    /// Waits for `future`, and first sends out what was written if that takes a while: a reader sees each record as
    /// soon as there is no next one.
    pub fn wait_for<F: Future>(&mut self, future: F) -> Result<F::Output, Failure> {
        block_on(self.flush_while_pending(future))
    }

    /// The same, for at most `timeout` if there is one. `None`: the time has passed.
    pub fn wait_at_most<F: Future>(
        &mut self,
        timeout: Option<Duration>,
        future: F,
    ) -> Result<Option<F::Output>, Failure> {
        match timeout {
            Some(timeout) => block_on_timeout(timeout, self.flush_while_pending(future)).transpose(),
            None => self.wait_for(future).map(Some),
        }
    }

    async fn flush_while_pending<F: Future>(&mut self, future: F) -> Result<F::Output, Failure> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => match self.flush() {
                Ok(()) => Poll::Pending,
                Err(failure) => Poll::Ready(Err(failure)),
            },
        })
        .await
    }
}
