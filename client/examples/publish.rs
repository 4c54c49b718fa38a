//! Publishes a few records and prints where they are.
//!
//! Start a broker and make the topic first:
//!
//! ```sh
//! ringlog serve &
//! ringlog topic create greetings
//! cargo run -p ringlog-client --example publish
//! ```
//!
//! The address of another broker may be given as the first argument.

use std::time::Duration;

use ringlog_client::{Client, Record, block_on};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    block_on(async {
        let client = Client::connect([broker]).await?;
        let producer = client.producer("greetings").build().await?;

        // Stage one: each send waits for room in the producer's budget. The acks are awaited afterwards, so that they overlap.
        let mut deliveries = Vec::new();
        for name in ["Ada", "Grace", "Barbara"] {
            let record = Record::new(format!("Hello, {name}!")).key(name).header("language", "en");
            deliveries.push(producer.send(record).await?);
        }
        // Stage two: an ack means that the record is on stable storage.
        for delivery in deliveries {
            let acked = delivery.await?;
            println!("partition {}, offset {}", acked.partition, acked.offset);
        }
        producer.close(Duration::from_secs(5)).await?;
        Ok(())
    })
}
