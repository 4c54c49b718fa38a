//! Lines on their way to standard error: a bounded queue, and the loop of the thread that writes them.
//!
//! Invariants
//! - [`LineQueue::push`] waits for nothing but another `push`.
//! - Lines are written in the order they came. The lines that are missing are counted, and a line with their count
//!   stands where they are missing, or, if writing failed, before the first line that is written again.
//! - At most [`QUEUE_BYTES`] wait.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, LockResult, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Enough for the log of a start with a thousand damaged places, and little beside a broker's other memory.
const QUEUE_BYTES: usize = 1 << 20;

/// A bounded queue of lines with one writer.
pub(crate) struct LineQueue {
    state: Mutex<State>,
    arrived: Condvar,
    settled: Condvar,
}

struct State {
    waiting: VecDeque<Box<[u8]>>,
    /// Of the lines that wait and of those being written.
    bytes: usize,
    /// A line did not fit: those after it are dropped as well, until all before it are written.
    is_full: bool,
    /// Lines that were not taken in.
    dropped: u64,
    /// Lines that were taken in, and how many of them are written or dropped by now.
    accepted: u64,
    settled: u64,
    has_writer: bool,
}

impl LineQueue {
    pub(crate) const fn new() -> LineQueue {
        let state = State {
            waiting: VecDeque::new(),
            bytes: 0,
            is_full: false,
            dropped: 0,
            accepted: 0,
            settled: 0,
            has_writer: false,
        };
        LineQueue { state: Mutex::new(state), arrived: Condvar::new(), settled: Condvar::new() }
    }

    /// Takes a line in, or counts it as dropped. `start` starts the thread that calls [`LineQueue::write_all`].
    pub(crate) fn push(&self, line: &[u8], start: impl FnOnce() -> io::Result<()>) {
        let mut state = unpoisoned(self.state.lock());
        if !state.has_writer {
            state.has_writer = start().is_ok();
        }
        state.is_full |= state.bytes + line.len() > QUEUE_BYTES;
        if !state.has_writer || state.is_full {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.accepted += 1;
        state.waiting.push_back(line.into());
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until every line that is in by now was written or dropped, at most so long.
    pub(crate) fn wait_until_settled(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut state = unpoisoned(self.state.lock());
        let wanted = state.accepted;
        while state.settled < wanted {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return;
            };
            (state, _) = unpoisoned(self.settled.wait_timeout(state, left));
        }
    }

    /// Writes lines with `write`, for ever.
    pub(crate) fn write_all(&self, write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let mut writer = LineWriter::new(write);
        loop {
            self.write_waiting(&mut writer);
        }
    }

    /// Waits for lines and writes those that are there.
    fn write_waiting<W: FnMut(&[u8]) -> io::Result<usize>>(&self, writer: &mut LineWriter<W>) {
        let mut state = unpoisoned(self.state.lock());
        while state.waiting.is_empty() {
            state = unpoisoned(self.arrived.wait(state));
        }
        let lines = std::mem::take(&mut state.waiting);
        drop(state);
        for line in &lines {
            writer.write(line);
            let mut state = unpoisoned(self.state.lock());
            state.bytes -= line.len();
            state.settled += 1;
            drop(state);
            self.settled.notify_all();
        }
        let mut state = unpoisoned(self.state.lock());
        if state.waiting.is_empty() {
            writer.missing += std::mem::take(&mut state.dropped);
            state.is_full = false;
        }
        drop(state);
        // An error is counted: the next line tries again.
        let _ = writer.write_missing();
    }
}

/// Writes whole lines, also after one that was cut, and counts those that could not be written.
struct LineWriter<W> {
    write: W,
    /// The last line was written in part: a line feed is due.
    is_torn: bool,
    /// Lines that are missing since the last one that was written.
    missing: u64,
}

impl<W: FnMut(&[u8]) -> io::Result<usize>> LineWriter<W> {
    fn new(write: W) -> LineWriter<W> {
        LineWriter { write, is_torn: false, missing: 0 }
    }

    fn write(&mut self, line: &[u8]) {
        if self.write_missing().and_then(|()| self.write_line(line)).is_err() {
            self.missing += 1;
        }
    }

    /// Says how many lines are missing here, if any are.
    fn write_missing(&mut self) -> io::Result<()> {
        if self.missing > 0 {
            let (count, lines) = (self.missing, if self.missing == 1 { "line is" } else { "lines are" });
            let line =
                format!("ringlog: {count} log {lines} missing here: standard error did not take more\n");
            self.write_line(line.as_bytes())?;
            self.missing = 0;
        }
        Ok(())
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_whole(b"\n")?;
        }
        self.write_whole(line)
    }

    fn write_whole(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (self.write)(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.is_torn = bytes[..count].last() != Some(&b'\n');
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the lock guards is sound after every statement, so a panic of another thread is no reason for one here.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const LINE: usize = 1 << 10;

    fn push(queue: &LineQueue, line: &str) {
        queue.push(line.as_bytes(), || Ok(()));
    }

    /// Writes all that waits.
    fn written(queue: &LineQueue, writer: &mut LineWriter<impl FnMut(&[u8]) -> io::Result<usize>>) {
        while !unpoisoned(queue.state.lock()).waiting.is_empty() {
            queue.write_waiting(writer);
        }
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_says_how_much() {
        let queue = LineQueue::new();
        let line = format!("{}\n", "x".repeat(LINE - 1));
        let fit = QUEUE_BYTES / LINE;
        (0..fit + 3).for_each(|_| push(&queue, &line));
        push(&queue, "short, but after those that did not fit\n");
        let mut out = Vec::new();
        let mut writer = LineWriter::new(|bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(bytes.len())
        });
        written(&queue, &mut writer);
        push(&queue, "later\n");
        written(&queue, &mut writer);
        let out = String::from_utf8(out).expect("text");
        let (head, tail) = out.split_at(fit * LINE);
        assert_eq!(head, line.repeat(fit));
        assert_eq!(tail, "ringlog: 4 log lines are missing here: standard error did not take more\nlater\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_one_says_so() {
        let queue = LineQueue::new();
        let (out, room) = (RefCell::new(Vec::new()), Cell::new(5));
        let mut writer = LineWriter::new(|bytes: &[u8]| {
            let count = bytes.len().min(room.get());
            out.borrow_mut().extend_from_slice(&bytes[..count]);
            room.set(room.get() - count);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        });
        for line in ["one\n", "two\n", "three\n"] {
            push(&queue, line);
        }
        written(&queue, &mut writer);
        assert_eq!(out.take(), b"one\nt");
        room.set(1 << 20);
        push(&queue, "four\n");
        written(&queue, &mut writer);
        assert_eq!(
            String::from_utf8(out.take()).expect("text"),
            "\nringlog: 2 log lines are missing here: standard error did not take more\nfour\n"
        );
    }

    #[test]
    fn nothing_waits_for_a_sink_that_is_stuck() {
        static QUEUE: LineQueue = LineQueue::new();
        let (release, stuck) = mpsc::channel::<()>();
        thread::spawn(move || {
            QUEUE.write_all(|bytes| {
                let _ = stuck.recv();
                Ok(bytes.len())
            });
        });
        let begun = Instant::now();
        (0..3 * QUEUE_BYTES / LINE).for_each(|_| push(&QUEUE, &"x".repeat(LINE)));
        QUEUE.wait_until_settled(Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(10), "the wait has an end");
        let state = unpoisoned(QUEUE.state.lock());
        assert!(state.bytes <= QUEUE_BYTES && state.dropped > 0, "bounded, and counted");
        drop(state);
        drop(release);
        QUEUE.wait_until_settled(Duration::from_secs(60));
        assert_eq!(unpoisoned(QUEUE.state.lock()).bytes, 0, "all that was taken in is written");
    }

    #[test]
    fn without_a_writer_lines_are_counted_and_the_next_one_starts_it() {
        let queue = LineQueue::new();
        queue.push(b"lost\n", || Err(io::ErrorKind::WouldBlock.into()));
        queue.push(b"taken\n", || Ok(()));
        let mut out = Vec::new();
        written(
            &queue,
            &mut LineWriter::new(|bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            }),
        );
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "taken\nringlog: 1 log line is missing here: standard error did not take more\n"
        );
    }
}
