//! What the engine drives: a broker, seen through its own client.
//!
//! A [`Target`] holds settings and is sent to every worker thread; there it [connects](Target::connect), and all that
//! comes of that stays on the thread. Everything is dispatched statically, and nothing is allocated for each record on
//! this side of the trait.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::executor::Executor;

/// The settings of a system under load.
pub trait Target: Clone + Send + Sync + 'static {
    /// What a worker thread talks to it through.
    type Connection: Connection;

    /// Where its client must run.
    fn executor(&self) -> Executor;

    /// Connects; called once on each worker thread, inside its executor, for each connection that was asked for.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, TargetError>>;
}

/// One connection, as the system's client means it.
pub trait Connection: 'static {
    /// See [`Connection::publisher`].
    type Publisher: Publisher;
    /// See [`Connection::subscriber`].
    type Subscriber: Subscriber;

    /// What is driven, and how it was set.
    fn describe(&self) -> Description;

    /// Makes a topic when it is missing, and says how many partitions it has.
    fn create_topic(&self, topic: &str, partitions: u32) -> impl Future<Output = Result<u32, TargetError>>;

    /// Removes a topic that [`create_topic`](Connection::create_topic) made.
    fn delete_topic(&self, topic: &str) -> impl Future<Output = Result<(), TargetError>>;

    /// What can be read now, by partition from 0.
    fn extents(&self, topic: &str) -> impl Future<Output = Result<Vec<Extent>, TargetError>>;

    /// Opens a publisher to a topic.
    fn publisher(&self, topic: &str) -> impl Future<Output = Result<Self::Publisher, TargetError>>;

    /// Opens a subscriber of some partitions of a topic, each from the offset that stands beside it.
    fn subscriber(
        &self,
        topic: &str,
        from: &[(u32, u64)],
    ) -> impl Future<Output = Result<Self::Subscriber, TargetError>>;

    /// The partition that a record with this key goes to when it names none. The default is that of Kafka's clients.
    fn partition_for_key(&self, key: &[u8], partitions: u32) -> u32 {
        ringlog_protocol::partitioner::partition_for_key(key, partitions)
    }
}

/// Sends records to one topic.
pub trait Publisher: 'static {
    /// The record's acknowledgement. Dropped, it is not waited for.
    type Ack: Future<Output = Result<(), TargetError>> + Unpin + 'static;

    /// Waits until the client takes the record (its admission), and gives the future of its ack.
    ///
    /// Records of one partition must be acknowledged, and stand in the log, in the order of these calls.
    fn publish(&mut self, record: Outgoing) -> impl Future<Output = Result<Self::Ack, TargetError>>;

    /// Lets go at once what the client still gathers; need not wait for acks.
    fn flush(&mut self) -> impl Future<Output = ()>;
}

/// Receives records of some partitions of one topic.
pub trait Subscriber: 'static {
    /// Waits for at least one record and puts what has come into `into`, in the order of each partition. Dropped before
    /// it is ready, it has lost nothing.
    fn next(&mut self, into: &mut Vec<Incoming>) -> impl Future<Output = Result<(), TargetError>>;
}

/// A record to be published.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it must go; with a key and no partition, the client chooses by the key.
    pub partition: Option<u32>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value, which begins with a stamp.
    pub value: Bytes,
}

/// A record that was received.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its partition.
    pub partition: u32,
    /// Its offset there; offsets of a partition rise, and may have gaps.
    pub offset: u64,
    /// Its value.
    pub value: Bytes,
}

/// What of a partition can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that is still there.
    pub start: u64,
    /// One past the last that can be read.
    pub end: u64,
}

/// What an acknowledgement means; results are compared only within a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckClass {
    /// The record is in the broker's memory, or nothing is known of it.
    Memory,
    /// The record was handed to the operating system by write(2).
    Written,
    /// The record is on stable storage.
    Flushed,
}

impl fmt::Display for AckClass {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            AckClass::Memory => "memory",
            AckClass::Written => "written",
            AckClass::Flushed => "flushed",
        })
    }
}

/// What is driven.
#[derive(Clone, Debug)]
pub struct Description {
    /// The system's name, as `Ringlog`.
    pub name: String,
    /// The version of the broker, or of the client where the broker does not tell.
    pub version: String,
    /// Where it listens; a local broker's process is found by this.
    pub address: String,
    /// What its acks mean, as it was set.
    pub ack_class: AckClass,
    /// Settings of client, topic and broker that matter to a comparison.
    pub settings: BTreeMap<String, String>,
}

/// An operation on the target failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TargetError {
    /// Whether a record that this is about may be in the log all the same.
    pub outcome_unknown: bool,
    /// What was wrong and what to do, for a person. Errors of a kind have the same words, since they are counted by them.
    pub reason: Cow<'static, str>,
}

impl TargetError {
    /// Nothing was done.
    pub fn refused(reason: impl Into<Cow<'static, str>>) -> TargetError {
        TargetError { outcome_unknown: false, reason: reason.into() }
    }

    /// It may have been done.
    pub fn unknown(reason: impl Into<Cow<'static, str>>) -> TargetError {
        TargetError { outcome_unknown: true, reason: reason.into() }
    }
}
