//! One core of Ringlog: an executor, an `io_uring`, files, sockets, timers and mailboxes.
//!
//! A *core* is one thread that owns one ring. Everything in this crate belongs to the core that made it and
//! stays on its thread; only [`mailbox`]es, [`net::SocketParts`], [`CoreThread`] and [`Workers`] cross threads. The same
//! API runs over two backends, and the crates above never see which: the real ring ([`run`]), and a
//! simulated machine with a virtual clock, disk and network ([`sim::Simulation`]).
//!
//! ```
//! use std::time::Duration;
//! use ringlog_reactor::{CoreConfig, run, sleep, spawn};
//!
//! let answer = run(CoreConfig::default(), async {
//!     let task = spawn(async {
//!         sleep(Duration::from_millis(1)).await;
//!         42
//!     });
//!     task.await
//! })?;
//! assert_eq!(answer, 42);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Map
//! - `runtime` starts a core and turns its loop; `executor` keeps its tasks; `shared` wakes it from outside.
//! - `op` names every operation there is, with the memory it owns; `core` keeps the table of those in flight.
//! - `driver::uring` translates operations to the kernel, `sim` plays them.
//! - `fs`, `net`, `timer`, `mailbox`, `notify`, `buffer` are what the upper crates call; `signal` and `stdio` are for the
//!   process as a whole; `workers` does beside the cores what would hold one for too long.
//!
//! # Architecture invariants
//! - This is the only crate of the workspace with `unsafe`, and it knows nothing of logs or protocols.
//! - Memory given to the kernel lives in the operation table until the operation's last completion. Dropping a
//!   future cancels; it never frees.
//! - Nothing on a core's thread blocks, but for the calls whose documentation says "start-up only".

mod buffer;
mod clock;
mod core;
mod descriptor;
mod driver;
mod executor;
pub mod fs;
mod lines;
pub mod mailbox;
pub mod memory;
pub mod net;
mod notify;
mod op;
mod pool;
pub mod probe;
mod runtime;
mod shared;
pub mod signal;
pub mod sim;
mod slab;
pub mod stdio;
mod sys;
mod timer;
mod workers;

pub use buffer::{DIRECT_ALIGN, aligned};
pub use clock::{Instant, now, random_u64, wall_clock_ms};
pub use executor::{Task, spawn, yield_now};
pub use notify::{Notified, Notify};
pub use runtime::{CoreConfig, CorePanic, CoreThread, WaitPolicy, launch, run};
pub use timer::{Elapsed, Sleep, Watchdog, sleep, sleep_until, timeout};
pub use workers::Workers;
