//! The input of `produce`: read by a thread of its own, so that a reason to stop ends a wait for bytes that may never come.
//!
//! Invariant: what the thread had read before the reason to stop is given out; then comes [`Stopped`] instead of an end, so
//! that the beginning of a line is not taken for a line.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringlog_client::block_on;

use super::stop::{Stop, unless_stopped};

/// Read from the input at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait to be taken.
const CHUNKS: usize = 1;

/// An input that ends early when there is a reason to stop.
pub struct Input {
    stop: Stop,
    chunks: flume::Receiver<io::Result<Vec<u8>>>,
    stopping: Arc<AtomicBool>,
    chunk: Vec<u8>,
    given: usize,
}

impl Input {
    /// Begins to read.
    pub fn start(input: impl Read + Send + 'static, stop: &Stop) -> io::Result<Input> {
        let (sender, chunks) = flume::bounded(CHUNKS);
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        thread::Builder::new().name("input".to_owned()).spawn(move || read_all(input, &sender, &told))?;
        Ok(Input { stop: stop.clone(), chunks, stopping, chunk: Vec::new(), given: 0 })
    }

    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        match block_on(unless_stopped(&self.stop, self.chunks.recv_async())) {
            Ok(chunk) => chunk.ok().transpose(),
            Err(_) => {
                self.stopping.store(true, Ordering::Relaxed);
                let read_before = self.chunks.try_recv().ok();
                read_before.unwrap_or_else(|| Err(io::Error::other(Stopped))).map(Some)
            }
        }
    }
}

/// The error that ends a stopped input.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

impl Stopped {
    /// Whether that is the error.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the command stops")
    }
}

impl std::error::Error for Stopped {}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.chunk.len() {
            match self.next_chunk()? {
                Some(chunk) => (self.chunk, self.given) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.chunk.len() - self.given);
        out[..count].copy_from_slice(&self.chunk[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

/// Sends what it reads until the end, an error, or a reason to stop. A receiver that is gone wants nothing more.
fn read_all(mut input: impl Read, chunks: &flume::Sender<io::Result<Vec<u8>>>, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let ended = read.is_err();
        if chunks.send(read).is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stop::Reason;
    use super::*;

    /// Gives its bytes, and then nothing for ever.
    struct Quiet(&'static [u8]);

    impl Read for Quiet {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                loop {
                    thread::park();
                }
            }
            self.0.read(out)
        }
    }

    #[test]
    fn an_input_comes_whole() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES * 3 + 7).map(|n| n as u8).collect();
        let mut input = Input::start(io::Cursor::new(bytes.clone()), &Stop::default()).unwrap();
        let mut got = Vec::new();
        input.read_to_end(&mut got).unwrap();
        assert!(got == bytes);
    }

    #[test]
    fn a_reason_to_stop_ends_a_wait_for_bytes_and_keeps_what_was_read() {
        let stop = Stop::default();
        let mut input = Input::start(Quiet(b"read"), &stop).unwrap();
        let mut first = [0; 1];
        input.read_exact(&mut first).unwrap();
        stop.raise(Reason::RecordFailed);
        let mut rest = Vec::new();
        let error = input.read_to_end(&mut rest).unwrap_err();
        assert_eq!((&first, &rest[..]), (b"r", &b"ead"[..]));
        assert!(Stopped::is(&error), "{error}");
    }
}
