//! Standard streams in every state: closed, full, stuck, or gone with the process at their other end. None of it ends
//! or holds up a process, and no data that was to be printed is lost without an error.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::helpers::{Broker, Running, folder, patiently, ringlog, run, run_with_input};

/// The command, with a redirection as a shell makes it.
fn redirected(command: &Command, redirection: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirection}")).arg("sh").arg(command.get_program());
    shell.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// What a service does whose log is in trouble: as if nothing were.
fn serves(port: u16) {
    let run_here = |arguments: &[&str], input: &str| {
        let mut command = ringlog();
        command.env("RINGLOG_BROKER", format!("127.0.0.1:{port}")).args(arguments);
        run_with_input(&mut command, input.as_bytes()).ok()
    };
    for round in 0..3 {
        let topic = format!("t{round}");
        run_here(&["topic", "create", &topic, "--partitions", "4"], "");
        run_here(&["produce", &topic], "a\nb\n");
        assert_eq!(run_here(&["consume", &topic, "--until-end"], "").text().lines().count(), 2);
    }
}

/// A port that was free just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn accepts(port: u16) -> Option<()> {
    patiently(|wait| {
        thread::sleep(wait);
        TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
    })
}

fn broker_logging_to(log: impl Into<Stdio>, data: &std::path::Path) -> (Running, u16) {
    let port = free_port();
    let mut command = ringlog();
    command.args(["serve", "--cores", "2", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(data);
    let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts");
    let running = Running { child };
    accepts(port).expect("it serves");
    (running, port)
}

fn stops_in_order(mut running: Running) {
    let begun = Instant::now();
    running.signal("TERM");
    let code = patiently(|wait| {
        thread::sleep(wait);
        running.child.try_wait().expect("a child can be waited for")
    });
    assert_eq!(code.and_then(|status| status.code()), Some(0), "after {:?}", begun.elapsed());
}

#[test]
fn a_broker_outlives_the_reader_of_its_log() {
    let data = folder();
    let (reader, writer) = pipe().expect("a pipe");
    let (running, port) = broker_logging_to(writer, data.path());
    let ready = BufReader::new(reader).lines().map_while(Result::ok).find(|line| line.contains("ready: "));
    assert!(ready.is_some(), "and the reader is gone now");
    serves(port);
    stops_in_order(running);
}

#[test]
fn a_log_that_is_full_or_closed_does_not_concern_a_broker() {
    let data = folder();
    let (running, port) = broker_logging_to(full(), data.path());
    serves(port);
    stops_in_order(running);

    let port = free_port();
    let mut command = ringlog();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(folder().path());
    let closed = Running::spawn(&mut redirected(&command, "<&- >&- 2>&-"));
    accepts(port).expect("it serves");
    serves(port);
    stops_in_order(closed);
}

/// As under a stopped terminal: the pipe takes no byte, and its reader is there.
#[test]
fn a_log_that_is_stuck_holds_up_neither_requests_nor_the_stop() {
    let data = folder();
    let (mut reader, mut writer) = pipe().expect("a pipe");
    let capacity = fill(writer.try_clone().expect("a descriptor"));
    let (running, port) = broker_logging_to(writer.try_clone().expect("a descriptor"), data.path());
    serves(port);
    stops_in_order(running);

    let data = folder();
    let (running, port) = broker_logging_to(writer.try_clone().expect("a descriptor"), data.path());
    serves(port);
    let mut before = vec![0; capacity];
    reader.read_exact(&mut before).expect("what was there before");
    let mut log = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("ready: ")), "what waited is written once there is room");
    writer.flush().expect("nothing waits here");
    stops_in_order(running);
}

/// Fills a pipe to its last byte, and says how many bytes it took.
fn fill(mut writer: std::io::PipeWriter) -> usize {
    // The kernel's default, or a page where a user has too many pipes: a write beyond it waits for good.
    let (sender, progress) = std::sync::mpsc::channel();
    thread::spawn(move || {
        while writer.write_all(&[b'.'; 4096]).is_ok() {
            let _ = sender.send(4096);
        }
    });
    let mut filled = 0;
    while let Ok(bytes) = progress.recv_timeout(Duration::from_millis(300)) {
        filled += bytes;
    }
    filled
}

#[test]
fn what_is_for_people_may_get_lost_without_a_change_of_the_exit_code() {
    let data = folder();
    let broker = Broker::start(data.path());
    for (name, redirection) in [("full", "2>/dev/full"), ("closed", "2>&-"), ("read-only", "2</dev/null")] {
        let exits = |arguments: &[&str], code| {
            run(&mut redirected(&broker.ringlog(arguments), redirection)).code(code);
        };
        exits(&["topic", "create", name], 0);
        exits(&["topic", "create", name], 1);
        exits(&["topic", "delete", name], 0);
        exits(&["topic", "lisst"], 2);
        exits(&["topic"], 2);
        exits(&["serve", "--data", "/proc/here"], 1);
    }
    broker.create_topic("t", 1);
    let mut produce = broker.ringlog(&["produce", "t"]);
    produce.stdin(Stdio::piped()).stderr(full());
    let mut child = produce.spawn().expect("the binary starts");
    child.stdin.take().expect("it is piped").write_all(b"a\nb\n").expect("it reads");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_command_that_cannot_print_its_result_fails_and_says_so() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    broker.run_with_input(&["produce", "t"], "a\n");
    for redirection in [">&-", ">/dev/full", "1</dev/null"] {
        for arguments in [
            ["consume", "t", "--until-end"].as_slice(),
            &["topic", "list"],
            &["topic", "list", "--json"],
            &["topic", "describe", "t"],
            &["--help"],
            &["serve", "--help"],
            &["--version"],
        ] {
            let ran = run(&mut redirected(&broker.ringlog(arguments), redirection)).code(1);
            assert!(ran.stderr.contains("cannot write to standard output"), "{arguments:?}: {}", ran.stderr);
        }
    }
    let unread = run(&mut redirected(ringlog().args(["check", "--data", "/surely/not"]), ">&-")).code(2);
    assert!(unread.stderr.contains("standard output"), "{}", unread.stderr);

    // Before anything is done that would have to be told.
    run(&mut redirected(&broker.ringlog(&["topic", "create", "new", "--json"]), ">&-")).code(1);
    assert!(!broker.run(&["topic", "list"]).text().contains("new"));
    let input = folder();
    let lines = input.path().join("lines");
    std::fs::write(&lines, "b\nc\n").expect("a file can be written");
    let lines = lines.to_str().expect("a temporary path is text");
    run(&mut redirected(&broker.ringlog(&["produce", "t", "--print-acks", "--file", lines]), ">&-")).code(1);
    assert_eq!(broker.run(&["consume", "t", "--until-end"]).text(), "a\n");
}

/// `/dev/null` given on purpose, by a shell (for writing) and by a program (for both ways), is a good place.
#[test]
fn output_may_go_to_dev_null_on_purpose() {
    let data = folder();
    let broker = Broker::start(data.path());
    run(&mut redirected(&broker.ringlog(&["topic", "list"]), ">/dev/null")).ok();
    let both_ways = OpenOptions::new().read(true).write(true).open("/dev/null").expect("it is there");
    let mut child = broker.ringlog(&["topic", "list"]);
    assert!(child.stdout(both_ways).status().expect("it runs").success());
}

#[test]
fn input_that_cannot_be_read_is_no_empty_input() {
    let data = folder();
    let broker = Broker::start(data.path());
    broker.create_topic("t", 1);
    for redirection in ["<&-", "0>/dev/null"] {
        let ran = run(&mut redirected(&broker.ringlog(&["produce", "t"]), redirection)).code(1);
        assert!(ran.stderr.contains("input"), "{}", ran.stderr);
    }
    run(&mut redirected(&broker.ringlog(&["produce", "t"]), "</dev/null")).ok();
}

#[test]
fn variables_that_are_empty_count_as_unset() {
    let ran = run(ringlog().env("RINGLOG_BROKER", "").env("RINGLOG_LOG", "").args(["topic", "--help"])).ok();
    assert!(ran.text().contains("127.0.0.1:7171"), "{}", ran.text());
    let data = folder();
    let mut command = ringlog();
    command.env("RINGLOG_LOG", "").args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    assert!(Broker::spawn(&mut command).ready.contains("ready: "), "it logs as much as without");
}
