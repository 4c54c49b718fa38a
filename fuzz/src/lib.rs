//! Hostile bytes for decoders. The targets stand beside what they test, as ordinary tests; this is the engine.
//!
//! A target begins with sound bytes: those that the test makes, and those of a real broker in `fuzz/corpus/<target>/` of its
//! package. They are changed in the ways that break decoders (flipped bits, extreme numbers, lengths and counts that are off,
//! parts of one in another, cuts), and in half of the cases the target mends checksums and lengths afterwards, so that what
//! is behind those is reached as well. What is refused with words that were not heard before is changed further: the words
//! stand in for coverage, which a stable compiler does not give to a running program.
//!
//! Checked of every input: no panic, and no more memory at a time than the target allows. The target itself checks that what
//! it takes is what was written.
//!
//! Variables: `RINGLOG_FUZZ_SECONDS`: how long each target runs, with a fresh seed; without it each takes a second or less,
//! the same in every run. `RINGLOG_FUZZ_SEED`: repeats a run. `scripts/fuzz` runs all targets.
#![forbid(unsafe_code)]

mod corpus;
mod mutate;
mod random;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use mutate::mutate;
pub use random::Random;

/// Cases of a short run.
const ROUNDS: u64 = 20_000;
/// Inputs that are kept because they were refused in a new way.
const MAX_KEPT: usize = 1_024;
/// An input is not made longer than that.
const MAX_BYTES: usize = 1 << 20;
/// Inputs with at least these many bytes share the time of a short run.
const LARGE_BYTES: usize = 4 << 10;

/// What a target says of an input: taken, or refused and why.
pub type Verdict = Result<(), String>;

type Mend<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;

/// A decoder, and what to feed it with.
pub struct Target<'a> {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    mend: Option<Mend<'a>>,
    base_bytes: usize,
    bytes_per_byte: usize,
    rounds: u64,
}

impl<'a> Target<'a> {
    /// A target without any bytes yet.
    pub fn new(name: &'static str) -> Target<'a> {
        Target {
            name,
            seeds: Vec::new(),
            mend: None,
            base_bytes: 64 << 10,
            bytes_per_byte: 64,
            rounds: ROUNDS,
        }
    }

    /// Sound bytes that the test makes.
    pub fn seeds<T: Into<Vec<u8>>>(mut self, seeds: impl IntoIterator<Item = T>) -> Target<'a> {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Sound bytes of a real broker: the files below `fuzz/corpus/<target>/` of the package, whose folder is given with
    /// `env!("CARGO_MANIFEST_DIR")`.
    ///
    /// # Panics
    /// If there are none.
    pub fn corpus(mut self, package: &str) -> Target<'a> {
        self.seeds.extend(corpus::read(package, self.name));
        self
    }

    /// Puts right, after a change, what would otherwise hide all that is behind it.
    pub fn mending(mut self, mend: impl Fn(&mut Vec<u8>) + 'a) -> Target<'a> {
        self.mend = Some(Box::new(mend));
        self
    }

    /// Memory that may be held at a time: so much, and so much for each byte of the input. 64 KiB and 64 bytes unless said.
    pub fn allowing(mut self, base_bytes: usize, bytes_per_byte: usize) -> Target<'a> {
        (self.base_bytes, self.bytes_per_byte) = (base_bytes, bytes_per_byte);
        self
    }

    /// Cases of a short run, where one costs more than usual.
    pub fn rounds(mut self, rounds: u64) -> Target<'a> {
        self.rounds = rounds;
        self
    }

    /// Feeds the decoder. Sound bytes must be taken; the rest is `check`'s to judge.
    ///
    /// # Panics
    /// When the decoder does, when it takes too much memory, or when nothing was refused: then this is no test.
    pub fn run(self, check: impl Fn(&[u8]) -> Verdict) {
        assert!(!self.seeds.is_empty(), "a target needs sound bytes to begin with");
        for seed in &self.seeds {
            let verdict = self.feed(&check, seed, "the corpus");
            assert!(verdict.is_ok(), "fuzz {}: sound bytes were refused: {verdict:?}", self.name);
        }
        let budget = Budget::new(self.rounds.min(self.rounds * LARGE_BYTES as u64 / self.mean_bytes()));
        let mut random = Random::new(budget.seed);
        let mut pool = Pool::new(self.seeds.clone());
        let (mut cases, mut taken) = (0, 0);
        while budget.lasts(cases) {
            let input = self.next(&mut random, &pool.inputs);
            let verdict = self.feed(&check, &input, &format!("seed {}", budget.seed));
            cases += 1;
            match verdict {
                Ok(()) => taken += 1,
                Err(words) => pool.keep_if_new(&words, input),
            }
        }
        println!(
            "fuzz {}: {cases} cases, {taken} taken, {} ways to refuse, seed {}",
            self.name,
            pool.heard.len(),
            budget.seed
        );
        assert!(taken < cases, "fuzz {}: nothing was refused: the changes are no test", self.name);
    }

    fn mean_bytes(&self) -> u64 {
        let bytes: usize = self.seeds.iter().map(Vec::len).sum();
        (bytes / self.seeds.len()).max(LARGE_BYTES) as u64
    }

    fn next(&self, random: &mut Random, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = pool[random.below(pool.len())].clone();
        for _ in 0..=random.below(3) {
            let other = random.below(pool.len());
            mutate(random, &mut input, &pool[other]);
        }
        input.truncate(MAX_BYTES);
        if let Some(mend) = &self.mend
            && random.below(2) == 0
        {
            mend(&mut input);
        }
        input
    }

    /// Runs the decoder on one input. An input that breaks it is kept in a file, which can become one of the corpus.
    fn feed(&self, check: &impl Fn(&[u8]) -> Verdict, input: &[u8], origin: &str) -> Verdict {
        let mut verdict = Ok(());
        let guarded = AssertUnwindSafe(|| allocation_counter::measure(|| verdict = check(input)));
        match catch_unwind(guarded) {
            Ok(used) => {
                let limit = (self.base_bytes + self.bytes_per_byte * input.len()) as u64;
                if used.bytes_max > limit {
                    let kept = self.save(input);
                    panic!(
                        "fuzz {}: {} bytes held at a time for an input of {}, the limit is {limit}: {origin}, {kept}",
                        self.name,
                        used.bytes_max,
                        input.len()
                    );
                }
                verdict
            }
            Err(panic) => {
                eprintln!(
                    "fuzz {}: the panic above came of an input from {origin}, {}",
                    self.name,
                    self.save(input)
                );
                resume_unwind(panic)
            }
        }
    }

    fn save(&self, input: &[u8]) -> String {
        let path: PathBuf =
            std::env::temp_dir().join(format!("ringlog-fuzz-{}-{:016x}", self.name, random::hash(input)));
        match std::fs::write(&path, input) {
            Ok(()) => format!("kept as {}", path.display()),
            Err(error) => format!("which could not be kept ({error}): {input:02x?}"),
        }
    }
}

/// How long it goes on.
struct Budget {
    rounds: u64,
    until: Option<Instant>,
    seed: u64,
}

impl Budget {
    fn new(rounds: u64) -> Budget {
        let seconds: Option<f64> = variable("RINGLOG_FUZZ_SECONDS");
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let usual = if until.is_some() { random::fresh_seed() } else { 1 };
        Budget { rounds, until, seed: variable("RINGLOG_FUZZ_SEED").unwrap_or(usual) }
    }

    fn lasts(&self, cases: u64) -> bool {
        match self.until {
            // Asking the clock costs more than many a decoder.
            Some(until) => !cases.is_multiple_of(64) || Instant::now() < until,
            None => cases < self.rounds,
        }
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is `{value}`: want a number")))
}

/// What is changed: sound bytes, and bytes that got further than others.
struct Pool {
    inputs: Vec<Vec<u8>>,
    sound: usize,
    heard: HashSet<String>,
}

impl Pool {
    fn new(inputs: Vec<Vec<u8>>) -> Pool {
        Pool { sound: inputs.len(), inputs, heard: HashSet::new() }
    }

    /// Numbers in the words are no news.
    fn keep_if_new(&mut self, words: &str, input: Vec<u8>) {
        let plain: String = words.chars().filter(|letter| !letter.is_ascii_hexdigit()).collect();
        if self.inputs.len() - self.sound < MAX_KEPT && self.heard.insert(plain) {
            self.inputs.push(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bytes of length, then so many.
    fn decode(bytes: &[u8]) -> Verdict {
        let length = u16::from_le_bytes(*bytes.first_chunk().ok_or("short")?);
        if bytes.len() == 2 + usize::from(length) { Ok(()) } else { Err("another length".to_owned()) }
    }

    fn target<'a>() -> Target<'a> {
        Target::new("self-test").seeds([vec![3, 0, 1, 2, 3], vec![0, 0]])
    }

    #[test]
    fn a_sound_decoder_passes() {
        target().run(decode);
    }

    #[test]
    fn mending_gets_behind_a_check() {
        let behind = std::cell::Cell::new(0);
        let mend = |bytes: &mut Vec<u8>| {
            bytes.resize(bytes.len().max(2), 0);
            let length = (bytes.len() - 2) as u16;
            bytes[..2].copy_from_slice(&length.to_le_bytes());
        };
        target().mending(mend).run(|bytes| decode(bytes).inspect(|()| behind.set(behind.get() + 1)));
        assert!(behind.get() > ROUNDS / 3);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_length_that_is_believed_is_found() {
        target().run(|bytes| {
            let length = u16::from_le_bytes(*bytes.first_chunk().ok_or("short")?);
            let _ = &bytes[2..2 + usize::from(length)];
            Err("nothing".to_owned()).or_else(|_: String| decode(bytes))
        });
    }

    #[test]
    #[should_panic(expected = "held at a time")]
    fn memory_for_a_count_that_is_believed_is_found() {
        target().run(|bytes| {
            let count = u16::from_le_bytes(*bytes.first_chunk().ok_or("short")?);
            let room: Vec<u64> = Vec::with_capacity(usize::from(count));
            if room.capacity() < usize::from(count) { Err("no room".to_owned()) } else { decode(bytes) }
        });
    }

    #[test]
    #[should_panic(expected = "nothing was refused")]
    fn a_target_that_refuses_nothing_is_no_test() {
        target().run(|_| Ok(()));
    }
}
