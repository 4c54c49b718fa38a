//! Prints records as they come, until it is interrupted.
//!
//! Run it beside `publish`:
//!
//! ```sh
//! cargo run -p ringlog-client --example subscribe
//! ```
//!
//! The address of another broker may be given as the first argument.

use ringlog_client::{Client, Position, block_on};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    block_on(async {
        let client = Client::connect([broker]).await?;
        let mut consumer = client.consumer("greetings").from(Position::End).build().await?;
        while let Some(record) = consumer.next().await {
            let record = record?;
            let value = record.value.unwrap_or_default();
            println!("{}/{}: {}", record.partition, record.offset, String::from_utf8_lossy(&value));
        }
        Ok(())
    })
}
