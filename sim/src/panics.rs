//! A panic in a run is a finding with a seed, not the end of the program.
//!
//! Built to unwind, the simulation catches what panics in a process. Built to abort, as a release is, nothing can be
//! caught: the hook, which runs before the abort, hands the finding over and never returns. The thread stays parked for
//! ever, with the memory of its run.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::rc::Rc;
use std::sync::Once;
use std::sync::mpsc::Sender;

use ringlog_reactor::sim::Simulation;

use crate::invariant::{Invariant, Violation};
use crate::run::{Order, RunOutcome};

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
    static REPORT: RefCell<Option<Sender<RunOutcome>>> = const { RefCell::new(None) };
}

struct Watched {
    order: Order,
    world: Rc<Simulation>,
}

/// Held while a run goes on on this thread.
pub struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.with(|watched| watched.take());
    }
}

/// From now on a panic of this thread is one of this run.
pub fn watch(order: Order, world: &Rc<Simulation>) -> Watch {
    static HOOK: Once = Once::new();
    HOOK.call_once(install);
    WATCHED.with(|watched| watched.replace(Some(Watched { order, world: Rc::clone(world) })));
    Watch(())
}

/// Has this thread's panics told there, where they cannot be caught.
pub fn report_to(sender: Sender<RunOutcome>) {
    REPORT.with(|report| report.replace(Some(sender)));
}

fn install() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let watched = WATCHED.with(|watched| watched.try_borrow_mut().ok().and_then(|mut w| w.take()));
        let Some(watched) = watched else { return default(info) };
        let reporting = REPORT.with(|report| report.try_borrow_mut().ok().and_then(|mut r| r.take()));
        match reporting {
            Some(sender) if cfg!(panic = "abort") => {
                // A receiver that is gone wants nothing any more.
                let _ = sender.send(finding(watched, info));
                loop {
                    std::thread::park();
                }
            }
            reporting => {
                // It will be caught: the run goes on, and may panic again.
                REPORT.with(|report| report.replace(reporting));
                WATCHED.with(|back| back.replace(Some(watched)));
                if cfg!(panic = "abort") {
                    default(info);
                }
            }
        }
    }));
}

fn finding(watched: Watched, info: &PanicHookInfo<'_>) -> RunOutcome {
    let Watched { order, world } = watched;
    RunOutcome {
        order,
        violations: vec![Violation::new(Invariant::NoPanic, info.to_string())],
        trace_hash: world.trace_hash(),
        reached: world.reached(),
        events: world.last_events(),
        acked: 0,
        read: 0,
    }
}
