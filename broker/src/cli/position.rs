//! `--from` of `consume`.

use jiff::Timestamp;
use ringlog_client::Position;

/// Reads `begin`, `end`, an offset, or `time:` and a moment in RFC 3339.
pub fn parse(text: &str) -> Result<Position, String> {
    match text {
        "begin" => return Ok(Position::Begin),
        "end" => return Ok(Position::End),
        _ => {}
    }
    if let Some(moment) = text.strip_prefix("time:") {
        let moment: Timestamp = moment
            .parse()
            .map_err(|error| format!("{error}; want RFC 3339, such as time:2026-01-31T12:00:00Z"))?;
        return Ok(Position::Time(moment.as_millisecond()));
    }
    match text.parse::<i64>() {
        Ok(offset) if offset >= 0 => Ok(Position::Offset(offset)),
        _ => Err("want `begin`, `end`, an offset from 0, or `time:` and RFC 3339".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_have_four_forms() {
        assert_eq!(parse("begin"), Ok(Position::Begin));
        assert_eq!(parse("end"), Ok(Position::End));
        assert_eq!(parse("42"), Ok(Position::Offset(42)));
        assert_eq!(parse("time:1970-01-01T00:00:01.5Z"), Ok(Position::Time(1_500)));
        assert_eq!(parse("time:1970-01-01T01:00:00+01:00"), Ok(Position::Time(0)));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in ["", "-1", "start", "time:", "time:yesterday", "time:2026-01-31", "9999999999999999999"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
