//! Which task of which process runs next, and what happens between two of them.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use async_task::Runnable;

use super::host::HostState;
use super::process::{End, Process};
use super::world::{Event, World};
use crate::core;

/// One poll takes at most this long on the virtual clock, in nanoseconds.
const MAX_POLL_NANOS: u64 = 2_000;

/// Runs `main` on `host`, and the processes of all others beside it. `after_poll` is called after each poll of a task.
pub(super) fn run<F: Future>(
    world: &Rc<World>,
    host: &Rc<HostState>,
    polls: u64,
    main: F,
    mut after_poll: impl FnMut(),
) -> Option<F::Output> {
    let process = host.boot(world, None::<std::future::Ready<()>>);
    // These are dropped from the last to the first: the core outlives the main future, and the process the core.
    let _running = Running(host);
    let _entered = core::enter(Rc::clone(process.core()));
    let mut main = pin!(main);
    let mut context = process.context();
    for polled in 0.. {
        let choices = wait_for_choices(world);
        if polled == polls {
            break;
        }
        let (host, picked, task) = pick(world, world.choose(choices));
        if !Rc::ptr_eq(&picked, &process) {
            if let Some(end) = picked.poll(task) {
                host.end(world, end);
            }
        } else if let Some(task) = task {
            task.run();
        } else if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
            return Some(output);
        }
        after_poll();
        world.pass(MAX_POLL_NANOS);
        settle(world);
    }
    None
}

/// The main process is on its host as long as this is there.
struct Running<'a>(&'a HostState);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.forget_process();
    }
}

/// Lets time pass until there is a task that can run: how many there are.
fn wait_for_choices(world: &World) -> usize {
    loop {
        let choices = ready(world);
        if choices > 0 {
            return choices;
        }
        sleep_until_something(world);
        settle(world);
    }
}

/// How many tasks can run.
fn ready(world: &World) -> usize {
    let now = world.nanos();
    let mut choices = 0;
    world.for_each_host(|host| {
        if host.paused(now).is_none() {
            choices += host.with_process(Process::ready).unwrap_or(0);
        }
    });
    choices
}

/// Takes a task out; none is its process's main future.
fn pick(world: &World, mut choice: usize) -> (Rc<HostState>, Rc<Process>, Option<Runnable>) {
    let now = world.nanos();
    let mut picked = None;
    world.for_each_host(|host| {
        if picked.is_some() || host.paused(now).is_some() {
            return;
        }
        let ready = host.with_process(Process::ready).unwrap_or(0);
        if choice < ready {
            picked = host.process().map(|process| (Rc::clone(host), process));
        } else {
            choice -= ready;
        }
    });
    let (host, process) = picked.expect("the choice is among those that were counted");
    let task = process.pick(choice);
    (host, process, task)
}

/// Nobody can run: jumps to the next event or timer, or to the end of a pause.
fn sleep_until_something(world: &World) {
    let now = world.nanos();
    let mut next = world.next_event();
    world.for_each_host(|host| {
        let time =
            host.with_process(|process| host.paused(now).or_else(|| process.next_deadline())).flatten();
        next = next.into_iter().chain(time).min();
    });
    match next {
        Some(next) => world.jump_to(next),
        None => panic!(
            "the simulation is stuck: no task can run, and no timer or operation is pending{}",
            last_events(world)
        ),
    }
}

fn last_events(world: &World) -> String {
    world.trace().lines().iter().map(|line| format!("\n{line}")).collect()
}

/// Lets happen what is due.
fn settle(world: &World) {
    let now = world.nanos();
    for index in 0.. {
        let Some(host) = world.host(index) else { break };
        if let Some(process) = host.process() {
            process.settle(now, host.paused(now).is_some());
        }
    }
    while let Some(event) = world.pop_due() {
        match event {
            Event::Operation(op) => {
                let host = world.host(op.process.host as usize);
                if let Some(process) = host.and_then(|host| host.process_of(op.process)) {
                    process.complete(op.key);
                }
            }
            Event::Watch(fd) => world.net(|net| net.watch(fd)),
            Event::Refuse(fd) => world.net(|net| net.refuse(fd)),
        }
    }
}

/// Kills every process.
pub(super) fn end_all(world: &World) {
    for index in 0.. {
        let Some(host) = world.host(index) else { break };
        host.end(world, End::Killed);
    }
}
