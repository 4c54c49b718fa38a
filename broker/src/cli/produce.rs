//! `ringlog produce`: one record a line, and a count of what was acknowledged.
//!
//! Invariant: what a partition has of the input is a prefix of the records that are for it, but for one batch at its end
//! whose outcome may be unknown: nothing is sent after a record that failed.
//!
//! Three threads: one reads bytes (`input`); this one cuts them into records and sends them; the last waits for each record's ack,
//! in the order of the lines, and keeps the tally. The channel between them is bounded, and so is the producer's buffer: a slow broker
//! makes the reading slow, it never makes the memory grow.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_client::{
    Ack, Acked, Client, Compression, Delivery, DeliveryError, Producer, Record, SendError, TrySendError,
    block_on, block_on_timeout,
};
use ringlog_protocol::limits::MAX_BATCH_BYTES;
use ringlog_reactor::say;
use ringlog_reactor::stdio::Stdin;

use super::broker_address::BrokerAddress;
use super::failure::Failure;
use super::input::{Input, Stopped};
use super::json;
use super::lines::Lines;
use super::output::Output;
use super::stop::{Reason, Stop, unless_stopped};
use super::units::{grouped, parse_bytes, parse_duration};

/// Records sent whose ack the tally has not seen yet; the producer's own buffer is the tighter bound for all but the
/// smallest.
const WAITING_FOR_TALLY: usize = 64 << 10;
/// One batch of a partition is on its way at a time, so it may be larger than the library's.
const BATCH_BYTES: usize = 256 << 10;
/// How long a failed run still waits for the acks of what it had sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Publish records, one a line, from standard input or a file
///
/// A record's value is the line without its line feed, byte for byte; `--format json` takes whole records, as `consume
/// --format json` prints them. Exit code 0 means that every line was acknowledged. When a record fails, nothing after it is
/// sent, so each partition has a prefix of the input; the last line on standard error says how many records were acknowledged,
/// refused or not sent (both not in the log), and unknown (the connection ended before the answer). SIGINT, SIGTERM and
/// SIGHUP end the reading; what was read is sent and awaited, for up to 30 seconds; a second signal ends at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog produce orders < orders.txt
  ringlog produce orders --file orders.txt --key-sep : --header source=import
  seq 1000 | ringlog produce orders --partition 3 --ack memory
  printf 'ada:NULL\\n' | ringlog produce orders --key-sep : --null NULL
  ringlog consume orders --format json --until-end | ringlog produce orders-2 --format json
  tail -f app.log | ringlog produce logs --linger 5ms --compression zstd

JSON, one object a line (also what `consume --format json` prints):
  {\"partition\":3,\"timestamp\":1769860800000,\"key\":\"ada\",\"value\":\"1\",\"headers\":[{\"name\":\"a\",\"value\":null}]}
  Only `value` must be there. Bytes that are no UTF-8 are {\"base64\":\"/w==\"}; null is null. `timestamp` is in Unix
  milliseconds [default: now]; `topic` and `offset` are left aside. A record goes to its `partition`, unless --partition
  says another; take the field out (jq -c 'del(.partition)') to have the partition chosen by the key.")]
pub struct ProduceArgs {
    /// The topic
    topic: String,
    /// Read lines from this file [default: standard input]
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// What a line is: the value of a record, or a whole record in JSON
    #[arg(long, value_name = "lines|json", default_value = "lines", value_parser = parse_format)]
    format: InputFormat,
    /// Send every record to this partition
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// What ends the key in a line: `k:v` with `--key-sep :` is key k and value v. A line without it has no key
    #[arg(long, value_name = "SEP", value_parser = parse_separator)]
    key_sep: Option<String>,
    /// A key or a value that is this text is null, such as --null NULL
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Header for every record; may be given more than once
    #[arg(long, value_name = "K=V", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// What an ack means: on stable storage, in the broker's memory, or sent
    #[arg(long, value_name = "disk|memory|none", default_value = "disk", value_parser = parse_ack)]
    ack: Ack,
    /// Bytes of records that make a batch full, such as 64k [default: 256k, or what the topic takes]
    #[arg(long, value_name = "N", value_parser = parse_bytes)]
    batch_bytes: Option<u64>,
    /// How long a batch waits for more records, such as 5ms; 0 sends at once, and what comes meanwhile shares the next
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = parse_duration)]
    linger: Duration,
    /// How batches are compressed
    #[arg(long, value_name = "CODEC", default_value = "none",
        value_parser = PossibleValuesParser::new(["none", "gzip", "snappy", "lz4", "zstd"]))]
    compression: String,
    /// How long a record may wait to be sent while the broker is away, such as 10s [default: 2m]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    delivery_timeout: Option<Duration>,
    /// Print one line for each record: partition and offset once acknowledged; `- refused`, `- unknown` or `- not sent` otherwise
    #[arg(long)]
    print_acks: bool,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// What a line of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputFormat {
    Lines,
    Json,
}

impl InputFormat {
    /// A longer line cannot be a record that a batch holds. JSON may write a byte as six, such as `\u0000`.
    fn max_line_bytes(self) -> usize {
        match self {
            InputFormat::Lines => MAX_BATCH_BYTES,
            InputFormat::Json => 6 * MAX_BATCH_BYTES + 4096,
        }
    }
}

fn parse_format(text: &str) -> Result<InputFormat, String> {
    match text {
        "lines" => Ok(InputFormat::Lines),
        "json" => Ok(InputFormat::Json),
        _ => Err("want `lines` or `json`".to_owned()),
    }
}

fn parse_separator(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.replace("\\t", "\t")) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("want name=value".to_owned()),
    }
}

fn parse_ack(text: &str) -> Result<Ack, String> {
    match text {
        "disk" => Ok(Ack::Disk),
        "memory" => Ok(Ack::Memory),
        "none" => Ok(Ack::None),
        _ => Err("want `disk`, `memory` or `none`".to_owned()),
    }
}

fn compression(name: &str) -> Compression {
    match name {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Publishes the input and says how it went.
pub fn run(args: &ProduceArgs) -> Result<(), Failure> {
    if args.format == InputFormat::Json && (args.key_sep.is_some() || args.null.is_some()) {
        return Err(Failure::refused(
            "--key-sep and --null are for lines: JSON has its own key, and its own null",
        ));
    }
    let stop = Stop::at_signals(None)?;
    let output = if args.print_acks { Some(Output::open()?) } else { None };
    let (input, bytes) = open_input(args)?;
    let client = args.broker.connect()?;
    let producer = build_producer(&client, args)?;
    let input = Input::start(input, &stop).map_err(Failure::said)?;
    let progress = progress_bar(bytes);
    let (deliveries, receiver) = sync_channel(WAITING_FOR_TALLY);
    let tally = {
        let (progress, stop) = (progress.clone(), stop.clone());
        thread::spawn(move || Tally::count(receiver, &progress, output, &stop))
    };
    let end = send_all(args, progress.wrap_read(input), &producer, &deliveries, &stop);
    drop(deliveries);
    // What lingers goes at once. A reason to stop ends this wait, and what was sent gets its chance, within a bound.
    if block_on(unless_stopped(&stop, producer.flush())).is_err() {
        let _ = block_on(producer.close(CLOSE_WITHIN));
    }
    let tally = tally.join().map_err(|_| Failure::said("the thread that counts acks has panicked"))?;
    progress.finish_and_clear();
    tally.report(&end, stop.reason())
}

fn open_input(args: &ProduceArgs) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = &args.file else {
        let input = Stdin::open();
        let input = input.map_err(|error| Failure::said(format!("cannot read standard input: {error}")))?;
        return Ok((Box::new(input), None));
    };
    let failure = |error| Failure::said(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(failure)?;
    let about = file.metadata().map_err(failure)?;
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

fn build_producer(client: &Client, args: &ProduceArgs) -> Result<Producer, Failure> {
    let mut builder = client
        .producer(&args.topic)
        .ack(args.ack)
        .linger(args.linger)
        .compression(compression(&args.compression))
        .stop_on_failure(true)
        .batch_bytes(match args.batch_bytes {
            Some(bytes) => usize::try_from(bytes).map_err(Failure::said)?,
            None => BATCH_BYTES,
        });
    if let Some(timeout) = args.delivery_timeout {
        builder = builder.delivery_timeout(timeout);
    }
    block_on(builder.build()).map_err(Failure::said)
}

/// Shown on a terminal only; elsewhere it draws nothing. Measured in bytes read, since lines cannot be known before.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}"),
        None => (ProgressBar::no_length(), "{spinner} {bytes}  {bytes_per_sec}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// One record on its way: the number of its line, from 1, and its delivery, or why it was not admitted.
struct Sent {
    line: u64,
    admitted: Result<Delivery, SendError>,
}

/// How the reading ended.
enum End {
    /// Every line was read.
    Whole,
    /// There was a reason to stop.
    Stopped,
    /// The input cannot be read on, and why.
    Broken(String),
}

/// Sends records until the input ends, one is refused, or there is a reason to stop.
fn send_all(
    args: &ProduceArgs,
    input: impl Read,
    producer: &Producer,
    deliveries: &SyncSender<Sent>,
    stop: &Stop,
) -> End {
    let mut lines = Lines::new(input, args.format.max_line_bytes());
    for line in 1.. {
        let text = match lines.next_line() {
            Ok(Some(text)) => text,
            Ok(None) => return End::Whole,
            Err(error) if Stopped::is(&error) => return End::Stopped,
            Err(error) => {
                return End::Broken(format!("cannot read the input after line {}: {error}", line - 1));
            }
        };
        let record = match record(args, text) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(why) => return End::Broken(format!("line {line} is no record: {why}")),
        };
        let admitted = send(producer, record, stop);
        let refused = admitted.is_err();
        // The log must be a prefix of the input: nothing goes after what is not in it.
        if deliveries.send(Sent { line, admitted }).is_err()
            || refused
            || stop.reason() == Some(Reason::RecordFailed)
        {
            return End::Stopped;
        }
    }
    End::Whole
}

/// Admission is mostly a matter of adding to a batch; only a full buffer is worth waiting for.
fn send(producer: &Producer, record: Record, stop: &Stop) -> Result<Delivery, SendError> {
    match producer.try_send(record) {
        Ok(delivery) => Ok(delivery),
        Err(TrySendError::Full(record)) => {
            let mut admission = pin!(producer.send(record));
            match block_on(unless_stopped(stop, admission.as_mut())) {
                Ok(admitted) => admitted,
                // It was read, so it is sent if there is room for it soon.
                Err(_) => block_on_timeout(CLOSE_WITHIN, admission).unwrap_or(Err(SendError::Closed)),
            }
        }
        Err(TrySendError::Refused(error)) => Err(error),
    }
}

/// The record of a line; none if the line is blank between JSON objects.
fn record(args: &ProduceArgs, line: Bytes) -> Result<Option<Record>, String> {
    let mut record = match args.format {
        InputFormat::Lines => text_record(args, line),
        InputFormat::Json if line.trim_ascii().is_empty() => return Ok(None),
        InputFormat::Json => json::read(&line)?,
    };
    for (name, value) in &args.header {
        record = record.header(name.as_str(), value.clone());
    }
    Ok(Some(match args.partition {
        Some(partition) => record.partition(partition),
        None => record,
    }))
}

fn text_record(args: &ProduceArgs, line: Bytes) -> Record {
    let (key, value) = split_key(args.key_sep.as_deref(), line);
    let not_null = |text: &Bytes| args.null.as_ref().is_none_or(|null| text != null.as_bytes());
    let record = if not_null(&value) { Record::new(value) } else { Record::default() };
    match key.filter(not_null) {
        Some(key) => record.key(key),
        None => record,
    }
}

fn split_key(separator: Option<&str>, line: Bytes) -> (Option<Bytes>, Bytes) {
    let Some(separator) = separator.map(str::as_bytes) else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line),
    }
}

/// What became of the records.
#[derive(Default)]
struct Tally {
    acked: u64,
    refused: u64,
    unknown: u64,
    not_sent: u64,
    /// The number of the first line that failed, from 1, and why.
    first_failure: Option<(u64, String)>,
    /// Why not all outcomes could be printed.
    unprinted: Option<String>,
}

impl Tally {
    fn count(
        deliveries: Receiver<Sent>,
        progress: &ProgressBar,
        mut output: Option<Output>,
        stop: &Stop,
    ) -> Tally {
        let mut tally = Tally::default();
        while let Some(sent) = tally.next(&deliveries, &mut output) {
            let outcome = match sent.admitted {
                Ok(delivery) => tally.wait_for(delivery, &mut output).map_err(Refusal::Delivery),
                Err(error) => Err(Refusal::Send(error)),
            };
            if outcome.is_err() {
                stop.raise(Reason::RecordFailed);
            }
            tally.print(&mut output, |output| print_outcome(output, &outcome));
            tally.add(sent.line, outcome);
            if tally.total().is_multiple_of(1_024) {
                progress.set_message(format!("{} acked", grouped(tally.acked)));
            }
        }
        tally.print(&mut output, Output::flush);
        tally
    }

    /// The next record to wait for. What was printed goes out before a wait for input that may never end.
    fn next(&mut self, deliveries: &Receiver<Sent>, output: &mut Option<Output>) -> Option<Sent> {
        if let Ok(sent) = deliveries.try_recv() {
            return Some(sent);
        }
        self.print(output, Output::flush);
        deliveries.recv().ok()
    }

    fn wait_for(
        &mut self,
        mut delivery: Delivery,
        output: &mut Option<Output>,
    ) -> Result<Acked, DeliveryError> {
        let mut result = None;
        self.print(output, |output| {
            result = Some(output.wait_for(&mut delivery)?);
            Ok(())
        });
        result.unwrap_or_else(|| delivery.wait())
    }

    /// Prints as long as that works. A reader of standard output that is gone wants no more outcomes, which is no reason to
    /// leave lines out.
    fn print(&mut self, output: &mut Option<Output>, print: impl FnOnce(&mut Output) -> Result<(), Failure>) {
        let Some(Err(failure)) = output.as_mut().map(print) else { return };
        *output = None;
        if !matches!(failure, Failure::OutputClosed) {
            self.unprinted = Some(failure.words().to_owned());
        }
    }

    fn add(&mut self, line: u64, outcome: Result<Acked, Refusal>) {
        let Err(refusal) = outcome else {
            self.acked += 1;
            return;
        };
        if self.first_failure.is_none() {
            self.first_failure = Some((line, refusal.to_string()));
        }
        match refusal.fate() {
            Fate::Refused => self.refused += 1,
            Fate::Unknown => self.unknown += 1,
            Fate::NotSent => self.not_sent += 1,
        }
    }

    fn total(&self) -> u64 {
        self.acked + self.refused + self.unknown + self.not_sent
    }

    /// The last words on standard error, made for scripts as well as for people.
    fn report(&self, end: &End, stopped: Option<Reason>) -> Result<(), Failure> {
        if let End::Broken(why) = end {
            say!("ringlog: {why}");
        }
        if let Some((line, why)) = &self.first_failure {
            say!("ringlog: line {line} failed: {why}");
        }
        if let Some(why) = &self.unprinted {
            say!("ringlog: {why}");
        }
        let all_acked = self.acked == self.total();
        let signal = match stopped {
            Some(Reason::Signal(signal)) if !all_acked || !matches!(end, End::Whole) => Some(signal),
            _ => None,
        };
        if let Some(signal) = signal {
            say!("ringlog: stopped by {} before the end of the input", signal.name());
        }
        let Tally { acked, refused, unknown, not_sent, .. } = self;
        match all_acked {
            true => say!("acked {acked} of {acked} records"),
            false => say!(
                "acked {acked}, refused {refused}, unknown {unknown}, not sent {not_sent} of {} records",
                self.total()
            ),
        }
        match signal {
            Some(signal) => Err(Failure::Stopped(signal)),
            None if all_acked && matches!(end, End::Whole) && self.unprinted.is_none() => Ok(()),
            None => Err(Failure::Told),
        }
    }
}

/// Why a line is not in the log, or may not be.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Send(SendError),
    #[error(transparent)]
    Delivery(DeliveryError),
}

/// What became of a record that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not in the log: it cannot be.
    Refused,
    /// It may be in the log or not.
    Unknown,
    /// It is not in the log: it never left.
    NotSent,
}

impl Refusal {
    fn fate(&self) -> Fate {
        match self {
            Refusal::Delivery(error) if error.is_outcome_unknown() => Fate::Unknown,
            Refusal::Send(SendError::Closed)
            | Refusal::Delivery(
                DeliveryError::NotSent
                | DeliveryError::TimedOut { .. }
                | DeliveryError::TopicRecreated { .. }
                | DeliveryError::Closed,
            ) => Fate::NotSent,
            Refusal::Send(_) | Refusal::Delivery(_) => Fate::Refused,
        }
    }
}

fn print_outcome(output: &mut Output, outcome: &Result<Acked, Refusal>) -> Result<(), Failure> {
    output.write(|out| match outcome.as_ref().map_err(Refusal::fate) {
        Ok(acked) => writeln!(out, "{} {}", acked.partition, acked.offset),
        Err(Fate::Refused) => writeln!(out, "- refused"),
        Err(Fate::Unknown) => writeln!(out, "- unknown"),
        Err(Fate::NotSent) => writeln!(out, "- not sent"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_at_the_first_separator() {
        let split = |line: &'static str| split_key(Some(":"), Bytes::from(line));
        assert_eq!(split("k:v:w"), (Some("k".into()), "v:w".into()));
        assert_eq!(split(":v"), (Some("".into()), "v".into()));
        assert_eq!(split("plain"), (None, "plain".into()));
    }

    #[test]
    fn a_separator_may_be_a_tab_or_longer_than_one_byte() {
        assert_eq!(parse_separator("\\t"), Ok("\t".to_owned()));
        assert_eq!(split_key(Some("=>"), Bytes::from("a=b=>c")), (Some("a=b".into()), "c".into()));
        assert!(parse_separator("").is_err());
    }

    #[test]
    fn the_tally_tells_refused_from_unknown_and_from_not_sent() {
        let mut tally = Tally::default();
        let too_large = SendError::TooLarge { bytes: 9, limit: 8 };
        tally.add(1, Ok(Acked { partition: 0, offset: 0 }));
        tally.add(3, Err(Refusal::Delivery(DeliveryError::OutcomeUnknown)));
        tally.add(4, Err(Refusal::Send(too_large)));
        tally.add(5, Err(Refusal::Delivery(DeliveryError::NotSent)));
        tally.add(6, Err(Refusal::Send(SendError::Closed)));
        assert_eq!((tally.acked, tally.refused, tally.unknown, tally.not_sent), (1, 1, 1, 2));
        assert_eq!(tally.first_failure.as_ref().map(|(line, _)| *line), Some(3));
        assert!(tally.report(&End::Whole, None).is_err());
    }
}
