//! What all processes of a run share beside the simulated world: the history, the topics there are, and where the play is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::{Notify, now, sim, timeout};

use crate::history::{Event, History, Outcome, Place, TopicMade, Trust};

/// Where clients find the broker, as they write it.
pub const BROKER_ADDRESS: &str = "10.0.0.1:7171";

/// Without faults, anything a client asks for is answered in this time.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// A topic that producers and consumers may use.
#[derive(Debug)]
pub struct LiveTopic {
    /// As it was made.
    pub made: TopicMade,
    /// Its number in the plan.
    pub number: usize,
    /// How many partitions it has.
    pub partitions: u32,
    /// Nothing is to be begun with it any more.
    pub leaving: Cell<bool>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Stage {
    history: RefCell<History>,
    /// Partitions that the broker, as it was started last, has set aside.
    quarantined: RefCell<Vec<Place>>,
    topics: RefCell<Vec<Rc<LiveTopic>>>,
    /// How often topics of the plan had to change their names.
    names: RefCell<BTreeMap<usize, u32>>,
    /// The broker's lives that have begun; who has spent what it may do in a life waits for the next.
    life: Cell<u32>,
    broker_up: Cell<bool>,
    finishing: Cell<bool>,
    changed: Notify,
    actors: Cell<usize>,
    /// The machine of each producer, by its number.
    producers: RefCell<Vec<usize>>,
    readers: Cell<u32>,
    /// Records that were acknowledged.
    acks: Cell<u64>,
    acked: Notify,
}

impl Stage {
    /// Before the first life, over a disk of that kind; `calm` as in [`History::over`].
    pub fn new(trust: Trust, calm: bool) -> Rc<Stage> {
        Rc::new(Stage {
            history: RefCell::new(History::over(trust, calm)),
            quarantined: RefCell::default(),
            topics: RefCell::default(),
            names: RefCell::default(),
            life: Cell::new(0),
            broker_up: Cell::new(false),
            finishing: Cell::new(false),
            changed: Notify::new(),
            actors: Cell::new(0),
            producers: RefCell::default(),
            readers: Cell::new(0),
            acks: Cell::new(0),
            acked: Notify::new(),
        })
    }

    /// Writes down what was seen now.
    pub fn saw(&self, event: Event) {
        if matches!(event, Event::Resolved(_, Outcome::Acked(..))) {
            self.acks.set(self.acks.get() + 1);
            self.acked.notify_all();
        }
        match event {
            Event::Up { .. } => self.broker_up.set(true),
            Event::Down { .. } => self.broker_up.set(false),
            _ => {}
        }
        self.history.borrow_mut().push(now().as_nanos(), event);
    }

    /// Whether the broker accepts clients, and has not ended since.
    pub fn is_broker_up(&self) -> bool {
        self.broker_up.get()
    }

    /// Waits until so many records more are acknowledged.
    pub async fn acknowledged(&self, more: u64) {
        let until = self.acks.get().saturating_add(more);
        loop {
            let acked = self.acked.notified();
            if self.acks.get() >= until {
                return;
            }
            acked.await;
        }
    }

    /// The broker accepts clients.
    pub fn is_up(&self, damage: Vec<String>, quarantined: Vec<Place>, removed: Vec<String>) {
        if !damage.is_empty() {
            sim::reached("damage named by a start");
        }
        *self.quarantined.borrow_mut() = quarantined.clone();
        self.saw(Event::Up { damage, quarantined, removed });
    }

    /// Whether the broker has set the partition aside.
    pub fn is_quarantined(&self, place: Place) -> bool {
        self.quarantined.borrow().contains(&place)
    }

    /// What was seen so far.
    pub fn history(&self) -> &RefCell<History> {
        &self.history
    }

    /// Waits for something that has to be answered; none, and a line of history, if it is not.
    pub async fn in_time<F: Future>(&self, what: &str, future: F) -> Option<F::Output> {
        match timeout(ANSWERED_WITHIN, future).await {
            Ok(output) => Some(output),
            Err(_) => {
                sim::note(&format!("not answered within {ANSWERED_WITHIN:?}: {what}"));
                self.saw(Event::Late(format!("{what} was not answered within {ANSWERED_WITHIN:?}")));
                None
            }
        }
    }

    /// The name that topic `number` of the plan has now.
    pub fn topic_name(&self, number: usize) -> String {
        match self.names.borrow().get(&number) {
            Some(times) => format!("topic-{number}-{times}"),
            None => format!("topic-{number}"),
        }
    }

    /// A deletion by that name may still be on its way: the next topic gets another one.
    pub fn give_up_name(&self, number: usize) {
        *self.names.borrow_mut().entry(number).or_default() += 1;
    }

    /// The topics whose deletion was begun and not answered.
    pub fn leaving_topics(&self) -> Vec<Rc<LiveTopic>> {
        self.topics.borrow().iter().filter(|topic| topic.leaving.get()).cloned().collect()
    }

    /// The topics that may be used.
    pub fn topics(&self) -> Vec<Rc<LiveTopic>> {
        self.topics.borrow().iter().filter(|topic| !topic.leaving.get()).cloned().collect()
    }

    /// A topic is there.
    pub fn add_topic(&self, made: TopicMade, number: usize, partitions: u32) {
        if self.topics.borrow().iter().any(|topic| topic.made.id == made.id) {
            return;
        }
        sim::note(&format!("topic `{}` has id {}", made.name, made.id));
        self.saw(Event::Made(made.clone()));
        let topic = LiveTopic { made, number, partitions, leaving: Cell::new(false) };
        self.topics.borrow_mut().push(Rc::new(topic));
        self.changed.notify_all();
    }

    /// A topic is gone.
    pub fn remove_topic(&self, id: u64) {
        self.topics.borrow_mut().retain(|topic| topic.made.id != id);
    }

    /// A number for a producer, which lives on that machine.
    pub fn next_producer(&self, machine: usize) -> u32 {
        let mut producers = self.producers.borrow_mut();
        producers.push(machine);
        producers.len() as u32 - 1
    }

    /// A client's machine was killed.
    pub fn lost_client(&self, machine: usize) {
        let producers = self.producers.borrow();
        let gone = (0..).zip(producers.iter()).filter(|(_, home)| **home == machine).map(|(id, _)| id);
        self.saw(Event::ClientKilled { producers: gone.collect() });
    }

    /// A number for a consumer.
    pub fn next_reader(&self) -> u32 {
        self.readers.replace(self.readers.get() + 1)
    }

    /// A life of the broker begins.
    pub fn begin_life(&self) {
        self.life.set(self.life.get() + 1);
        self.changed.notify_all();
    }

    /// Lives that have begun.
    pub fn life(&self) -> u32 {
        self.life.get()
    }

    /// All who play come to their end.
    pub fn finish(&self) {
        self.finishing.set(true);
        self.changed.notify_all();
    }

    /// Whether nothing is to be begun any more.
    pub fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    /// Waits for another life than `life`; false if there will be none.
    pub async fn next_life(&self, life: u32) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.finishing.get() {
                return false;
            }
            if self.life.get() != life {
                return true;
            }
            changed.await;
        }
    }

    /// One more plays, until what is returned is dropped.
    pub fn enter(self: &Rc<Self>) -> Part {
        self.actors.set(self.actors.get() + 1);
        Part { stage: Rc::clone(self) }
    }

    /// Waits until nobody plays any more.
    pub async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            if self.actors.get() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Pauses, but not into the finish.
    pub async fn pause(&self, pause: Duration) {
        if !pause.is_zero() && !self.finishing.get() {
            ringlog_reactor::sleep(pause).await;
        }
    }
}

/// Held by one who plays.
#[derive(Debug)]
pub struct Part {
    stage: Rc<Stage>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stage.actors.set(self.stage.actors.get() - 1);
        self.stage.changed.notify_all();
    }
}
