//! Threads beside the cores.

use std::time::Duration;

use ringlog_reactor::sim::Simulation;
use ringlog_reactor::{CoreConfig, Workers, now, run, sleep, spawn};

#[test]
fn a_core_goes_on_while_a_worker_works() {
    static WORKERS: Workers = Workers::new("worker-test", 1);
    let config = CoreConfig { cpu: Some(0), ..CoreConfig::default() };
    let (answer, turns) = run(config, async {
        let working = spawn(WORKERS.run(|| {
            std::thread::sleep(Duration::from_millis(200));
            42
        }));
        let mut turns = 0;
        while !working.is_finished() {
            sleep(Duration::from_millis(1)).await;
            turns += 1;
        }
        (working.await.expect("a worker"), turns)
    })
    .expect("a core");
    assert_eq!(answer, 42);
    assert!(turns > 10, "the core turned {turns} times only");
}

#[test]
fn work_begins_in_its_order_and_more_than_the_queue_holds_waits() {
    static WORKERS: Workers = Workers::new("worker-test", 1);
    run(CoreConfig::default(), async {
        let (sender, receiver) = std::sync::mpsc::channel();
        let tasks: Vec<_> = (0..500)
            .map(|number| {
                let sender = sender.clone();
                spawn(WORKERS.run(move || sender.send(number)))
            })
            .collect();
        for task in tasks {
            task.await.expect("a worker").expect("a receiver");
        }
        assert!(receiver.try_iter().eq(0..500));
    })
    .expect("a core");
}

#[test]
fn work_that_panics_is_an_error_and_the_worker_goes_on() {
    static WORKERS: Workers = Workers::new("worker-test", 1);
    run(CoreConfig::default(), async {
        let failed = WORKERS.run(|| assert!(random() == 0, "on purpose")).await;
        assert!(failed.is_err());
        assert_eq!(WORKERS.run(|| 7).await.expect("a worker"), 7);
    })
    .expect("a core");
}

fn random() -> u64 {
    ringlog_reactor::random_u64() | 1
}

#[test]
fn in_a_simulation_a_result_takes_simulated_time_and_runs_repeat() {
    static WORKERS: Workers = Workers::new("worker-test", 1);
    let took = |seed| {
        Simulation::new(seed).run(async {
            let before = now();
            assert_eq!(WORKERS.run(|| 7).await.expect("no thread is needed"), 7);
            before.elapsed()
        })
    };
    assert_eq!(took(1), took(1));
    assert_ne!(took(1), took(2));
}
