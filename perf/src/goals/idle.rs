//! Goal 11: what a broker costs that nobody talks to.

use super::rounds::Verdict;
use super::world::World;
use crate::failure::Failure;
use crate::process::Server;

/// Less than this is 0 %: one tick of the clock that counts it, in a few seconds.
const ZERO_PERCENT: f64 = 0.5;

/// Starts brokers on the same folder, and watches the last.
pub fn measure(world: &World) -> Result<Vec<Verdict>, Failure> {
    let folder = world.fresh_folder();
    let mut starts = Vec::new();
    let mut broker = Server::broker(&folder, world.wait)?;
    for _ in 0..world.scale.rounds.max(3) {
        drop(broker);
        broker = Server::broker(&folder, world.wait)?;
        starts.push(broker.started_in.as_secs_f64() * 1000.0);
    }
    let before = broker.cpu_seconds()?;
    std::thread::sleep(world.scale.idle);
    let used = (broker.cpu_seconds()? - before) / world.scale.idle.as_secs_f64() * 100.0;
    let resident = broker.resident_bytes()? as f64 / f64::from(1 << 20);
    Ok(vec![
        Verdict::at_most(11, "idle broker, CPU, %", ZERO_PERCENT, &[used]),
        Verdict::at_most(11, "idle broker, resident, MiB", 64.0, &[resident]),
        Verdict::at_most(11, "start to first accept, ms", 100.0, &starts),
    ])
}
