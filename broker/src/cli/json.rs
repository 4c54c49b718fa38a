//! Records as JSON, one object a line: `--format json` of `consume` and of `produce`, the form that loses nothing.
//!
//! Invariant: what [`write()`] writes, [`read`] reads as the same record: its key, value and headers byte for byte, what
//! is null stays null, and its time and partition are kept. A line has no line feed but its last byte.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ringlog_client::{ConsumedRecord, Record};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A record as `consume` prints it.
#[derive(Serialize)]
struct Printed<'a> {
    topic: &'a str,
    partition: u32,
    offset: i64,
    timestamp: i64,
    key: Option<Data<'a>>,
    value: Option<Data<'a>>,
    headers: Vec<PrintedHeader<'a>>,
}

#[derive(Serialize)]
struct PrintedHeader<'a> {
    name: &'a str,
    value: Option<Data<'a>>,
}

/// A record as `produce` takes it. A field that is not known is an error: it may be one of these, misspelt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    /// Where the record comes from, which says nothing about where it goes.
    #[serde(default, rename = "topic")]
    _topic: IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    partition: Option<u32>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    key: Option<Data<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    value: Option<Data<'a>>,
    #[serde(borrow, default)]
    headers: Vec<GivenHeader<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenHeader<'a> {
    name: String,
    #[serde(borrow, deserialize_with = "nullable")]
    value: Option<Data<'a>>,
}

/// A field that may be null and must be there: what is left out by mistake must not become a null.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Data<'de>>, D::Error> {
    Option::deserialize(deserializer)
}

/// Bytes: a string where they are UTF-8, and `{"base64":"…"}` where they are not.
struct Data<'a>(Cow<'a, [u8]>);

impl<'a> Data<'a> {
    fn of(bytes: &'a Bytes) -> Data<'a> {
        Data(Cow::Borrowed(bytes))
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from(self.0.into_owned())
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
                map.end()
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Data<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data<'a>, D::Error> {
        deserializer.deserialize_any(DataVisitor).map(Data)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, {\"base64\": \"…\"} or null")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.as_bytes().to_vec()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, text)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::missing_field("base64"));
        };
        if name != "base64" {
            return Err(A::Error::unknown_field(&name, &["base64"]));
        }
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("one field is expected: `base64`"));
        }
        STANDARD.decode(text).map(Cow::Owned).map_err(|error| A::Error::custom(format!("base64: {error}")))
    }
}

/// Writes a record and a line feed.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, record: &ConsumedRecord) -> io::Result<()> {
    let headers = record
        .headers
        .iter()
        .map(|header| PrintedHeader { name: &header.name, value: header.value.as_ref().map(Data::of) });
    let printed = Printed {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp_ms,
        key: record.key.as_ref().map(Data::of),
        value: record.value.as_ref().map(Data::of),
        headers: headers.collect(),
    };
    serde_json::to_writer(&mut *out, &printed)?;
    out.write_all(b"\n")
}

/// Reads a record from a line.
///
/// # Errors
/// What is wrong with the line.
pub fn read(line: &[u8]) -> Result<Record, String> {
    let given: Given<'_> = serde_json::from_slice(line).map_err(|error| in_line(&error))?;
    let mut record = match given.value {
        Some(value) => Record::new(value.into_bytes()),
        None => Record::default(),
    };
    if let Some(key) = given.key {
        record = record.key(key.into_bytes());
    }
    for GivenHeader { name, value } in given.headers {
        record = match value {
            Some(value) => record.header(name, value.into_bytes()),
            None => record.null_header(name),
        };
    }
    if let Some(timestamp_ms) = given.timestamp {
        record = record.timestamp_ms(timestamp_ms);
    }
    Ok(match given.partition {
        Some(partition) => record.partition(partition),
        None => record,
    })
}

/// The words of an error, with its column. The line that it names is always 1, which is not that of the input.
fn in_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use ringlog_client::Header;

    use super::*;

    fn consumed() -> ConsumedRecord {
        ConsumedRecord {
            topic: "orders".into(),
            partition: 3,
            offset: 41,
            timestamp_ms: 1_700_000_000_123,
            key: Some("k".into()),
            value: Some("v".into()),
            headers: Vec::new(),
        }
    }

    fn line(record: &ConsumedRecord) -> String {
        let mut out = Vec::new();
        write(&mut out, record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_documented_fields() {
        let header = |name: &str, value: Option<&'static [u8]>| Header {
            name: name.into(),
            value: value.map(Bytes::from_static),
        };
        let headers = vec![header("a", Some(b"1")), header("a", None), header("b", Some(b"\xff"))];
        let expected = concat!(
            r#"{"topic":"orders","partition":3,"offset":41,"timestamp":1700000000123,"key":"k","value":"v","#,
            r#""headers":[{"name":"a","value":"1"},{"name":"a","value":null},{"name":"b","value":{"base64":"/w=="}}]}"#,
            "\n"
        );
        assert_eq!(line(&ConsumedRecord { headers, ..consumed() }), expected);
    }

    #[test]
    fn every_record_comes_back_as_it_was() {
        let some = |bytes: &[u8]| Some(Bytes::copy_from_slice(bytes));
        let datas = [
            None,
            some(b""),
            some(b"host:1"),
            some(b"a\nb\r\0\"\\"),
            some("ü\u{2028}".as_bytes()),
            some(b"\xff\n"),
        ];
        for (index, data) in datas.iter().enumerate() {
            let other = &datas[(index + 1) % datas.len()];
            let header = |value: &Option<Bytes>| Header { name: "näme\n".into(), value: value.clone() };
            let given = ConsumedRecord {
                key: data.clone(),
                value: other.clone(),
                headers: vec![header(data), header(other)],
                ..consumed()
            };
            let line = line(&given);
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
            let mut expected = other.clone().map_or_else(Record::default, Record::new);
            if let Some(key) = data {
                expected = expected.key(key.clone());
            }
            for value in [data, other] {
                expected = match value {
                    Some(value) => expected.header("näme\n", value.clone()),
                    None => expected.null_header("näme\n"),
                };
            }
            let expected = expected.timestamp_ms(given.timestamp_ms).partition(given.partition);
            assert_eq!(read(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn only_the_value_must_be_there() {
        assert_eq!(read(br#"{"value":"v"}"#), Ok(Record::new("v")));
        assert_eq!(read(br#" {"key":null,"value":null,"headers":[]} "#), Ok(Record::default()));
        assert!(read(br#"{"key":"k"}"#).unwrap_err().contains("missing field `value`"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let wrong: &[(&[u8], &str)] = &[
            (b"", "EOF"),
            (b"x", "at column 1"),
            (br#"{"value":1}"#, "expected a string, {\"base64\": \"…\"} or null"),
            (br#"{"valeu":"v"}"#, "unknown field `valeu`"),
            (br#"{"value":"v","partition":-1}"#, "-1"),
            (br#"{"value":{"base64":"*"}}"#, "base64"),
            (br#"{"value":{"base46":""}}"#, "unknown field `base46`"),
            (br#"{"value":"a","value":"b"}"#, "duplicate field `value`"),
            (br#"{"value":"v"} {"value":"w"}"#, "trailing characters"),
            (b"{\"value\":\"\xff\"}", "unicode"),
            (br#"{"value":"\ud800"}"#, "hex escape"),
            (br#"{"value":"v","headers":{"a":"1"}}"#, "sequence"),
        ];
        for (line, expected) in wrong {
            let error = read(line).expect_err(&String::from_utf8_lossy(line));
            assert!(error.contains(expected), "{}: {error}", String::from_utf8_lossy(line));
        }
    }
}
