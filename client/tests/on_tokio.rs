//! The client on tokio against a broker made for tests, over real sockets.
#![forbid(unsafe_code)]

#[path = "client/consuming.rs"]
mod consuming;
#[path = "client/producing.rs"]
mod producing;
#[path = "client/support.rs"]
mod support;

use std::future::pending;
use std::sync::LazyLock;
use std::time::Duration;

use ringlog_client::{Acked, Client, ConnectError, Driver, Position, Producer, Record, SendError, block_on};
use ringlog_protocol::Kind;
use tokio::runtime::{Builder, Handle, LocalRuntime, Runtime};
use tokio::task::LocalSet;

use support::{FakeBroker, Verdict};

/// Where the clients of the common tests live: on one runtime for all, while the tests call from threads of their own.
mod world {
    use super::*;

    static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
        let runtime = current_thread();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(pending::<()>()));
        handle
    });

    pub fn connect(
        builder: ringlog_client::ClientBuilder,
        addresses: &[String],
    ) -> Result<Client, ConnectError> {
        let (tell, told) = flume::bounded(1);
        let addresses = addresses.to_vec();
        RUNTIME.spawn(async move { tell.send(builder.driver(Driver::Tokio).connect(addresses).await) });
        told.recv().expect("the runtime runs")
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn broker() -> FakeBroker {
    FakeBroker::start(2, |_| Verdict::Serve)
}

async fn connect(broker: &FakeBroker) -> Client {
    Client::builder().driver(Driver::Tokio).connect(broker.addresses()).await.expect("the broker is there")
}

async fn producer(broker: &FakeBroker) -> Producer {
    connect(broker).await.producer("orders").build().await.expect("the topic is there")
}

/// Sends and reads back, and has no thread for it.
async fn session(addresses: [String; 1]) {
    let client = Client::builder().driver(Driver::Tokio).connect(addresses).await.expect("the broker");
    let producer = client.producer("orders").build().await.expect("the topic");
    let mut consumer = client.consumer("orders").from(Position::Begin).build().await.expect("the topic");
    for n in 0..100 {
        let record = Record::new(n.to_string()).partition(1);
        let acked = producer.send(record).await.expect("admitted").await;
        assert_eq!(acked, Ok(Acked { partition: 1, offset: n }));
        let read = consumer.next().await.expect("healthy").expect("a record");
        assert_eq!((read.offset, read.value.as_deref()), (n, Some(n.to_string().as_bytes())));
    }
    assert_eq!(producer.close(Duration::from_secs(5)).await, Ok(()));
    assert!(!thread_names().iter().any(|name| name.starts_with("ringlog-client")));
}

fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

#[test]
fn a_current_thread_runtime_carries_a_client() {
    let broker = broker();
    current_thread().block_on(session(broker.addresses()));
}

#[test]
fn a_local_runtime_carries_a_client() {
    let broker = broker();
    let mut builder = Builder::new_current_thread();
    let runtime: LocalRuntime = builder.enable_all().build_local(Default::default()).expect("a runtime");
    runtime.block_on(session(broker.addresses()));
}

#[test]
fn a_local_set_carries_a_client() {
    let broker = broker();
    LocalSet::new().block_on(&current_thread(), session(broker.addresses()));
}

#[test]
fn a_runtime_with_several_threads_carries_a_client() {
    let broker = broker();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(session(broker.addresses()));
    let sessions: Vec<_> = (0..2).map(|_| FakeBroker::start(2, |_| Verdict::Serve)).collect();
    for broker in &sessions {
        let spawned = runtime.spawn(session(broker.addresses()));
        runtime.block_on(spawned).expect("no panic");
    }
}

#[test]
fn without_a_runtime_the_error_says_what_to_do() {
    let broker = broker();
    let error = block_on(Client::builder().driver(Driver::Tokio).connect(broker.addresses())).err();
    assert_eq!(error, Some(ConnectError::NoRuntime { runtime: "tokio" }));
    let words = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(words.contains("tokio") && words.contains("Driver::Thread"), "{words}");
}

#[test]
fn a_runtime_that_ends_closes_its_clients() {
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Produce => Verdict::Ignore,
        _ => Verdict::Serve,
    });
    let runtime = current_thread();
    let (producer, delivery) = runtime.block_on(async {
        let producer = producer(&broker).await;
        let delivery = producer.send(Record::new("x")).await.expect("admitted");
        while broker.seen(Kind::Produce).is_empty() {
            tokio::task::yield_now().await;
        }
        (producer, delivery)
    });
    drop(runtime);
    assert!(delivery.wait().is_err(), "its outcome is unknown");
    assert_eq!(block_on(producer.send(Record::new("x"))).err(), Some(SendError::Closed));
}
