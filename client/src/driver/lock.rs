//! A mutex for the driver's own state.
//!
//! One task touches that state at a time, so nobody ever waits here: the lock is what lets the task move, as it does between the
//! workers of a multi-threaded runtime. Never hold a guard across a call that may come back to the same lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        // A panic ends the driver, and what is dropped then still settles what it holds.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
