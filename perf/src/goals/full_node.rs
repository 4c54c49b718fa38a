//! Goal 17: what a hundred thousand partitions cost a node in which nobody uses most of them.

use std::time::Instant;

use ringlog_protocol::Ack;

use super::rounds::Verdict;
use super::world::World;
use crate::failure::Failure;
use crate::process::Server;
use crate::wire::{Connection, Pipeline, Until, batch_of};

/// Partitions of a topic that nobody uses: as many as one can have.
const TOPIC_PARTITIONS: u32 = 10_000;
const BUSY: &str = "busy";
/// Restarts of each kind.
const RESTARTS: usize = 3;

/// Makes topics that nobody uses, with so many partitions in all. Returns how long each took, in milliseconds.
pub fn make_idle_topics(connection: &mut Connection, partitions: u32) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    for from in (0..partitions).step_by(TOPIC_PARTITIONS as usize) {
        let begun = Instant::now();
        let of_topic = TOPIC_PARTITIONS.min(partitions - from);
        connection.create_topic(&format!("idle-{from}"), of_topic, Ack::Disk)?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(took)
}

/// Makes the partitions, writes into a thousand others, and starts the broker again and again.
pub fn measure(world: &World) -> Result<Vec<Verdict>, Failure> {
    let folder = world.fresh_folder();
    let start = || Server::broker(&folder, world.wait);
    let mut broker = start()?;
    let empty = broker.resident_bytes()?;
    let mut connection = Connection::open(broker.address)?;
    let creations = make_idle_topics(&mut connection, world.scale.idle_partitions)?;
    let each = |broker: &Server| -> Result<f64, Failure> {
        let more = broker.resident_bytes()?.saturating_sub(empty);
        Ok(more as f64 / f64::from(world.scale.idle_partitions))
    };
    let made = each(&broker)?;
    connection.create_topic(BUSY, world.scale.partitions, Ack::Disk)?;
    let (mut killed, mut stopped, mut restarted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        write_to_each(&broker, world.scale.partitions)?;
        drop(broker);
        broker = start()?;
        killed.push(broker.started_in.as_secs_f64() * 1000.0);
        write_to_each(&broker, world.scale.partitions)?;
        broker.stop()?;
        broker = start()?;
        stopped.push(broker.started_in.as_secs_f64() * 1000.0);
        restarted.push(each(&broker)?);
    }
    Ok(vec![
        Verdict::at_most(17, "making a topic of 10,000 partitions, ms", 2000.0, &creations),
        Verdict::at_most(17, "start with 100,000 partitions after kill -9, ms", 10_000.0, &killed),
        Verdict::at_most(17, "start with 100,000 partitions after SIGTERM, ms", 5_000.0, &stopped),
        Verdict::at_most(17, "resident for an idle partition, made, bytes", 1024.0, &[made]),
        Verdict::at_most(17, "resident for an idle partition, started, bytes", 1024.0, &restarted),
    ])
}

/// One record into each of so many partitions.
fn write_to_each(broker: &Server, partitions: u32) -> Result<(), Failure> {
    let mut connection = Connection::open(broker.address)?;
    let handles = (0..partitions).map(|partition| connection.open_partition(BUSY, partition));
    let handles: Vec<_> = handles.collect::<Result<_, _>>()?;
    let mut producer = Pipeline { connection, handles, batch: batch_of(1)?, ack: Ack::Disk, depth: 64 };
    producer.run(Until::Count(partitions as usize)).map(drop)
}
