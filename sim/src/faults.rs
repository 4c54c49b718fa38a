//! What goes wrong in a life of the broker, beside its end. All of it is over when the life is.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::sim::{self, DiskFaults, Host, SimDisk};
use ringlog_reactor::{Task, sleep, spawn};

use crate::machines::{FAULT_WITHIN, Play};
use crate::plan::{Damage, DiskPlan, Plan};
use crate::random::Dice;

/// Goes on until it is dropped.
pub struct Faults {
    _tasks: Vec<Task<()>>,
}

/// Has the plan's faults happen from now on.
pub fn begin(play: &Rc<Play>, mut dice: Dice) -> Faults {
    let Plan { disk, network, pauses, clock_jumps, kill_clients, .. } = &*play.plan;
    let host = play.broker.host();
    let mut tasks = Vec::new();
    if *pauses {
        tasks.push(spawn(pause(host.clone(), dice.split(1))));
    }
    if *clock_jumps {
        tasks.push(spawn(jump(host.clone(), dice.split(2))));
    }
    if *kill_clients {
        tasks.push(spawn(kill_clients_of(play.clone(), dice.split(4))));
    }
    let net = play.world.network();
    if let Some((least, spread)) = network.delay {
        net.set_delay(least, spread);
    }
    net.reset_one_in(network.reset_one_in);
    if network.cuts {
        tasks.push(spawn(cut(Rc::clone(play), dice.split(5))));
    }
    if network.half_closes {
        tasks.push(spawn(half_close(Rc::clone(play), dice.split(6))));
    }
    begin_on_disk(play);
    if disk.full {
        tasks.push(spawn(fill(host.disk(), dice.split(3))));
    }
    if disk.no_descriptors {
        tasks.push(spawn(take_descriptors(Rc::clone(play), dice.split(7))));
    }
    Faults { _tasks: tasks }
}

/// Has the disk's own faults happen from now on.
pub fn begin_on_disk(play: &Play) {
    play.broker.host().disk().set_faults(disk_faults(&play.plan));
}

/// Nothing is wrong any more.
pub fn stop(play: &Play) {
    let disk = play.broker.host().disk();
    disk.set_full(false);
    disk.set_faults(DiskFaults::default());
    play.broker.allow_files();
    // A broker whose clock is hours behind refuses records from its clients' future.
    play.broker.host().set_clock_skew(0);
    let net = play.world.network();
    net.heal();
    net.set_delay(Duration::ZERO, Duration::ZERO);
    net.reset_one_in(0);
}

fn disk_faults(plan: &Plan) -> DiskFaults {
    let DiskPlan { read_error, write_error, sync_error, stall, stall_for, short_write, short_read, .. } =
        plan.disk;
    let none = DiskFaults {
        capacity_bytes: plan.disk.capacity_bytes,
        read_error,
        write_error,
        sync_error,
        stall,
        stall_for,
        short_write,
        short_read,
        ..DiskFaults::default()
    };
    match plan.damage {
        Some(Damage::Misdirected(misdirect)) => DiskFaults { misdirect, ..none },
        Some(Damage::Lost(lost_write)) => DiskFaults { lost_write, ..none },
        Some(Damage::RotOnRead(bit_rot)) => DiskFaults { bit_rot, ..none },
        _ => none,
    }
}

/// Between two lives: flips bits of the broker's files, if the plan says so.
pub fn rot(play: &Play, dice: &mut Dice) {
    let (flips, journals) = match play.plan.damage {
        Some(Damage::Rot(flips)) => (flips, false),
        Some(Damage::RotAnywhere(flips)) => (flips, true),
        _ => return,
    };
    let disk = play.broker.host().disk();
    let is_journal =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-"));
    let files =
        disk.files().into_iter().filter(|(path, bytes)| *bytes > 0 && (journals || !is_journal(path)));
    let files: Vec<_> = files.collect();
    for _ in 0..flips {
        let Some((path, bytes)) = files.get(dice.within(0..files.len().max(1) as u64) as usize) else {
            return;
        };
        let (at, bit) = (dice.within(0..*bytes), dice.within(0..8) as u8);
        if disk.flip_bit(path, at, bit) {
            sim::reached("bit flipped");
            sim::note(&format!("bit {bit} of byte {at} of {} flipped", path.display()));
        }
    }
}

/// Now and then nothing gets through in one direction, or in both.
async fn cut(play: Rc<Play>, mut dice: Dice) {
    let (net, broker) = (play.world.network(), play.broker.host().ip());
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(100..3_000_000))).await;
        let client = dice.pick(&play.clients).ip();
        sim::reached("network cut");
        match dice.within(0..3) {
            0 => net.cut(broker, client),
            1 => net.cut(client, broker),
            _ => {
                net.cut(broker, client);
                net.cut(client, broker);
            }
        }
        // Longer, now and then, than a client waits for an answer.
        sleep(Duration::from_micros(dice.any_magnitude(100..12_000_000))).await;
        net.heal();
    }
}

async fn half_close(play: Rc<Play>, mut dice: Dice) {
    let (net, broker) = (play.world.network(), play.broker.host().ip());
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(1_000..3_000_000))).await;
        let client = dice.pick(&play.clients).ip();
        sim::reached("connection half closed");
        if dice.once_in(2) { net.half_close(broker, client) } else { net.half_close(client, broker) }
    }
}

async fn pause(host: Host, mut dice: Dice) {
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(100..2_000_000))).await;
        let length = Duration::from_micros(dice.any_magnitude(100..FAULT_WITHIN.as_micros() as u64));
        if host.is_running() {
            sim::reached("paused");
            host.pause(length);
        }
        sleep(length).await;
    }
}

/// A few times only: a client that was killed begins its work anew.
async fn kill_clients_of(play: Rc<Play>, mut dice: Dice) {
    for _ in 0..dice.within(1..3) {
        sleep(Duration::from_micros(dice.any_magnitude(1_000..2_000_000))).await;
        let number = dice.within(0..play.clients.len() as u64) as usize;
        sim::reached("client killed");
        play.clients[number].kill();
        play.stage.lost_client(number);
        sleep(Duration::from_micros(dice.any_magnitude(1..100_000))).await;
        play.boot_client(number);
    }
}

async fn jump(host: Host, mut dice: Dice) {
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(100..2_000_000))).await;
        let ms = dice.any_magnitude(1..100_000_000) as i64;
        sim::reached("clock jumped");
        host.set_clock_skew(if dice.once_in(2) { ms } else { -ms });
    }
}

async fn fill(disk: SimDisk, mut dice: Dice) {
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(100..1_000_000))).await;
        sim::reached("disk full");
        disk.set_full(true);
        sleep(Duration::from_micros(dice.any_magnitude(100..FAULT_WITHIN.as_micros() as u64))).await;
        disk.set_full(false);
    }
}

/// Others have all descriptors of the system for a while.
async fn take_descriptors(play: Rc<Play>, mut dice: Dice) {
    loop {
        sleep(Duration::from_micros(dice.any_magnitude(100..1_000_000))).await;
        sim::reached("no descriptors");
        play.broker.host().set_open_files(0);
        sleep(Duration::from_micros(dice.any_magnitude(100..FAULT_WITHIN.as_micros() as u64))).await;
        play.broker.allow_files();
    }
}

impl DiskPlan {
    /// Whether operations of the disk may fail for good.
    pub fn may_fail(&self) -> bool {
        self.read_error > 0 || self.write_error > 0 || self.sync_error > 0 || self.full
    }
}
