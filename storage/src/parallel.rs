//! Many small pieces of work at a time, on one core.

use std::cell::RefCell;
use std::rc::Rc;

use ringlog_reactor::spawn;

use crate::error::StoreError;
use crate::permits::Permits;

/// Does something with each, so many at a time. After an error nothing more is begun, and what is under way runs to its end. The first
/// error is returned, but one that is final before one that can be waited out: whoever waits that out would try a failed sync again.
pub(crate) async fn in_parallel<'a, T, F>(
    at_once: usize,
    all: impl Iterator<Item = &'a T>,
    action: impl Fn(T) -> F,
) -> Result<(), StoreError>
where
    T: Clone + 'a,
    F: Future<Output = Result<(), StoreError>> + 'static,
{
    let permits = Permits::new(at_once);
    let failed: Rc<RefCell<Option<StoreError>>> = Rc::default();
    let mut tasks = Vec::new();
    for one in all {
        let permit = permits.acquire().await;
        if failed.borrow().is_some() {
            break;
        }
        let failed = Rc::clone(&failed);
        let action = action(one.clone());
        tasks.push(spawn(async move {
            if let Err(error) = action.await {
                let mut failed = failed.borrow_mut();
                if failed.as_ref().is_none_or(StoreError::can_be_waited_out) {
                    *failed = Some(error);
                }
            }
            drop(permit);
        }));
    }
    for task in tasks {
        task.await;
    }
    let failed = failed.borrow_mut().take();
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Error, ErrorKind};
    use std::time::Duration;

    use ringlog_reactor::sim::Simulation;
    use ringlog_reactor::sleep;

    use super::*;
    use crate::error::SYNCING;

    #[test]
    fn a_sync_that_failed_is_not_taken_for_a_full_disk_that_was_met_beside_it() {
        let full = || Err(StoreError::io("creating", "a")(ErrorKind::StorageFull.into()));
        let failed = || Err(StoreError::io(SYNCING, "b")(Error::other("rotten")));
        for failing_first in [false, true] {
            let error =
                Simulation::new(1).run(in_parallel(2, [false, true].iter(), move |sync: bool| async move {
                    if sync != failing_first {
                        sleep(Duration::from_millis(1)).await;
                    }
                    if sync { failed() } else { full() }
                }));
            assert!(error.is_err_and(|error| !error.can_be_waited_out()));
        }
    }

    #[test]
    fn nothing_is_begun_behind_an_error() {
        let begun = Rc::new(Cell::new(0));
        let result = Simulation::new(1).run(in_parallel(16, [(); 1000].iter(), |()| {
            begun.set(begun.get() + 1);
            async { Err(StoreError::DiskFull) }
        }));
        assert!(result.is_err() && begun.get() <= 16);
    }
}
