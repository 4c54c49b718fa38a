//! A panic in a run is a finding with a seed: it is caught and told with its place, and nothing is printed meanwhile.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static WATCHED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Held while a run goes on on this thread.
pub struct Watch(());

/// From now on panics of this thread are written down instead of printed.
pub fn watch() -> Watch {
    static HOOK: Once = Once::new();
    HOOK.call_once(install);
    WATCHED.with(|watched| watched.replace(Some(Vec::new())));
    Watch(())
}

impl Watch {
    /// What the panics since then said, and where.
    pub fn seen(&self) -> Vec<String> {
        WATCHED.with(|watched| watched.borrow().clone()).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.with(|watched| watched.take());
    }
}

fn install() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let written = WATCHED.with(|watched| match &mut *watched.borrow_mut() {
            Some(seen) => {
                seen.push(info.to_string());
                true
            }
            None => false,
        });
        if !written {
            default(info);
        }
    }));
}
