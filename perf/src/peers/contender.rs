//! Who is driven, and by which client.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use ringlog_loadgen::engine::{Plan, Watch};
use ringlog_loadgen::executor::now_ns;
use ringlog_loadgen::progress::Progress;
use ringlog_loadgen::ringlog::{Driver, Ringlog};
use ringlog_loadgen::target::{AckClass, Target};
use ringlog_protocol::Ack;
use ringlog_protocol::batch::Compression;

use super::case::{Case, Measured};
use super::setup::Setup;
use crate::failure::Failure;

const SMALL_BATCH_BYTES: usize = 16 << 10;
const LARGE_BATCH_BYTES: usize = 1 << 20;

/// One of those compared.
pub struct Contender {
    name: String,
    setup: Setup,
    client: Client,
}

#[derive(Clone, Copy)]
enum Client {
    Ringlog(Driver),
    #[cfg(feature = "kafka")]
    Kafka,
    #[cfg(feature = "nats")]
    Nats,
    #[cfg(feature = "iggy")]
    Iggy,
}

impl Contender {
    /// Ringlog, by its client on a thread of its own and on the runtime that the peers' clients use.
    pub fn of_ringlog(setup: &Setup) -> Vec<Contender> {
        let of = |driver: &Driver| Contender {
            name: format!(
                "Ringlog ({})",
                driver.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
            ),
            setup: setup.clone(),
            client: Client::Ringlog(*driver),
        };
        [Driver::Thread, Driver::Tokio].iter().map(of).collect()
    }

    /// A peer by its name.
    ///
    /// # Errors
    /// If this program was built without its client.
    pub fn of_peer(name: &str, setup: Setup) -> Result<Contender, Failure> {
        let client = match name {
            #[cfg(feature = "kafka")]
            "kafka" => Some(Client::Kafka),
            #[cfg(feature = "nats")]
            "nats" => Some(Client::Nats),
            #[cfg(feature = "iggy")]
            "iggy" => Some(Client::Iggy),
            _ => None,
        };
        let client = client.ok_or_else(|| {
            format!("built without the client of {name}: cargo run --release -p ringlog-perf --features {name} -- peers …")
        })?;
        Ok(Contender { name: name.to_string(), setup, client })
    }

    /// What it is called in the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a case. Must be called on a core of the reactor.
    pub async fn run(&self, case: Case, plan: Plan) -> Result<Measured, Failure> {
        #[cfg(any(feature = "kafka", feature = "nats", feature = "iggy"))]
        let setup = Setup { large_batches: case == Case::Large, ..self.setup.clone() };
        match self.client {
            Client::Ringlog(driver) => drive(ringlog(&self.setup, driver, case), plan).await,
            #[cfg(feature = "kafka")]
            Client::Kafka => drive(super::kafka::Kafka(setup), plan).await,
            #[cfg(feature = "nats")]
            Client::Nats => drive(super::nats::Nats(setup), plan).await,
            #[cfg(feature = "iggy")]
            Client::Iggy => drive(super::iggy::Iggy(setup), plan).await,
        }
    }
}

fn ringlog(setup: &Setup, driver: Driver, case: Case) -> Ringlog {
    Ringlog {
        servers: vec![setup.address.clone()],
        driver,
        spin: Duration::ZERO,
        ack: if setup.class == AckClass::Flushed { Ack::Disk } else { Ack::Memory },
        batch_bytes: if case == Case::Large { LARGE_BATCH_BYTES } else { SMALL_BATCH_BYTES },
        linger: Duration::ZERO,
        compression: Compression::None,
        timeout: Duration::from_secs(30),
        producers: case.producers(),
    }
}

async fn drive<T: Target>(target: T, plan: Plan) -> Result<Measured, Failure> {
    let mut watch = Watch {
        interrupted: Arc::default(),
        progress: Progress::hidden(),
        broker_pid: None,
        began_ns: now_ns(),
    };
    Measured::of(ringlog_loadgen::engine::run(&target, plan, &mut watch).await?)
}
