//! `ringlog consume`: prints a topic's records, live or until where the topic ends now.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use ringlog_client::{Admin, Client, ConsumeError, ConsumedBatch, Consumer, Position, block_on};

use super::BrokerAddress;
use super::failure::Failure;
use super::format::Format;
use super::output::Output;
use super::position;

/// Print records, from any position, and follow live
///
/// Begins with the oldest record unless --from says otherwise, and follows live until it is stopped, unless
/// `--until-end` or `--count` says when to end. Standard output gets the records and nothing else, each as soon as
/// it may be read.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog consume orders --from end
  ringlog consume orders --until-end > orders.txt
  ringlog consume orders --partition 3 --from 1000 --count 10 --format '%o %k %v\\n'
  ringlog consume orders --from time:2026-01-31T12:00:00Z --format '%T %h %v\\n'

Format:
  %t topic   %p partition   %o offset   %T timestamp (RFC 3339)   %k key   %v value
  %h headers (name=value,…)   %% percent sign   \\n \\r \\t \\0 \\\\
  A null key or value prints as nothing.

Order: records of one partition come in the order of their offsets; partitions come interleaved.")]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Read only this partition; may be given more than once [default: all]
    #[arg(long, value_name = "P")]
    partition: Vec<u32>,
    /// Where to begin, in every partition
    #[arg(long, value_name = "begin|end|OFFSET|time:RFC3339", default_value = "begin", value_parser = position::parse)]
    from: Position,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop where each partition ended when this command started
    #[arg(long)]
    until_end: bool,
    /// Step over batches that cannot be read, and say so on standard error
    #[arg(long)]
    skip_unreadable: bool,
    /// What to print of each record
    #[arg(long, value_name = "FORMAT", default_value = "%v\\n")]
    format: Format,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// Prints records until there is a reason to stop.
pub fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let client = args.broker.connect()?;
    let mut output = Output::open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    if !args.until_end {
        let consumer = open(&client, args, None)?;
        return print(consumer, args, &mut output, &mut left, None);
    }
    let mut ranges = Ranges::fetch(&client.admin(), args)?;
    if ranges.is_done() {
        return Ok(());
    }
    let consumer = open(&client, args, Some(&ranges))?;
    print(consumer, args, &mut output, &mut left, Some(&mut ranges))
}

fn open(client: &Client, args: &ConsumeArgs, ranges: Option<&Ranges>) -> Result<Consumer, Failure> {
    let builder = client.consumer(&args.topic).skip_unreadable(args.skip_unreadable);
    let builder = match ranges {
        // No others: one that cannot be read must not end the reading of those that can.
        Some(ranges) => builder.partitions(ranges.open.keys().copied()).from_offsets(ranges.starts()),
        None if args.partition.is_empty() => builder.from(args.from),
        None => builder.partitions(args.partition.iter().copied()).from(args.from),
    };
    block_on(builder.build()).map_err(Failure::said)
}

fn print(
    mut consumer: Consumer,
    args: &ConsumeArgs,
    output: &mut Output,
    left: &mut u64,
    mut ranges: Option<&mut Ranges>,
) -> Result<(), Failure> {
    // A partition that fails ends alone: what can be read of the others is printed first.
    let mut failed = false;
    let mut batches = consumer.batches();
    while let Some(batch) = output.wait_for(batches.next())? {
        match batch {
            Ok(batch) => {
                print_batch(&batch, args, output, left, ranges.as_deref())?;
                if let Some(ranges) = ranges.as_deref_mut() {
                    ranges.saw(&batch);
                }
            }
            Err(error) => {
                output.flush()?;
                failed |= !step_over(&error, args, ranges.as_deref_mut())?;
            }
        }
        if *left == 0 || ranges.as_deref().is_some_and(Ranges::is_done) {
            break;
        }
    }
    output.flush()?;
    if failed {
        return Err(Failure::Told);
    }
    Ok(())
}

/// Says what cannot be read. False if its partition ends there.
fn step_over(error: &ConsumeError, args: &ConsumeArgs, ranges: Option<&mut Ranges>) -> Result<bool, Failure> {
    let Some(partition) = error.partition() else { return Err(Failure::said(error)) };
    if ranges.as_deref().is_some_and(|ranges| !ranges.open.contains_key(&partition)) {
        // It was read as far as it is wanted.
        return Ok(true);
    }
    let next = error.next_offset().filter(|_| args.skip_unreadable);
    let what = if next.is_some() { "stepped over: " } else { "" };
    // A standard error that cannot be written to must not end the reading.
    let _ = writeln!(io::stderr(), "ringlog: {what}{error}");
    match (next, ranges) {
        (Some(next), Some(ranges)) => ranges.passed(partition, next),
        (None, Some(ranges)) => drop(ranges.open.remove(&partition)),
        (_, None) => {}
    }
    Ok(next.is_some())
}

fn print_batch(
    batch: &ConsumedBatch,
    args: &ConsumeArgs,
    output: &mut Output,
    left: &mut u64,
    ranges: Option<&Ranges>,
) -> Result<(), Failure> {
    for record in &batch.records {
        let wanted = ranges.is_none_or(|ranges| ranges.contains(batch.partition, record.offset));
        if !wanted {
            continue;
        }
        if *left == 0 {
            break;
        }
        output.write(|out| args.format.write(out, record))?;
        *left -= 1;
    }
    Ok(())
}

/// For `--until-end`: what is still to come of each partition, from the next offset to the end as it was at start.
struct Ranges {
    open: BTreeMap<u32, std::ops::Range<i64>>,
}

impl Ranges {
    fn fetch(admin: &Admin, args: &ConsumeArgs) -> Result<Ranges, Failure> {
        block_on(async {
            let topic = admin.topic(&args.topic).await?;
            let wanted = |partition: u32| args.partition.is_empty() || args.partition.contains(&partition);
            let mut partitions: Vec<u32> = topic.partitions.iter().map(|info| info.partition).collect();
            // A partition that does not exist is asked for all the same, so that the broker names it.
            partitions
                .extend(args.partition.iter().filter(|wanted| **wanted as usize >= topic.partitions.len()));
            let mut open = BTreeMap::new();
            for partition in partitions.into_iter().filter(|partition| wanted(*partition)) {
                let at = admin.offsets(&args.topic, partition, args.from).await?;
                let range = at.offset..at.high_watermark;
                if !range.is_empty() {
                    open.insert(partition, range);
                }
            }
            Ok(Ranges { open })
        })
        .map_err(|error: ringlog_client::AdminError| Failure::said(error))
    }

    fn starts(&self) -> Vec<(u32, i64)> {
        self.open.iter().map(|(partition, range)| (*partition, range.start)).collect()
    }

    fn contains(&self, partition: u32, offset: i64) -> bool {
        self.open.get(&partition).is_some_and(|range| range.contains(&offset))
    }

    fn saw(&mut self, batch: &ConsumedBatch) {
        let Some(range) = self.open.get_mut(&batch.partition) else { return };
        if let Some(last) = batch.records.last() {
            range.start = last.offset + 1;
        }
        if range.is_empty() {
            self.open.remove(&batch.partition);
        }
    }

    /// What is before `next` was stepped over.
    fn passed(&mut self, partition: u32, next: i64) {
        let Some(range) = self.open.get_mut(&partition) else { return };
        range.start = range.start.max(next);
        if range.is_empty() {
            self.open.remove(&partition);
        }
    }

    fn is_done(&self) -> bool {
        self.open.is_empty()
    }
}
