use std::path::Path;

use clap::{Args as _, FromArgMatches as _};

use super::super::Outputs;
use super::super::sample::{self, Shape};
use super::*;
use crate::target::AckClass;

const SHAPE: Shape = Shape { seconds: 20, rate: 1000, ack_us: 90.0, begin: 2, consumes: true };

fn arguments(line: &[&str]) -> Result<CompareArgs, clap::Error> {
    let command = CompareArgs::augment_args(clap::Command::new("compare"));
    let matches = command.try_get_matches_from(std::iter::once(&"compare").chain(line))?;
    CompareArgs::from_arg_matches(&matches)
}

fn compare_with(line: &[&str], a: &[RunResult], b: &[RunResult]) -> (Result<Outcome, CompareError>, String) {
    let mut out = Vec::new();
    let outcome = arguments(&[&["a", "b"], line].concat()).unwrap().compare(a, b, &mut out);
    (outcome, String::from_utf8(out).unwrap())
}

fn compare(a: &RunResult, b: &RunResult) -> (Result<Outcome, CompareError>, String) {
    compare_with(&[], std::slice::from_ref(a), std::slice::from_ref(b))
}

fn refusal(a: &RunResult, b: &RunResult) -> String {
    match compare(a, b).0 {
        Err(error @ CompareError::Refused(_)) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The line of the table that begins with this name.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find(|line| line.trim_start().starts_with(name))
        .unwrap_or_else(|| panic!("no {name}: {text}"))
}

#[test]
fn a_planted_regression_is_found_and_named() {
    let slower = sample::end_to_end_with(2, Shape { ack_us: 108.0, ..SHAPE });
    let (outcome, text) = compare(&sample::end_to_end(1), &slower);
    assert_eq!(outcome.unwrap(), Outcome::Regression, "{text}");
    assert!(line(&text, "ack p50").ends_with("WORSE by more than 5 %"), "{text}");
    assert!(line(&text, "throughput").ends_with("no difference shown"), "{text}");
    assert!(line(&text, "B IS WORSE by more than 5 %: ").contains("ack p50 +"), "{text}");
}

#[test]
fn the_other_way_round_it_is_better() {
    let slower = sample::end_to_end_with(2, Shape { ack_us: 108.0, ..SHAPE });
    let (outcome, text) = compare(&slower, &sample::end_to_end(1));
    assert_eq!(outcome.unwrap(), Outcome::Good, "{text}");
    assert!(line(&text, "ack p50").ends_with("better"), "{text}");
}

#[test]
fn nothing_is_found_between_two_runs_of_the_same() {
    for seed in 1..=5 {
        let (outcome, text) = compare(&sample::end_to_end(seed), &sample::end_to_end(seed + 100));
        assert_eq!(outcome.unwrap(), Outcome::Good, "{text}");
    }
}

#[test]
fn a_wider_bound_lets_a_regression_pass_and_says_so() {
    let slower = sample::end_to_end_with(2, Shape { ack_us: 108.0, ..SHAPE });
    let (outcome, text) = compare_with(&["--bound", "60%"], &[sample::end_to_end(1)], &[slower]);
    assert_eq!(outcome.unwrap(), Outcome::Good, "{text}");
    assert!(line(&text, "ack p50").ends_with("worse, within 60 %"), "{text}");
}

#[test]
fn only_the_figures_that_were_asked_for_count() {
    let slower = sample::end_to_end_with(2, Shape { ack_us: 108.0, ..SHAPE });
    let (a, b) = ([sample::end_to_end(1)], [slower]);
    let (outcome, text) = compare_with(&["--metric", "throughput"], &a, &b);
    assert_eq!(outcome.unwrap(), Outcome::Good, "{text}");
    let (outcome, _) = compare_with(&["--metric", "ack-p50"], &a, &b);
    assert_eq!(outcome.unwrap(), Outcome::Regression);
}

#[test]
fn a_figure_that_is_not_there_is_an_error() {
    let mut a = sample::end_to_end(1);
    a.phases[0].intervals.iter_mut().for_each(|interval| interval.ack = None);
    let (outcome, _) = compare_with(&["--metric", "ack-p99"], &[a], &[sample::end_to_end(2)]);
    assert_eq!(outcome.unwrap_err().to_string(), "no figure named ack p99 in both results");
}

#[test]
fn several_runs_a_side_are_taken_together() {
    let runs =
        |seeds: [u64; 3], ack_us| seeds.map(|seed| sample::end_to_end_with(seed, Shape { ack_us, ..SHAPE }));
    let (outcome, text) = compare_with(&[], &runs([1, 2, 3], 90.0), &runs([4, 5, 6], 112.0));
    assert_eq!(outcome.unwrap(), Outcome::Regression, "{text}");
    assert!(!text.contains("within these runs"), "{text}");
}

#[test]
fn too_few_seconds_are_not_judged() {
    let short = |seed| sample::end_to_end_with(seed, Shape { seconds: 5, ..SHAPE });
    let (outcome, text) = compare(&short(1), &short(2));
    assert_eq!(outcome.unwrap(), Outcome::NothingJudged);
    assert!(line(&text, "ack p50").ends_with("not judged: 5 seconds in A, want 10"), "{text}");
}

#[test]
fn a_percentile_needs_records_beyond_it() {
    let sparse = |seed| sample::end_to_end_with(seed, Shape { rate: 100, ..SHAPE });
    let (_, text) = compare(&sparse(1), &sparse(2));
    assert!(line(&text, "ack p99.9").ends_with("2,000 records in A, want 10,000"), "{text}");
    assert!(!line(&text, "ack p50").contains("not judged"), "{text}");
}

#[test]
fn other_ack_classes_and_commands_are_refused() {
    let mut b = sample::end_to_end(2);
    b.environment.target.ack_class = AckClass::Memory;
    assert!(refusal(&sample::end_to_end(1), &b).contains("ack class"));
    let words = refusal(&sample::end_to_end(1), &sample::catch_up(2));
    assert!(words.contains("different commands: catch-up, end-to-end"), "{words}");
}

#[test]
fn void_partial_and_faulty_runs_are_refused() {
    let good = sample::end_to_end(1);
    let mut void = good.clone();
    void.void = Some("the generator was late".to_owned());
    assert!(refusal(&good, &void).contains("B is VOID"));
    let mut partial = good.clone();
    partial.complete = false;
    assert!(refusal(&partial, &good).contains("A is PARTIAL"));
    let mut faulty = good.clone();
    faulty.verification.as_mut().unwrap().lost = 1;
    assert!(refusal(&good, &faulty).contains("B is FAILED"));
}

#[test]
fn force_compares_them_and_says_so() {
    let mut void = sample::end_to_end(2);
    void.void = Some("the generator was late".to_owned());
    let (outcome, text) = compare_with(&["--force"], &[sample::end_to_end(1)], &[void]);
    assert!(outcome.is_ok());
    assert!(text.contains("FORCED: B is VOID"), "{text}");
}

#[test]
fn what_differs_is_named_and_what_does_not_is_not() {
    let (a, mut b) = (sample::end_to_end(1), sample::end_to_end(1));
    b.settings.insert("linger".to_owned(), "1ms".into());
    b.settings.insert("json".to_owned(), "other.json".into());
    b.environment.kernel = "Linux 6.1".to_owned();
    let (_, text) = compare(&a, &b);
    assert!(text.contains("differs: kernel: A Linux 6.18.1, B Linux 6.1\n"), "{text}");
    assert!(text.contains("differs: setting linger: A -, B 1ms\n"), "{text}");
    assert_eq!(text.matches("differs: ").count(), 2, "{text}");
}

#[test]
fn sweeps_compare_their_saturation_and_the_rates_that_both_kept_up_with() {
    let (a, mut b) = (sample::sweep(1), sample::sweep(2));
    let (_, text) = compare(&a, &b);
    assert!(line(&text, "all rates").contains("left open by the steps"), "{text}");
    assert!(text.contains("8,000/s offered") && !text.contains("10,000/s offered"), "{text}");
    // B does not keep up with what is half of A's.
    b.saturation = Some(2_000.0);
    let (outcome, text) = compare(&a, &b);
    assert_eq!(outcome.unwrap(), Outcome::Regression, "{text}");
    assert!(line(&text, "B IS WORSE").ends_with("saturation (all rates) -75.0 %"), "{text}");
}

#[test]
fn a_sweep_that_never_saturated_is_not_judged() {
    let (mut a, b) = (sample::sweep(1), sample::sweep(2));
    a.saturation = Some(16_000.0);
    let (_, text) = compare(&a, &b);
    assert!(text.contains("not judged: no rate was too much"), "{text}");
}

#[test]
fn files_are_read_and_their_names_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.json");
    Outputs { json: Some(path.clone()), ..Outputs::default() }.write(&sample::end_to_end(1)).unwrap();
    let path = path.to_str().unwrap();
    let mut out = Vec::new();
    let outcome = arguments(&["--a", path, "--b", path, "--b", path]).unwrap().run(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(outcome, Outcome::Good);
    assert_eq!(text.matches(&format!("B: {path}: end-to-end against ringlog 0.1.0")).count(), 2, "{text}");
    assert!(
        arguments(&["a", "b"])
            .unwrap()
            .run(&mut Vec::new())
            .unwrap_err()
            .to_string()
            .starts_with("cannot read a")
    );
    assert!(Path::new(path).exists());
}

#[test]
fn nonsense_arguments_are_refused() {
    for wrong in [
        &["a"][..],
        &[],
        &["a", "b", "c"],
        &["a", "b", "--a", "c", "--b", "d"],
        &["--a", "c"],
        &["a", "b", "--bound", "0.05"],
        &["a", "b", "--bound", "-1%"],
        &["a", "b", "--bound", "nan%"],
        &["a", "b", "--metric", "speed"],
    ] {
        assert!(arguments(wrong).is_err(), "{wrong:?} was taken");
    }
}
