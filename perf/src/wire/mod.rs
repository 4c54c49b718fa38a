//! Clients as thin as the echo's: bare frames, on one thread, over blocking sockets or on a reactor core.

mod connection;
mod frames;
mod many;
mod open_loop;
mod pipeline;
mod subscriber;

use std::time::Duration;

pub use connection::Connection;
pub use frames::{batch_of, large_batch};
pub use many::{ManyProducers, run_many};
pub use open_loop::{OpenLoop, run_open_loop};
pub use pipeline::{Pipeline, Until};
pub use subscriber::Subscriber;

/// A broker that says nothing for this long has failed the measurement.
const SILENCE: Duration = Duration::from_secs(20);
