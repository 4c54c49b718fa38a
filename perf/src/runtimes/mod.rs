//! `perf runtimes`: an echo by our own ring and by other runtimes, with the same blocking client: what the choice of a
//! reactor of our own rests on.

#[cfg(feature = "runtimes")]
mod compio;
#[cfg(feature = "runtimes")]
mod glommio;
mod table;
#[cfg(feature = "runtimes")]
mod tokio;

use clap::ValueEnum;

pub use self::table::{Options, run};
use crate::failure::Failure;
use crate::limits::echo::{EchoSize, serve as serve_on_reactor};
use crate::wait::Wait;

/// Who serves the echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Runtime {
    /// Ringlog's own: the raw ring.
    Reactor,
    /// tokio, on one thread.
    Tokio,
    /// glommio, one executor.
    Glommio,
    /// compio, one runtime.
    Compio,
}

impl Runtime {
    /// All of them, ours first.
    pub const ALL: [Runtime; 4] = [Runtime::Reactor, Runtime::Tokio, Runtime::Glommio, Runtime::Compio];

    /// Whether it can be told to poll before it sleeps.
    pub fn can_spin(self) -> bool {
        matches!(self, Runtime::Reactor | Runtime::Glommio)
    }

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Reactor => "reactor",
            Runtime::Tokio => "tokio",
            Runtime::Glommio => "glommio",
            Runtime::Compio => "compio",
        }
    }

    /// Serves an echo of this size until the process is killed; prints its address.
    pub fn serve(self, size: EchoSize, wait: Wait) -> Result<(), Failure> {
        match self {
            Runtime::Reactor => serve_on_reactor(size, wait),
            #[cfg(feature = "runtimes")]
            Runtime::Tokio => tokio::serve(size),
            #[cfg(feature = "runtimes")]
            Runtime::Glommio => glommio::serve(size, wait),
            #[cfg(feature = "runtimes")]
            Runtime::Compio => compio::serve(size),
            #[cfg(not(feature = "runtimes"))]
            _ => Err(NOT_BUILT.into()),
        }
    }
}

/// What is said where the other runtimes were left out.
const NOT_BUILT: &str = "the other runtimes are not built in; build with them:\n  \
    cargo run --release -p ringlog-perf --features runtimes -- runtimes";
