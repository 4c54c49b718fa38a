//! The result on a terminal.

use std::io::{self, Write};

use crate::result::{Command, Latency, PERCENTILES, Phase, RunResult};

use super::grid::Grid;
use super::{units, verdict};

/// Writes the whole result. What spoils it stands last, where a reader of a long table looks first.
pub fn write(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    write_heading(result, out)?;
    if result.command == Command::Sweep {
        write_sweep(result, out)?;
    } else {
        for phase in &result.phases {
            write_phase(phase, out)?;
        }
    }
    if let Some(seconds) = result.caught_up_seconds {
        writeln!(out, "\nthe consumers had caught up after {seconds:.2} s")?;
    }
    write_errors(result, out)?;
    write_verdict(result, out)
}

fn write_heading(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    let (environment, target) = (&result.environment, &result.environment.target);
    let marks: String =
        verdict::problems(result).iter().map(|problem| format!(" [{}]", problem.word)).collect();
    writeln!(
        out,
        "{} against {} {} at {}, ack class {}, driver {}{marks}",
        result.command,
        units::plain(&target.name),
        units::plain(&target.version),
        units::plain(&target.address),
        target.ack_class,
        units::plain(&environment.client_driver),
    )
}

fn write_phase(phase: &Phase, out: &mut impl Write) -> io::Result<()> {
    let offered = match phase.offered_per_second {
        Some(rate) => format!("offered {} records/s", units::number(rate)),
        None => "no fixed rate".to_owned(),
    };
    writeln!(out, "\n{}: {offered}, {:.1} s", units::plain(&phase.label), phase.seconds)?;
    write_throughput(phase, out)?;
    write_latencies(phase, out)?;
    write_cpu(phase, out)
}

fn write_throughput(phase: &Phase, out: &mut impl Write) -> io::Result<()> {
    let mut grid = Grid::new(["", "records", "records/s", "MB/s"]);
    let rows = [
        ("sent", phase.sent, Some(phase.bytes_sent)),
        ("acked", phase.acked, None),
        ("received", phase.received, Some(phase.bytes_received)),
        ("failed", phase.failed, None),
    ];
    for (what, records, bytes) in rows.into_iter().filter(|(_, records, _)| *records > 0) {
        let megabytes = bytes.map(|bytes| units::per_second(bytes as f64 / 1e6, phase.seconds));
        grid.row([
            what.to_owned(),
            units::count(records),
            units::per_second(records as f64, phase.seconds),
            megabytes.unwrap_or_default(),
        ]);
    }
    grid.write(out)
}

/// The latencies of a phase with the names of their rows, lateness beside those that it could spoil.
pub fn latencies(phase: &Phase) -> impl Iterator<Item = (&'static str, &Latency)> {
    let named = [("ack", &phase.ack), ("end-to-end", &phase.end_to_end), ("lateness", &phase.lateness)];
    named.into_iter().filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
}

fn write_latencies(phase: &Phase, out: &mut impl Write) -> io::Result<()> {
    if latencies(phase).next().is_none() {
        return Ok(());
    }
    writeln!(out)?;
    let names = PERCENTILES.iter().map(|(name, _)| format!("p{name}"));
    let mut grid =
        Grid::new(std::iter::once(String::new()).chain(names).chain(["max".to_owned(), "mean".to_owned()]));
    for (name, latency) in latencies(phase) {
        let percentiles = PERCENTILES.iter().map(|(name, _)| percentile(Some(latency), name));
        let rest = [units::time(latency.max_us), units::time(latency.mean_us)];
        grid.row(std::iter::once(name.to_owned()).chain(percentiles).chain(rest));
    }
    grid.write(out)
}

fn percentile(latency: Option<&Latency>, name: &str) -> String {
    latency.and_then(|latency| latency.percentile_us(name)).map_or_else(|| "-".to_owned(), units::time)
}

fn write_cpu(phase: &Phase, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let cpu = &phase.cpu;
    let each = cpu.per_record_us.as_ref();
    let mut grid = Grid::new(["CPU", "cores", "µs/record"]);
    let rows = [
        ("loadgen", Some(cpu.loadgen_seconds), each.map(|each| each.loadgen)),
        ("broker", cpu.broker_seconds, each.and_then(|each| each.broker)),
        ("machine", Some(cpu.machine_busy_seconds), each.map(|each| each.machine)),
    ];
    for (who, seconds, each) in rows {
        let cores =
            seconds.map_or_else(|| "-".to_owned(), |seconds| units::per_second(seconds, phase.seconds));
        grid.row([who.to_owned(), cores, each.map_or_else(|| "-".to_owned(), units::number)]);
    }
    grid.write(out)
}

fn write_sweep(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    let steps = by_rate(result);
    let consumed = steps.iter().any(|step| step.end_to_end.is_some());
    let mut heading = vec!["offered/s", "achieved/s", "ack p50", "p99", "p99.9", "max"];
    if consumed {
        heading.extend(["end-to-end p50", "p99", "p99.9", "max"]);
    }
    heading.extend(["lateness p99", "CPU broker", "loadgen", "machine"]);
    let mut grid = Grid::new(heading);
    for step in steps {
        let mut row = vec![
            step.offered_per_second.map_or_else(|| units::plain(&step.label), units::number),
            units::per_second(step.records() as f64, step.seconds),
        ];
        row.extend(sweep_latencies(step.ack.as_ref()));
        if consumed {
            row.extend(sweep_latencies(step.end_to_end.as_ref()));
        }
        row.push(percentile(step.lateness.as_ref(), "99"));
        let cores = |seconds: f64| units::per_second(seconds, step.seconds);
        row.push(step.cpu.broker_seconds.map_or_else(|| "-".to_owned(), cores));
        row.extend([cores(step.cpu.loadgen_seconds), cores(step.cpu.machine_busy_seconds)]);
        if step.void.is_some() {
            row.push("VOID".to_owned());
        }
        if result.saturation.is_some() && result.saturation == step.offered_per_second {
            row.push("<- saturation".to_owned());
        }
        grid.row(row);
    }
    writeln!(out)?;
    grid.write(out)?;
    if let Some(step) = result.phases.iter().find(|step| step.void.is_some()) {
        let why = units::plain(step.void.as_deref().unwrap_or_default());
        writeln!(out, "\nVOID steps say nothing of latency; at {}: {why}", units::plain(&step.label))?;
    }
    match result.saturation {
        Some(rate) => {
            writeln!(out, "\nsaturation: {} records/s is the highest rate kept up with", units::number(rate))
        }
        None => writeln!(out, "\nsaturation: not found; no rate that was tried was kept up with"),
    }
}

/// The steps of a sweep in the order of their rates, since bisecting jumps.
pub fn by_rate(result: &RunResult) -> Vec<&Phase> {
    let mut steps: Vec<&Phase> = result.phases.iter().collect();
    let rate = |phase: &Phase| phase.offered_per_second.unwrap_or(f64::INFINITY);
    steps.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    steps
}

fn sweep_latencies(latency: Option<&Latency>) -> [String; 4] {
    let max = latency.map_or_else(|| "-".to_owned(), |latency| units::time(latency.max_us));
    [percentile(latency, "50"), percentile(latency, "99"), percentile(latency, "99.9"), max]
}

fn write_errors(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    let mut heading_due = true;
    for phase in &result.phases {
        for (error, times) in &phase.errors {
            if std::mem::take(&mut heading_due) {
                writeln!(out, "\nerrors")?;
            }
            let (label, error) = (units::plain(&phase.label), units::plain(error));
            writeln!(out, "  {} times in {label}: {error}", units::count(*times))?;
        }
    }
    Ok(())
}

fn write_verdict(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", verdict::verification(result))?;
    for problem in result.verification.iter().flat_map(|verification| &verification.first_problems) {
        writeln!(out, "  {}", units::plain(problem))?;
    }
    for problem in verdict::problems(result) {
        writeln!(out, "{}: {}", problem.word, units::plain(&problem.text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::result::Verification;

    fn text(result: &RunResult) -> String {
        let mut out = Vec::new();
        write(result, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Columns at which the cells of consecutive lines end.
    fn line_of<'a>(text: &'a str, begin: &str) -> &'a str {
        text.lines()
            .find(|line| line.trim_start().starts_with(begin))
            .unwrap_or_else(|| panic!("no {begin}: {text}"))
    }

    #[test]
    fn the_latencies_of_all_kinds_line_up() {
        let text = text(&sample::end_to_end(1));
        let widths = ["ack ", "end-to-end  ", "lateness"].map(|name| line_of(&text, name).chars().count());
        assert_eq!([widths[0]; 3], widths, "{text}");
        assert_eq!(line_of(&text, "p50").chars().count(), widths[0], "{text}");
    }

    #[test]
    fn throughput_is_in_records_and_megabytes() {
        let text = text(&sample::end_to_end(1));
        let sent: Vec<&str> = line_of(&text, "sent").split_whitespace().collect();
        assert_eq!(sent, ["sent", "20,000", "1,000", "1.02"]);
    }

    #[test]
    fn a_sweep_names_its_saturation_and_is_in_the_order_of_rates() {
        let text = text(&sample::sweep(1));
        assert!(line_of(&text, "8,000").ends_with("<- saturation"), "{text}");
        let at = |rate| text.find(rate).unwrap();
        assert!(at("\n  8,000") < at("\n  10,000") && at("\n  10,000") < at("\n  16,000"), "{text}");
    }

    #[test]
    fn a_catch_up_shows_each_phase() {
        let text = text(&sample::catch_up(1));
        assert!(["\npreload:", "\ncatch-up:", "\nafter:"].iter().all(|phase| text.contains(phase)), "{text}");
    }

    #[test]
    fn what_spoils_a_result_stands_first_and_last() {
        let mut result = sample::end_to_end(1);
        result.void = Some("lateness p99 is 2.0 ms".to_owned());
        result.verification = Some(Verification {
            lost: 1,
            checked: 9,
            first_problems: vec!["producer 1".to_owned()],
            ..Default::default()
        });
        let text = text(&result);
        assert!(text.lines().next().unwrap().ends_with("[VOID] [FAILED]"), "{text}");
        assert!(text.contains("  producer 1\n") && text.contains("\nVOID: "), "{text}");
        assert!(text.lines().last().unwrap().starts_with("FAILED: verification failed: 1 lost"), "{text}");
    }

    #[test]
    fn a_result_without_anything_still_prints() {
        let mut result = sample::end_to_end(1);
        result.phases = vec![Phase { label: "run".to_owned(), ..Phase::default() }];
        assert!(text(&result).contains("run: no fixed rate, 0.0 s"));
        result.phases.clear();
        text(&result);
    }
}
