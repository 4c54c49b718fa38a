//! The client on a thread of its own against a broker made for tests, over real sockets.
#![forbid(unsafe_code)]

#[path = "client/consuming.rs"]
mod consuming;
#[path = "client/producing.rs"]
mod producing;
#[path = "client/support.rs"]
mod support;

/// Where the clients of these tests live.
mod world {
    use ringlog_client::{Client, ClientBuilder, ConnectError, block_on};

    pub fn connect(builder: ClientBuilder, addresses: &[String]) -> Result<Client, ConnectError> {
        block_on(builder.connect(addresses))
    }
}

mod spinning {
    use std::time::Duration;

    use ringlog_client::{Client, Record, block_on};

    use crate::support::{FakeBroker, Verdict};

    #[test]
    fn a_client_that_spins_is_answered_and_ends() {
        let broker = FakeBroker::start(1, |_| Verdict::Serve);
        let builder = Client::builder().spin(Duration::from_micros(50));
        let client = block_on(builder.connect(broker.addresses())).expect("the broker is there");
        let producer = block_on(client.producer("orders").build()).expect("the topic is there");
        for _ in 0..100 {
            let delivery = block_on(producer.send(Record::new("x"))).expect("admitted");
            assert!(delivery.wait().is_ok());
        }
        assert_eq!(block_on(producer.close(Duration::from_secs(5))), Ok(()));
    }
}
