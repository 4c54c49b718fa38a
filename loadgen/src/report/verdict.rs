//! What must be known of a result before any figure of it is believed.

use crate::result::{RunResult, Verification};

use super::units;

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One word for a badge.
    pub word: &'static str,
    /// The sentence.
    pub text: String,
}

/// Everything that is wrong with a result; empty of a good one.
pub fn problems(result: &RunResult) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(reason) = &result.void {
        found.push(Finding { word: "VOID", text: format!("these figures must not be used: {reason}") });
    }
    if !result.complete {
        let reason = result.reason.as_deref().unwrap_or("no reason was given");
        found.push(Finding { word: "PARTIAL", text: format!("the run was not completed: {reason}") });
    }
    if let Some(verification) = result.verification.as_ref().filter(|verification| !verification.passed()) {
        found.push(Finding { word: "FAILED", text: faults(verification) });
    }
    found
}

/// What verification says, in a sentence, good or bad.
pub fn verification(result: &RunResult) -> String {
    match &result.verification {
        None => "not verified: no record was read back".to_owned(),
        Some(verification) if verification.passed() => {
            let unacked = match verification.unacked_seen {
                0 => String::new(),
                seen => {
                    format!("; {} seen that were never acknowledged, which is allowed", units::count(seen))
                }
            };
            format!(
                "verified {} records: none lost, doubled, reordered or damaged{unacked}",
                units::count(verification.checked)
            )
        }
        Some(verification) => faults(verification),
    }
}

fn faults(verification: &Verification) -> String {
    let kinds = [
        (verification.lost, "lost"),
        (verification.doubled, "doubled"),
        (verification.reordered, "reordered"),
        (verification.damaged, "damaged"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", units::count(*number)))
        .collect();
    format!("verification failed: {} of {} records", kinds.join(", "), units::count(verification.checked))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_good_result_has_no_problems() {
        let result = sample::end_to_end(1);
        assert_eq!(problems(&result), []);
        assert!(verification(&result).contains("none lost"));
    }

    #[test]
    fn each_fault_is_named_with_its_number() {
        let mut result = sample::end_to_end(1);
        result.verification =
            Some(Verification { checked: 1000, lost: 3, damaged: 1, ..Verification::default() });
        result.void = Some("lateness".to_owned());
        result.complete = false;
        result.reason = Some("the broker hung".to_owned());
        let words: Vec<&str> = problems(&result).iter().map(|finding| finding.word).collect();
        assert_eq!(words, ["VOID", "PARTIAL", "FAILED"]);
        assert_eq!(verification(&result), "verification failed: 3 lost, 1 damaged of 1,000 records");
    }
}
