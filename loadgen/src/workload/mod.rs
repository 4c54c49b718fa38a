//! What is sent and when. Pure and seeded: the same seed gives the same records at the same moments of the schedule.

mod keys;
mod payload;
mod random;
mod schedule;
mod sizes;

pub use keys::{KeySource, Keys};
pub use payload::{Payload, PayloadSource};
pub use random::Random;
pub use schedule::{Arrivals, Load, Schedule};
pub use sizes::Sizes;

/// Reads a number of bytes: `4096`, `64k`, `1m` (powers of 1024).
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let bad = || format!("`{text}` is no size: want a number of bytes, such as `4096`, `64k` or `1m`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: usize = text[..digits].parse().map_err(|_| bad())?;
    let shift = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        _ => return Err(bad()),
    };
    count.checked_mul(1 << shift).ok_or_else(bad)
}
