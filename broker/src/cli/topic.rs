//! `ringlog topic`: create, list, describe and delete topics.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ringlog_broker::offline;
use ringlog_client::{Admin, AdminError, Position, TopicInfo, block_on};
use ringlog_reactor::say;
use serde::Serialize;

use super::broker_address::BrokerAddress;
use super::failure::Failure;
use super::output::Output;

/// Create, list, describe and delete topics
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog topic create orders --partitions 8
  ringlog topic list --json
  ringlog topic describe orders
  ringlog topic delete orders")]
pub struct TopicArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    broker: BrokerAddress,
}

#[derive(Subcommand)]
enum Action {
    /// Create a topic
    #[command(after_help = "\
Example:
  ringlog topic create orders --partitions 8 --set retention.ms=86400000

Settings:
  retention.ms       milliseconds a record stays; -1: for ever (default: 604800000, seven days)
  retention.bytes    bytes of newer segments behind which an old one goes; -1: no limit (default)
  segment.bytes      bytes of a segment file, 16384 to 2147483648 (default: 1073741824)
  max.message.bytes  the largest record batch, after compression, 1024 to 8388608 (default: 1048576)
  ack                disk or memory: when a record can be read (default: disk)")]
    Create {
        /// 1 to 249 letters, digits, `.`, `_` and `-`
        name: String,
        /// How many partitions it has; records keep their order within one
        #[arg(long, value_name = "N", default_value_t = 1)]
        partitions: u32,
        /// A setting of the topic; may be given more than once
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
        set: Vec<(String, String)>,
        /// Print the new topic as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the topics
    #[command(after_help = "\
Example:
  ringlog topic list")]
    List {
        /// Print JSON: an array of topics
        #[arg(long)]
        json: bool,
    },
    /// Show a topic's settings and what each of its partitions holds
    #[command(after_help = "\
Example:
  ringlog topic describe orders --json")]
    Describe {
        /// The topic
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a topic and all its records
    #[command(after_help = "\
Examples:
  ringlog topic delete orders
  ringlog topic delete orders --data /var/tmp/ringlog    # no broker running: the disk is too full for a start")]
    Delete {
        /// The topic
        name: String,
        /// The data folder of a broker that does not run
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("want key=value".to_owned()),
    }
}

/// Runs one of the four.
pub fn run(args: &TopicArgs) -> Result<(), Failure> {
    if let Action::Delete { name, data: Some(data) } = &args.action {
        offline::delete_topic(data, name).map_err(Failure::said)?;
        say!("deleted {name}");
        return Ok(());
    }
    let client = args.broker.connect()?;
    let admin = client.admin();
    match &args.action {
        Action::Create { name, partitions, set, json } => create(&admin, name, *partitions, set, *json),
        Action::List { json } => list(&admin, *json),
        Action::Describe { name, json } => describe(&admin, name, *json),
        Action::Delete { name, .. } => {
            block_on(admin.delete_topic(name)).map_err(Failure::said)?;
            say!("deleted {name}");
            Ok(())
        }
    }
}

fn create(
    admin: &Admin,
    name: &str,
    partitions: u32,
    settings: &[(String, String)],
    json: bool,
) -> Result<(), Failure> {
    let mut request = admin.create_topic(name).partitions(partitions);
    for (key, value) in settings {
        request = request.config(key, value);
    }
    let output = json.then(Output::open).transpose()?;
    let topic = block_on(request.send()).map_err(Failure::said)?;
    if let Some(output) = output {
        return print_json(output, &TopicLine::of(&topic));
    }
    say!("created {} with {}", topic.name, counted(topic.partitions.len(), "partition"));
    Ok(())
}

fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
    let topics = block_on(admin.topics()).map_err(Failure::said)?;
    let lines: Vec<TopicLine> = topics.iter().map(TopicLine::of).collect();
    let mut output = Output::open()?;
    if json {
        return print_json(output, &lines);
    }
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0).max("TOPIC".len());
    output.write(|out| writeln!(out, "{:width$}  PARTITIONS", "TOPIC"))?;
    for line in &lines {
        output.write(|out| writeln!(out, "{:width$}  {}", line.name, line.partitions))?;
    }
    output.flush()
}

fn describe(admin: &Admin, name: &str, json: bool) -> Result<(), Failure> {
    let description = block_on(Description::fetch(admin, name)).map_err(Failure::said)?;
    let mut output = Output::open()?;
    if json {
        return print_json(output, &description);
    }
    output.write(|out| writeln!(out, "topic {}, id {}", description.topic.name, description.topic.id))?;
    for (key, value) in &description.topic.config {
        output.write(|out| writeln!(out, "  {key} = {value}"))?;
    }
    output.write(|out| writeln!(out, "PARTITION  SHARD  START OFFSET  END OFFSET     RECORDS"))?;
    for line in &description.partitions {
        let PartitionLine { partition, shard, start_offset, end_offset, quarantined } = line;
        let damage = if *quarantined { "  QUARANTINED" } else { "" };
        let records = end_offset - start_offset;
        output.write(|out| {
            writeln!(
                out,
                "{partition:9}  {shard:5}  {start_offset:12}  {end_offset:10}  {records:10}{damage}"
            )
        })?;
    }
    output.flush()
}

/// A topic as `list` and `create` show it.
#[derive(Serialize)]
struct TopicLine {
    name: String,
    id: u64,
    partitions: usize,
    config: std::collections::BTreeMap<String, String>,
}

impl TopicLine {
    fn of(topic: &TopicInfo) -> TopicLine {
        TopicLine {
            name: topic.name.to_string(),
            id: topic.id,
            partitions: topic.partitions.len(),
            config: topic.config.iter().cloned().collect(),
        }
    }
}

/// A topic as `describe` shows it.
#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    topic: TopicLine,
    #[serde(rename = "partition_offsets")]
    partitions: Vec<PartitionLine>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: u32,
    shard: u32,
    start_offset: i64,
    /// The offset of the next record that may be read.
    end_offset: i64,
    /// It is damaged and takes no records.
    quarantined: bool,
}

impl Description {
    async fn fetch(admin: &Admin, name: &str) -> Result<Description, AdminError> {
        let topic = admin.topic(name).await?;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for info in &topic.partitions {
            let offsets = admin.offsets(name, info.partition, Position::End).await?;
            if offsets.topic_id != topic.id {
                return Err(AdminError::TopicRecreated { topic: name.into() });
            }
            partitions.push(PartitionLine {
                partition: info.partition,
                shard: info.shard,
                start_offset: offsets.start_offset,
                end_offset: offsets.high_watermark,
                quarantined: offsets.quarantined,
            });
        }
        Ok(Description { topic: TopicLine::of(&topic), partitions })
    }
}

fn print_json(mut output: Output, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::said)?;
    output.write(|out| writeln!(out, "{text}"))?;
    output.flush()
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_key() {
        assert_eq!(parse_setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(parse_setting("a").is_err());
        assert!(parse_setting("=b").is_err());
    }
}
