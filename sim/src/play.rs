//! A run from its first start to its last check: the broker's lives, and what its clients do meanwhile.

use std::rc::Rc;

use ringlog_client::{Ack, Record};
use ringlog_reactor::sim;
use ringlog_reactor::{spawn, timeout, wall_clock_ms};

use crate::actors::census::{self, Counted};
use crate::actors::{admin, connect, connect_to_broker, consumer, producer, stranger, wire};
use crate::broker::{Broker, Started};
use crate::check;
use crate::faults;
use crate::history::{Event, Outcome, Place, Trust};
use crate::machines::{Play, address};
use crate::plan::{Death, KilledStart, LifePlan, TopicPlan};
use crate::random::Dice;
use crate::record::{self, RecordId, Stamp};
use crate::segments;

impl Play {
    /// Plays all of it.
    pub async fn run(self: Rc<Self>) {
        let mut dice = Dice::new(self.plan.seed ^ 0x9_1A7);
        let disk = self.broker.host().disk();
        let _watching = self
            .plan
            .topics
            .iter()
            .any(TopicPlan::retains)
            .then(|| spawn(segments::watch(Rc::clone(&self.stage), disk, self.plan.clock_jumps)));
        for (number, life) in self.plan.lives.iter().enumerate() {
            if !self.live(number, life, &mut dice).await {
                return;
            }
        }
        self.finale(&mut dice).await;
    }

    /// One life of the broker. False if there is no sense in going on.
    async fn live(self: &Rc<Self>, number: usize, life: &LifePlan, dice: &mut Dice) -> bool {
        for killed in &life.killed_starts {
            sim::note(&format!("a start of {} shards, {killed:?}", life.shards));
            if killed.faults {
                faults::begin_on_disk(self);
            }
            let started = self.broker.start_and_kill(life.shards, killed).await;
            faults::stop(self);
            self.stage.saw(Event::Down { in_order: false });
            match started {
                Started::Refused(_) if killed.faults && self.plan.disk.may_fail() => {
                    sim::reached("start refused by a failing disk");
                }
                Started::Refused(why) => return self.refused("a start", &why),
                Started::Up | Started::Killed => {}
            }
        }
        if !self.bring_up(&self.broker, life.shards).await {
            return false;
        }
        if number == 0 {
            (0..self.clients.len()).for_each(|client| self.boot_client(client));
        } else if life.counted && !self.count(&self.broker, 0).await {
            return false;
        }
        self.stage.begin_life();
        let faults = faults::begin(self, dice.split(number as u64));
        // Whichever comes first: the time, or the acknowledgements.
        let _ = timeout(life.length, self.stage.acknowledged(life.acks.unwrap_or(u64::MAX))).await;
        if !self.plan.clock_jumps {
            self.stage.saw(Event::Remaining(segments::remaining(&self.broker.host().disk())));
        }
        sim::note(&format!("the end of a life: {:?} after {} polls", life.end, life.end_polls));
        let ended = self.broker.end(life.end_polls, life.end).await;
        drop(faults);
        faults::stop(self);
        faults::rot(self, dice);
        match ended {
            // What is in the journal cannot be flushed on a full disk, and the stop says so.
            Err(why)
                if !self.plan.disk.may_fail()
                    && self.plan.disk.capacity_bytes.is_none()
                    && !self.plan.disk.no_descriptors =>
            {
                self.refused("a stop", &why)
            }
            _ => self.check(&self.broker).await,
        }
    }

    /// Looks at what a life has left on the disk. Whatever ended it, nothing on a sound disk is damage.
    async fn check(&self, broker: &Broker) -> bool {
        match broker.check().await {
            Err(why) if self.plan.trust() == Trust::Sound => self.refused("a check", &why),
            _ => true,
        }
    }

    /// Starts the broker, without faults.
    async fn bring_up(&self, broker: &Broker, shards: usize) -> bool {
        sim::note(&format!("a start of {shards} shards"));
        match broker.start(shards).await {
            Started::Up => true,
            Started::Refused(why) => self.refused("a start", &why),
            // Its panic is told elsewhere.
            Started::Killed => self.refused("a start", "the process ended"),
        }
    }

    fn refused(&self, what: &str, why: &str) -> bool {
        let seen = format!("{what} without faults failed: {why}");
        let damaged = self.plan.damage.is_some();
        self.stage.saw(if damaged { Event::Named(seen) } else { Event::Refused(seen) });
        false
    }

    /// Reads everything, without faults.
    async fn count(&self, broker: &Broker, copy: u32) -> bool {
        let Some(client) = self.stage.in_time("connecting", connect(&broker.address())).await else {
            return false;
        };
        match census::take(&self.stage, &client, &broker.host().disk(), copy).await {
            // A run ends where it is broken, so that its last events show how.
            Counted::All => !check::is_broken(&self.stage.history().borrow()),
            Counted::Not(why) => self.refused("reading everything", why),
        }
    }

    /// Starts a client's machine with its share of the actors.
    pub fn boot_client(&self, number: usize) {
        let (stage, plan) = (Rc::clone(&self.stage), Rc::clone(&self.plan));
        let mut dice = Dice::new(plan.seed ^ ringlog_reactor::random_u64());
        let machines = self.clients.len();
        self.clients[number].start(move || async move {
            let client = connect_to_broker().await;
            let mine = |index: usize| index % machines == number;
            let consumers = plan.consumers.iter().enumerate().filter(|(index, _)| mine(*index));
            for (_, one) in consumers {
                let dice = dice.split(1);
                spawn(consumer::run(stage.clone(), one.clone(), dice, client.clone())).detach();
            }
            for (_, one) in plan.producers.iter().enumerate().filter(|(index, _)| mine(*index)) {
                let dice = dice.split(2);
                spawn(producer::run(stage.clone(), one.clone(), dice, client.clone(), number)).detach();
            }
            if plan.wire_clients {
                let visits = wire::run(stage.clone(), plan.sizes.bypass_bytes, dice.split(5), number);
                spawn(visits).detach();
            }
            if plan.strangers {
                spawn(stranger::run(stage.clone(), dice.split(3))).detach();
            }
            if number == 0 {
                spawn(admin::run(stage.clone(), plan.clone(), dice.split(4), client)).detach();
            }
            std::future::pending().await
        });
    }

    /// After the faults: everything is answered, everything acknowledged is there, and recovery is repeatable.
    async fn finale(&self, dice: &mut Dice) {
        sim::note("the finale: no more faults");
        self.stage.finish();
        let shards = dice.within(1..5) as usize;
        if !self.bring_up(&self.broker, shards).await {
            return;
        }
        if self.stage.in_time("the end of all clients' work", self.stage.empty()).await.is_none() {
            return;
        }
        if !self.probe().await {
            return;
        }
        census::settle().await;
        if !self.count(&self.broker, 0).await {
            return;
        }
        let death = *dice.pick(&[Death::Kill, Death::PowerOff, Death::Stop]);
        if let Err(why) = self.broker.end(dice.any_magnitude(1..2_000), death).await {
            self.refused("a stop", &why);
            return;
        }
        if self.check(&self.broker).await {
            self.recover_copies(dice).await;
        }
    }

    /// Everything can be written to again.
    async fn probe(&self) -> bool {
        let Some(client) = self.stage.in_time("connecting", connect(&self.broker.address())).await else {
            return false;
        };
        let Some(topics) = admin::list(&self.stage, &client).await else {
            return self.refused("listing the topics", "there was no answer");
        };
        for topic in topics {
            let building = client.producer(&topic.name).build();
            let Some(Ok(producer)) = self.stage.in_time("building a producer", building).await else {
                return self.refused("building a producer", &topic.name);
            };
            let id = self.stage.next_producer(usize::MAX);
            for (sequence, partition) in (0..).zip(&topic.partitions) {
                let record = RecordId { producer: id, sequence };
                let stamp = Stamp { topic: topic.id, record };
                let time_ms = wall_clock_ms();
                self.stage.saw(Event::Sent { stamp, ack: Ack::Disk, time_ms });
                let sending = async {
                    let value = Record::new(record::encode(stamp, 100))
                        .partition(partition.partition)
                        .timestamp_ms(time_ms);
                    let delivery = producer.send(value).await.map_err(|error| error.to_string())?;
                    delivery.await.map_err(|error| error.to_string())
                };
                match self.stage.in_time("a record after all faults", sending).await {
                    Some(Ok(acked)) => {
                        let place = Place { topic: topic.id, partition: acked.partition };
                        let outcome = Outcome::Acked(place, Some(acked.offset));
                        self.stage.saw(Event::Resolved(record, outcome));
                    }
                    Some(Err(why)) if self.plan.damage.is_some() => {
                        self.stage.saw(Event::Resolved(record, Outcome::Unknown(why)));
                    }
                    Some(Err(why)) => return self.refused("a record after all faults", &why),
                    None => return false,
                }
            }
        }
        true
    }

    /// Recovers copies of the disk: one once, the other twice, the first time with an end at any await.
    async fn recover_copies(&self, dice: &mut Dice) {
        sim::note("recovering copies of the disk");
        for copy in [1, 2] {
            let disk = self.broker.host().disk().copy();
            let host = self.world.host(&format!("copy-{copy}"), address(10 + copy as u8), disk);
            let broker = Broker::new(host, Rc::clone(&self.stage), self.plan.sizes, 7171);
            if copy == 2 {
                let (shards, polls) = (dice.within(1..5) as usize, dice.any_magnitude(50..5_000));
                let death = *dice.pick(&[Death::Kill, Death::PowerOff]);
                let killed = KilledStart { changes: None, polls, death, faults: false };
                if let Started::Refused(why) = broker.start_and_kill(shards, &killed).await {
                    self.refused("recovering a copy", &why);
                    return;
                }
            }
            if !self.bring_up(&broker, dice.within(1..5) as usize).await || !self.count(&broker, copy).await {
                return;
            }
            broker.host().kill();
        }
    }
}
