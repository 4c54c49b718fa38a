//! The client on glommio against a broker made for tests, over real sockets.
#![forbid(unsafe_code)]

#[path = "client/consuming.rs"]
mod consuming;
#[path = "client/producing.rs"]
mod producing;
#[path = "client/support.rs"]
mod support;

use std::time::Duration;

use glommio_ng::LocalExecutor;
use ringlog_client::{Acked, Client, ConnectError, Driver, Position, Record, SendError, block_on};
use ringlog_protocol::Kind;

use support::{FakeBroker, Verdict};

/// Where the clients of the common tests live: on one executor for all, while the tests call from threads of their own.
mod world {
    use std::sync::LazyLock;

    use glommio_ng::{LocalExecutorBuilder, Placement, spawn_local};
    use ringlog_client::{Client, ClientBuilder, ConnectError, Driver};

    type Job = (ClientBuilder, Vec<String>, flume::Sender<Result<Client, ConnectError>>);

    static EXECUTOR: LazyLock<flume::Sender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = flume::unbounded::<Job>();
        let executor = LocalExecutorBuilder::new(Placement::Unbound);
        let started = executor.spawn(|| async move {
            while let Ok((builder, addresses, tell)) = queue.recv_async().await {
                spawn_local(async move {
                    let _ = tell.send(builder.driver(Driver::Glommio).connect(addresses).await);
                })
                .detach();
            }
        });
        drop(started.expect("an executor"));
        jobs
    });

    pub fn connect(builder: ClientBuilder, addresses: &[String]) -> Result<Client, ConnectError> {
        let (tell, told) = flume::bounded(1);
        EXECUTOR.send((builder, addresses.to_vec(), tell)).expect("the executor runs");
        told.recv().expect("the executor runs")
    }
}

#[test]
fn an_executor_carries_a_client() {
    let broker = FakeBroker::start(2, |_| Verdict::Serve);
    LocalExecutor::default().run(async {
        let builder = Client::builder().driver(Driver::Glommio);
        let client = builder.connect(broker.addresses()).await.expect("the broker");
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
    });
}

#[test]
fn without_an_executor_the_error_says_what_to_do() {
    let broker = FakeBroker::start(1, |_| Verdict::Serve);
    let error = block_on(Client::builder().driver(Driver::Glommio).connect(broker.addresses())).err();
    assert_eq!(error, Some(ConnectError::NoRuntime { runtime: "glommio" }));
    let words = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(words.contains("glommio") && words.contains("Driver::Thread"), "{words}");
}

#[test]
fn an_executor_that_ends_closes_its_clients() {
    let broker = FakeBroker::start(1, |seen| match seen.kind {
        Kind::Produce => Verdict::Ignore,
        _ => Verdict::Serve,
    });
    let (producer, delivery) = LocalExecutor::default().run(async {
        let builder = Client::builder().driver(Driver::Glommio);
        let client = builder.connect(broker.addresses()).await.expect("the broker");
        let producer = client.producer("orders").build().await.expect("the topic");
        let delivery = producer.send(Record::new("x")).await.expect("admitted");
        while broker.seen(Kind::Produce).is_empty() {
            glommio_ng::timer::sleep(Duration::from_millis(1)).await;
        }
        (producer, delivery)
    });
    assert!(delivery.wait().is_err(), "its outcome is unknown");
    assert_eq!(block_on(producer.send(Record::new("x"))).err(), Some(SendError::Closed));
}
