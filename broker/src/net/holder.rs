//! Memory budgets see those who hold their memory as something that can be cut off, and no more.

/// What holds memory of the budget and can be made to give it back.
pub trait Holder {
    /// Ends what needs the memory.
    fn cut_off(&self);
}
