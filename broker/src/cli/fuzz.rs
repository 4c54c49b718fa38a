//! What people and scripts write on the command line, and lines that are piped in.

use bytes::Bytes;
use ringlog_client::{ConsumedRecord, Header, Position};
use ringlog_fuzz::{Target, Verdict};
use ringlog_protocol::limits::MAX_BATCH_BYTES;

use super::format::Format;
use super::lines::Lines;
use super::{position, units};

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "no text".to_owned())
}

#[test]
fn fuzz_position() {
    let sound = [
        "begin",
        "end",
        "42",
        "9223372036854775807",
        "time:2026-01-31T12:00:00Z",
        "time:1970-01-01T01:00:00.5+01:00",
    ];
    Target::new("position").seeds(sound).run(|bytes| {
        match position::parse(text(bytes)?)? {
            Position::Offset(offset) => assert!(offset >= 0),
            Position::Begin | Position::End | Position::Time(_) => {}
        }
        Ok(())
    });
}

#[test]
fn fuzz_format() {
    let record = ConsumedRecord {
        topic: "orders".into(),
        partition: 3,
        offset: 41,
        timestamp_ms: 1_700_000_000_123,
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![Header { name: "a".into(), value: Some(Bytes::from_static(b"1")) }],
    };
    Target::new("format").seeds([r"%t %p %o %T %k %v %h%%\t.\\\n", "plain", "é%v"]).run(|bytes| -> Verdict {
        let format: Format = text(bytes)?.parse()?;
        format.write(&mut std::io::sink(), &record, "NULL").map_err(|error| error.to_string())
    });
}

#[test]
fn fuzz_units() {
    Target::new("bytes")
        .seeds(["4096", "64k", "1 MiB"])
        .run(|bytes| units::parse_bytes(text(bytes)?).map(drop));
    Target::new("duration")
        .seeds(["0", "5ms", "10s"])
        .run(|bytes| units::parse_duration(text(bytes)?).map(drop));
}

#[test]
fn any_bytes_are_lines_and_nothing_of_them_is_lost() {
    let mut random = ringlog_fuzz::Random::new(1);
    for _ in 0..200 {
        let length = random.below(300_000);
        let mut input = random.bytes(length);
        let often = 1 + random.below(5_000);
        (0..length).filter(|at| at % often == 0).for_each(|at| input[at] = b'\n');
        let mut lines = Lines::new(&input[..], MAX_BATCH_BYTES);
        let mut again = Vec::new();
        while let Some(line) = lines.next_line().expect("memory can be read") {
            assert!(!line.contains(&b'\n'));
            again.extend_from_slice(&line);
            again.push(b'\n');
        }
        if input.last().is_some_and(|last| *last != b'\n') {
            again.pop();
        }
        assert!(again == input, "lines of {length} bytes");
    }
}

#[test]
fn fuzz_json() {
    let seeds = [
        r#"{"topic":"orders","partition":3,"offset":41,"timestamp":-1,"key":"k","value":"v","headers":[]}"#,
        r#"{"key":{"base64":"/w=="},"value":null,"headers":[{"name":"a","value":null},{"name":"a","value":""}]}"#,
    ];
    Target::new("json").seeds(seeds).run(|bytes| super::json::read(bytes).map(drop));
}
