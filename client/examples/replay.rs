//! Reads a topic again from its beginning, stops at the end as it was at the start, and says how much there was.
//!
//! ```sh
//! cargo run -p ringlog-client --example replay
//! ```
//!
//! The address of another broker may be given as the first argument.

use std::collections::BTreeMap;

use ringlog_client::{Client, Position, block_on};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    block_on(async {
        let client = Client::connect([broker]).await?;
        let admin = client.admin();
        // The offset behind the last record of each partition that has any.
        let mut ends = BTreeMap::new();
        for partition in admin.topic("greetings").await?.partitions {
            let end = admin.offsets("greetings", partition.partition, Position::End).await?;
            if end.offset > end.start_offset {
                ends.insert(partition.partition, end.offset);
            }
        }
        let (mut records, mut bytes) = (0_u64, 0_u64);
        let wanted: Vec<u32> = ends.keys().copied().collect();
        let mut consumer =
            client.consumer("greetings").partitions(wanted).from(Position::Begin).build().await?;
        while !ends.is_empty() {
            let Some(record) = consumer.next().await else { break };
            let record = record?;
            let end = ends.get(&record.partition).copied();
            if end.is_some_and(|end| record.offset < end) {
                records += 1;
                bytes += record.value.map_or(0, |value| value.len() as u64);
            }
            if end.is_some_and(|end| record.offset + 1 >= end) {
                ends.remove(&record.partition);
            }
        }
        println!("{records} records, {bytes} bytes");
        Ok(())
    })
}
