//! What the demo publishes: a file, standard input when it is piped, or text of Ringlog's own repository.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::limits::MAX_BATCH_BYTES;
use ringlog_reactor::say;
use ringlog_reactor::stdio::Stdin;

use super::super::failure::Failure;
use super::super::lines::Lines;

/// Pages and source of the repository, inside the binary, so that an installed one has them too.
const EMBEDDED: &[&str] = &[
    include_str!("../../../../README.md"),
    include_str!("../../../../docs/wire.md"),
    include_str!("mod.rs"),
    include_str!("input.rs"),
    include_str!("ledger.rs"),
    include_str!("table.rs"),
    include_str!("../produce.rs"),
    include_str!("../consume.rs"),
    include_str!("../format.rs"),
    include_str!("../lines.rs"),
];

/// Kept of the input's beginning, to be published again at a pace.
const KEPT_LINES: usize = 1_000;
/// Only short lines are kept: the paced phase is about single small records.
const KEPT_LINE_BYTES: usize = 4 << 10;
/// A pipe that says nothing for so long was inherited, not meant: under a service manager or a test runner.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// A source of lines.
pub struct Input {
    name: String,
    source: Source,
    kept: Vec<Bytes>,
}

enum Source {
    Stream(Lines<Box<dyn Read>>),
    Embedded { lines: Vec<Bytes>, next: usize, left: u64 },
}

impl Input {
    /// Takes `file`, or else standard input if something comes from there, or else the repository's text, so often
    /// that it has `records` lines.
    pub fn open(file: Option<&Path>, records: u64) -> Result<Input, Failure> {
        if let Some(path) = file {
            let file = File::open(path)
                .map_err(|error| Failure::said(format!("cannot read {}: {error}", path.display())))?;
            return Ok(Input::stream(path.display().to_string(), Box::new(file)));
        }
        if is_piped()
            && let Some(stdin) = piped_input()?
        {
            return Ok(Input::stream("standard input".to_owned(), stdin));
        }
        Ok(Input::embedded(records))
    }

    fn stream(name: String, stream: Box<dyn Read>) -> Input {
        Input { name, source: Source::Stream(Lines::new(stream, MAX_BATCH_BYTES)), kept: Vec::new() }
    }

    fn embedded(records: u64) -> Input {
        let text = EMBEDDED.iter().flat_map(|text| text.lines());
        let lines = text.map(|line| Bytes::from_static(line.as_bytes())).collect();
        let name = "text of Ringlog's own repository, repeated".to_owned();
        Input { name, source: Source::Embedded { lines, next: 0, left: records }, kept: Vec::new() }
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, Failure> {
        let line = match &mut self.source {
            Source::Stream(lines) => lines
                .next_line()
                .map_err(|error| Failure::said(format!("cannot read {}: {error}", self.name)))?,
            Source::Embedded { left: 0, .. } => None,
            Source::Embedded { lines, next, left } => {
                *left -= 1;
                let line = lines[*next].clone();
                *next = (*next + 1) % lines.len();
                Some(line)
            }
        };
        if let Some(line) = &line
            && self.kept.len() < KEPT_LINES
            && line.len() <= KEPT_LINE_BYTES
        {
            // Copied, so that a few lines do not hold on to all the memory they were read into.
            self.kept.push(Bytes::copy_from_slice(line));
        }
        Ok(line)
    }

    /// The beginning of the input again, round and round; one empty line when all its lines were too long.
    pub fn again(&self) -> impl Iterator<Item = Bytes> {
        let empty = self.kept.is_empty().then(Bytes::new);
        self.kept.iter().cloned().chain(empty).collect::<Vec<_>>().into_iter().cycle()
    }
}

/// A pipe, a socket or a redirected file; a terminal and `/dev/null` are none of these.
fn is_piped() -> bool {
    fs::metadata("/dev/stdin").is_ok_and(|stdin| {
        let kind = stdin.file_type();
        kind.is_fifo() || kind.is_socket() || kind.is_file()
    })
}

/// Standard input, once something came from it; `None` when it ends without a byte or stays silent.
fn piped_input() -> Result<Option<Box<dyn Read>>, Failure> {
    let failure = |error| Failure::said(format!("cannot read standard input: {error}"));
    let input = || Stdin::open().map_err(failure);
    let (mut reader, rest) = (input()?, input()?);
    let (sender, first) = sync_channel(1);
    // Reading may last for ever, so a thread does it that nobody has to wait for.
    thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        let read = reader.read(&mut chunk).map(|count| {
            chunk.truncate(count);
            chunk
        });
        // Nobody listens any more: the pipe was given up.
        let _ = sender.send(read);
    });
    match first.recv_timeout(SILENT_AFTER) {
        Ok(Ok(chunk)) if chunk.is_empty() => {
            say!("standard input is empty: publishing Ringlog's own text instead");
            Ok(None)
        }
        Ok(Ok(chunk)) => Ok(Some(Box::new(Cursor::new(chunk).chain(rest)))),
        Ok(Err(error)) => Err(failure(error)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let seconds = SILENT_AFTER.as_secs();
            say!("nothing came from standard input for {seconds} s: publishing Ringlog's own text instead");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_text_has_as_many_lines_as_are_asked_for() {
        let mut input = Input::embedded(10_000);
        let mut count = 0;
        while input.next_line().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 10_000);
    }

    #[test]
    fn the_beginning_comes_again_round_and_round() {
        let mut input = Input::stream("x".into(), Box::new(&b"a\nb\n"[..]));
        while input.next_line().unwrap().is_some() {}
        let again: Vec<Bytes> = input.again().take(3).collect();
        assert_eq!(again, ["a", "b", "a"]);
    }

    #[test]
    fn an_input_of_only_long_lines_still_has_something_to_send_at_a_pace() {
        let long = Cursor::new(vec![b'x'; KEPT_LINE_BYTES + 1]);
        let mut input = Input::stream("x".into(), Box::new(long));
        while input.next_line().unwrap().is_some() {}
        assert_eq!(input.again().next(), Some(Bytes::new()));
    }
}
