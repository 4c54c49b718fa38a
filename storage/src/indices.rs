//! Small numbers for things that come and go: places in a table that has no gaps for long.

use std::cell::RefCell;
use std::rc::Rc;

#[derive(Default)]
struct Numbers {
    /// Given back, to be given again.
    free: Vec<usize>,
    next: usize,
}

/// Gives numbers. Clones give from the same.
#[derive(Clone, Default)]
pub(crate) struct Indices {
    numbers: Rc<RefCell<Numbers>>,
}

/// A number, given back when it is dropped.
pub(crate) struct Index {
    number: usize,
    of: Indices,
}

impl Indices {
    /// A number that nobody has.
    pub(crate) fn take(&self) -> Index {
        let numbers = &mut *self.numbers.borrow_mut();
        let number = numbers.free.pop().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        });
        Index { number, of: self.clone() }
    }
}

impl Index {
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.of.numbers.borrow_mut().free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_when_nobody_has_it() {
        let indices = Indices::default();
        let [zero, one] = [indices.take(), indices.take()];
        assert_eq!([zero.number(), one.number()], [0, 1]);
        drop(zero);
        assert_eq!([indices.take().number(), one.number()], [0, 1]);
    }
}
