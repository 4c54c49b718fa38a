//! `ringlog serve`: how it starts, how it refuses to, and how it ends. Also `ringlog doctor`, whose words it uses.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::helpers::{Broker, Ran, Running, folder, ringlog, run};

fn serve(flags: &[&str]) -> Ran {
    run(ringlog().arg("serve").args(["--listen", "127.0.0.1:0"]).args(flags))
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[test]
fn the_ready_line_tells_address_shards_and_recovery() {
    let data = folder();
    let broker = Broker::start(data.path());
    for part in ["listening on 127.0.0.1:", "2 shards", "0 topics", "nothing to recover"] {
        assert!(broker.ready.contains(part), "{part:?} is missing in: {}", broker.ready);
    }
    broker.create_topic("orders", 1);
    broker.run_with_input(&["produce", "orders"], "a\n");
    broker.kill();
    let broker = Broker::start(data.path());
    assert!(
        broker.ready.contains("1 topic") && broker.ready.contains("replayed 1 record"),
        "{}",
        broker.ready
    );
}

#[test]
fn each_signal_stops_it_in_order_and_nothing_is_left_to_recover() {
    let data = folder();
    for signal in ["TERM", "INT", "HUP"] {
        let broker = Broker::start(data.path());
        assert!(broker.ready.contains("nothing to recover"), "{}", broker.ready);
        if signal == "TERM" {
            broker.create_topic("orders", 2);
        }
        broker.run_with_input(&["produce", "orders"], "a\nb\n");
        let (code, said) = broker.stop_by(signal);
        assert_eq!(code, Some(0), "SIG{signal}: {said}");
    }
    let broker = Broker::start(data.path());
    assert!(broker.ready.contains("nothing to recover"), "{}", broker.ready);
    assert_eq!(broker.run(&["consume", "orders", "--until-end"]).text().lines().count(), 6);
}

#[test]
fn under_nohup_a_terminal_that_closes_does_not_stop_it() {
    let data = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(ringlog().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let broker = Broker::spawn(&mut command);
    broker.signal("HUP");
    thread::sleep(Duration::from_millis(100));
    broker.create_topic("orders", 1);
    let (code, said) = broker.stop_by("TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("SIGTERM") && !said.contains("SIGHUP"), "{said}");
}

/// The default of SIGXFSZ is to end the process.
#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_end_by_a_signal() {
    let data = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1000; exec \"$@\"", "sh"]).arg(ringlog().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let refused = run(&mut command).code(1);
    assert!(refused.stderr.contains("File too large"), "{}", refused.stderr);
}

/// Sixteen descriptors are not enough to serve, or just enough: then it can be stopped all the same.
#[test]
fn with_hardly_any_descriptors_it_refuses_in_words_or_can_be_stopped() {
    for limit in [12, 16, 24] {
        let data = folder();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
        command
            .arg(ringlog().get_program())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path());
        let running = Running::spawn(&mut command);
        thread::sleep(Duration::from_millis(700));
        running.signal_if_alive("TERM");
        let ran = running.finish();
        let refused = ran.code == Some(1) && ran.stderr.contains("ringlog: ");
        assert!(refused || ran.code == Some(0), "{limit} descriptors: {:?}, {}", ran.code, ran.stderr);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let data = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let refused = run(ringlog().args(["serve", "--listen", &address, "--data"]).arg(data.path())).code(1);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("--listen"), "{}", refused.stderr);
}

#[test]
fn a_port_that_becomes_free_in_a_moment_is_waited_for() {
    let data = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let mut starting = ringlog();
    starting.args(["serve", "--listen", &address, "--data"]).arg(data.path());
    let free = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(taken);
    });
    let broker = Broker::spawn(&mut starting);
    free.join().expect("it only sleeps");
    assert!(broker.ready.contains(&address), "{}", broker.ready);
}

#[test]
fn a_folder_that_another_broker_has_is_refused_and_that_one_goes_on() {
    let data = folder();
    let broker = Broker::start(data.path());
    let refused = serve(&["--data", text(data.path())]).code(1);
    assert!(refused.stderr.contains("in use by another broker"), "{}", refused.stderr);
    broker.create_topic("still", 1);
    broker.run_with_input(&["produce", "still"], "a\n");
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_not_touched() {
    let data = folder();
    Broker::start(data.path()).stop_by("TERM");
    let path = data.path().join("metadata");
    let newer = fs::read_to_string(&path).expect("it is there").replacen("metadata 2 ", "metadata 99 ", 1);
    fs::write(&path, &newer).expect("it can be written");
    let refused = serve(&["--data", text(data.path())]).code(1);
    assert!(refused.stderr.contains("99") && refused.stderr.contains("newer"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), newer);
}

#[test]
fn damaged_metadata_is_refused_and_not_touched_if_no_copy_is_sound() {
    let data = folder();
    Broker::start(data.path()).stop_by("TERM");
    let damaged = ["metadata", "metadata.copy"].map(|name| {
        let path = data.path().join(name);
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).expect("it can be written");
        (path, bytes)
    });
    let refused = serve(&["--data", text(data.path())]).code(1);
    assert!(refused.stderr.contains("damaged"), "{}", refused.stderr);
    for (path, bytes) in damaged {
        assert_eq!(fs::read(&path).expect("it is there"), bytes);
    }
}

#[test]
fn a_copy_of_the_metadata_that_is_lost_costs_nothing() {
    for name in ["metadata", "metadata.copy"] {
        let data = folder();
        let broker = Broker::start(data.path());
        broker.create_topic("kept", 2);
        broker.run_with_input(&["produce", "kept"], "a\n");
        broker.stop_by("KILL");
        let path = data.path().join(name);
        fs::remove_file(&path).expect("it was there");
        // What cannot be read is as good as lost.
        fs::create_dir(&path).expect("made");
        check_sound(data.path());
        let broker = Broker::start(data.path());
        assert_eq!(broker.run(&["consume", "kept", "--until-end"]).text(), "a\n");
        broker.stop_by("TERM");
        assert!(path.is_file(), "both are written again");
    }
}

fn check_sound(data: &std::path::Path) {
    run(ringlog().args(["check", "--data"]).arg(data)).ok();
}

#[test]
fn an_empty_folder_of_a_topic_that_was_never_made_is_removed() {
    let data = folder();
    Broker::start(data.path()).stop_by("KILL");
    let topics = data.path().join("topics");
    let (empty, other) = (topics.join("cut-off@7"), topics.join("of-an-old-copy@8"));
    fs::create_dir(&empty).expect("made");
    fs::create_dir_all(other.join("0")).expect("made");
    let broker = Broker::start(data.path());
    broker.create_topic("next", 1);
    assert!(!empty.exists() && other.exists());
    assert!(topics.join("next@9").exists(), "their ids are not used again");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_with_the_doctors_words() {
    let data = folder();
    let file = data.path().join("file");
    fs::write(&file, "").expect("a file can be written");
    let below = file.join("data");
    let refused = serve(&["--data", text(&below)]).code(1);
    let doctor = run(ringlog().args(["doctor", "--data"]).arg(&below)).code(1);
    let words = doctor.text().lines().find(|line| line.starts_with("fail")).expect("a line says fail");
    assert!(refused.stderr.contains(words), "{} against {words}", refused.stderr);
}

#[test]
fn a_sound_folder_passes_the_doctor_and_is_left_as_it_was() {
    let data = folder();
    let report = run(ringlog().args(["doctor", "--data"]).arg(data.path())).ok();
    for what in [
        "kernel",
        "io_uring allowed",
        "locked memory",
        "open files",
        "direct I/O",
        "free space",
        "synced 4 KiB write",
    ] {
        assert!(report.text().contains(what), "{what:?} is missing in\n{}", report.text());
    }
    assert_eq!(fs::read_dir(data.path()).expect("it is there").count(), 0);
}

#[test]
fn the_configuration_file_says_what_flags_say_and_flags_win() {
    let data = folder();
    let config = data.path().join("ringlog.toml");
    let of_file = data.path().join("of-file");
    let of_flag = data.path().join("of-flag");
    let settings =
        format!("data = {:?}\nlisten = \"127.0.0.1:0\"\ncores = 1\nwait = \"spin:20us\"\n", text(&of_file));
    fs::write(&config, settings).expect("a file can be written");

    let broker = Broker::spawn(ringlog().args(["serve", "--config"]).arg(&config));
    assert!(broker.ready.contains(" 1 shard"), "{}", broker.ready);
    assert!(of_file.join("metadata").exists());
    drop(broker);
    let broker = Broker::spawn(
        ringlog().args(["serve", "--cores", "2", "--config"]).arg(&config).arg("--data").arg(&of_flag),
    );
    assert!(broker.ready.contains(" 2 shards"), "{}", broker.ready);
    assert!(of_flag.join("metadata").exists());
}

#[test]
fn a_key_that_the_configuration_does_not_know_is_named() {
    let data = folder();
    let config = data.path().join("ringlog.toml");
    fs::write(&config, "lissten = \"127.0.0.1:0\"\n").expect("a file can be written");
    let refused = serve(&["--config", text(&config)]).code(1);
    assert!(refused.stderr.contains("lissten"), "{}", refused.stderr);
}

#[test]
fn flags_that_make_no_sense_are_a_wrong_command_line() {
    for flags in [["--cores", "none"], ["--cores", "0"], ["--wait", "sleep"], ["--listen", "here"]] {
        run(ringlog().arg("serve").args(flags)).code(2);
    }
    let refused = serve(&["--cores", "0,4095", "--data", text(folder().path())]).code(1);
    assert!(refused.stderr.contains("CPU 4095"), "{}", refused.stderr);
}
