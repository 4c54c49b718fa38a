//! What stands on the page beside the charts: the verdict, the headline figures, the tables, how it was run.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::result::{Command, Latency, PERCENTILES, Phase, ResultError, RunResult};

use super::super::table::{by_rate, latencies};
use super::super::{units, verdict};
use super::charts::charts;
use super::escape::escape;
use super::run::Run;

/// The page's title, as plain text.
pub fn title(runs: &[Run<'_>]) -> String {
    match runs {
        [run] => heading(run.result),
        _ => format!("{} results of ringlog-loadgen", runs.len()),
    }
}

fn heading(result: &RunResult) -> String {
    let target = &result.environment.target;
    format!("{}: {} {}", result.command, target.name, target.version)
}

/// Everything within the page's `main`.
pub fn body(runs: &[Run<'_>]) -> Result<String, ResultError> {
    let mut out = String::new();
    for run in runs {
        write_run(&mut out, run);
    }
    out.push_str("<section class=\"charts\" aria-label=\"Charts\">\n");
    for chart in charts(runs)? {
        out.push_str(&chart.render());
    }
    out.push_str("</section>\n");
    for run in runs {
        write_figures(&mut out, run);
    }
    for run in runs {
        write_circumstances(&mut out, run);
    }
    Ok(out)
}

/// Heading, verdict, headline figures.
fn write_run(out: &mut String, run: &Run<'_>) {
    let result = run.result;
    let target = &result.environment.target;
    let _ = write!(out, "<section class=\"run\"><h1>{}</h1>", escape(&run.name_of(&heading(result))));
    let started = units::moment(&result.started);
    let facts = [
        format!("at {}", target.address),
        format!("ack class: {}", target.ack_class),
        format!("driver: {}", result.environment.client_driver),
        started,
    ];
    let _ = writeln!(out, "<p class=\"facts\">{}</p>", escape(&facts.join(" · ")));
    write_verdict(out, result);
    out.push_str("<dl class=\"tiles\">");
    for (name, value, detail) in tiles(result) {
        let _ = write!(
            out,
            "<div><dt>{}</dt><dd>{}</dd><dd class=\"detail\">{}</dd></div>",
            escape(&name),
            escape(&value),
            escape(&detail)
        );
    }
    out.push_str("</dl></section>\n");
}

fn write_verdict(out: &mut String, result: &RunResult) {
    let problems = verdict::problems(result);
    if problems.is_empty() {
        let words = verdict::verification(result);
        let _ = writeln!(
            out,
            "<p class=\"verdict good\"><strong>VALID</strong> complete; {}</p>",
            escape(&words)
        );
    }
    for problem in &problems {
        let _ = writeln!(
            out,
            "<p class=\"verdict bad\"><strong>{}</strong> {}</p>",
            problem.word,
            escape(&problem.text)
        );
    }
    let first = result.verification.iter().flat_map(|verification| &verification.first_problems);
    let first: String = first.map(|problem| format!("<li>{}</li>", escape(problem))).collect();
    if !first.is_empty() {
        let _ = writeln!(out, "<ul class=\"problems\">{first}</ul>");
    }
}

type Tile = (String, String, String);

fn tiles(result: &RunResult) -> Vec<Tile> {
    match result.command {
        Command::Sweep => sweep_tiles(result),
        Command::CatchUp => catch_up_tiles(result),
        _ => result.phases.iter().flat_map(phase_tiles).collect(),
    }
}

fn phase_tiles(phase: &Phase) -> Vec<Tile> {
    let offered = match phase.offered_per_second {
        Some(rate) => format!("offered {}/s", units::number(rate)),
        None => "no fixed rate".to_owned(),
    };
    let bytes = phase.bytes_sent.max(phase.bytes_received) as f64 / 1e6;
    let mut tiles = vec![(
        "Throughput".to_owned(),
        format!("{} records/s", units::per_second(phase.records() as f64, phase.seconds)),
        format!("{} MB/s, {offered}", units::per_second(bytes, phase.seconds)),
    )];
    tiles.extend(latencies(phase).map(|(name, latency)| latency_tile(name, latency, phase)));
    if let Some(each) = &phase.cpu.per_record_us {
        let broker =
            each.broker.map_or_else(|| "unknown".to_owned(), |each| format!("{} µs", units::number(each)));
        tiles.push((
            "CPU by record".to_owned(),
            format!("{} µs", units::number(each.machine)),
            format!("whole machine; broker {broker}, loadgen {} µs", units::number(each.loadgen)),
        ));
    }
    tiles
}

fn latency_tile(name: &str, latency: &Latency, phase: &Phase) -> Tile {
    let at = |name| latency.percentile_us(name).map_or_else(|| "-".to_owned(), units::time);
    if name == "lateness" {
        // Lateness is judged beside the latency that it would spoil.
        let measured =
            phase.ack.as_ref().or(phase.end_to_end.as_ref()).and_then(|other| other.percentile_us("99"));
        let share = latency.percentile_us("99").zip(measured).filter(|(_, measured)| *measured > 0.0);
        let share = share.map_or_else(String::new, |(late, measured)| {
            format!("{} % of the latency's p99; ", units::number(100.0 * late / measured))
        });
        let detail = format!("{share}max {}", units::time(latency.max_us));
        return ("Generator's lateness, p99".to_owned(), at("99"), detail);
    }
    let name = if name == "ack" { "Ack latency, p50" } else { "End-to-end latency, p50" };
    let detail = format!("p99 {}, p99.9 {}, max {}", at("99"), at("99.9"), units::time(latency.max_us));
    (name.to_owned(), at("50"), detail)
}

fn sweep_tiles(result: &RunResult) -> Vec<Tile> {
    let steps = by_rate(result);
    let tried = format!("{} rates tried", steps.len());
    let Some(saturation) = result.saturation else {
        return vec![("Saturation".to_owned(), "not found".to_owned(), tried)];
    };
    let at = steps.iter().find(|step| step.offered_per_second == Some(saturation));
    let mut tiles =
        vec![("Saturation".to_owned(), format!("{} records/s", units::number(saturation)), tried)];
    for (name, latency) in at.into_iter().flat_map(|step| latencies(step)) {
        let (title, value, detail) = latency_tile(name, latency, at.expect("it has latencies"));
        tiles.push((format!("{title}, at saturation"), value, detail));
    }
    tiles
}

fn catch_up_tiles(result: &RunResult) -> Vec<Tile> {
    let phase = |label: &str| result.phases.iter().find(|phase| phase.label == label);
    let Some(behind) = phase("catch-up") else {
        return result.phases.iter().flat_map(phase_tiles).collect();
    };
    // The phase goes on to the end of a second.
    let backlog = result.settings.get("backlog").and_then(serde_json::Value::as_u64);
    let mut tiles = vec![match result.caught_up_seconds.zip(backlog) {
        Some((seconds, backlog)) => (
            "Time to catch up".to_owned(),
            format!("{} s", units::number(seconds)),
            format!(
                "from {} records behind: {} a second",
                units::count(backlog),
                units::per_second(backlog as f64, seconds)
            ),
        ),
        None => {
            ("Time to catch up".to_owned(), "not caught up".to_owned(), format!("in {:.1} s", behind.seconds))
        }
    }];
    let bytes = behind.bytes_received as f64 / 1e6;
    tiles.push((
        "Received, over the seconds that it took".to_owned(),
        format!("{} records/s", units::per_second(behind.received as f64, behind.seconds)),
        format!("{} MB/s", units::per_second(bytes, behind.seconds)),
    ));
    for (when, phase) in [("while behind", Some(behind)), ("after", phase("after"))] {
        if let Some(ack) = phase.and_then(|phase| phase.ack.as_ref().zip(Some(phase))) {
            let (title, value, detail) = latency_tile("ack", ack.0, ack.1);
            tiles.push((format!("{title}, {when}"), value, detail));
        }
    }
    tiles
}

/// The heading of a section about a run.
fn of(what: &str, run: &Run<'_>) -> String {
    match run.name.as_str() {
        "" => what.to_owned(),
        name => format!("{what}: {name}"),
    }
}

/// Every figure of every phase.
fn write_figures(out: &mut String, run: &Run<'_>) {
    let _ = write!(out, "<section><h2>{}</h2>", escape(&of("Figures", run)));
    let phases: Vec<&Phase> = match run.result.command {
        Command::Sweep => by_rate(run.result),
        _ => run.result.phases.iter().collect(),
    };
    write_counts(out, &phases);
    write_latencies(out, &phases);
    for phase in phases.iter().filter(|phase| !phase.errors.is_empty()) {
        let _ = write!(out, "<h3>Errors in {}</h3><ul>", escape(&phase.label));
        for (error, times) in &phase.errors {
            let _ = write!(out, "<li>{} times: {}</li>", units::count(*times), escape(error));
        }
        out.push_str("</ul>");
    }
    out.push_str("</section>\n");
}

fn write_counts(out: &mut String, phases: &[&Phase]) {
    let heading = [
        "phase",
        "seconds",
        "offered/s",
        "sent",
        "acked",
        "received",
        "failed",
        "achieved/s",
        "MB/s sent",
        "MB/s received",
        "CPU broker",
        "CPU loadgen",
        "CPU machine",
    ];
    write_head(out, "Counts, rates, and CPU in cores", &heading);
    for phase in phases {
        let rate = |amount: f64| units::per_second(amount, phase.seconds);
        let cells = [
            units::number(phase.seconds),
            phase.offered_per_second.map_or_else(|| "-".to_owned(), units::number),
            units::count(phase.sent),
            units::count(phase.acked),
            units::count(phase.received),
            units::count(phase.failed),
            rate(phase.records() as f64),
            rate(phase.bytes_sent as f64 / 1e6),
            rate(phase.bytes_received as f64 / 1e6),
            phase.cpu.broker_seconds.map_or_else(|| "-".to_owned(), rate),
            rate(phase.cpu.loadgen_seconds),
            rate(phase.cpu.machine_busy_seconds),
        ];
        write_row(out, &phase.label, &cells);
    }
    out.push_str("</tbody></table></div>\n");
}

fn write_latencies(out: &mut String, phases: &[&Phase]) {
    let mut heading = vec!["phase".to_owned(), "latency".to_owned(), "records".to_owned(), "min".to_owned()];
    heading.extend(PERCENTILES.iter().map(|(name, _)| format!("p{name}")));
    heading.extend(["max".to_owned(), "mean".to_owned()]);
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    write_head(out, "Latencies, from the intended start", &heading);
    for phase in phases {
        for (name, latency) in latencies(phase) {
            let mut cells = vec![name.to_owned(), units::count(latency.count), units::time(latency.min_us)];
            cells.extend(
                PERCENTILES
                    .iter()
                    .map(|(name, _)| latency.percentile_us(name).map_or_else(|| "-".to_owned(), units::time)),
            );
            cells.extend([units::time(latency.max_us), units::time(latency.mean_us)]);
            write_row(out, &phase.label, &cells);
        }
    }
    out.push_str("</tbody></table></div>\n");
}

fn write_head(out: &mut String, caption: &str, heading: &[&str]) {
    let _ = write!(out, "<div class=\"scroll\"><table><caption>{caption}</caption><thead><tr>");
    for cell in heading {
        let _ = write!(out, "<th scope=\"col\">{cell}</th>");
    }
    out.push_str("</tr></thead><tbody>");
}

fn write_row(out: &mut String, label: &str, cells: &[String]) {
    let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(label));
    for cell in cells {
        let _ = write!(out, "<td>{}</td>", escape(cell));
    }
    out.push_str("</tr>");
}

/// Where and how it was run.
fn write_circumstances(out: &mut String, run: &Run<'_>) {
    let environment = &run.result.environment;
    let _ = write!(out, "<section><h2>{}</h2><div class=\"columns\">", escape(&of("How it was run", run)));
    write_map(out, "Settings", &run.result.settings);
    let unknown = || "unknown".to_owned();
    let machine = [
        ("kernel", environment.kernel.clone()),
        ("CPU", environment.cpu.clone()),
        ("CPUs", units::count(environment.cpus)),
        ("memory", units::memory(environment.memory_bytes)),
        ("file system", environment.filesystem.clone().unwrap_or_else(unknown)),
        ("disk", environment.disk.clone().unwrap_or_else(unknown)),
        ("ringlog-loadgen", environment.loadgen_version.clone()),
        ("client driver", environment.client_driver.clone()),
    ];
    let machine = machine.map(|(name, value)| (name.to_owned(), serde_json::Value::from(value)));
    write_map(out, "Machine", &BTreeMap::from(machine));
    let target = &environment.target;
    let mut settings = target.settings.clone();
    settings.insert("address".to_owned(), target.address.clone().into());
    write_map(out, &format!("Target: {} {}", target.name, target.version), &settings);
    out.push_str("</div></section>\n");
}

fn write_map(out: &mut String, caption: &str, map: &BTreeMap<String, serde_json::Value>) {
    let _ = write!(
        out,
        "<div class=\"scroll\"><table class=\"map\"><caption>{}</caption><tbody>",
        escape(caption)
    );
    for (name, value) in map {
        write_row(out, name, &[units::setting(value)]);
    }
    out.push_str("</tbody></table></div>\n");
}
