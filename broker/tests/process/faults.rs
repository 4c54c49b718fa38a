//! Faults of the machine and of peers, on the real ring, with the kernel's help: a full disk, too few descriptors, floods, and
//! peers that are slow, silent, or half gone. Each test says what is expected of the broker.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ringlog_protocol::limits::MAX_BATCH_BYTES;
use ringlog_protocol::messages::{Hello, Open, Position, Produced, Subscribe, Subscribed};
use ringlog_protocol::{Kind, encode_with_payload, try_encode};
use tempfile::TempDir;

use super::helpers::{Broker, folder, patiently, ringlog, run, run_with_input};
use super::wire::{Answer, Wire};

/// A small file system of its own, gone with this value.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// An ext4 of so many MiB, if this machine lets us have one; says so otherwise.
    fn mount(mib: u64) -> Option<SmallDisk> {
        let disk = SmallDisk { folder: folder() };
        let image = disk.folder.path().join("image");
        let file = std::fs::File::create(&image).expect("a file can be made");
        file.set_len(mib << 20).expect("a sparse file");
        std::fs::create_dir(disk.root()).expect("a folder can be made");
        let quiet = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
        let made = quiet(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let mounted = made && quiet(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.root()));
        if !mounted {
            eprintln!(
                "SKIPPED: no loop mount of a small ext4 here; it needs root, mkfs.ext4 and loop devices"
            );
        }
        mounted.then_some(disk)
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).output();
    }
}

fn produce(broker: &Broker, lines: &str) -> (Option<i32>, String) {
    let arguments = ["produce", "t", "--delivery-timeout", "3s", "--batch-bytes", "60k"];
    let ran = run_with_input(&mut broker.ringlog(&arguments), lines.as_bytes());
    (ran.code, ran.stderr)
}

/// A full disk: produces are refused in words, what was acknowledged can be read, and once there is space again all goes on by
/// itself.
#[test]
fn a_full_disk_refuses_produces_serves_reads_and_heals() {
    // The journal of one core takes 128 MiB.
    let Some(disk) = SmallDisk::mount(224) else { return };
    let ballast = disk.root().join("ballast");
    let data = disk.root().join("data");
    let broker = Broker::start_with(&data, &["--cores", "1"]);
    broker.create_topic("t", 1);
    assert_eq!(produce(&broker, "before\n").0, Some(0));
    fill(&ballast);
    let much = format!("{}\n", "x".repeat(50_000)).repeat(400);
    let refused = (0..8).map(|_| produce(&broker, &much)).find(|(code, _)| *code != Some(0));
    let (code, words) = refused.expect("160 MB do not fit");
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("disk is full") || words.contains("no space"), "the words say why: {words}");
    assert!(broker.run(&["consume", "t", "--count", "1"]).text() == "before\n", "reads go on");
    std::fs::remove_file(&ballast).expect("it is there");
    let healed = patiently(|wait| {
        thread::sleep(wait);
        (produce(&broker, "after\n").0 == Some(0)).then_some(())
    });
    assert!(healed.is_some(), "once there is space, produces are taken again");
    assert!(broker.run(&["consume", "t", "--until-end"]).text().ends_with("after\n"));
    let (code, said) = broker.stop_by("TERM");
    assert_eq!(code, Some(0), "{said}");
}

/// Takes all space that is left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a file can be made");
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
}

/// Few descriptors: who comes when there are none waits, nobody who is there is disturbed, and when others leave, the next is let in.
#[test]
fn without_descriptors_newcomers_wait_and_nobody_else_is_disturbed() {
    let data = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 96; exec \"$@\"", "sh"]).arg(ringlog().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--data"]).arg(data.path());
    let broker = Broker::spawn(&mut command);
    broker.create_topic("t", 1);
    let mut honest = Wire::greeted(broker.address);
    let handle = honest.open("t", 0);
    let crowd: Vec<Wire> = (0..150).map(|_| Wire::connect(broker.address)).collect();
    for _ in 0..20 {
        let answer = honest.produce(handle, &super::wire::batch(&["served"]));
        assert!(matches!(answer, Answer::Frame { header, .. } if header.kind == Kind::Produced));
    }
    drop(crowd);
    Wire::greeted(broker.address);
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// A broker that may have so many files open.
fn with_open_files(data: &Path, limit: usize) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]).arg(ringlog().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--cores", "2", "--data"]).arg(data);
    command
}

/// Far fewer descriptors than partitions that are written to: all of it works, through a crash and two ends in order, while a
/// flood of clients has what clients may have.
#[test]
fn with_fewer_descriptors_than_partitions_everything_works() {
    let data = folder();
    let limit = 80;
    let start = || Broker::spawn(&mut with_open_files(data.path(), limit));
    let broker = start();
    broker.create_topic("m", 300);
    let lines: String = (0..20_000).map(|n| format!("k{n}:{n}\n")).collect();
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::connect(broker.address)).collect();
    broker.run_with_input(&["produce", "m", "--key-sep", ":"], &lines).ok();
    drop(crowd);
    broker.kill();
    let broker = start();
    broker.run_with_input(&["produce", "m", "--key-sep", ":"], &lines).ok();
    assert_eq!(broker.stop_by("TERM").0, Some(0));
    let broker = start();
    let read = broker.run(&["consume", "m", "--until-end"]).ok();
    assert_eq!(read.text().lines().count(), 40_000);
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_refused_with_the_figure() {
    let data = folder();
    let refused = run(&mut with_open_files(data.path(), 64)).code(1);
    assert!(refused.stderr.contains("2 shards need 68 at least"), "{}", refused.stderr);
    let refused = run(&mut with_open_files(data.path(), 16)).code(1);
    assert!(refused.stderr.contains("the limit of open files is 16"), "{}", refused.stderr);
}

/// Little memory: peers that begin the largest frames and never end them, and readers that never read, while much comes in.
/// The broker needs no more than its bounds say (an allocation beyond the kernel's limit would end it), and others are served.
#[test]
fn under_a_cap_on_memory_greedy_peers_cost_nobody_anything() {
    const CAP_KIB: usize = 768 << 10;
    let data = folder();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {CAP_KIB}; exec \"$@\""), "sh"]).arg(ringlog().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--data"]).arg(data.path());
    let broker = Broker::spawn(&mut command);
    broker.create_topic("t", 1);
    let hoarders: Vec<Wire> = (0..200)
        .map(|_| {
            let mut wire = Wire::greeted(broker.address);
            let handle = wire.open("t", 0);
            let frame = encode_with_payload(Kind::Produce, 2, handle, 2, &(), MAX_BATCH_BYTES);
            wire.send(&frame);
            wire.send(&vec![0; 48 << 10]);
            wire
        })
        .collect();
    let silent: Vec<Wire> = (0..100)
        .map(|_| {
            let mut wire = Wire::greeted(broker.address);
            let handle = wire.open("t", 0);
            let all = Subscribe { from: Position::Begin, credit_bytes: u32::MAX };
            wire.send(&try_encode(Kind::Subscribe, 9, handle, 0, &all).expect("a subscribe fits"));
            wire
        })
        .collect();
    let much = format!("{}\n", "0123456789".repeat(2_000)).repeat(8_000);
    let ran = broker.run_with_input(&["produce", "t"], &much);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(broker.run(&["consume", "t", "--until-end"]).text() == much, "all of it is there");
    drop((hoarders, silent));
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// A thousand that connect and say nothing: an honest client is served as if they were not there.
#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let silent: Vec<Wire> = (0..500).map(|_| Wire::connect(broker.address)).collect();
    let idle: Vec<Wire> = (0..500).map(|_| Wire::greeted(broker.address)).collect();
    broker.run_with_input(&["produce", "t"], "served\n");
    assert_eq!(broker.run(&["consume", "t", "--until-end"]).text(), "served\n");
    let resident = broker.resident_bytes();
    assert!(resident < 256 << 20, "{} MiB resident for a thousand who do nothing", resident >> 20);
    drop((silent, idle));
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// One byte a second: a Hello has ten seconds, a frame thirty, however steadily its bytes come; nobody else waits.
#[test]
fn who_sends_one_byte_a_second_is_cut_off() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let hello = try_encode(Kind::Hello, 0, 0, 0, &Hello::new("slow", None)).expect("a hello fits");
    let open =
        try_encode(Kind::Open, 1, 0, 0, &Open { topic: "t".repeat(60), partition: 0 }).expect("it fits");
    let address = broker.address;
    let drip = |mut wire: Wire, bytes: Vec<u8>| {
        thread::spawn(move || {
            let begin = Instant::now();
            for byte in &bytes {
                wire.send(&[*byte]);
                thread::sleep(Duration::from_secs(1));
                if wire.has_ended() {
                    break;
                }
            }
            begin.elapsed()
        })
    };
    let of_hello = drip(Wire::connect(address), hello.to_vec());
    let of_frame = drip(Wire::greeted(address), open.to_vec());
    broker.run_with_input(&["produce", "t"], "served\n");
    let (hello_took, frame_took) = (of_hello.join().expect("no panic"), of_frame.join().expect("no panic"));
    assert!(hello_took >= Duration::from_secs(9) && hello_took < Duration::from_secs(40), "{hello_took:?}");
    assert!(frame_took >= Duration::from_secs(29) && frame_took < Duration::from_secs(70), "{frame_took:?}");
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// A peer that has ended its own direction gets the acknowledgements that are due, is let go then, and leaves nothing.
#[test]
fn half_closed_peers_get_their_acks_and_are_let_go() {
    let data = folder();
    let broker = Broker::start_with(data.path(), &["--cores", "1"]);
    broker.create_topic("t", 1);
    for _ in 0..100 {
        let mut wire = Wire::greeted(broker.address);
        let handle = wire.open("t", 0);
        let batch = super::wire::batch(&["the last word"]);
        let mut frame = encode_with_payload(Kind::Produce, 2, handle, 2, &(), batch.len());
        frame.extend_from_slice(&batch);
        wire.send(&frame);
        wire.finish();
        wire.receive().message::<Produced>(Kind::Produced);
        assert!(matches!(wire.receive(), Answer::Closed));
    }
    broker.run_with_input(&["produce", "t"], "served\n");
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// Journals and topics that an operator has moved to another disk, with links in their places: a start uses them as they are.
#[test]
fn folders_that_are_links_are_used_as_they_are() {
    let (data, elsewhere) = (folder(), folder());
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "before\n");
    assert_eq!(broker.stop_by("TERM").0, Some(0));
    for name in ["journal", "topics"] {
        let (here, there) = (data.path().join(name), elsewhere.path().join(name));
        std::fs::rename(&here, &there).expect("the same file system");
        std::os::unix::fs::symlink(&there, &here).expect("a link can be made");
    }
    let broker = Broker::start(data.path());
    broker.run_with_input(&["produce", "t"], "behind\n");
    assert_eq!(broker.run(&["consume", "t", "--until-end"]).text(), "before\nbehind\n");
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}

/// A slow reader beside a fast one: the fast one gets everything at its own pace, the slow one what it asked for, later.
#[test]
fn a_slow_reader_holds_back_no_fast_one_and_misses_nothing() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    let mut slow = Wire::greeted(broker.address);
    let handle = slow.open("t", 0);
    let subscribe = Subscribe { from: Position::Begin, credit_bytes: u32::MAX };
    slow.send(&try_encode(Kind::Subscribe, 9, handle, 0, &subscribe).expect("a subscribe fits"));
    slow.receive().message::<Subscribed>(Kind::Subscribed);
    let line = format!("{}\n", "0123456789".repeat(400));
    let much = line.repeat(5_000);
    broker.run_with_input(&["produce", "t"], &much);
    assert!(broker.run(&["consume", "t", "--until-end"]).text() == much, "the fast one has all of it");
    let mut next = 0;
    while next < 5_000 {
        let Answer::Frame { payload, .. } = slow.receive() else { panic!("closed at {next}") };
        for batch in ringlog_protocol::batch::split_batches(&payload) {
            let (header, _) = batch.expect("whole batches");
            assert_eq!(header.base_offset, next);
            next = header.base_offset + i64::from(header.record_count);
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(broker.stop_by("TERM").0, Some(0));
}
