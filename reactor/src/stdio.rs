//! The standard streams of the process: descriptors 0, 1 and 2, in whatever state the caller has left them.
//!
//! Invariants
//! - Nothing here panics, whether a stream is closed, full, or not read by its other end.
//! - Standard output is data: each byte is written, or the caller gets the error. So is standard input: only an end
//!   of file looks like one. (`std::io` takes a closed or wrongly opened descriptor for `/dev/null`.)
//! - Standard error is for people: what cannot be written there is dropped and counted, and nothing waits for it
//!   longer than [`ERROR_WITHIN`]. [`log_line`] does not wait at all.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use crate::lines::{LineQueue, unpoisoned};
use crate::sys;

/// The longest wait for standard error: a terminal that is stopped or a pipe without a reader does not hold up a process.
pub const ERROR_WITHIN: Duration = Duration::from_secs(2);

const INPUT: i32 = 0;
const OUTPUT: i32 = 1;
const ERROR: i32 = 2;

/// What waits for standard error.
static ERROR_LINES: LineQueue = LineQueue::new();
/// The first failure of [`print_line`].
static OUTPUT_FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Standard output without a buffer. [`Stdout::open`] fails where the caller of this process has closed it.
#[derive(Debug)]
pub struct Stdout(());

impl Stdout {
    /// Standard output.
    ///
    /// # Errors
    /// If it was closed at the start of the process.
    pub fn open() -> io::Result<Stdout> {
        open_at_start(OUTPUT).map(|()| Stdout(()))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        patiently(OUTPUT, libc::POLLOUT, || sys::write(OUTPUT, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard input without a buffer. [`Stdin::open`] fails where the caller of this process has closed it.
#[derive(Debug)]
pub struct Stdin(());

impl Stdin {
    /// Standard input.
    ///
    /// # Errors
    /// If it was closed at the start of the process.
    pub fn open() -> io::Result<Stdin> {
        open_at_start(INPUT).map(|()| Stdin(()))
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        patiently(INPUT, libc::POLLIN, || sys::read(INPUT, buffer))
    }
}

fn open_at_start(stream: i32) -> io::Result<()> {
    if sys::was_closed_at_start(stream) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(())
}

/// Another process may have made the stream non-blocking, since the flag belongs to the open file and not to the
/// descriptor: then this waits until the stream is ready.
fn patiently(
    stream: i32,
    event: libc::c_short,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sys::wait_until_ready(stream, event)?,
            done => return done,
        }
    }
}

/// Waits in the calling thread until what reads standard output is gone: the other end of a pipe or a socket, or a terminal. For a
/// file it waits for ever.
///
/// # Errors
/// Those of poll(2).
pub fn wait_until_output_closes() -> io::Result<()> {
    sys::wait_until_ready(OUTPUT, 0)
}

/// Puts a line (with its line feed) in the queue for standard error, and never waits: the call for log lines, also on a
/// core's thread. When the queue is full the line is dropped and counted.
pub fn log_line(line: &[u8]) {
    ERROR_LINES.push(line, start_writer);
}

/// Waits until what was given to [`log_line`] before is written or dropped; at most [`ERROR_WITHIN`].
pub fn flush_error() {
    ERROR_LINES.wait_until_settled(ERROR_WITHIN);
}

/// Writes a line to standard error, behind the log lines that wait there. Waits at most [`ERROR_WITHIN`]; a line that
/// cannot be written by then is lost. See [`say!`](crate::say).
pub fn say(words: fmt::Arguments<'_>) {
    log_line(format!("{words}\n").as_bytes());
    flush_error();
}

/// `eprintln!` that neither panics nor hangs, whatever has become of standard error.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::stdio::say(format_args!($($words)*)) };
}

/// Writes a line to standard output. The first failure is kept for [`output_failure`], and the lines after it are lost.
/// See [`print_line!`](crate::print_line).
pub fn print_line(words: fmt::Arguments<'_>) {
    let mut failure = unpoisoned(OUTPUT_FAILURE.lock());
    if failure.is_none() {
        let line = format!("{words}\n");
        *failure = Stdout::open().and_then(|mut output| output.write_all(line.as_bytes())).err();
    }
}

/// `println!` that does not panic: the program asks for [`output_failure`](crate::stdio::output_failure) at its end.
#[macro_export]
macro_rules! print_line {
    ($($words:tt)*) => { $crate::stdio::print_line(format_args!($($words)*)) };
}

/// Why not all that was given to [`print_line()`] is on standard output. A reader that has closed its end
/// (`… | head -1`) is no failure: it has what it wants.
pub fn output_failure() -> Option<io::Error> {
    let failure = unpoisoned(OUTPUT_FAILURE.lock()).take();
    failure.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

fn start_writer() -> io::Result<()> {
    // Signals are for the threads that wait for them: this one must not be ended by a SIGTERM that the others block.
    sys::with_signals_blocked(|| {
        std::thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(|| {
                ERROR_LINES.write_all(|bytes| patiently(ERROR, libc::POLLOUT, || sys::write(ERROR, bytes)))
            })
            .map(drop)
    })
}
