//! Records from a stream of bytes, one a line. The bytes are not looked at: a record is what stands between two
//! line feeds, carriage returns and invalid UTF-8 included, and a last line without a line feed is one too.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

/// Read from the input at a time; the lines in it are slices of the same memory.
const CHUNK_BYTES: usize = 256 << 10;

/// Cuts an input into lines without copying each.
pub struct Lines<R> {
    input: R,
    buffer: BytesMut,
    /// Bytes at the head of `buffer` that hold no line feed.
    searched: usize,
    ended: bool,
    /// A longer line is refused.
    max_line_bytes: usize,
    chunk: Box<[u8]>,
}

impl<R: Read> Lines<R> {
    /// Lines of `input`, which need not be buffered.
    pub fn new(input: R, max_line_bytes: usize) -> Lines<R> {
        let chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        Lines { input, buffer: BytesMut::new(), searched: 0, ended: false, max_line_bytes, chunk }
    }

    /// The next line without its line feed; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read, or a line is longer than a batch may be.
    pub fn next_line(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.ended {
                let rest = self.buffer.split().freeze();
                self.searched = 0;
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if self.searched > self.max_line_bytes {
                let message = format!("a line is longer than {} bytes", self.max_line_bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        match self.input.read(&mut self.chunk) {
            Ok(0) => self.ended = true,
            Ok(read) => self.buffer.extend_from_slice(&self.chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LINE_BYTES: usize = 1 << 20;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(input, MAX_LINE_BYTES);
        std::iter::from_fn(|| lines.next_line().unwrap()).map(|line| line.to_vec()).collect()
    }

    /// Gives one byte a read, as a slow pipe does.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn no_input_has_no_lines() {
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn an_empty_line_is_a_record_and_the_last_line_feed_is_none() {
        assert_eq!(lines(b"a\n\nb\n"), [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn a_last_line_without_a_line_feed_is_a_record() {
        assert_eq!(lines(b"a\nb"), [b"a".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn every_other_byte_is_kept() {
        assert_eq!(lines(b"\xff\0\r\n"), [b"\xff\0\r".to_vec()]);
    }

    #[test]
    fn lines_longer_than_a_chunk_come_whole() {
        let long = vec![b'x'; CHUNK_BYTES * 2 + 7];
        assert_eq!(lines(&[&long[..], b"\ny"].concat()), [long, b"y".to_vec()]);
    }

    #[test]
    fn a_slow_pipe_gives_the_same_lines() {
        let mut lines = Lines::new(Trickle(b"ab\nc\n"), MAX_LINE_BYTES);
        assert_eq!(lines.next_line().unwrap().unwrap(), "ab");
        assert_eq!(lines.next_line().unwrap().unwrap(), "c");
        assert!(lines.next_line().unwrap().is_none());
        assert!(lines.next_line().unwrap().is_none());
    }

    #[test]
    fn a_line_that_no_batch_can_hold_is_refused() {
        let endless = io::repeat(b'x').take(MAX_LINE_BYTES as u64 + (1 << 20));
        assert_eq!(
            Lines::new(endless, MAX_LINE_BYTES).next_line().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
