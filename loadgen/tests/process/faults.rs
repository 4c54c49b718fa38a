//! A broker that is not there, pauses, hangs or dies, and a user who has seen enough.

use super::helpers::{Broker, Loadgen, a_while};

#[test]
fn a_broker_that_is_not_there_is_said_to_be_missing() {
    // Port 9 is below those that are handed out, and nobody listens there.
    let ran = Loadgen::new("127.0.0.1:9", "end-to-end").finish();
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("no broker at 127.0.0.1:9") && ran.stderr.contains("ringlog serve"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_listener_that_answers_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let ran = Loadgen::new(&address, "end-to-end --timeout 500ms").finish();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&address) && ran.stderr.contains("500 ms"), "{}", ran.stderr);
}

/// The proof against coordinated omission: a closed loop would have seen one slow record.
#[test]
fn a_pause_of_a_second_shows_in_every_record_that_was_due_in_it() {
    let broker = Broker::start();
    let run = broker.loadgen("end-to-end --rate 1000 --duration 4s --warm-up 100ms --ack memory");
    a_while();
    broker.signal("STOP");
    std::thread::sleep(std::time::Duration::from_secs(1));
    broker.signal("CONT");
    let result = run.finish().good();
    let phase = &result.phases[0];
    assert_eq!((phase.sent, phase.acked, phase.received), (4000, 4000, 4000), "no record was left out");
    for latency in [&phase.ack, &phase.end_to_end] {
        let histogram = latency.as_ref().expect("it was measured").histogram.decode().expect("it is whole");
        let over = |ms: u64| histogram.len() - histogram.count_between(0, ms * 1_000_000);
        // Of the 1,000 that were due in the pause, those due by its middle waited for half a second, and so on. A busy
        // machine makes it more, never less.
        for (ms, least) in [(100, 850), (500, 450), (900, 50)] {
            assert!(over(ms) >= least, "{} records took over {ms} ms, not {least}", over(ms));
        }
    }
    assert!(result.verification.is_some_and(|found| found.passed()));
}

/// What the schedule asks for is never dropped in silence, and what is in memory stays bounded.
#[test]
fn every_record_that_was_due_is_done_or_counted_when_the_load_is_too_much() {
    let broker = Broker::start();
    let run = "produce --rate 2000000 --duration 500ms --warm-up 0 --max-outstanding 50 --timeout 1s";
    let result = broker.loadgen(run).finish().partial();
    let phase = &result.phases[0];
    let count = |part: &str| {
        phase.errors.iter().find(|(words, _)| words.contains(part)).map_or(0, |(_, count)| *count)
    };
    assert_eq!(phase.acked + count("never begun"), 1_000_000);
    assert!(count("--max-outstanding") > 0, "{:?}", phase.errors);
    assert_eq!(phase.ack.as_ref().map(|latency| latency.count), Some(1_000_000));
}

#[test]
fn a_broker_that_hangs_is_given_up_at_the_deadline() {
    let broker = Broker::start();
    let run = broker.loadgen("end-to-end --rate 200 --duration 60s --warm-up 0 --timeout 1s");
    a_while();
    broker.signal("STOP");
    let result = run.finish().partial();
    let phase = &result.phases[0];
    assert!(phase.acked > 0 && phase.failed > 0, "{} acked, {} failed", phase.acked, phase.failed);
    assert!(!phase.errors.is_empty());
}

#[test]
fn a_broker_that_is_killed_ends_the_run_with_what_was_measured() {
    let broker = Broker::start();
    let run = broker.loadgen("end-to-end --unlimited --duration 60s --warm-up 0 --timeout 1s");
    a_while();
    drop(broker);
    let result = run.finish().partial();
    assert!(result.phases[0].acked > 0);
    assert!(
        result.verification.is_some_and(|found| found.passed()),
        "what nobody could read is not called lost"
    );
}

/// What was acknowledged in memory is gone with the broker. It is the consumers who notice, and nothing may wait for ever.
#[test]
fn a_broker_that_comes_back_without_its_memory_is_found_out() {
    let mut broker = Broker::start();
    let run = "end-to-end --rate 500 --duration 5s --ack memory --keep-going --timeout 2s";
    let run = broker.loadgen(run);
    a_while();
    broker.restart();
    let ran = run.finish();
    let result = ran.result.expect("a result was written");
    let phase = &result.phases[0];
    assert!(phase.acked > 0, "{:?}", phase.errors);
    // How much had reached the disk is a matter of luck. Either all came through, or it says what did not.
    let whole = result.complete && result.verification.is_some_and(|found| found.passed());
    assert_eq!(whole, [0, 3].contains(&ran.code), "{}{}", ran.stdout, ran.stderr);
    assert!(!whole || phase.received == phase.acked, "{}", ran.stdout);
}

#[test]
fn an_interrupt_ends_the_run_with_what_was_measured() {
    let broker = Broker::start();
    let run = broker.loadgen("end-to-end --rate 500 --duration 60s --warm-up 0");
    a_while();
    run.signal("INT");
    let result = run.finish().partial();
    assert_eq!(result.reason.as_deref(), Some("interrupted"));
    let phase = &result.phases[0];
    assert!(phase.acked > 0 && phase.acked == phase.sent, "what was sent was waited for");
}
