//! `ringlog consume`: prints a topic's records, live or until where the topic ends now.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use ringlog_client::{
    Admin, AdminError, Client, ConsumeError, ConsumedBatch, Consumer, OffsetInfo, OffsetReset, Position,
    block_on,
};
use ringlog_reactor::say;

use super::broker_address::BrokerAddress;
use super::failure::Failure;
use super::format::Format;
use super::output::Output;
use super::position;
use super::stop::{Reason, Stop, unless_stopped};
use super::units::parse_duration;

/// Print records, from any position, and follow live
///
/// Begins with the oldest record unless --from says otherwise, and follows live until it is stopped, unless
/// `--until-end` or `--count` says when to end. Standard output gets the records and nothing else, each as soon as
/// it may be read. A lost connection is said on standard error, and made again. Exit code 0: everything that was asked for is
/// printed; 128 and the signal's number: SIGINT, SIGTERM or SIGHUP ended it, and what was read before is printed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog consume orders --from end
  ringlog consume orders --until-end > orders.txt
  ringlog consume orders --partition 3 --from 1000 --count 10 --format '%o %k %v\\n'
  ringlog consume orders --until-end --format json > orders.jsonl
  ringlog consume orders --until-end --null NULL --format '%k %v\\n'
  ringlog consume orders --from time:2026-01-31T12:00:00Z --format '%T %h %v\\n'

Format:
  json: an object a line that loses nothing, for `ringlog produce --format json` and for jq (see `ringlog produce --help`).
  %t topic   %p partition   %o offset   %T timestamp (RFC 3339)   %k key   %v value
  %h headers (name=value,…)   %% percent sign   \\n \\r \\t \\0 \\\\
  A null key, value or header value prints as nothing, or as --null says.

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
    /// End with an error when no record came for so long, such as 10s [default: 30s with --until-end, else never]
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Where to go on if the next offset is not in the log, for example because retention has removed it
    #[arg(long, value_name = "earliest|latest|error", default_value = "error", value_parser = parse_reset)]
    reset: OffsetReset,
    /// Step over batches that cannot be read, and say so on standard error
    #[arg(long)]
    skip_unreadable: bool,
    /// What to print for a null key, value or header value [default: nothing]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    null: String,
    /// What to print of each record
    #[arg(long, value_name = "FORMAT|json", default_value = "%v\\n")]
    format: Format,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// How long `--until-end` waits for the next record.
const UNTIL_END_WITHIN: Duration = Duration::from_secs(30);
/// How long what was read may take to be printed once a signal has come.
const PRINT_WITHIN: Duration = Duration::from_secs(5);

fn parse_reset(text: &str) -> Result<OffsetReset, String> {
    match text {
        "earliest" => Ok(OffsetReset::Earliest),
        "latest" => Ok(OffsetReset::Latest),
        "error" => Ok(OffsetReset::Error),
        _ => Err("want `earliest`, `latest` or `error`".to_owned()),
    }
}

/// Prints records until there is a reason to stop.
pub fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    if args.until_end && args.reset == OffsetReset::Latest {
        return Err(Failure::refused(
            "--reset latest goes on with what comes later, and --until-end ends before that",
        ));
    }
    let stop = Stop::at_signals(Some(PRINT_WITHIN))?;
    let mut output = Output::open()?;
    stop.when_output_closes()?;
    let client = args.broker.connect()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    if !args.until_end {
        let consumer = open(&client, args, None)?;
        return print(consumer, args, &mut output, &stop, &mut left, None);
    }
    let admin = client.admin();
    let fetched = block_on(unless_stopped(&stop, Ranges::fetch(&admin, args)));
    let mut ranges = fetched.map_err(stopped_by)?.map_err(Failure::said)?;
    let damaged = ranges.name_damage(args);
    if !ranges.is_done() {
        let consumer = open(&client, args, Some(&ranges))?;
        print(consumer, args, &mut output, &stop, &mut left, Some(&mut ranges))?;
    }
    if damaged { Err(Failure::Told) } else { Ok(()) }
}

fn open(client: &Client, args: &ConsumeArgs, ranges: Option<&Ranges>) -> Result<Consumer, Failure> {
    let builder = client.consumer(&args.topic).skip_unreadable(args.skip_unreadable).offset_reset(args.reset);
    let builder = match ranges {
        // No others: one that cannot be read must not end the reading of those that can.
        Some(ranges) => builder
            .topic_id(ranges.topic_id)
            .partitions(ranges.open.keys().copied())
            .from_offsets(ranges.starts()),
        None if args.partition.is_empty() => builder.from(args.from),
        None => builder.partitions(args.partition.iter().copied()).from(args.from),
    };
    block_on(builder.build()).map_err(Failure::said)
}

fn stopped_by(reason: Reason) -> Failure {
    match reason {
        Reason::Signal(signal) => Failure::Stopped(signal),
        Reason::OutputClosed => Failure::OutputClosed,
        Reason::RecordFailed => Failure::Told,
    }
}

fn print(
    mut consumer: Consumer,
    args: &ConsumeArgs,
    output: &mut Output,
    stop: &Stop,
    left: &mut u64,
    mut ranges: Option<&mut Ranges>,
) -> Result<(), Failure> {
    let timeout = args.timeout.or(args.until_end.then_some(UNTIL_END_WITHIN));
    // A partition that fails ends alone: what can be read of the others is printed first.
    let mut failed = false;
    let mut batches = consumer.batches();
    loop {
        let next = output.wait_at_most(timeout, unless_stopped(stop, batches.next()))?;
        let Some(next) = next else {
            output.flush()?;
            return Err(silent(timeout, ranges.as_deref()));
        };
        match next {
            Err(reason) => {
                output.flush()?;
                return Err(stopped_by(reason));
            }
            Ok(None) => break,
            Ok(Some(Ok(batch))) => {
                print_batch(&batch, args, output, left, ranges.as_deref())?;
                if let Some(ranges) = ranges.as_deref_mut() {
                    ranges.saw(&batch);
                }
            }
            Ok(Some(Err(error))) => {
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

/// Nothing came for too long.
fn silent(timeout: Option<Duration>, ranges: Option<&Ranges>) -> Failure {
    let waited = timeout.unwrap_or_default();
    match ranges.and_then(|ranges| ranges.open.iter().next().map(|first| (ranges.open.len(), first))) {
        Some((count, (partition, range))) => Failure::said(format!(
            "no record came for {waited:?}, and {count} of the partitions are not read to their end: partition {partition} was read \
             up to offset {}, and ended at {}",
            range.start, range.end
        )),
        None => Failure::said(format!("no record came for {waited:?}")),
    }
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
    say!("ringlog: {what}{error}");
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
        output.write(|out| args.format.write(out, record, &args.null))?;
        *left -= 1;
    }
    Ok(())
}

/// For `--until-end`: what is still to come of each partition, from the next offset to the end as it was at start.
struct Ranges {
    topic_id: u64,
    open: BTreeMap<u32, std::ops::Range<i64>>,
    /// Partitions whose position is not in the log, and what there is.
    out_of_range: Vec<(u32, OffsetInfo)>,
    /// Damaged partitions, and where what can be read of them ends.
    damaged: Vec<(u32, i64)>,
}

impl Ranges {
    async fn fetch(admin: &Admin, args: &ConsumeArgs) -> Result<Ranges, AdminError> {
        let topic = admin.topic(&args.topic).await?;
        let wanted = |partition: u32| args.partition.is_empty() || args.partition.contains(&partition);
        let mut partitions: Vec<u32> = topic.partitions.iter().map(|info| info.partition).collect();
        // A partition that does not exist is asked for all the same, so that the broker names it.
        partitions.extend(args.partition.iter().filter(|wanted| **wanted as usize >= topic.partitions.len()));
        let mut ranges = Ranges {
            topic_id: topic.id,
            open: BTreeMap::new(),
            out_of_range: Vec::new(),
            damaged: Vec::new(),
        };
        for partition in partitions.into_iter().filter(|partition| wanted(*partition)) {
            let at = admin.offsets(&args.topic, partition, args.from).await?;
            if at.topic_id != topic.id {
                return Err(AdminError::TopicRecreated { topic: args.topic.as_str().into() });
            }
            ranges.add(partition, at, args.reset);
        }
        Ok(ranges)
    }

    fn add(&mut self, partition: u32, at: OffsetInfo, reset: OffsetReset) {
        let OffsetInfo { offset, start_offset, high_watermark, .. } = at;
        let range = match (start_offset..=high_watermark).contains(&offset) {
            true => offset..high_watermark,
            false if reset == OffsetReset::Earliest => start_offset..high_watermark,
            false => return self.out_of_range.push((partition, at)),
        };
        if at.quarantined {
            self.damaged.push((partition, high_watermark));
        }
        if !range.is_empty() {
            self.open.insert(partition, range);
        }
    }

    /// Says what cannot be read to its end; true if there is anything.
    fn name_damage(&self, args: &ConsumeArgs) -> bool {
        for (partition, OffsetInfo { offset, start_offset, high_watermark, .. }) in &self.out_of_range {
            say!(
                "ringlog: partition {partition}: offset {offset} is not in the log, which has {start_offset} to {high_watermark}; \
                 start from `begin`, `end` or a time, or see --reset"
            );
        }
        for (partition, end) in &self.damaged {
            say!(
                "ringlog: partition {partition} of {} is damaged and set aside (quarantined): what can be read of it ends before \
                 offset {end}, and records after that may be lost; `ringlog check` names the damage",
                args.topic
            );
        }
        !self.out_of_range.is_empty() || !self.damaged.is_empty()
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
