//! The result as an HdrHistogram interval log, which its viewers and `HistogramLogProcessor` read.
//!
//! Values are nanoseconds. Each second has a line with the tag `ack` and one with `end-to-end`; lateness is kept by
//! phase, and so has one line for each. Where a run has several phases, the tags name them (`ack:catch-up`), because a
//! viewer adds up what has one tag. The times of lines count from the run's start.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::result::{EncodedHistogram, Phase, ResultError, RunResult};

use super::{units, verdict};

/// Viewers look for this line among the comments; 1.3 is the version with tags.
const FORMAT: &str = "[Histogram log format version 1.3]";
/// The heading that Java's writer puts above the lines.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
struct Line<'a> {
    tag: String,
    at_seconds: f64,
    seconds: f64,
    histogram: &'a EncodedHistogram,
}

/// The whole log.
pub fn log(result: &RunResult) -> Result<Vec<u8>, ResultError> {
    let mut lines: Vec<Line<'_>> =
        result.phases.iter().flat_map(|phase| lines_of(phase, result.phases.len() > 1)).collect();
    // Readers expect the order of time.
    lines.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));

    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    header(result).begin_log_with(&mut out, &mut serializer).expect(TO_A_VEC);
    out.extend_from_slice(LEGEND);
    let mut writer =
        IntervalLogWriterBuilder::new().begin_log_with(&mut out, &mut serializer).expect(TO_A_VEC);
    for line in lines {
        let histogram = line.histogram.decode()?;
        writer
            .write_histogram(&histogram, span(line.at_seconds), span(line.seconds), Tag::new(&line.tag))
            .map_err(|_| ResultError::BadHistogram)?;
    }
    Ok(out)
}

const TO_A_VEC: &str = "a Vec takes every write";

fn header(result: &RunResult) -> IntervalLogWriterBuilder {
    let target = &result.environment.target;
    let mut header = IntervalLogWriterBuilder::new();
    header
        .add_comment(&format!(
            "[Logged with ringlog-loadgen {}: {} against {} {}, ack class {}]",
            units::plain(&result.environment.loadgen_version),
            result.command,
            units::plain(&target.name),
            units::plain(&target.version),
            target.ack_class,
        ))
        .add_comment("[Values are nanoseconds]");
    for problem in verdict::problems(result) {
        header.add_comment(&format!("[{}: {}]", problem.word, units::plain(&problem.text)));
    }
    header.add_comment(FORMAT);
    if let Some(started) = started(result) {
        header.with_start_time(started).with_base_time(started);
    }
    header
}

fn started(result: &RunResult) -> Option<SystemTime> {
    result.started.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

fn lines_of(phase: &Phase, name_phase: bool) -> Vec<Line<'_>> {
    let tag = |kind: &str| match name_phase {
        true => tag_text(&format!("{kind}:{}", phase.label)),
        false => kind.to_owned(),
    };
    let mut lines = Vec::new();
    for interval in &phase.intervals {
        for (kind, latency) in [("ack", &interval.ack), ("end-to-end", &interval.end_to_end)] {
            lines.extend(latency.iter().map(|latency| Line {
                tag: tag(kind),
                at_seconds: interval.at_seconds,
                seconds: interval.seconds,
                histogram: &latency.histogram,
            }));
        }
    }
    lines.extend(phase.lateness.iter().map(|lateness| Line {
        tag: tag("lateness"),
        at_seconds: phase.intervals.first().map_or(0.0, |first| first.at_seconds),
        seconds: phase.seconds,
        histogram: &lateness.histogram,
    }));
    lines
}

/// Without what a tag must not hold.
fn tag_text(text: &str) -> String {
    text.chars().map(|character| if " ,\r\n".contains(character) { '_' } else { character }).collect()
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::sample;
    use super::*;

    /// What a reader of the log sees: for each tag, the sum of its histograms.
    fn read(log: &[u8]) -> BTreeMap<String, Histogram<u64>> {
        let mut sums: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
        let mut before = Duration::ZERO;
        for entry in IntervalLogIterator::new(log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            assert!(interval.start_timestamp() >= before, "out of the order of time");
            before = interval.start_timestamp();
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            let tag = interval.tag().unwrap().as_str().to_owned();
            sums.entry(tag).or_insert_with(|| Histogram::new(3).unwrap()).add(&histogram).unwrap();
        }
        sums
    }

    #[test]
    fn a_reader_finds_every_record_under_its_tag() {
        let result = sample::end_to_end(1);
        let sums = read(&log(&result).unwrap());
        let tags: Vec<&str> = sums.keys().map(String::as_str).collect();
        assert_eq!(tags, ["ack", "end-to-end", "lateness"]);
        let ack = result.phases[0].ack.as_ref().unwrap();
        assert_eq!(sums["ack"].len(), ack.count);
        assert_eq!(sums["ack"].max() as f64 / 1e3, ack.max_us);
    }

    #[test]
    fn the_phases_of_a_run_are_apart() {
        let tags: Vec<String> = read(&log(&sample::catch_up(1)).unwrap()).into_keys().collect();
        assert!(
            tags.contains(&"ack:preload".to_owned()) && tags.contains(&"end-to-end:after".to_owned()),
            "{tags:?}"
        );
    }

    #[test]
    fn the_header_says_when_and_what_is_wrong() {
        let mut result = sample::end_to_end(1);
        result.void = Some("a\nb".to_owned());
        let text = String::from_utf8(log(&result).unwrap()).unwrap();
        assert!(text.contains("#[StartTime: 1795255200.000 (seconds since epoch)]\n"), "{}", &text[..400]);
        assert!(text.contains("#[BaseTime: 1795255200.000 (seconds since epoch)]\n"));
        assert!(text.contains("#[Histogram log format version 1.3]\n"));
        assert!(text.contains("#[VOID: these figures must not be used: a b]\n"));
    }
}
