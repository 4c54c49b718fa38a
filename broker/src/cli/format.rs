//! `--format` of `consume`: what to print of each record, as text or as JSON.

use std::io::{self, Write};

use jiff::Timestamp;
use ringlog_client::{ConsumedRecord, Header};

use super::json;

/// A format string, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line, that loses nothing.
    Json,
    /// What the letters say.
    Text(Vec<Piece>),
}

/// A part of a text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Printed as it is.
    Text(Vec<u8>),
    /// `%t`
    Topic,
    /// `%p`
    Partition,
    /// `%o`
    Offset,
    /// `%T`
    Time,
    /// `%k`
    Key,
    /// `%v`
    Value,
    /// `%h`
    Headers,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(format: &str) -> Result<Format, String> {
        if format == "json" {
            return Ok(Format::Json);
        }
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut rest = format.chars();
        while let Some(next) = rest.next() {
            match next {
                '\\' => text.push(escape(rest.next())?),
                '%' => match piece(rest.next())? {
                    Piece::Text(literal) => text.extend(literal),
                    piece => {
                        push_text(&mut pieces, &mut text);
                        pieces.push(piece);
                    }
                },
                plain => text.extend(plain.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_text(&mut pieces, &mut text);
        Ok(Format::Text(pieces))
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut Vec<u8>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text)));
    }
}

fn escape(letter: Option<char>) -> Result<u8, String> {
    match letter {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some(other) => Err(format!("`\\{other}`: known are \\n \\r \\t \\0 \\\\")),
        None => Err("ends with a single `\\`".to_owned()),
    }
}

fn piece(letter: Option<char>) -> Result<Piece, String> {
    match letter {
        Some('t') => Ok(Piece::Topic),
        Some('p') => Ok(Piece::Partition),
        Some('o') => Ok(Piece::Offset),
        Some('T') => Ok(Piece::Time),
        Some('k') => Ok(Piece::Key),
        Some('v') => Ok(Piece::Value),
        Some('h') => Ok(Piece::Headers),
        Some('%') => Ok(Piece::Text(b"%".to_vec())),
        Some(other) => Err(format!("`%{other}`: known are %t %p %o %T %k %v %h %%")),
        None => Err("ends with a single `%`".to_owned()),
    }
}

impl Format {
    /// Writes one record. In text, `null` stands for what is null.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, record: &ConsumedRecord, null: &str) -> io::Result<()> {
        let Format::Text(pieces) = self else { return json::write(out, record) };
        let null = null.as_bytes();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(record.topic.as_bytes())?,
                Piece::Partition => write!(out, "{}", record.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Time => write_time(out, record.timestamp_ms)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or(null))?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or(null))?,
                Piece::Headers => write_headers(out, &record.headers, null)?,
            }
        }
        Ok(())
    }
}

/// RFC 3339 with milliseconds, in UTC; the bare number where the calendar ends (a producer may send any).
fn write_time(out: &mut impl Write, timestamp_ms: i64) -> io::Result<()> {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(time) => write!(out, "{time:.3}"),
        Err(_) => write!(out, "{timestamp_ms}"),
    }
}

fn write_headers(out: &mut impl Write, headers: &[Header], null: &[u8]) -> io::Result<()> {
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.name.as_bytes())?;
        out.write_all(b"=")?;
        out.write_all(header.value.as_deref().unwrap_or(null))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn print(format: &str, record: &ConsumedRecord) -> String {
        let mut out = Vec::new();
        format.parse::<Format>().unwrap().write(&mut out, record, "").unwrap();
        String::from_utf8(out).unwrap()
    }

    fn record() -> ConsumedRecord {
        let header = |name: &str, value: Option<&'static str>| Header {
            name: name.into(),
            value: value.map(Bytes::from),
        };
        ConsumedRecord {
            topic: "orders".into(),
            partition: 3,
            offset: 41,
            timestamp_ms: 1_700_000_000_123,
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![header("a", Some("1")), header("b", None)],
        }
    }

    #[test]
    fn each_letter_prints_its_part() {
        let all = print(r"%t %p %o %T %k %v %h%%\t.\\\n", &record());
        assert_eq!(all, "orders 3 41 2023-11-14T22:13:20.123Z k v a=1,b=%\t.\\\n");
    }

    #[test]
    fn null_prints_as_nothing() {
        assert_eq!(print("[%k|%v]", &ConsumedRecord { key: None, value: None, ..record() }), "[|]");
    }

    #[test]
    fn null_prints_as_its_marker() {
        let record = ConsumedRecord { key: None, value: Some("".into()), ..record() };
        let mut out = Vec::new();
        "%k|%v|%h".parse::<Format>().unwrap().write(&mut out, &record, "NULL").unwrap();
        assert_eq!(out, b"NULL||a=1,b=NULL");
    }

    #[test]
    fn json_is_a_format_of_its_own() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!(print("json", &record()).starts_with(r#"{"topic":"orders","partition":3,"offset":41,"#));
    }

    #[test]
    fn a_time_beyond_the_calendar_prints_as_its_number() {
        let number = i64::MIN;
        assert_eq!(print("%T", &ConsumedRecord { timestamp_ms: number, ..record() }), number.to_string());
    }

    #[test]
    fn an_unknown_letter_is_named() {
        assert!("%x".parse::<Format>().unwrap_err().contains("%x"));
        assert!("a%".parse::<Format>().is_err());
        assert!(r"a\q".parse::<Format>().unwrap_err().contains(r"\q"));
        assert!(r"a\".parse::<Format>().is_err());
    }
}
