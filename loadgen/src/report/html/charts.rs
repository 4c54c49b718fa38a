//! Which charts a page has.

use crate::result::{Command, Interval, IntervalLatency, Latency, Phase, ResultError};

use super::super::table::by_rate;
use super::super::units;
use super::axis::Axis;
use super::chart::Stroke::{self, Broad, Dashed, Solid};
use super::chart::{Chart, Mark, Series};
use super::run::Run;

/// Steps of a percentile line within each nine.
const STEPS_PER_NINE: u32 = 24;
/// Curves of a sweep's percentiles: more than these cannot be told apart.
const RATES_SHOWN: usize = 5;

/// A kind of latency, and where it is found.
#[derive(Clone, Copy)]
struct Kind {
    title: &'static str,
    of_phase: fn(&Phase) -> Option<&Latency>,
    of_interval: fn(&Interval) -> Option<&IntervalLatency>,
}

const KINDS: [Kind; 2] = [
    Kind {
        title: "Ack latency",
        of_phase: |phase| phase.ack.as_ref(),
        of_interval: |interval| interval.ack.as_ref(),
    },
    Kind {
        title: "End-to-end latency",
        of_phase: |phase| phase.end_to_end.as_ref(),
        of_interval: |interval| interval.end_to_end.as_ref(),
    },
];

/// All charts of a page, those without values left out.
pub fn charts(runs: &[Run<'_>]) -> Result<Vec<Chart>, ResultError> {
    let mut charts = Vec::new();
    if runs.iter().all(|run| run.result.command == Command::Sweep) {
        charts.extend(KINDS.iter().flat_map(|kind| latency_by_load(runs, kind)));
        charts.push(achieved_by_load(runs));
        charts.extend(percentiles_by_rate(runs)?);
        charts.push(cpu_by_load(runs));
    } else {
        charts.extend(percentiles(runs)?);
        charts.extend(KINDS.iter().map(|kind| latency_over_time(runs, kind)));
        charts.push(backlog_over_time(runs));
        charts.push(throughput_over_time(runs));
        charts.push(cpu_over_time(runs));
    }
    charts.retain(|chart| !chart.is_empty());
    Ok(charts)
}

/// Latency by percentile: of one run its kinds and its phases, of several runs a chart for each kind.
fn percentiles(runs: &[Run<'_>]) -> Result<Vec<Chart>, ResultError> {
    let [run] = runs else {
        let mut charts = Vec::new();
        for kind in KINDS {
            let mut series = Vec::new();
            for (colour, run) in runs.iter().enumerate() {
                for (index, phase) in run.result.phases.iter().enumerate() {
                    let Some(latency) = (kind.of_phase)(phase) else { continue };
                    series.push(percentile_line(
                        run.named(phase),
                        latency,
                        colour,
                        if index > 0 { Dashed } else { Solid },
                    )?);
                }
            }
            charts.push(percentile_chart(format!("{} by percentile", kind.title), series));
        }
        return Ok(charts);
    };
    let mut series = Vec::new();
    let several = run.result.phases.len() > 1;
    for phase in &run.result.phases {
        let kinds = [("ack", &phase.ack), ("end-to-end", &phase.end_to_end), ("lateness", &phase.lateness)];
        for (name, latency) in kinds {
            // Several phases have enough lines without the generator's own.
            let Some(latency) = latency.as_ref().filter(|_| !several || name != "lateness") else { continue };
            let name = if several { format!("{name}, {}", phase.label) } else { name.to_owned() };
            let colour = series.len();
            series.push(percentile_line(name, latency, colour, Solid)?);
        }
    }
    Ok(vec![percentile_chart("Latency by percentile".to_owned(), series)])
}

fn percentile_chart(title: String, series: Vec<Series>) -> Chart {
    let last =
        series.iter().filter_map(|series| series.points.last()).map(|(at, _)| *at).fold(90.0, f64::max);
    Chart {
        title,
        note: "Each further nine takes the same room. A line ends where its records no longer tell percentiles apart."
            .to_owned(),
        x: Axis::percentile(last),
        y: Axis::latency("latency", values(&series)),
        series,
        marks: Vec::new(),
    }
}

fn percentile_line(
    name: String,
    latency: &Latency,
    colour: usize,
    stroke: Stroke,
) -> Result<Series, ResultError> {
    let histogram = latency.histogram.decode()?;
    // With a thousand records, the greatest one is all that is known beyond 99.9.
    let nines = (histogram.len().max(1) as f64).log10();
    let steps = (nines * f64::from(STEPS_PER_NINE)).floor() as u32;
    let at = |step: u32| 100.0 * (1.0 - 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_NINE)));
    let points = (0..=steps)
        .map(|step| (at(step), Some(histogram.value_at_percentile(at(step)) as f64 / 1e3)))
        .collect();
    Ok(Series { name, points, colour, stroke })
}

/// Latency of each second. One run shows its p50, p99 and max, and its lateness; several show p50 and p99.
fn latency_over_time(runs: &[Run<'_>], kind: &Kind) -> Chart {
    let mut series = Vec::new();
    let of = kind.of_interval;
    for (colour, run) in runs.iter().enumerate() {
        let mut add = |name: &str, colour, stroke, value: &dyn Fn(&Interval) -> Option<f64>| {
            series.push(over_time(run, run.name_of(name), colour, stroke, value));
        };
        if runs.len() == 1 {
            add("p50", 0, Solid, &|interval| of(interval).map(|latency| latency.p50_us));
            add("p99", 1, Solid, &|interval| of(interval).map(|latency| latency.p99_us));
            add("max", 3, Solid, &|interval| of(interval).map(|latency| latency.max_us));
            add("lateness p99", 5, Dashed, &|interval| of(interval).and(interval.lateness_p99_us));
        } else {
            add("p99", colour, Solid, &|interval| of(interval).map(|latency| latency.p99_us));
            add("p50", colour, Dashed, &|interval| of(interval).map(|latency| latency.p50_us));
        }
    }
    series.retain(|series| series.points.iter().any(|(_, value)| value.is_some()));
    let y = Axis::latency("latency", values(&series));
    time_chart(
        runs,
        format!("{} over time", kind.title),
        "By second; a gap is a second without any.",
        y,
        series,
    )
}

fn throughput_over_time(runs: &[Run<'_>]) -> Chart {
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        let mut add = |name: &str, colour, stroke, count: &dyn Fn(&Interval) -> u64| {
            let any = run.intervals().any(|interval| count(interval) > 0);
            let rate = |interval: &Interval| Some(count(interval) as f64 / long_enough(interval)?.seconds);
            series.extend(any.then(|| over_time(run, run.name_of(name), colour, stroke, &rate)));
        };
        let alone = runs.len() == 1;
        if alone {
            add("sent", 0, Broad, &|interval| interval.sent);
        }
        add("acked", if alone { 1 } else { colour }, Solid, &|interval| interval.acked);
        add("received", if alone { 2 } else { colour }, Dashed, &|interval| interval.received);
        if alone {
            add("failed", 3, Solid, &|interval| interval.failed);
        }
    }
    let y = Axis::number("records/s", values(&series));
    time_chart(runs, "Throughput over time".to_owned(), "Records a second, by second.", y, series)
}

fn cpu_over_time(runs: &[Run<'_>]) -> Chart {
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        let mut add = |name: &str, colour, value: &dyn Fn(&Interval) -> Option<f64>| {
            series.push(over_time(run, run.name_of(name), colour, Solid, value));
        };
        if runs.len() == 1 {
            add("broker", 0, &|interval| long_enough(interval)?.cpu_broker);
            add("load generator", 1, &|interval| Some(long_enough(interval)?.cpu_loadgen));
            add("whole machine", 2, &|interval| Some(long_enough(interval)?.cpu_machine));
        } else {
            add("whole machine", colour, &|interval| Some(long_enough(interval)?.cpu_machine));
        }
    }
    series.retain(|series| series.points.iter().any(|(_, value)| value.is_some()));
    let y = Axis::number("cores busy", values(&series));
    let note = "The whole machine includes the kernel's own workers, and everybody else.";
    time_chart(runs, "CPU over time".to_owned(), note, y, series)
}

/// How far behind the consumers are; only where the run says so, as a catch-up does.
fn backlog_over_time(runs: &[Run<'_>]) -> Chart {
    let series: Vec<Series> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| run.result.command == Command::CatchUp)
        .map(|(colour, run)| {
            let name = run.name_of("backlog");
            let value = |interval: &Interval| interval.backlog.map(|backlog| backlog as f64);
            let mut series = over_time(run, name, colour, Solid, &value);
            // It is known at the end of each second, not at its beginning; before the first of them it was what came of
            // that second, turned back.
            for ((at, _), interval) in series.points.iter_mut().zip(run.intervals()) {
                *at += interval.seconds;
            }
            series.points.retain(|(_, value)| value.is_some());
            let first = run.intervals().find_map(|interval| Some((interval, interval.backlog?)));
            if let Some((interval, backlog)) = first {
                let before = (backlog + interval.received).saturating_sub(interval.acked);
                series.points.insert(0, (run.since_begin(interval), Some(before as f64)));
            }
            series
        })
        .collect();
    let y = Axis::number("records", values(&series));
    let note = "Records that the consumer has not yet received.";
    time_chart(runs, "Backlog over time".to_owned(), note, y, series)
}

fn time_chart(runs: &[Run<'_>], title: String, note: &str, y: Axis, series: Vec<Series>) -> Chart {
    let last = series.iter().filter_map(|series| series.points.last()).map(|(at, _)| *at).fold(0.0, f64::max);
    Chart { title, note: note.to_owned(), x: Axis::seconds(last), y, series, marks: phase_marks(runs) }
}

/// Where the later phases of a run begin. Those of several runs would begin at different times.
fn phase_marks(runs: &[Run<'_>]) -> Vec<Mark> {
    let [run] = runs else { return Vec::new() };
    let begins = run.result.phases.iter().filter_map(|phase| Some((phase, phase.intervals.first()?)));
    begins
        .skip(1)
        .map(|(phase, first)| Mark { x: run.since_begin(first), label: phase.label.clone() })
        .collect()
}

fn over_time(
    run: &Run<'_>,
    name: String,
    colour: usize,
    stroke: Stroke,
    value: &dyn Fn(&Interval) -> Option<f64>,
) -> Series {
    let mut points: Vec<(f64, Option<f64>)> =
        run.intervals().map(|interval| (run.since_begin(interval), value(interval))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Series { name, points, colour, stroke }
}

/// The plot that a sweep is for.
fn latency_by_load(runs: &[Run<'_>], kind: &Kind) -> Option<Chart> {
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        let names = if runs.len() == 1 { vec!["50", "99", "99.9"] } else { vec!["99", "50"] };
        for (index, name) in names.iter().enumerate() {
            let (colour, stroke) = match runs.len() {
                1 => (index, Solid),
                _ if index > 0 => (colour, Dashed),
                _ => (colour, Solid),
            };
            let value = |phase: &Phase| believed(phase, kind)?.percentile_us(name);
            series.push(by_load(run, run.name_of(&format!("p{name}")), colour, stroke, &value));
        }
    }
    let y = Axis::latency("latency", values(&series));
    let any_void = runs.iter().flat_map(|run| &run.result.phases).any(|phase| phase.void.is_some());
    let note = match any_void {
        false => {
            "Each point is one step of the sweep: a fixed schedule at that rate, latency from the intended start."
        }
        true => {
            "Each point is one step of the sweep; steps for which the generator itself was too late are left out."
        }
    };
    Some(load_chart(runs, format!("{} against offered load", kind.title), note, y, series))
}

fn achieved_by_load(runs: &[Run<'_>]) -> Chart {
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        let achieved = |phase: &Phase| rate(phase.records() as f64, phase.seconds);
        series.push(by_load(run, run.name_of("achieved"), colour, Solid, &achieved));
    }
    if let [run] = runs {
        series.push(by_load(run, "offered".to_owned(), 5, Dashed, &|phase| phase.offered_per_second));
    }
    let y = Axis::number("records/s achieved", values(&series));
    let note = "Where the target keeps up, it achieves what is offered.";
    load_chart(runs, "Achieved against offered load".to_owned(), note, y, series)
}

fn cpu_by_load(runs: &[Run<'_>]) -> Chart {
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        let mut add = |name: &str, colour, seconds: &dyn Fn(&Phase) -> Option<f64>| {
            let cores = |phase: &Phase| rate(seconds(phase)?, phase.seconds);
            series.push(by_load(run, run.name_of(name), colour, Solid, &cores));
        };
        if runs.len() == 1 {
            add("broker", 0, &|phase| phase.cpu.broker_seconds);
            add("load generator", 1, &|phase| Some(phase.cpu.loadgen_seconds));
            add("whole machine", 2, &|phase| Some(phase.cpu.machine_busy_seconds));
        } else {
            add("whole machine", colour, &|phase| Some(phase.cpu.machine_busy_seconds));
        }
    }
    series.retain(|series| series.points.iter().any(|(_, value)| value.is_some()));
    let y = Axis::number("cores busy", values(&series));
    let note = "The whole machine includes the kernel's own workers, and everybody else.";
    load_chart(runs, "CPU against offered load".to_owned(), note, y, series)
}

/// Whole distributions of some rates up to the first that is too much.
fn percentiles_by_rate(runs: &[Run<'_>]) -> Result<Option<Chart>, ResultError> {
    let [run] = runs else { return Ok(None) };
    let saturation = run.result.saturation.unwrap_or(0.0);
    let steps = by_rate(run.result);
    let kept_up =
        steps.partition_point(|step| step.offered_per_second.is_some_and(|rate| rate <= saturation));
    let shown = spread(kept_up, RATES_SHOWN - 1).chain((kept_up < steps.len()).then_some(kept_up));
    let kind = KINDS.iter().find(|kind| steps.iter().any(|step| (kind.of_phase)(step).is_some()));
    let Some(kind) = kind else { return Ok(None) };
    let mut series = Vec::new();
    for step in shown.map(|index| steps[index]) {
        let Some(latency) = believed(step, kind) else { continue };
        let colour = series.len();
        let rate =
            step.offered_per_second.map_or_else(|| step.label.clone(), |rate| units::number(rate) + "/s");
        series.push(percentile_line(rate, latency, colour, Solid)?);
    }
    Ok(Some(percentile_chart(format!("{} by percentile, at some rates", kind.title), series)))
}

/// Up to `number` indices of `length`, evenly, with the last.
fn spread(length: usize, number: usize) -> impl Iterator<Item = usize> {
    let number = number.min(length);
    (1..=number).map(move |index| index * length / number - 1)
}

fn load_chart(runs: &[Run<'_>], title: String, note: &str, y: Axis, series: Vec<Series>) -> Chart {
    let rates: Vec<f64> = series.iter().flat_map(|series| &series.points).map(|(rate, _)| *rate).collect();
    let marks = runs
        .iter()
        .filter_map(|run| Some(Mark { x: run.result.saturation?, label: run.name_of("saturation") }))
        .collect();
    let x = Axis::number("records/s offered", rates.into_iter());
    Chart { title, note: note.to_owned(), x, y, series, marks }
}

/// The latency of a step, unless the generator spoilt it.
fn believed<'a>(phase: &'a Phase, kind: &Kind) -> Option<&'a Latency> {
    (kind.of_phase)(phase).filter(|_| phase.void.is_none())
}

fn by_load(
    run: &Run<'_>,
    name: String,
    colour: usize,
    stroke: Stroke,
    value: &dyn Fn(&Phase) -> Option<f64>,
) -> Series {
    let steps = by_rate(run.result);
    let points = steps.iter().filter_map(|step| Some((step.offered_per_second?, value(step)))).collect();
    Series { name, points, colour, stroke }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone + '_ {
    series.iter().flat_map(|series| &series.points).filter_map(|(_, value)| *value)
}

/// Not the last moments of a phase, in which late acks trickle in: a rate over milliseconds is noise.
fn long_enough(interval: &Interval) -> Option<&Interval> {
    (interval.seconds >= 0.5).then_some(interval)
}

fn rate(amount: f64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| amount / seconds)
}
