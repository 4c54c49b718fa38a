//! Seeds that failed once, and the bug that each had found: they are run again for ever.

/// One past failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The seed.
    pub seed: u64,
    /// What it found.
    pub found: &'static str,
}

/// All of them, from `seeds.txt`: a number and words on each line.
pub fn past() -> Vec<Past> {
    let lines = include_str!("../seeds.txt").lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (seed, found) = line.split_once(' ').unwrap_or((line, ""));
            Past {
                seed: seed.parse().expect("a line of seeds.txt begins with a number"),
                found: found.trim(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_past_seed_says_what_it_found() {
        assert!(past().iter().all(|past| !past.found.is_empty()));
    }
}
