//! Tasks, timers and wake-ups on the real ring.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ringlog_reactor::{
    CoreConfig, Elapsed, Notify, WaitPolicy, launch, mailbox, now, run, sleep, spawn, timeout, yield_now,
};

fn on_core<F: Future>(main: F) -> F::Output {
    run(CoreConfig::default(), main).expect("this machine has io_uring")
}

fn on_core_that(wait: WaitPolicy) -> CoreConfig {
    CoreConfig { wait, ..CoreConfig::default() }
}

/// Sets a flag when it is dropped.
struct OnDrop(Rc<Cell<bool>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn a_task_gives_its_output_to_who_awaits_it() {
    assert_eq!(on_core(async { spawn(async { 6 * 7 }).await }), 42);
}

#[test]
fn the_main_future_may_borrow() {
    let words = [String::from("a"), String::from("b")];
    assert_eq!(on_core(async { words.join("+") }), "a+b");
}

#[test]
fn yielding_lets_the_others_go_first() {
    let order = on_core(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|id| {
                let order = Rc::clone(&order);
                spawn(async move {
                    order.borrow_mut().push(id);
                    yield_now().await;
                    order.borrow_mut().push(id + 10);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        order.take()
    });
    assert_eq!(order, [0, 1, 2, 10, 11, 12]);
}

#[test]
fn a_dropped_task_is_cancelled() {
    let dropped = Rc::new(Cell::new(false));
    on_core(async {
        let guard = OnDrop(Rc::clone(&dropped));
        let task = spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!dropped.get());
        drop(task);
        yield_now().await;
        assert!(dropped.get());
    });
}

#[test]
fn tasks_left_at_the_end_are_dropped() {
    let dropped = Rc::new(Cell::new(false));
    on_core(async {
        let guard = OnDrop(Rc::clone(&dropped));
        spawn(async move {
            let _guard = guard;
            sleep(Duration::from_secs(3600)).await;
        })
        .detach();
        yield_now().await;
    });
    assert!(dropped.get());
}

#[test]
fn a_panic_in_a_task_ends_the_core_in_order() {
    let dropped = Rc::new(Cell::new(false));
    let guard = OnDrop(Rc::clone(&dropped));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        on_core(async move {
            let waits = spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
            yield_now().await;
            spawn(async { panic!("on purpose") }).detach();
            waits.await;
        });
    }));
    assert!(result.is_err());
    assert!(dropped.get());
    assert_eq!(on_core(async { 1 }), 1, "the thread can be a core again");
}

#[test]
fn a_core_cannot_be_started_inside_a_core() {
    on_core(async {
        assert!(run(CoreConfig::default(), async {}).is_err());
    });
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    let order = on_core(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30, 10, 20]
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    let start = now();
                    sleep(Duration::from_millis(ms)).await;
                    assert!(start.elapsed() >= Duration::from_millis(ms), "never early");
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for task in tasks {
            task.await;
        }
        order.take()
    });
    assert_eq!(order, [10, 20, 30]);
}

#[test]
fn a_timeout_drops_the_future_and_says_so() {
    let dropped = Rc::new(Cell::new(false));
    on_core(async {
        let guard = OnDrop(Rc::clone(&dropped));
        let late = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        assert_eq!(timeout(Duration::from_millis(1), late).await, Err(Elapsed));
        assert!(dropped.get());
        assert_eq!(timeout(Duration::from_secs(3600), async { 5 }).await, Ok(5));
    });
}

#[test]
fn a_notification_between_the_check_and_the_wait_is_not_lost() {
    on_core(async {
        let notify = Notify::new();
        let notified = notify.notified();
        notify.notify_all();
        notified.await;
        let later = notify.notified();
        assert_eq!(timeout(Duration::from_millis(1), later).await, Err(Elapsed));
    });
}

#[test]
fn a_notification_wakes_all_who_wait() {
    on_core(async {
        let notify = Notify::new();
        let tasks: Vec<_> = (0..5).map(|_| spawn(notify.notified())).collect();
        yield_now().await;
        notify.notify_all();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn plain_threads_wake_a_sleeping_core() {
    for wait in [WaitPolicy::Block, WaitPolicy::Spin(Duration::from_micros(50)), WaitPolicy::Busy] {
        let (sender, receiver) = mailbox::channel::<u64>(4);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for value in 0..2000 {
                        sender.send_blocking(value).expect("the receiver is there");
                    }
                })
            })
            .collect();
        drop(sender);
        let sum = run(on_core_that(wait), async {
            let mut sum = 0;
            while let Some(value) = receiver.recv().await {
                sum += value;
            }
            sum
        });
        assert_eq!(sum.expect("the core runs"), 3 * 1999 * 1000);
        for thread in threads {
            thread.join().expect("the sender does not panic");
        }
    }
}

#[test]
fn tasks_are_woken_one_by_one_from_another_thread() {
    let (to, from) = mailbox::channel::<u32>(1);
    let (back, returned) = mailbox::channel::<u32>(1);
    let echo = thread::spawn(move || {
        run(CoreConfig::default(), async {
            while let Some(value) = from.recv().await {
                if back.send(value).await.is_err() {
                    break;
                }
            }
        })
    });
    on_core(async {
        // In a task, not in the main future: their wakers differ.
        spawn(async move {
            for value in 0..2000 {
                to.send(value).await.expect("the echo is there");
                assert_eq!(returned.recv().await, Some(value));
            }
        })
        .await;
    });
    echo.join().expect("no panic").expect("the core runs");
}

#[test]
fn a_full_mailbox_says_so_and_a_closed_one_too() {
    let (sender, receiver) = mailbox::channel(1);
    sender.try_send(1).expect("there is room");
    assert_eq!(sender.try_send(2), Err(mailbox::TrySendError::Full(2)));
    assert_eq!(receiver.try_recv(), Some(1));
    drop(receiver);
    assert_eq!(sender.try_send(3), Err(mailbox::TrySendError::Closed(3)));
    on_core(async { assert_eq!(sender.send(4).await, Err(mailbox::Closed(4))) });
}

#[test]
fn a_dropped_receiver_drops_what_waits_in_its_mailbox() {
    on_core(async {
        let (sender, receiver) = mailbox::channel(2);
        let (answer, answers) = mailbox::channel::<u32>(1);
        sender.try_send(answer).expect("there is room");
        let asker = spawn(async move { answers.recv().await });
        yield_now().await;
        drop(receiver);
        let told = timeout(Duration::from_secs(10), asker).await;
        assert_eq!(told.expect("the asker is told"), None);
        assert!(sender.is_closed());
    });
}

#[test]
fn a_dropped_receiver_drops_what_waits_for_room() {
    on_core(async {
        let (sender, receiver) = mailbox::channel(1);
        let value = Arc::new(());
        sender.try_send(Arc::clone(&value)).expect("there is room");
        let waiting = spawn({
            let (sender, value) = (sender.clone(), Arc::clone(&value));
            async move { sender.send(value).await.map_err(drop) }
        });
        yield_now().await;
        drop(receiver);
        let _ = timeout(Duration::from_secs(10), waiting).await.expect("the sender is told");
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(sender.is_closed());
    });
}

#[test]
fn a_value_put_in_while_the_receiver_goes_is_dropped() {
    for _ in 0..500 {
        let (sender, receiver) = mailbox::channel(64);
        let value = Arc::new(());
        let putting = thread::spawn({
            let (sender, value) = (sender.clone(), Arc::clone(&value));
            move || while sender.try_send(Arc::clone(&value)).is_ok() {}
        });
        while receiver.is_empty() {
            thread::yield_now();
        }
        drop(receiver);
        putting.join().expect("no panic");
        assert_eq!(Arc::strong_count(&value), 1, "no value stays in the queue");
        drop(sender);
    }
}

#[test]
fn two_cores_run_side_by_side() {
    let sum = Arc::new(AtomicU64::new(0));
    on_core(async {
        let cores: Vec<_> = (1..=2)
            .map(|id| {
                let sum = Arc::clone(&sum);
                let config = CoreConfig { name: format!("core-{id}"), ..CoreConfig::default() };
                launch(config, move || async move {
                    sleep(Duration::from_millis(1)).await;
                    sum.fetch_add(id, Ordering::SeqCst);
                })
                .expect("a second core")
            })
            .collect();
        for core in cores {
            core.join().await.expect("no panic");
        }
    });
    assert_eq!(sum.load(Ordering::SeqCst), 3);
}

#[test]
fn a_core_that_panics_says_so_when_joined() {
    let core = launch(CoreConfig::default(), || async { panic!("on purpose") }).expect("a core");
    let words = core.join_blocking().expect_err("it panicked").to_string();
    assert!(words.contains("on purpose"), "{words}");
}

#[test]
fn a_core_on_a_cpu_that_is_not_there_is_an_error() {
    let config = CoreConfig { cpu: Some(1023), ..CoreConfig::default() };
    assert!(launch(config, || async {}).is_err());
}

#[test]
fn a_pinned_core_runs_where_it_should() {
    let core = launch(CoreConfig { cpu: Some(0), ..CoreConfig::default() }, || async {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("a readable status");
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).expect("the list");
        assert_eq!(line.split_whitespace().nth(1), Some("0"));
    });
    core.expect("CPU 0 is there").join_blocking().expect("no panic");
}

#[test]
fn what_crosses_threads_can() {
    fn crosses<T: Send>() {}
    crosses::<mailbox::Sender<Vec<u8>>>();
    crosses::<mailbox::Receiver<Vec<u8>>>();
    crosses::<ringlog_reactor::net::SocketParts>();
    crosses::<ringlog_reactor::CoreThread>();
}

/// Fails to compile if the type is `Send`: then both implementations fit, and the call is ambiguous.
macro_rules! assert_stays {
    ($($stays:ty),+ $(,)?) => {
        $({
            trait Fits<Which> {
                fn fits() {}
            }
            impl<T: ?Sized> Fits<()> for T {}
            struct IfSend;
            impl<T: ?Sized + Send> Fits<IfSend> for T {}
            <$stays as Fits<_>>::fits();
        })+
    };
}

#[test]
fn what_belongs_to_a_core_stays_there() {
    assert_stays!(
        ringlog_reactor::fs::File,
        ringlog_reactor::net::Listener,
        ringlog_reactor::net::RecvBuf,
        ringlog_reactor::net::TcpStream,
        ringlog_reactor::Notified,
        ringlog_reactor::Notify,
        ringlog_reactor::Sleep,
        ringlog_reactor::Task<u8>,
    );
}
