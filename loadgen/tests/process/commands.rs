//! Each command on a tiny input: what it sends is what it measures and verifies.

use ringlog_loadgen::result::{Phase, RunResult};

use super::helpers::{Broker, Loadgen, a_while};

fn verified(result: &RunResult) -> u64 {
    let found = result.verification.as_ref().expect("it verifies");
    assert!(found.passed(), "{found:?}");
    found.checked
}

fn only_phase(result: &RunResult) -> &Phase {
    let [phase] = &result.phases[..] else { panic!("one phase, not {}", result.phases.len()) };
    let sum = |count: fn(&ringlog_loadgen::result::Interval) -> u64| -> u64 {
        phase.intervals.iter().map(count).sum()
    };
    assert_eq!(
        (sum(|i| i.sent), sum(|i| i.acked), sum(|i| i.received)),
        (phase.sent, phase.acked, phase.received)
    );
    phase
}

#[test]
fn end_to_end_measures_both_latencies_of_every_record() {
    let broker = Broker::start();
    let run = "end-to-end --rate 500 --arrivals poisson --partitions 3 --producers 2 --consumers 2 --records 600 --warm-up 200ms --ack memory";
    for driver in [
        "thread",
        "tokio",
        #[cfg(feature = "glommio")]
        "glommio",
    ] {
        let result = broker.loadgen(&format!("{run} --driver {driver}")).finish().good();
        let phase = only_phase(&result);
        assert_eq!((phase.sent, phase.acked, phase.received, phase.failed), (600, 600, 600, 0));
        for latency in [&phase.ack, &phase.end_to_end, &phase.lateness] {
            assert_eq!(latency.as_ref().map(|latency| latency.count), Some(600));
        }
        assert!(verified(&result) > 600, "what the warm-up sent is verified as well");
        assert!(phase.cpu.broker_seconds.is_some(), "the broker's process was found");
    }
}

#[test]
fn keys_sizes_batches_and_compression_come_through() {
    let broker = Broker::start();
    let run = "end-to-end --unlimited --records 5000 --warm-up 0 --partitions 4 --keys zipf:100,1.1 --size uniform:40..2k --payload compressible:0.8 --compression zstd --linger 1ms --batch-bytes 32k --threads 2 --connections 2";
    let result = broker.loadgen(run).finish().good();
    assert_eq!(only_phase(&result).received, 5000);
    assert_eq!(verified(&result), 5000);
}

#[test]
fn produce_keeps_the_depth_of_a_closed_loop() {
    let broker = Broker::start();
    let result = broker.loadgen("produce --depth 4 --records 1000 --warm-up 0 --topics 2").finish().good();
    let phase = only_phase(&result);
    assert_eq!((phase.sent, phase.acked, phase.received), (1000, 1000, 0));
    assert!(phase.offered_per_second.is_none() && phase.lateness.is_none() && result.verification.is_none());
}

#[test]
fn consume_reads_what_it_filled_or_what_a_topic_holds() {
    let broker = Broker::start();
    let result = broker.loadgen("consume --backlog 3000 --size 200 --partitions 2").finish().good();
    assert_eq!((only_phase(&result).received, verified(&result)), (3000, 3000));

    broker.loadgen("produce --topic kept --unlimited --records 500 --warm-up 0").finish().good();
    let result = broker.loadgen("consume --topic kept").finish().good();
    assert_eq!((only_phase(&result).received, verified(&result)), (500, 500));
}

#[test]
fn consume_from_the_end_follows_what_others_produce() {
    let broker = Broker::start();
    let filled = "produce --topic live --unlimited --records 700 --warm-up 0";
    broker.loadgen(filled).finish().good();
    let follower = broker.loadgen("consume --topic live --from end --duration 4s");
    a_while();
    broker.loadgen(filled).finish().good();
    let result = follower.finish().good();
    assert_eq!((only_phase(&result).received, verified(&result)), (700, 700), "only what came meanwhile");
}

/// Without an answer to wait for, the end of the log is behind what was sent when the last record is.
#[test]
fn what_nobody_acknowledges_is_waited_for_before_it_is_called_lost() {
    let broker = Broker::start();
    for _ in 0..3 {
        let run = "end-to-end --ack none --unlimited --records 20000 --warm-up 0 --size 100";
        let result = broker.loadgen(run).finish().good();
        assert_eq!(verified(&result), 20_000);
    }
}

#[test]
fn catch_up_drains_the_backlog_while_producers_go_on() {
    let broker = Broker::start();
    let result =
        broker.loadgen("catch-up --backlog 4000 --rate 300 --duration 2s --ack memory").finish().good();
    let labels: Vec<&str> = result.phases.iter().map(|phase| phase.label.as_str()).collect();
    assert_eq!(labels, ["preload", "catch-up", "after"]);
    assert_eq!(result.phases[0].acked, 4000);
    let produced: u64 = result.phases[1..].iter().map(|phase| phase.acked).sum();
    assert_eq!(verified(&result), 4000 + produced);
}

#[test]
fn sweep_ends_and_names_the_highest_rate_that_was_kept_up_with() {
    let broker = Broker::start();
    let run = "sweep --from-rate 100 --to-rate 400 --step 1s --warm-up 0 --bisections 0 --ack memory";
    let ran = broker.loadgen(run).finish();
    let result = ran.result.expect("a result was written");
    assert!(!result.phases.is_empty() && result.phases.len() <= 3, "{}", ran.stderr);
    assert!(result.phases.windows(2).all(|pair| pair[0].offered_per_second < pair[1].offered_per_second));
    verified(&result);
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_touched() {
    for arguments in [
        "end-to-end --rate 5 --depth 2",
        "produce --threads 9",
        "sweep --factor 1",
        "sweep --from-rate 500 --to-rate 10",
        "consume --payload lines:/no/such/file",
        "consume --from end",
        #[cfg(not(feature = "glommio"))]
        "produce --driver glommio",
    ] {
        let ran = Loadgen::new("127.0.0.1:9", arguments).finish();
        assert_eq!(ran.code, 2, "{arguments}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stdout.is_empty(), "{}", ran.stderr);
    }
}
