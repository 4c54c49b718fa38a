//! The client of Ringlog: what a service embeds to publish, subscribe and replay.
//!
//! ```no_run
//! use ringlog_client::{Client, Position, Record, block_on};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! block_on(async {
//!     let client = Client::connect(["127.0.0.1:7171"]).await?;
//!     let producer = client.producer("orders").build().await?;
//!     let delivery = producer.send(Record::new("a value").key("a key")).await?;
//!     let acked = delivery.await?;
//!     println!("partition {}, offset {}", acked.partition, acked.offset);
//!
//!     let mut consumer = client.consumer("orders").from(Position::Begin).build().await?;
//!     if let Some(record) = consumer.next().await {
//!         println!("{:?}", record?.value);
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! All futures work under any runtime, and with [`block_on`] without one: a client has a thread of its own that owns its connections. A service
//! that lives on a runtime of its own can have them there instead, without the hop between threads: see [`Driver`].
//!
//! # Map
//! - `client`, `producer`, `consumer`, `admin`: what applications call; `command`, `doorbell`: how they talk to the driver.
//! - `accumulator`, `delivery`: a producer's batches and budget, and the acks; `inbox`, `unpack`: a consumer's prefetch.
//! - `session`: one connection's protocol without I/O and clock: bytes in, events out; requests in, bytes out.
//! - `driver`: connections, lanes (a producer's partition), subscriptions, reconnects; `driver::runtime`: the thread or the runtime it lives on.
#![forbid(unsafe_code)]

mod accumulator;
mod admin;
mod block_on;
mod client;
mod command;
mod connection;
mod consumer;
mod delivery;
mod doorbell;
mod driver;
pub mod error;
mod in_order;
mod inbox;
mod limits;
mod plan;
#[doc(hidden)]
pub mod probe;
mod producer;
mod record;
mod session;
mod unpack;

pub use admin::{Admin, CreateTopicBuilder, OffsetInfo, PartitionInfo, TopicInfo};
pub use block_on::{block_on, block_on_timeout};
pub use client::{Client, ClientBuilder};
pub use connection::ConnectionEvent;
pub use consumer::{Batches, Consumer, ConsumerBuilder};
pub use delivery::{Acked, Delivery};
pub use driver::runtime::Driver;
pub use error::{
    AdminError, CloseError, ConnectError, ConsumeError, DeliveryError, OpenError, Refusal, SendError,
    TrySendError,
};
pub use plan::OffsetReset;
pub use producer::{Producer, ProducerBuilder};
pub use record::{ConsumedBatch, ConsumedRecord, Header, Record};
pub use ringlog_protocol::messages::Position;
pub use ringlog_protocol::{Ack, ErrorCode, batch::Compression};
