//! Which timestamps a topic takes, and which it gives itself (Kafka's `message.timestamp.*`, KIP-32, KIP-937, KIP-1030).
//!
//! Invariant: no batch with a record later than the broker's clock and the topic's `message.timestamp.after.max.ms` is
//! appended. So a producer's clock cannot keep records from retention for longer than that.

use jiff::Timestamp;
use ringlog_protocol::batch::{BatchHeader, Walked};
use ringlog_storage::{PartitionConfig, TimestampType};

/// A record that is too old or too new for its topic.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimestamp {
    /// Its producer's clock is ahead, or counts in another unit.
    #[error(
        "a record's timestamp, {}, is later than the broker's clock, {}, by more than the topic's message.timestamp.after.max.ms of {most_ms}; timestamps are milliseconds since 1970; nothing of the batch was appended", Time(*timestamp_ms), Time(*now_ms)
    )]
    TooLate {
        /// The record's.
        timestamp_ms: i64,
        /// The broker's clock.
        now_ms: i64,
        /// The topic's bound.
        most_ms: u64,
    },
    /// It is older than the topic takes.
    #[error(
        "a record's timestamp, {}, is earlier than the broker's clock, {}, by more than the topic's message.timestamp.before.max.ms of {most_ms}; timestamps are milliseconds since 1970; nothing of the batch was appended", Time(*timestamp_ms), Time(*now_ms)
    )]
    TooEarly {
        /// The record's.
        timestamp_ms: i64,
        /// The broker's clock.
        now_ms: i64,
        /// The topic's bound.
        most_ms: u64,
    },
}

/// Checks the timestamps of a batch, or gives it the broker's. A record without a timestamp (-1) is never too old.
pub fn check_or_give(
    config: &PartitionConfig,
    header: &mut BatchHeader,
    walked: Walked,
    now_ms: i64,
) -> Result<(), InvalidTimestamp> {
    if config.timestamp_type == TimestampType::LogAppendTime {
        header.set_log_append_time(now_ms);
        return Ok(());
    }
    let is_over = |later: i64, earlier: i64, most_ms: u64| {
        // Kafka's word for no bound is the largest number, and two timestamps may be further apart.
        most_ms < i64::MAX as u64 && i128::from(later) - i128::from(earlier) > i128::from(most_ms)
    };
    let (latest, most_ms) = (header.max_timestamp, config.timestamp_after_max_ms);
    if is_over(latest, now_ms, most_ms) {
        return Err(InvalidTimestamp::TooLate { timestamp_ms: latest, now_ms, most_ms });
    }
    let most_ms = config.timestamp_before_max_ms;
    match walked.earliest_ms {
        Some(earliest) if is_over(now_ms, earliest, most_ms) => {
            Err(InvalidTimestamp::TooEarly { timestamp_ms: earliest, now_ms, most_ms })
        }
        _ => Ok(()),
    }
}

/// As a date where there is one, and as it stands in the batch.
struct Time(i64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(date) => write!(f, "{} ({date})", self.0),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use ringlog_protocol::batch::{BatchBuilder, NO_TIMESTAMP};

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn check(config: &PartitionConfig, timestamps: &[i64]) -> Result<(), InvalidTimestamp> {
        let mut builder = BatchBuilder::new(1 << 16);
        for timestamp in timestamps {
            builder.push(*timestamp, None, None, []).unwrap();
        }
        let mut header = BatchHeader::parse(&builder.finish_plain()).unwrap();
        let earliest_ms = timestamps.iter().copied().filter(|timestamp| *timestamp != NO_TIMESTAMP).min();
        check_or_give(config, &mut header, Walked { earliest_ms }, NOW_MS)
    }

    #[test]
    fn an_hour_ahead_is_taken_and_a_millisecond_more_is_not() {
        let config = PartitionConfig::default();
        assert_eq!(check(&config, &[NOW_MS + 3_600_000]), Ok(()));
        let error = check(&config, &[NOW_MS, NOW_MS + 3_600_001]).unwrap_err();
        assert!(matches!(error, InvalidTimestamp::TooLate { most_ms: 3_600_000, .. }));
        let says = error.to_string();
        assert!(says.contains("2023-11-14") && says.contains("message.timestamp.after.max.ms"), "{says}");
        // Microseconds, and a time that is no date.
        assert!(check(&config, &[NOW_MS * 1000]).is_err());
        assert!(check(&config, &[i64::MAX]).unwrap_err().to_string().contains("9223372036854775807"));
    }

    #[test]
    fn the_past_is_bounded_only_if_the_topic_says_so() {
        let config = PartitionConfig::default();
        assert_eq!(check(&config, &[i64::MIN]), Ok(()));
        let config = PartitionConfig { timestamp_before_max_ms: 1000, ..config };
        assert_eq!(check(&config, &[NOW_MS - 1000, NO_TIMESTAMP]), Ok(()));
        assert!(matches!(check(&config, &[NOW_MS, NOW_MS - 1001]), Err(InvalidTimestamp::TooEarly { .. })));
        assert!(check(&config, &[i64::MIN]).is_err());
    }

    #[test]
    fn the_brokers_own_time_takes_any() {
        let config =
            PartitionConfig { timestamp_type: TimestampType::LogAppendTime, ..PartitionConfig::default() };
        assert_eq!(check(&config, &[i64::MAX]), Ok(()));
    }
}
