//! Threads beside the cores, for computations that would hold a core's thread for too long.
//!
//! Invariants:
//! - Work begins in the order in which it was given, and no more of it is queued than [`QUEUED`].
//! - A worker gives way to the cores: it has a lower priority, and may run on any CPU of the process.
//!
//! In a simulation there are no threads: work is done at once, and its result comes after a random time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::random_u64;
use crate::core;
use crate::sys;
use crate::timer::sleep;

/// Pieces of work that may wait; more wait in their callers.
const QUEUED: usize = 64;
/// Each worker's priority, as nice(2) counts: a core that wants a CPU gets it nine times as often.
const NICE: i32 = 10;
/// How long a result takes at most in a simulation, in microseconds.
const SIMULATED_MICROS: u64 = 5_000;

type Work = Box<dyn FnOnce() + Send>;

/// A group of threads with one queue. They start with the first piece of work.
#[derive(Debug)]
pub struct Workers {
    name: &'static str,
    /// How many threads at most.
    most: usize,
    queue: Mutex<Option<flume::Sender<Work>>>,
}

impl Workers {
    /// A group of at most `most` threads, and at most half as many as the process has CPUs, but one. `name` is the
    /// threads', as `top -H` shows it (15 bytes).
    pub const fn new(name: &'static str, most: usize) -> Workers {
        Workers { name, most, queue: Mutex::new(None) }
    }

    /// Has a worker do `work`, and waits for the result. Work of a future that is dropped is done all the same.
    ///
    /// # Errors
    /// If no thread can be started, or the work panics.
    pub async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if core::try_with(|core| core.machine().is_some()).unwrap_or(false) {
            let result = work();
            sleep(Duration::from_micros(random_u64() % SIMULATED_MICROS)).await;
            return Ok(result);
        }
        let (sender, receiver) = flume::bounded(1);
        let work: Work = Box::new(move || drop(sender.send(work())));
        let gone = |_| io::Error::other("the work could not be done");
        self.queue()?.send_async(work).await.map_err(|_| io::Error::other("the workers have ended"))?;
        receiver.recv_async().await.map_err(gone)
    }

    /// The queue. With the first call the threads are started.
    fn queue(&self) -> io::Result<flume::Sender<Work>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue {
            return Ok(queue.clone());
        }
        let (sender, receiver) = flume::bounded::<Work>(QUEUED);
        let cpus = sys::cpus_of_process()?.len();
        let mut started = Ok(());
        for number in 0..(cpus / 2).clamp(1, self.most) {
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new().name(self.name.to_owned());
            match thread.spawn(move || work_on(&receiver)) {
                Ok(_) => {}
                // One is enough to go on.
                Err(_) if number > 0 => break,
                Err(error) => started = Err(error),
            }
        }
        started?;
        *queue = Some(sender.clone());
        Ok(sender)
    }
}

fn work_on(queue: &flume::Receiver<Work>) {
    // Both are for the good of the cores; without them the work is done as well.
    let _ = sys::unpin();
    let _ = sys::give_way(NICE);
    for work in queue {
        // The task that waits for a result sees that there will be none.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}
