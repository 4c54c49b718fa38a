//! Whether a shard's storage takes appends, and who is woken when that changes.
//!
//! Invariant: once failed, always failed.

use std::cell::RefCell;

use ringlog_reactor::Notify;
use ringlog_reactor::sim::reached;

use crate::error::{AppendError, StoreFailure};

/// Whether a store takes appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// Not until there is space on the disk: it looks again every second.
    DiskFull,
    /// Not any more: a write or sync failed. Only a restart, which recovers from what is on the disk, helps.
    Failed(String),
}

pub(crate) struct HealthState {
    shard: u32,
    now: RefCell<Health>,
    /// What is waited for that a full disk may hold up, by those who then want to know.
    held_up: Vec<Notify>,
    /// What else is waited for.
    others: Vec<Notify>,
}

impl HealthState {
    /// A shard's. A full disk wakes those who wait for one of `held_up`, a failure wakes the `others` too.
    pub(crate) fn new(shard: u32, held_up: Vec<Notify>, others: Vec<Notify>) -> HealthState {
        HealthState { shard, now: RefCell::new(Health::Ok), held_up, others }
    }

    pub(crate) fn now(&self) -> Health {
        self.now.borrow().clone()
    }

    pub(crate) fn check_appendable(&self) -> Result<(), AppendError> {
        match &*self.now.borrow() {
            Health::Ok => Ok(()),
            Health::DiskFull => Err(AppendError::DiskFull),
            Health::Failed(reason) => Err(AppendError::Failed(reason.clone())),
        }
    }

    pub(crate) fn failure(&self) -> Option<StoreFailure> {
        match &*self.now.borrow() {
            Health::Failed(reason) => Some(StoreFailure(reason.clone())),
            _ => None,
        }
    }

    /// Fails if the storage has failed.
    pub(crate) fn check(&self) -> Result<(), StoreFailure> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Stops acknowledging for ever.
    pub(crate) fn fail(&self, reason: String) {
        if self.failure().is_some() {
            return;
        }
        reached("storage failed");
        tracing::error!(
            shard = self.shard,
            reason,
            "the storage has failed; nothing is acknowledged any more"
        );
        *self.now.borrow_mut() = Health::Failed(reason);
        self.held_up.iter().chain(&self.others).for_each(Notify::notify_all);
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        *self.now.borrow() == Health::DiskFull
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        let next = if full { Health::DiskFull } else { Health::Ok };
        let mut now = self.now.borrow_mut();
        if matches!(*now, Health::Failed(_)) || *now == next {
            return;
        }
        *now = next;
        drop(now);
        if full {
            tracing::error!(shard = self.shard, "the disk is full; appends are refused until there is space");
        } else {
            reached("full disk waited out");
            tracing::info!(shard = self.shard, "there is space on the disk again");
        }
        // Those who wait for room are refused now, instead of waiting for space, or try again.
        self.held_up.iter().for_each(Notify::notify_all);
    }
}
