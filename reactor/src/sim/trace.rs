//! What has happened: a hash of all of it, and the last of it in words.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

pub(super) struct Trace {
    hash: Cell<u64>,
    lines: RefCell<VecDeque<String>>,
    /// How many lines are kept; with none nothing is put into words.
    kept: Cell<usize>,
}

impl Trace {
    pub(super) fn new() -> Trace {
        // The offset basis of FNV-1a.
        Trace { hash: Cell::new(0xCBF2_9CE4_8422_2325), lines: RefCell::default(), kept: Cell::new(0) }
    }

    /// FNV-1a, word by word.
    pub(super) fn word(&self, word: u64) {
        self.hash.set((self.hash.get() ^ word).wrapping_mul(0x0100_0000_01B3));
    }

    pub(super) fn text(&self, text: &str) {
        text.bytes().for_each(|byte| self.word(u64::from(byte)));
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(super) fn keep(&self, lines: usize) {
        self.kept.set(lines);
        self.lines.borrow_mut().truncate(lines);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.get() > 0
    }

    /// Keeps a line; the oldest goes if there are too many.
    pub(super) fn line(&self, line: String) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= self.kept.get() {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}
