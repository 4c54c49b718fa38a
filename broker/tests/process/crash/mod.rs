//! kill -9 at random moments under load, over and over, and recovery killed as well: what was acknowledged at disk is
//! there once, in its place, in order, byte for byte; what was acknowledged in memory is there up to a point and gone
//! behind it; and consumers that live through all of it see no skip and no regress.
//!
//! `scripts/crash-loop` runs more of it. The test reads these variables: `RINGLOG_CRASH_CYCLES`, `RINGLOG_CRASH_DATA` and
//! `RINGLOG_CRASH_SEED`. A seed repeats the plan (moments, cores, sizes), not the machine's own timing.

mod check;
mod follower;
mod ledger;
mod load;
mod random;
mod topics;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringlog_client::{Client, block_on};

use super::helpers::{Broker, Running, folder, ringlog};
use follower::Follower;
use ledger::{Fault, Ledger};
use load::Load;
use random::Random;
use topics::TOPICS;

const DEFAULT_CYCLES: u64 = 10;
/// Everything is read again from its beginning after so many cycles, not only what is new.
const REREAD_EVERY: u64 = 25;
/// Ports outside the range from which the kernel takes those of clients: a client that tries again and again while its
/// broker is away would sooner or later be connected to itself.
const PORTS: std::ops::Range<u64> = 12_000..30_000;

#[test]
fn what_was_acknowledged_outlives_every_kill() {
    let cycles = variable("RINGLOG_CRASH_CYCLES").unwrap_or(DEFAULT_CYCLES);
    let seed = variable("RINGLOG_CRASH_SEED").unwrap_or_else(random::fresh_seed);
    let temporary = folder();
    let data = std::env::var_os("RINGLOG_CRASH_DATA")
        .map_or_else(|| temporary.path().to_owned(), |folder| PathBuf::from(folder).join("data"));
    println!("crash loop: {cycles} cycles, seed {seed}, in {}", data.display());
    let outcome = CrashLoop::begin(&data, seed).and_then(|crash_loop| crash_loop.run(cycles));
    match outcome {
        Ok(verdict) => println!("crash loop: sound: {verdict}"),
        Err(fault) => {
            let kept = temporary.keep();
            let kept = if data.starts_with(&kept) { &kept } else { &data };
            panic!("crash loop: FAULT (seed {seed}, folder kept: {}): {fault}", kept.display());
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is `{value}`: want a number")))
}

/// The broker, who uses it, and what is known of it.
struct CrashLoop {
    data: PathBuf,
    address: SocketAddr,
    random: Random,
    broker: Option<Broker>,
    ledgers: Vec<Arc<Ledger>>,
    loads: Vec<Load>,
    followers: Vec<Follower>,
    /// For questions and checks.
    client: Client,
    recoveries_killed: u64,
}

impl CrashLoop {
    fn begin(data: &Path, seed: u64) -> Result<CrashLoop, Fault> {
        let mut random = Random::new(seed);
        let address = free_address(&mut random);
        let broker = Broker::spawn(&mut serve(data, address, 2));
        for topic in &TOPICS {
            broker.run(&topic.create_command());
        }
        let ledgers: Vec<_> = TOPICS.iter().map(|topic| Arc::new(Ledger::new(topic))).collect();
        let connect = || block_on(Client::connect([address.to_string()])).map_err(Fault::of("connecting"));
        let producing = connect()?;
        let loads = ledgers
            .iter()
            .map(|ledger| Load::start(&producing, ledger, random.next()))
            .collect::<Result<_, _>>()?;
        let following = connect()?;
        let followers = ledgers.iter().map(|ledger| Follower::start(&following, ledger)).collect();
        let client = connect()?;
        Ok(CrashLoop {
            data: data.to_owned(),
            address,
            random,
            broker: Some(broker),
            ledgers,
            loads,
            followers,
            client,
            recoveries_killed: 0,
        })
    }

    fn run(mut self, cycles: u64) -> Result<String, Fault> {
        let begin = Instant::now();
        for cycle in 1..=cycles {
            self.load_and_kill();
            let replayed = self.restart()?;
            let calm = cycle == cycles || self.random.below(3) > 0;
            if calm {
                self.check(cycle.is_multiple_of(REREAD_EVERY))?;
            }
            self.look_for_faults()?;
            let acked: u64 = self.ledgers.iter().map(|ledger| ledger.acked_in_all()).sum();
            println!(
                "cycle {cycle}/{cycles}: {acked} acked, {replayed}, {}, {} s",
                if calm { "checked" } else { "not checked" },
                begin.elapsed().as_secs()
            );
        }
        self.finish(cycles)
    }

    /// Loads for a while, and kills.
    fn load_and_kill(&mut self) {
        for load in &self.loads {
            load.resume(self.random.below(256) as usize + 1);
        }
        let (most, again) = if self.random.below(4) == 0 { (60, 0) } else { (1_500, 50) };
        thread::sleep(Duration::from_millis(again + self.random.below(most)));
        self.broker.take().expect("it runs").kill();
        // What was acknowledged in memory may be lost: so it is to be known which acks came before.
        self.loads.iter().filter(|load| load.may_lose() || self.random.below(2) == 0).for_each(Load::pause);
        self.loads.iter().for_each(Load::settle_if_paused);
    }

    /// Starts the broker with some number of cores, sometimes after it was killed in its recovery. Gives its own words.
    fn restart(&mut self) -> Result<String, Fault> {
        while self.random.below(3) == 0 {
            let recovering = Running::spawn(&mut serve(&self.data, self.address, 1 + self.random.below(4)));
            thread::sleep(Duration::from_millis(self.random.below(120)));
            drop(recovering);
            self.recoveries_killed += 1;
        }
        let floors: Vec<_> = self.ledgers.iter().map(|ledger| ledger.ends_of_acked()).collect();
        let broker = Broker::spawn(&mut serve(&self.data, self.address, 1 + self.random.below(4)));
        let ready = broker.ready.clone();
        self.broker = Some(broker);
        if ready.contains("DAMAGED") {
            return Err(Fault::new(format!("a kill alone damages nothing, but: {ready}")));
        }
        for (ledger, floor) in self.ledgers.iter().zip(floors) {
            ledger.restarted(&check::ends(&self.client, ledger)?, &floor)?;
        }
        let words = ready.split(", ").find(|part| part.contains("replayed") || part.contains("nothing"));
        Ok(words.unwrap_or_default().to_owned())
    }

    /// Reads what is new, or everything, and waits until the followers have seen the same.
    fn check(&mut self, everything: bool) -> Result<(), Fault> {
        for (ledger, follower) in self.ledgers.iter().zip(&self.followers) {
            if everything {
                check::read_again(&self.client, ledger)?;
            }
            let ends = check::read_on(&self.client, ledger)?;
            follower.must_have_seen(&ends)?;
        }
        Ok(())
    }

    fn look_for_faults(&self) -> Result<(), Fault> {
        self.ledgers.iter().try_for_each(|ledger| ledger.fault().map_or(Ok(()), Err))
    }

    /// Stops in order, twice: recovering twice equals recovering once.
    fn finish(mut self, cycles: u64) -> Result<String, Fault> {
        self.loads.iter().for_each(Load::pause);
        self.loads.iter().for_each(Load::settle_if_paused);
        for _ in 0..2 {
            self.check(false)?;
            let (code, said) = self.broker.take().expect("it runs").stop_by("TERM");
            if code != Some(0) || said.contains("panic") {
                return Err(Fault::new(format!("an orderly stop ended with {code:?}: {said}")));
            }
            let broker = Broker::spawn(&mut serve(&self.data, self.address, 1 + self.random.below(4)));
            self.broker = Some(broker);
        }
        self.check(true)?;
        self.look_for_faults()?;
        let told: Vec<_> = self.ledgers.iter().map(|ledger| ledger.summary()).collect();
        let truncated: u64 = self.followers.iter().map(Follower::told).sum();
        Ok(format!(
            "{cycles} kills, {} more during recovery; consumers were told {truncated} times that memory lost something; {}",
            self.recoveries_killed,
            told.join("; ")
        ))
    }
}

fn serve(data: &Path, address: SocketAddr, cores: u64) -> std::process::Command {
    let mut command = ringlog();
    command.args(["serve", "--listen", &address.to_string(), "--cores", &cores.to_string(), "--data"]);
    command.arg(data);
    command
}

fn free_address(random: &mut Random) -> SocketAddr {
    loop {
        let port = PORTS.start + random.below(PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
