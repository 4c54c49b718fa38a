//! Rounds of A B B A, each pair between two looks at the disk's pace; and what they say together.

use serde::Serialize;

use super::case::{Case, Limit, Row, Sample};
use super::world::World;
use crate::failure::Failure;
use crate::progress::progress;
use crate::stats::{interval, median};

/// A pair is dropped when the disk's pace moved by more than this from one side of it to the other.
const STEADY: f64 = 0.10;

/// One A and one B, one right after the other.
#[derive(Serialize)]
pub struct Pair {
    reference: Sample,
    subject: Sample,
    /// p50 of synced 4 KiB writes before and after the pair, in microseconds.
    disk_us: Option<(f64, f64)>,
}

impl Pair {
    fn is_steady(&self) -> bool {
        self.disk_us.is_none_or(|(before, after)| (after / before).max(before / after) <= 1.0 + STEADY)
    }

    fn is_void(&self) -> bool {
        self.reference.why_void().is_some() || self.subject.why_void().is_some()
    }
}

/// A line of the table with what was found.
#[derive(Serialize)]
pub struct Verdict {
    /// The goal's number.
    pub goal: u32,
    /// What is divided by what.
    pub what: &'static str,
    /// As it is printed: `≤ 1.20`.
    pub limit: String,
    /// The median of the pairs' ratios.
    pub measured: f64,
    /// Its 95 % bootstrap interval.
    pub interval: (f64, f64),
    /// The noise floor: the same interval for A against A of the same rounds.
    pub noise: Option<(f64, f64)>,
    /// Whether the goal is met; none where nothing is judged.
    pub met: Option<bool>,
    /// How far to trust it.
    pub note: String,
}

impl Verdict {
    /// Of something that was measured by itself, without a reference: its median must not be more than `limit`.
    pub fn at_most(goal: u32, what: &'static str, limit: f64, measured: &[f64]) -> Verdict {
        let limit = Limit::AtMost(limit);
        Verdict {
            goal,
            what,
            limit: printed(limit),
            measured: median(measured),
            interval: interval(measured),
            noise: None,
            met: limit.is_met(median(measured)),
            note: String::new(),
        }
    }
}

/// All that was measured of one case.
#[derive(Serialize)]
pub struct Outcome {
    /// What is printed as the table.
    pub verdicts: Vec<Verdict>,
    pairs: Vec<Pair>,
}

impl Outcome {
    /// Medians of all values of both sides over the pairs that count.
    pub fn medians(&self) -> Vec<(&'static str, f64)> {
        let mut names: Vec<&'static str> = Vec::new();
        let sides = |pair: &Pair| [pair.reference.clone(), pair.subject.clone()];
        let samples: Vec<[Sample; 2]> = self.pairs.iter().map(sides).collect();
        for (name, _) in samples.iter().take(1).flatten().flat_map(Sample::values) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let all = |name: &str| -> Vec<f64> {
            samples.iter().flatten().map(|sample| sample.get(name)).filter(|value| !value.is_nan()).collect()
        };
        names.into_iter().map(|name| (name, median(&all(name)))).collect()
    }
}

/// Measures a case in so many rounds.
pub fn measure(case: &mut dyn Case, world: &World, label: &str) -> Result<Outcome, Failure> {
    let mut pairs = Vec::new();
    let mut noise = Vec::new();
    let watched = case.needs_steady_disk();
    for round in 1..=world.scale.rounds {
        progress(&format!("{label}: round {round} of {}", world.scale.rounds));
        let look = || watched.then(|| world.disk_pace_us()).transpose();
        let before = look()?;
        let (first, b1) = (case.reference()?, case.subject()?);
        let between = look()?;
        let (b2, last) = (case.subject()?, case.reference()?);
        let after = look()?;
        noise.push((first.clone(), last.clone()));
        pairs.push(Pair { reference: first, subject: b1, disk_us: before.zip(between) });
        pairs.push(Pair { reference: last, subject: b2, disk_us: between.zip(after) });
    }
    progress("");
    let verdicts = case.rows().iter().map(|row| judge(row, &pairs, &noise)).collect();
    Ok(Outcome { verdicts, pairs })
}

fn judge(row: &Row, pairs: &[Pair], noise: &[(Sample, Sample)]) -> Verdict {
    let valid: Vec<&Pair> = pairs.iter().filter(|pair| !pair.is_void()).collect();
    let steady: Vec<&Pair> = valid.iter().copied().filter(|pair| pair.is_steady()).collect();
    // With most of them dropped what is left is a selection, not a measurement.
    let too_noisy = steady.len() * 2 < valid.len();
    let judged = if too_noisy { &valid } else { &steady };
    let ratios: Vec<f64> = judged.iter().map(|pair| (row.ratio)(&pair.reference, &pair.subject)).collect();
    let measured = median(&ratios);
    let mut notes = Vec::new();
    if steady.len() < valid.len() && !too_noisy {
        notes.push(format!("{} of {} pairs dropped: disk moved", valid.len() - steady.len(), pairs.len()));
    }
    if too_noisy {
        let moved = valid.len() - steady.len();
        notes.push(format!("TOO NOISY: disk moved in {moved} of {} pairs, judged anyway", valid.len()));
    }
    if valid.len() < pairs.len() {
        let why = pairs.iter().find_map(|pair| pair.subject.why_void().or(pair.reference.why_void()));
        let void = pairs.len() - valid.len();
        notes.push(format!("{void} of {} pairs VOID: {}", pairs.len(), why.unwrap_or_default()));
    }
    Verdict {
        goal: row.goal,
        what: row.what,
        limit: printed(row.limit),
        measured,
        interval: interval(&ratios),
        noise: Some(interval(&noise_of(noise))),
        met: if measured.is_nan() { Some(false) } else { row.limit.is_met(measured) },
        note: notes.join("; "),
    }
}

/// A against A: the last over the first of each round, of the reference's first value.
fn noise_of(noise: &[(Sample, Sample)]) -> Vec<f64> {
    let first_value = |sample: &Sample| sample.values().first().map_or(f64::NAN, |(_, value)| *value);
    noise.iter().map(|(first, last)| first_value(last) / first_value(first)).collect()
}

/// A limit as the table shows it.
fn printed(limit: Limit) -> String {
    match limit {
        Limit::AtMost(limit) => format!("≤ {limit:.2}"),
        Limit::AtLeast(limit) => format!("≥ {limit:.2}"),
        Limit::None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(reference: f64, subject: f64, disk_us: (f64, f64)) -> Pair {
        let (reference, subject) = (Sample::of([("a", reference)]), Sample::of([("b", subject)]));
        Pair { reference, subject, disk_us: Some(disk_us) }
    }

    const ROW: Row = Row {
        goal: 1,
        what: "b / a",
        limit: Limit::AtMost(1.2),
        ratio: |reference, subject| subject.get("b") / reference.get("a"),
    };

    #[test]
    fn pairs_on_an_unsteady_disk_are_dropped() {
        let pairs =
            [pair(1.0, 1.1, (50.0, 52.0)), pair(1.0, 1.1, (50.0, 50.0)), pair(1.0, 9.0, (50.0, 60.0))];
        let verdict = judge(&ROW, &pairs, &[]);
        assert_eq!((verdict.measured, verdict.met), (1.1, Some(true)));
        assert!(verdict.note.starts_with("1 of 3"), "{}", verdict.note);
    }

    #[test]
    fn when_most_would_be_dropped_all_count_and_it_says_so() {
        let pairs =
            [pair(1.0, 1.0, (50.0, 50.0)), pair(1.0, 3.0, (50.0, 90.0)), pair(1.0, 3.0, (90.0, 50.0))];
        let verdict = judge(&ROW, &pairs, &[]);
        assert_eq!((verdict.measured, verdict.met), (3.0, Some(false)));
        assert!(verdict.note.starts_with("TOO NOISY"), "{}", verdict.note);
    }

    #[test]
    fn void_pairs_never_count() {
        let mut late = pair(1.0, 0.1, (50.0, 50.0));
        late.subject = late.subject.void(Some("late".into()));
        let verdict = judge(&ROW, &[late], &[]);
        assert!(verdict.measured.is_nan());
        assert_eq!(verdict.met, Some(false));
        assert!(verdict.note.contains("VOID: late"), "{}", verdict.note);
    }
}
