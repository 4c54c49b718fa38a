//! What an acknowledgement costs at the least: 4 KiB written and synced, one at a time, into a file that was zeroed
//! before, by the same calls that the journal makes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use ringlog_reactor::fs::{File, OpenOptions, Sync};
use ringlog_reactor::{CoreConfig, DIRECT_ALIGN, aligned, fs, now, run};

use super::folder::nearest;
use super::line::Line;

/// The line's name.
pub const WHAT: &str = "synced 4 KiB write";
const MEASURE_FOR: Duration = Duration::from_secs(2);
/// Written round and round, as a recycled journal file is.
const FILE_BYTES: u64 = 16 << 20;
const ZERO_BYTES: usize = 1 << 20;
/// Slower than this at the median means a spinning disk or a far one.
const SLOW: Duration = Duration::from_millis(2);
/// Faster than this, no disk answered.
const TOO_FAST: Duration = Duration::from_micros(8);

/// Measures for two seconds.
pub fn line(data_dir: &Path) -> Line {
    let path = nearest(data_dir).join(format!(".ringlog-probe-{}", std::process::id()));
    let config = CoreConfig { name: "doctor".to_owned(), ..CoreConfig::default() };
    match run(config, measure_and_remove(path)).and_then(|measured| measured) {
        Ok(latencies) => judge(&latencies),
        Err(error) => Line::warning(WHAT, format!("cannot be measured: {error}"), "look at the lines above"),
    }
}

async fn measure_and_remove(path: PathBuf) -> io::Result<Histogram<u64>> {
    let measured = measure(&path).await;
    let removed = fs::remove_file(&path).await;
    let latencies = measured?;
    removed.map(|()| latencies)
}

async fn measure(path: &Path) -> io::Result<Histogram<u64>> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).direct(true);
    let file = File::open(path, &options).await?;
    zero(&file).await?;
    let block = filled(DIRECT_ALIGN, 0x5a);
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
    let (begin, mut offset) = (now(), 0);
    while now() - begin < MEASURE_FOR {
        let sent = now();
        file.write_at(vec![block.clone()], offset, Sync::Data).await?;
        latencies.saturating_record(u64::try_from((now() - sent).as_nanos()).unwrap_or(u64::MAX));
        offset = (offset + DIRECT_ALIGN as u64) % FILE_BYTES;
    }
    Ok(latencies)
}

/// A write into space that was never written makes the file system note that it now is, which costs more than the
/// write itself.
async fn zero(file: &File) -> io::Result<()> {
    let zeros = filled(ZERO_BYTES, 0);
    for offset in (0..FILE_BYTES).step_by(ZERO_BYTES) {
        file.write_at(vec![zeros.clone()], offset, Sync::None).await?;
    }
    file.sync_all().await
}

fn filled(bytes: usize, with: u8) -> Bytes {
    let mut buffer = aligned(bytes);
    buffer.resize(bytes, with);
    buffer.freeze()
}

fn judge(latencies: &Histogram<u64>) -> Line {
    let at = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
    let micros = |duration: Duration| format!("{:.0} µs", duration.as_secs_f64() * 1e6);
    let median = at(0.5);
    let detail = format!(
        "p50 {}, p99 {}, max {} over {} writes: an ack at `disk` takes at least that",
        micros(median),
        micros(at(0.99)),
        micros(Duration::from_nanos(latencies.max())),
        latencies.len(),
    );
    if median > SLOW {
        return Line::warning(
            WHAT,
            detail,
            "an SSD with power-loss protection answers in tens of microseconds",
        );
    }
    if median < TOO_FAST {
        return Line::warning(
            WHAT,
            detail,
            "no disk is that fast: is this memory, or a cache without a battery?",
        );
    }
    Line::ok(WHAT, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn judged(micros: u64) -> Status {
        let mut latencies = Histogram::new(3).unwrap();
        latencies.record(micros * 1_000).unwrap();
        judge(&latencies).status
    }

    #[test]
    fn a_median_that_no_disk_has_and_one_that_is_slow_are_warnings() {
        assert_eq!(judged(1), Status::Warning);
        assert_eq!(judged(60), Status::Ok);
        assert_eq!(judged(8_000), Status::Warning);
    }
}
