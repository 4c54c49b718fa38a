//! Which of a row of numbered things are finished: `first` is the lowest that is not.
//!
//! Invariant: `window` begins with a thing that is not finished, or is empty.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct InOrder {
    first: u64,
    window: VecDeque<bool>,
}

impl InOrder {
    /// Gives the next thing its number.
    pub fn begin(&mut self) -> u64 {
        self.window.push_back(false);
        self.next() - 1
    }

    /// The number that `begin` gives next.
    pub fn next(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    /// Notes that a thing is finished.
    pub fn finish(&mut self, number: u64) {
        let place = number.checked_sub(self.first).map(|place| place as usize);
        if let Some(finished) = place.and_then(|place| self.window.get_mut(place)) {
            *finished = true;
        }
        while self.window.front() == Some(&true) {
            self.window.pop_front();
            self.first += 1;
        }
    }

    /// Whether everything before `number` is finished.
    pub fn all_before(&self, number: u64) -> bool {
        self.first >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_end_does_not_hide_an_earlier_one_that_is_open() {
        let mut row = InOrder::default();
        let (first, second) = (row.begin(), row.begin());
        row.finish(second);
        assert!(!row.all_before(row.next()));
        row.finish(first);
        assert!(row.all_before(row.next()));
    }
}
