//! Sizes and durations as people write and read them.

use std::time::Duration;

use ringlog_broker::config::parse_short_duration;

/// Reads `0`, `50us`, `5ms` or `1s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_short_duration(text)
        .ok_or_else(|| "want a number and a unit, such as `50us`, `5ms` or `2s`".to_owned())
}

/// Reads a count of bytes: `4096`, `64k`, `1m`, `2g` (powers of 1024; `KiB`, `kb` and so on mean the same).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || "want a number of bytes, such as `4096`, `64k` or `1m`".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().map_err(|_| bad())?;
    let shift = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(bad()),
    };
    count.checked_mul(1 << shift).ok_or_else(bad)
}

/// `1,234,567`
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in decimal megabytes, the unit that disks and networks are sold in: `12.3 MB`.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A span of time with three digits that matter: `87.4 µs`, `1.23 ms`, `2.50 s`.
pub fn span(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        ..99.95 => format!("{micros:.1} µs"),
        ..999.5 => format!("{micros:.0} µs"),
        ..9_995.0 => format!("{:.2} ms", micros / 1e3),
        ..999_500.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_powers_of_two() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("64k"), Ok(64 << 10));
        assert_eq!(parse_bytes("1 MiB"), Ok(1 << 20));
        for wrong in ["", "k", "-1", "1x", "1.5m", "99999999999g"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_duration_needs_its_unit_unless_it_is_zero() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("5ms"), Ok(Duration::from_millis(5)));
        assert!(parse_duration("5").is_err());
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(span(Duration::from_nanos(87_420)), "87.4 µs");
        assert_eq!(span(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(span(Duration::from_millis(2_500)), "2.50 s");
    }
}
