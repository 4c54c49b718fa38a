//! The broker's machine: its process is started, asked to stop, killed, and started again on the same disk.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ringlog_broker::check::{self, CheckError, Weight};
use ringlog_broker::config::{BrokerConfig, StorageSizes};
use ringlog_broker::descriptors::{self, Share};
use ringlog_broker::node::{self, StartSummary};
use ringlog_reactor::sim::{self, Host};
use ringlog_reactor::{Notify, timeout};

use crate::evidence::Evidence;
use crate::history::{Event, Place};
use crate::plan::{Death, KilledStart, Sizes};
use crate::stage::Stage;

/// Where a broker's machine keeps its data.
const DATA_DIR: &str = "/data";

/// A process that was to end by itself gets so much virtual time for it.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// A process that is to be killed after so many polls may have nothing to do.
const KILLED_WITHIN: Duration = Duration::from_millis(500);

/// See the head of this file.
pub struct Broker {
    host: Host,
    stage: Rc<Stage>,
    sizes: Sizes,
    address: SocketAddr,
    life: RefCell<Rc<Life>>,
    /// How many files the process may have open while nothing is wrong.
    open_files: Cell<usize>,
}

/// What a process of the broker and the play say to each other.
#[derive(Default)]
struct Life {
    changed: Notify,
    ready: Cell<bool>,
    stop: Cell<bool>,
    /// How it ended, if it did by itself.
    result: RefCell<Option<Result<(), String>>>,
    /// What the start has found.
    found: RefCell<Found>,
}

/// What a start has found, and where.
#[derive(Default)]
struct Found {
    damage: Vec<String>,
    /// What it set aside.
    quarantined: Vec<Place>,
    evidence: Evidence,
}

/// How a start went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The broker accepts clients.
    Up,
    /// It said why it does not.
    Refused(String),
    /// It was killed.
    Killed,
}

impl Broker {
    /// A machine on which nothing runs yet.
    pub fn new(host: Host, stage: Rc<Stage>, sizes: Sizes, port: u16) -> Broker {
        let address = SocketAddr::new(host.ip(), port);
        Broker { host, stage, sizes, address, life: RefCell::default(), open_files: Cell::new(usize::MAX) }
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Boots a process of so many shards; does not wait for anything.
    fn boot(&self, shards: usize) {
        let journal_files = self.sizes.journal_files as usize;
        let open_files = match self.sizes.open_files {
            Some(more) => descriptors::needed(shards, journal_files) + more,
            None => BrokerConfig::default().open_files,
        };
        let share = Share::of(open_files, shards, journal_files).expect("it is as many as are needed");
        self.open_files.set(open_files - share.clients());
        self.allow_files();
        let config = BrokerConfig {
            data_dir: PathBuf::from(DATA_DIR),
            listen: self.address,
            storage: StorageSizes {
                journal_file_bytes: self.sizes.journal_file_bytes,
                journal_files: self.sizes.journal_files,
                tail_bytes: self.sizes.tail_bytes,
                bypass_bytes: self.sizes.bypass_bytes,
            },
            open_files,
            ..BrokerConfig::default()
        };
        let life = Rc::new(Life::default());
        *self.life.borrow_mut() = Rc::clone(&life);
        self.host.start(move || live(config, shards, life));
    }

    /// The process may have as many files open as its share says.
    pub fn allow_files(&self) {
        self.host.set_open_files(self.open_files.get());
    }

    /// Starts a process and waits until it accepts clients, or ends.
    pub async fn start(&self, shards: usize) -> Started {
        let before = self.files();
        self.boot(shards);
        self.came_up(before).await
    }

    fn files(&self) -> Vec<PathBuf> {
        self.host.disk().files().into_iter().map(|(path, _)| path).collect()
    }

    /// Starts a process that is killed, wherever it is then, and waits for its end.
    pub async fn start_and_kill(&self, shards: usize, killed: &KilledStart) -> Started {
        self.boot(shards);
        if let Some(changes) = killed.changes {
            let _ = timeout(KILLED_WITHIN, self.host.disk().folders_changed(changes)).await;
        }
        self.die(killed.polls, killed.death).await;
        let life = Rc::clone(&self.life.borrow());
        if !life.ready.get() {
            sim::reached("killed before it was up");
        }
        let result = life.result.take();
        match result {
            Some(Err(why)) => Started::Refused(why),
            _ => Started::Killed,
        }
    }

    async fn came_up(&self, before: Vec<PathBuf>) -> Started {
        let life = Rc::clone(&self.life.borrow());
        let up = async {
            loop {
                let changed = life.changed.notified();
                if life.ready.get() || life.result.borrow().is_some() {
                    return;
                }
                changed.await;
            }
        };
        // A process that panics says nothing.
        let ended = self.host.ended();
        let started = timeout(ENDS_WITHIN, first(up, ended)).await;
        if life.ready.get() {
            let Found { damage, quarantined, evidence } = life.found.take();
            let removed = evidence.removed(&before, &self.files());
            self.stage.is_up(damage, quarantined, removed);
            return Started::Up;
        }
        let result = life.result.take();
        match (started, result) {
            (_, Some(Err(why))) => Started::Refused(why),
            (Err(_), _) => Started::Refused(format!("it was not up within {ENDS_WITHIN:?}")),
            _ => Started::Killed,
        }
    }

    /// Ends the process. Says why, if it was to end in order and did not.
    pub async fn end(&self, polls: u64, death: Death) -> Result<(), String> {
        if death != Death::Stop {
            self.die(polls, death).await;
            self.stage.saw(Event::Down { in_order: false });
            return Ok(());
        }
        let life = Rc::clone(&self.life.borrow());
        life.stop.set(true);
        life.changed.notify_all();
        let ended = timeout(ENDS_WITHIN, self.host.ended()).await;
        let result = match (ended, life.result.take()) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err("the process ended without a word".to_owned()),
            (Err(_), _) => Err(format!("it did not stop within {ENDS_WITHIN:?}")),
        };
        if self.host.is_running() {
            self.host.kill();
        }
        self.stage.saw(Event::Down { in_order: result.is_ok() });
        result
    }

    /// Looks at the folder between two lives, as `ringlog check` does. Says what is damaged in it.
    pub async fn check(&self) -> Result<(), String> {
        let life = Rc::new(Life::default());
        let checked = Rc::clone(&life);
        // It is an operator's process: the broker's limit is not its own.
        self.host.set_open_files(usize::MAX);
        self.host.start(move || async move { *checked.result.borrow_mut() = Some(look().await) });
        let ended = timeout(ENDS_WITHIN, self.host.ended()).await;
        let result = life.result.take();
        match (ended, result) {
            (Ok(()), Some(result)) => result,
            _ => Err(format!("it did not end within {ENDS_WITHIN:?}")),
        }
    }

    /// Kills the process after so many polls, or when it has had nothing to do for a while.
    async fn die(&self, polls: u64, death: Death) {
        match death {
            Death::Stop | Death::Kill => self.host.kill_after(polls),
            Death::PowerOff => self.host.power_off_after(polls),
        }
        if timeout(KILLED_WITHIN, self.host.ended()).await.is_ok() {
            return;
        }
        match death {
            Death::Stop | Death::Kill => self.host.kill(),
            Death::PowerOff => self.host.power_off(),
        }
    }
}

/// The broker's process.
async fn live(config: BrokerConfig, shards: usize, life: Rc<Life>) {
    let (ready, stop) = (Rc::clone(&life), Rc::clone(&life));
    let result = node::serve(
        config,
        shards,
        move |summary| {
            *ready.found.borrow_mut() = found(&summary);
            ready.ready.set(true);
            ready.changed.notify_all();
        },
        async move {
            loop {
                let changed = stop.changed.notified();
                if stop.stop.get() {
                    return;
                }
                changed.await;
            }
        },
    );
    let result = result.await.map_err(|error| error.to_string());
    *life.result.borrow_mut() = Some(result);
    life.changed.notify_all();
}

fn found(summary: &StartSummary) -> Found {
    let damage = summary.recovery.iter().flat_map(|shard| shard.damage.iter().chain(&shard.spare_copies));
    let damage = damage.map(ToString::to_string);
    let quarantined = summary.recovery.iter().flat_map(|shard| &shard.quarantined);
    let places = quarantined.map(|id| Place { topic: id.topic, partition: id.partition });
    let evidence = Evidence::of(summary, Path::new(DATA_DIR));
    Found { damage: damage.collect(), quarantined: places.collect(), evidence }
}

/// What is damaged in the broker's folder, if there is one.
async fn look() -> Result<(), String> {
    let found = match check::check(Path::new(DATA_DIR), &mut |_| ()).await {
        Ok(found) => found,
        // Killed before it had made anything.
        Err(CheckError::NothingThere { .. }) => return Ok(()),
        Err(CheckError::Folder { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    match found.report.findings.iter().find(|finding| finding.weight != Weight::Harmless) {
        None => Ok(()),
        Some(damage) => {
            let path = damage.path.display();
            Err(format!("{path} at byte {}: {}, offsets {:?}", damage.offset, damage.what, damage.offsets))
        }
    }
}

/// Waits for the one or the other.
async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|context| {
        let ready = one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready();
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use ringlog_reactor::sim::{SimDisk, Simulation};

    use super::*;
    use crate::history::Trust;

    #[test]
    fn a_check_between_two_lives_sees_a_flipped_bit() {
        let world = Simulation::new(1);
        let sizes = Sizes {
            journal_file_bytes: 64 << 10,
            journal_files: 2,
            tail_bytes: 4 << 20,
            bypass_bytes: 64 << 10,
            open_files: None,
        };
        let host = world.host("broker", [10, 0, 0, 1].into(), SimDisk::new(1));
        let broker = Broker::new(host, Stage::new(Trust::Sound, true), sizes, 7171);
        world.run(async {
            assert_eq!(broker.check().await, Ok(()), "there is nothing to look at");
            assert_eq!(broker.start(2).await, Started::Up);
            assert_eq!(broker.end(0, Death::Kill).await, Ok(()));
            assert_eq!(broker.check().await, Ok(()));
            let checkpoint = Path::new(DATA_DIR).join("journal/0000000001/shard-1/checkpoint");
            assert!(broker.host().disk().flip_bit(&checkpoint, 30, 2));
            let damage = broker.check().await.expect_err("a checkpoint is damaged");
            assert!(damage.contains("shard-1/checkpoint"), "{damage}");
        });
    }
}
