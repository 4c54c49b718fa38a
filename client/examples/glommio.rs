//! A service that lives on glommio: the client's connections are tasks of the same executor, on the same thread and ring.
//!
//! ```sh
//! ringlog serve &
//! ringlog topic create greetings
//! cargo run -p ringlog-client --features glommio --example glommio
//! ```
//!
//! The address of another broker may be given as the first argument.

use std::time::Duration;

use glommio_ng::{LocalExecutor, spawn_local};
use ringlog_client::{Client, Driver, Position, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    LocalExecutor::default().run(async {
        let client = Client::builder().driver(Driver::Glommio).connect([broker]).await?;
        let producer = client.producer("greetings").build().await?;

        let reader = client.clone();
        let reading = spawn_local(async move {
            let mut consumer = reader.consumer("greetings").from(Position::Begin).build().await?;
            for _ in 0..3 {
                let Some(record) = consumer.next().await else { break };
                let record = record?;
                let value = record.value.unwrap_or_default();
                println!("{}/{}: {}", record.partition, record.offset, String::from_utf8_lossy(&value));
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        });
        for name in ["Ada", "Grace", "Barbara"] {
            let acked = producer.send(Record::new(format!("Hello, {name}!"))).await?.await?;
            println!("partition {}, offset {}", acked.partition, acked.offset);
        }
        reading.await?;
        producer.close(Duration::from_secs(5)).await?;
        Ok(())
    })
}
