//! `ringlog produce`: one record a line, and a count of what was acknowledged.
//!
//! Two threads: this one reads lines and sends them; the other waits for each record's ack, in the order of the
//! lines, and keeps the tally. The channel between them is bounded, and so is the producer's buffer: a slow broker
//! makes the reading slow, it never makes the memory grow.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_client::{
    Ack, Acked, Client, Compression, Delivery, DeliveryError, Producer, Record, SendError, TrySendError,
    block_on,
};
use ringlog_reactor::say;
use ringlog_reactor::stdio::Stdin;

use super::BrokerAddress;
use super::failure::Failure;
use super::lines::Lines;
use super::output::Output;
use super::units::{grouped, parse_bytes, parse_duration};

/// Records sent whose ack the tally has not seen yet; the producer's own buffer is the tighter bound for all but the
/// smallest.
const WAITING_FOR_TALLY: usize = 64 << 10;
/// How long a failed run still waits for the acks of what it had sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Publish records, one a line, from standard input or a file
///
/// A record's value is the line without its line feed, byte for byte. Exit code 0 means that every line was
/// acknowledged. When a record fails, no more lines are sent, and the last line on standard error says how many were
/// acknowledged, refused (not in the log), and unknown (the connection ended before the answer).
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog produce orders < orders.txt
  ringlog produce orders --file orders.txt --key-sep : --header source=import
  seq 1000 | ringlog produce orders --partition 3 --ack memory
  tail -f app.log | ringlog produce logs --linger 5ms --compression zstd")]
pub struct ProduceArgs {
    /// The topic
    topic: String,
    /// Read lines from this file [default: standard input]
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// Send every record to this partition
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// What ends the key in a line: `k:v` with `--key-sep :` is key k and value v. A line without it has no key
    #[arg(long, value_name = "SEP", value_parser = parse_separator)]
    key_sep: Option<String>,
    /// Header for every record; may be given more than once
    #[arg(long, value_name = "K=V", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// What an ack means: on stable storage, in the broker's memory, or sent
    #[arg(long, value_name = "disk|memory|none", default_value = "disk", value_parser = parse_ack)]
    ack: Ack,
    /// Bytes of records that make a batch full, such as 64k
    #[arg(long, value_name = "N", value_parser = parse_bytes)]
    batch_bytes: Option<u64>,
    /// How long a batch waits for more records, such as 5ms; 0 sends at once, and what comes meanwhile shares the next
    #[arg(long, value_name = "DUR", default_value = "0", value_parser = parse_duration)]
    linger: Duration,
    /// How batches are compressed
    #[arg(long, value_name = "CODEC", default_value = "none",
        value_parser = PossibleValuesParser::new(["none", "gzip", "snappy", "lz4", "zstd"]))]
    compression: String,
    /// How long a record may wait for its ack while the broker is away, such as 10s
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    delivery_timeout: Option<Duration>,
    /// Print one line for each line read: partition and offset once acknowledged, `- refused` or `- unknown` otherwise
    #[arg(long)]
    print_acks: bool,
    #[command(flatten)]
    broker: BrokerAddress,
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
    let (input, bytes) = open_input(args)?;
    let output = args.print_acks.then(Output::open).transpose()?;
    let client = args.broker.connect()?;
    let producer = build_producer(&client, args)?;
    let progress = progress_bar(bytes);
    let failed = Arc::new(AtomicBool::new(false));
    let (deliveries, receiver) = sync_channel(WAITING_FOR_TALLY);
    let tally = {
        let (progress, failed) = (progress.clone(), Arc::clone(&failed));
        thread::spawn(move || Tally::count(receiver, &progress, output, &failed))
    };
    let read = send_all(args, progress.wrap_read(input), &producer, &deliveries, &failed);
    drop(deliveries);
    if read.is_err() || failed.load(Ordering::Relaxed) {
        // What was sent gets its chance; what still waits for a broker that is away does not hold us for ever.
        let _ = block_on(producer.close(CLOSE_WITHIN));
    }
    let tally = tally.join().map_err(|_| Failure::said("the thread that counts acks has panicked"))??;
    progress.finish_and_clear();
    tally.report(read)
}

fn open_input(args: &ProduceArgs) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
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
        .compression(compression(&args.compression));
    if let Some(bytes) = args.batch_bytes {
        builder = builder.batch_bytes(usize::try_from(bytes).map_err(Failure::said)?);
    }
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

/// One line of the input on its way: its delivery, or why it was not admitted.
type Sent = Result<Delivery, SendError>;

/// Sends lines until the input ends or a record fails.
fn send_all(
    args: &ProduceArgs,
    input: impl Read,
    producer: &Producer,
    deliveries: &SyncSender<Sent>,
    failed: &AtomicBool,
) -> io::Result<()> {
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next_line()? {
        let sent = send(producer, record(args, line));
        // A closed channel means that the tally has stopped: standard output is gone, and it says so itself.
        if deliveries.send(sent).is_err() || failed.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// Admission is mostly a matter of adding to a batch; only a full buffer is worth waiting for.
fn send(producer: &Producer, record: Record) -> Sent {
    match producer.try_send(record) {
        Ok(delivery) => Ok(delivery),
        Err(TrySendError::Full(record)) => block_on(producer.send(record)),
        Err(TrySendError::Refused(error)) => Err(error),
    }
}

fn record(args: &ProduceArgs, line: Bytes) -> Record {
    let (key, value) = split_key(args.key_sep.as_deref(), line);
    let mut record = Record::new(value);
    if let Some(key) = key {
        record = record.key(key);
    }
    for (name, value) in &args.header {
        record = record.header(name.as_str(), value.clone());
    }
    match args.partition {
        Some(partition) => record.partition(partition),
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
    /// The number of the first line that failed, from 1, and why.
    first_failure: Option<(u64, String)>,
}

impl Tally {
    fn count(
        deliveries: Receiver<Sent>,
        progress: &ProgressBar,
        mut output: Option<Output>,
        failed: &AtomicBool,
    ) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        while let Some(sent) = next(&deliveries, output.as_mut())? {
            let outcome = match sent {
                Ok(delivery) => match output.as_mut() {
                    Some(output) => output.wait_for(delivery)?,
                    None => delivery.wait(),
                }
                .map_err(Refusal::Delivery),
                Err(error) => Err(Refusal::Send(error)),
            };
            if let Some(output) = output.as_mut() {
                print_outcome(output, &outcome)?;
            }
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            tally.add(outcome);
            if tally.total().is_multiple_of(1_024) {
                progress.set_message(format!("{} acked", grouped(tally.acked)));
            }
        }
        if let Some(mut output) = output {
            output.flush()?;
        }
        Ok(tally)
    }

    fn add(&mut self, outcome: Result<Acked, Refusal>) {
        match outcome {
            Ok(_) => self.acked += 1,
            Err(refusal) => {
                if self.first_failure.is_none() {
                    self.first_failure = Some((self.total() + 1, refusal.to_string()));
                }
                if refusal.is_unknown() { self.unknown += 1 } else { self.refused += 1 }
            }
        }
    }

    fn total(&self) -> u64 {
        self.acked + self.refused + self.unknown
    }

    /// The last words on standard error, made for scripts as well as for people.
    fn report(&self, read: io::Result<()>) -> Result<(), Failure> {
        if let Err(error) = &read {
            say!("ringlog: cannot read the input after line {}: {error}", self.total());
        }
        if let Some((line, why)) = &self.first_failure {
            say!("ringlog: line {line} failed: {why}");
        }
        let Tally { acked, refused, unknown, .. } = self;
        if refused + unknown > 0 {
            say!("acked {acked}, refused {refused}, unknown {unknown} of {} records sent", self.total());
            return Err(Failure::Told);
        }
        say!("acked {acked} of {acked} records");
        if read.is_err() { Err(Failure::Told) } else { Ok(()) }
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

impl Refusal {
    fn is_unknown(&self) -> bool {
        matches!(self, Refusal::Delivery(error) if error.is_outcome_unknown())
    }
}

/// The next record to wait for. What was printed goes out before a wait for input that may never end.
fn next(deliveries: &Receiver<Sent>, output: Option<&mut Output>) -> Result<Option<Sent>, Failure> {
    if let Ok(sent) = deliveries.try_recv() {
        return Ok(Some(sent));
    }
    if let Some(output) = output {
        output.flush()?;
    }
    Ok(deliveries.recv().ok())
}

fn print_outcome(output: &mut Output, outcome: &Result<Acked, Refusal>) -> Result<(), Failure> {
    output.write(|out| match outcome {
        Ok(acked) => writeln!(out, "{} {}", acked.partition, acked.offset),
        Err(refusal) if refusal.is_unknown() => writeln!(out, "- unknown"),
        Err(_) => writeln!(out, "- refused"),
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
    fn the_tally_tells_refused_from_unknown() {
        let mut tally = Tally::default();
        tally.add(Ok(Acked { partition: 0, offset: 0 }));
        tally.add(Err(Refusal::Delivery(DeliveryError::OutcomeUnknown)));
        tally.add(Err(Refusal::Send(SendError::Closed)));
        assert_eq!((tally.acked, tally.refused, tally.unknown), (1, 1, 1));
        assert_eq!(tally.first_failure.as_ref().map(|(line, _)| *line), Some(2));
        assert!(tally.report(Ok(())).is_err());
    }
}
