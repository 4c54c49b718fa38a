//! What may be set for a topic, by Kafka's names.

use std::collections::BTreeMap;

use ringlog_storage::{PartitionConfig, TimestampType, TopicAck};

/// Kafka's default: a record stays for seven days.
const DEFAULT_RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;
const MIN_SEGMENT_BYTES: u64 = ringlog_storage::limits::MIN_SEGMENT_BYTES;
const MAX_SEGMENT_BYTES: u64 = ringlog_storage::limits::MAX_SEGMENT_BYTES;

/// One setting a topic may have.
struct Setting {
    key: &'static str,
    help: &'static str,
    apply: fn(&str, &mut PartitionConfig) -> bool,
}

const SETTINGS: [Setting; 9] = [
    Setting {
        key: "ack",
        help: "disk or memory: what must be reached before a record can be read",
        apply: set_ack,
    },
    Setting {
        key: "max.decompressed.bytes",
        help: "what a compressed record batch may unpack to, 1024 to 67108864 (default)",
        apply: set_max_decompressed_bytes,
    },
    Setting {
        key: "max.message.bytes",
        help: "the largest record batch, 1024 to 8388608",
        apply: set_max_message_bytes,
    },
    Setting {
        key: "message.timestamp.after.max.ms",
        help: "milliseconds that a record may be later than the broker's clock (default: 3600000, an hour)",
        apply: |value, config| set_milliseconds(value, &mut config.timestamp_after_max_ms),
    },
    Setting {
        key: "message.timestamp.before.max.ms",
        help: "milliseconds that a record may be earlier than the broker's clock (default: 9223372036854775807)",
        apply: |value, config| set_milliseconds(value, &mut config.timestamp_before_max_ms),
    },
    Setting {
        key: "message.timestamp.type",
        help: "CreateTime (default): the producer's timestamps, or LogAppendTime: the broker's",
        apply: set_timestamp_type,
    },
    Setting {
        key: "retention.bytes",
        help: "bytes of newer segments behind which an old one goes, -1 for no limit (default)",
        apply: set_retention_bytes,
    },
    Setting {
        key: "retention.ms",
        help: "milliseconds a record stays, -1 for ever (default: 604800000, seven days)",
        apply: set_retention_ms,
    },
    Setting {
        key: "segment.bytes",
        help: "bytes of a segment file, 16384 to 2147483648",
        apply: set_segment_bytes,
    },
];

fn set_ack(value: &str, config: &mut PartitionConfig) -> bool {
    config.ack = match value {
        "disk" => TopicAck::Disk,
        "memory" => TopicAck::Memory,
        _ => return false,
    };
    true
}

fn set_max_message_bytes(value: &str, config: &mut PartitionConfig) -> bool {
    let range = 1024..=ringlog_protocol::limits::MAX_BATCH_BYTES as u64;
    let Some(bytes) = value.parse().ok().filter(|bytes| range.contains(bytes)) else { return false };
    config.max_batch_bytes = bytes as u32;
    true
}

fn set_max_decompressed_bytes(value: &str, config: &mut PartitionConfig) -> bool {
    let range = 1024..=ringlog_protocol::limits::MAX_DECOMPRESSED_BYTES as u64;
    let Some(bytes) = value.parse().ok().filter(|bytes| range.contains(bytes)) else { return false };
    config.max_decompressed_bytes = bytes as u32;
    true
}

/// A span of time as Kafka takes it: from zero to the largest i64.
fn set_milliseconds(value: &str, span: &mut u64) -> bool {
    let Some(ms) = value.parse().ok().filter(|ms| *ms <= i64::MAX as u64) else { return false };
    *span = ms;
    true
}

fn set_timestamp_type(value: &str, config: &mut PartitionConfig) -> bool {
    config.timestamp_type = match value {
        "CreateTime" => TimestampType::CreateTime,
        "LogAppendTime" => TimestampType::LogAppendTime,
        _ => return false,
    };
    true
}

fn set_retention_bytes(value: &str, config: &mut PartitionConfig) -> bool {
    set_limit(value, &mut config.retention_bytes)
}

fn set_retention_ms(value: &str, config: &mut PartitionConfig) -> bool {
    set_limit(value, &mut config.retention_ms)
}

/// A number, or -1 for no limit, as Kafka writes it.
fn set_limit(value: &str, limit: &mut Option<u64>) -> bool {
    *limit = match value {
        "-1" => None,
        _ => match value.parse() {
            Ok(number) => Some(number),
            Err(_) => return false,
        },
    };
    true
}

fn set_segment_bytes(value: &str, config: &mut PartitionConfig) -> bool {
    let range = MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES;
    let Some(bytes) = value.parse().ok().filter(|bytes| range.contains(bytes)) else { return false };
    config.segment_bytes = bytes;
    true
}

/// Turns a topic's settings into what storage needs.
///
/// # Errors
/// Names the first key or value that is not known, and what would be.
pub fn partition_config(settings: &BTreeMap<String, String>) -> Result<PartitionConfig, String> {
    let mut config =
        PartitionConfig { retention_ms: Some(DEFAULT_RETENTION_MS), ..PartitionConfig::default() };
    for (key, value) in settings {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
            return Err(format!("unknown setting `{key}`; known are {}", known.join(", ")));
        };
        if !(setting.apply)(value, &mut config) {
            return Err(format!("setting `{key}` cannot be `{value}`: {}", setting.help));
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn settings_have_kafkas_names() {
        let config = partition_config(&settings(&[
            ("ack", "memory"),
            ("segment.bytes", "65536"),
            ("retention.ms", "-1"),
            ("retention.bytes", "1000"),
            ("max.message.bytes", "2048"),
            ("max.decompressed.bytes", "4096"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.before.max.ms", "1"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ]))
        .unwrap();
        assert_eq!(config.segment_bytes, 65536);
        assert_eq!((config.retention_ms, config.retention_bytes), (None, Some(1000)));
        assert_eq!((config.max_batch_bytes, config.max_decompressed_bytes), (2048, 4096));
        assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!((config.timestamp_before_max_ms, config.timestamp_after_max_ms), (1, i64::MAX as u64));
    }

    #[test]
    fn the_range_that_a_setting_names_is_the_one_it_takes() {
        let mut ranges = 0;
        for setting in &SETTINGS {
            let words: Vec<&str> = setting.help.split([' ', ',']).collect();
            let Some(at) =
                words.windows(3).position(|three| three[1] == "to" && three[0].parse::<u64>().is_ok())
            else {
                continue;
            };
            let bound = |at: usize| words[at].parse::<u64>().expect("a number");
            let (least, most) = (bound(at), bound(at + 2));
            let takes = |value: u64| (setting.apply)(&value.to_string(), &mut PartitionConfig::default());
            assert!(takes(least) && takes(most), "{}", setting.key);
            assert!(!takes(least - 1) && !takes(most + 1), "{}", setting.key);
            ranges += 1;
        }
        assert!(ranges >= 3, "the ranges are written as `A to B`");
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_would_do() {
        let unknown = partition_config(&settings(&[("acks", "all")])).unwrap_err();
        assert!(unknown.contains("`acks`") && unknown.contains("segment.bytes"), "{unknown}");
        let wrong = partition_config(&settings(&[("ack", "none")])).unwrap_err();
        assert!(wrong.contains("disk or memory"), "{wrong}");
    }
}
