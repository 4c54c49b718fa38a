//! `ringlog check`: what is in a data folder at rest, and what is wrong with it?

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_broker::check::{self, CheckProgress, Finding, FolderReport, Weight};
use ringlog_broker::config;
use ringlog_reactor::CoreConfig;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::Output;
use super::units::{grouped, megabytes, span};

/// Check a data folder that no broker is using: every checksum, every rule, and nothing changed
///
/// Tells what is wrong and where, which offsets it concerns, and what the next start does about it. A note is about
/// something harmless, such as the torn tail that a crash leaves. Exit code 0: sound; 1: damage was found; 2: the folder
/// could not be checked.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog check --data /var/lib/ringlog
  ringlog check --data /var/lib/ringlog --json | jq .findings")]
pub struct CheckArgs {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = config::DEFAULT_DATA_DIR)]
    data: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the report.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let output = Output::open().map_err(|failure| Failure::refused(failure.words()))?;
    // Drawn on a terminal only.
    let style = "{bar:30} {bytes} of {total_bytes}, {eta} left";
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style).expect("a template"));
    let mut progress = |done: CheckProgress| {
        bar.set_length(done.of_bytes);
        bar.set_position(done.bytes);
    };
    let checked = ringlog_reactor::run(CoreConfig::default(), check::check(&args.data, &mut progress));
    bar.finish_and_clear();
    let checked = checked
        .map_err(|error| Failure::refused(format!("cannot use io_uring: {error}; see `ringlog doctor`")))?;
    let found = checked.map_err(Failure::refused)?;
    match print_report(&found, args.json, begun, output) {
        // The exit code is the verdict, also for a reader that wanted the first lines only.
        Ok(()) | Err(Failure::OutputClosed) if found.report.is_sound() => Ok(()),
        Ok(()) | Err(Failure::OutputClosed) => Err(Failure::Told),
        Err(failure) => Err(Failure::refused(failure.words())),
    }
}

fn print_report(
    found: &FolderReport,
    as_json_text: bool,
    begun: Instant,
    mut output: Output,
) -> Result<(), Failure> {
    if as_json_text {
        output.write(|out| writeln!(out, "{:#}", as_json(found)))?;
    } else {
        output.write(|out| print(found, out))?;
        output.write(|out| writeln!(out, "\n{}, {}", verdict(found), span(begun.elapsed())))?;
    }
    output.flush()
}

fn print(found: &FolderReport, out: &mut impl Write) -> io::Result<()> {
    for finding in &found.report.findings {
        writeln!(out, "{}", headline(found, finding))?;
        writeln!(out, "        → {}", finding.outcome)?;
    }
    if !found.report.findings.is_empty() {
        writeln!(out)?;
    }
    for (what, figure) in figures(found) {
        let shown = if what == "bytes" { megabytes(figure) } else { grouped(figure) };
        writeln!(out, "{what:<14}  {shown:>12}")?;
    }
    Ok(())
}

fn headline(found: &FolderReport, finding: &Finding) -> String {
    let mut line =
        format!("{:<6}  {}", word(finding.weight), below(&found.data_dir, &finding.path).display());
    if finding.offset > 0 {
        line += &format!(" at byte {}", finding.offset);
    }
    line += &format!(": {}", finding.what);
    let partition = finding.partition.map(|id| found.name_of(id));
    let offsets = finding.offsets.as_ref().map(|range| match range.end - range.start {
        1 => format!("offset {}", range.start),
        _ => format!("offsets {} to {}", range.start, range.end - 1),
    });
    let concerned: Vec<String> = partition.into_iter().chain(offsets).collect();
    if !concerned.is_empty() {
        line += &format!(" ({})", concerned.join(", "));
    }
    line
}

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Harmless => "note",
        Weight::OnRead | Weight::AtStart | Weight::RefusesStart => "DAMAGE",
    }
}

fn below<'a>(data_dir: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(data_dir).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(path)
}

fn figures(found: &FolderReport) -> [(&'static str, u64); 7] {
    let partitions = &found.report.partitions;
    [
        ("topics", found.topics.len() as u64),
        ("partitions", partitions.len() as u64),
        ("quarantined", partitions.iter().filter(|partition| partition.quarantined).count() as u64),
        ("segments", partitions.iter().map(|partition| partition.segments).sum()),
        ("records", partitions.iter().map(|partition| partition.records).sum()),
        ("bytes", partitions.iter().map(|partition| partition.bytes).sum()),
        ("journal frames", found.report.journal_frames),
    ]
}

fn verdict(found: &FolderReport) -> String {
    let is_damage = |finding: &&Finding| finding.weight != Weight::Harmless;
    match found.report.findings.iter().filter(is_damage).count() {
        0 => "sound".to_owned(),
        1 => "DAMAGE in 1 place; nothing was changed".to_owned(),
        places => format!("DAMAGE in {places} places; nothing was changed"),
    }
}

fn as_json(found: &FolderReport) -> Value {
    let findings = found.report.findings.iter().map(|finding| {
        json!({
            "weight": match finding.weight {
                Weight::Harmless => "harmless",
                Weight::OnRead => "on-read",
                Weight::AtStart => "at-start",
                Weight::RefusesStart => "refuses-start",
            },
            "file": below(&found.data_dir, &finding.path),
            "byte": finding.offset,
            "partition": finding.partition.map(|id| found.name_of(id)),
            "offsets": finding.offsets.as_ref().map(|range| [range.start, range.end]),
            "what": finding.what,
            "outcome": finding.outcome,
        })
    });
    let partitions = found.report.partitions.iter().map(|partition| {
        json!({
            "partition": found.name_of(partition.id),
            "start_offset": partition.start_offset,
            "end_offset": partition.end_offset,
            "segments": partition.segments,
            "records": partition.records,
            "bytes": partition.bytes,
            "quarantined": partition.quarantined,
        })
    });
    json!({
        "sound": found.report.is_sound(),
        "journal_frames": found.report.journal_frames,
        "findings": findings.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}
