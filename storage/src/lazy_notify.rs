//! A [`Notify`] that costs a pointer until something waits for it: an idle partition has several.

use std::cell::OnceCell;

use ringlog_reactor::{Notified, Notify};

#[derive(Default)]
pub(crate) struct LazyNotify(OnceCell<Notify>);

impl LazyNotify {
    /// Wakes those who wait. Without any there is nothing to do: a [`Notified`] that was made before keeps the [`Notify`].
    pub(crate) fn notify_all(&self) {
        if let Some(notify) = self.0.get() {
            notify.notify_all();
        }
    }

    pub(crate) fn notified(&self) -> Notified {
        self.get().notified()
    }

    pub(crate) fn get(&self) -> &Notify {
        self.0.get_or_init(Notify::new)
    }
}
