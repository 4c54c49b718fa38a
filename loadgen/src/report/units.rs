//! Numbers as people read them.

/// A time given in microseconds, with three digits that matter: `87.4 µs`, `1.23 ms`, `2.50 s`.
pub fn time(micros: f64) -> String {
    match micros {
        ..99.95 => format!("{micros:.1} µs"),
        ..999.5 => format!("{micros:.0} µs"),
        ..9_995.0 => format!("{:.2} ms", micros / 1e3),
        ..99_950.0 => format!("{:.1} ms", micros / 1e3),
        ..999_500.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// `1,234,567`
pub fn count(count: u64) -> String {
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

/// A number of any size with about three digits that matter, and separators: `0.123`, `45.6`, `12,346`.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        ..1.0 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ if value < 0.0 => format!("-{}", count(-value.round() as u64)),
        _ => count(value.round() as u64),
    }
}

/// How many a second; `-` where no time passed.
pub fn per_second(amount: f64, seconds: f64) -> String {
    number(amount / seconds)
}

/// Bytes in units of 1024, as memory is sold: `23.4 GiB`.
pub fn memory(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1_048_576.0 => format!("{:.0} KiB", bytes / 1024.0),
        ..1_073_741_824.0 => format!("{:.0} MiB", bytes / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes / 1_073_741_824.0),
    }
}

/// A moment in RFC 3339 as people write it, to the second; anything else as it is.
pub fn moment(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Text from outside on one line and without control characters: a terminal obeys those.
pub fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A setting's value: text without its quotes, everything else as JSON.
pub fn setting(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => plain(text),
        serde_json::Value::Null => "-".to_owned(),
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_three_digits() {
        let times = [0.34, 87.42, 123.4, 1_234.0, 12_340.0, 123_400.0, 2_500_000.0].map(time);
        assert_eq!(times, ["0.3 µs", "87.4 µs", "123 µs", "1.23 ms", "12.3 ms", "123 ms", "2.50 s"]);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let numbers = [0.0, 0.1234, 1.234, 12.34, 123.4, 1_234_567.0, -0.5, -1234.0, f64::NAN].map(number);
        assert_eq!(numbers, ["0", "0.123", "1.23", "12.3", "123", "1,234,567", "-0.500", "-1,234", "-"]);
    }

    #[test]
    fn a_rate_over_no_time_is_none() {
        assert_eq!(per_second(10.0, 0.0), "-");
        assert_eq!(per_second(0.0, 0.0), "-");
    }

    #[test]
    fn text_from_outside_commands_no_terminal() {
        assert_eq!(plain("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(setting(&serde_json::json!("x\ty")), "x y");
    }
}
