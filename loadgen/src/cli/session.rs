//! From flags to a result: the plans of each command, run one after another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use ringlog_reactor::{WaitPolicy, random_u64};
use serde_json::Value;

use super::args::{LengthArgs, LoadArgs, RunArgs, Wait};
use crate::engine::{Books, Outcome, Plan, ReadFrom, Watch, run};
use crate::executor::now_ns;
use crate::machine::environment;
use crate::progress::Progress;
use crate::report::time;
use crate::result::{Command, Phase, RunResult, SCHEMA};
use crate::ringlog::Ringlog;
use crate::verify::settle;
use crate::workload::{Load, PayloadSource};

/// For how long an idle thread polls with `--wait spin`.
const SPIN: Duration = Duration::from_micros(50);

/// One invocation.
pub struct Session {
    args: RunArgs,
    target: Ringlog,
    payload: PayloadSource,
    consumers: u32,
    run: u64,
    watch: Watch,
    started: Timestamp,
    settings: BTreeMap<String, Value>,
}

impl Session {
    /// Reads what the flags name.
    pub fn new(args: &RunArgs, consumers: u32, interrupted: Arc<AtomicBool>) -> Result<Session, String> {
        let target = Ringlog {
            servers: args.servers.clone(),
            driver: args.driver,
            spin: if args.wait == Wait::Spin { SPIN } else { Duration::ZERO },
            ack: args.ack,
            batch_bytes: args.batch_bytes,
            linger: args.linger,
            compression: args.compression,
            timeout: args.timeout,
            producers: args.producers(),
        };
        let watch = Watch {
            interrupted,
            progress: Progress::on_terminal(),
            broker_pid: args.broker_pid,
            began_ns: now_ns(),
        };
        let mut session = Session {
            args: args.clone(),
            target,
            payload: PayloadSource::open(&args.payload)?,
            consumers,
            run: random_u64(),
            watch,
            started: Timestamp::now(),
            settings: BTreeMap::new(),
        };
        session.note_settings();
        Ok(session)
    }

    /// Producers only.
    pub async fn produce(&mut self, load: &LoadArgs, length: &LengthArgs) -> Result<RunResult, String> {
        self.consumers = 0;
        self.simple(Command::Produce, load, length).await
    }

    /// Producers, and consumers that follow them.
    pub async fn end_to_end(&mut self, load: &LoadArgs, length: &LengthArgs) -> Result<RunResult, String> {
        self.simple(Command::EndToEnd, load, length).await
    }

    async fn simple(
        &mut self,
        command: Command,
        load: &LoadArgs,
        length: &LengthArgs,
    ) -> Result<RunResult, String> {
        self.note_load(load.load());
        self.note("records", length.records);
        let mut plan = self.plan(load.load(), Duration::from_secs(1));
        plan.duration = length.duration();
        plan.records = length.records;
        self.note("duration_s", plan.duration.map(|duration| duration.as_secs_f64()));
        self.note("warm_up_s", plan.warm_up.as_secs_f64());
        let outcome = self.run(plan, &command.to_string()).await?;
        Ok(self.result(command, outcome))
    }

    /// Consumers only, of what is there or is put there first.
    pub async fn consume(&mut self, backlog: u64, duration: Option<Duration>) -> Result<RunResult, String> {
        let mut books = Books::default();
        if self.args.topic.is_none() {
            self.note("backlog", backlog);
            let filled = self.preload(backlog).await?;
            if filled.reason.is_some() {
                return Ok(self.result(Command::Consume, filled));
            }
            books = filled.books;
        }
        let mut outcome = self.only_consume(ReadFrom::Begin, duration).await?;
        outcome.books.accounts = books.accounts;
        Ok(self.result(Command::Consume, outcome))
    }

    /// Consumers only, of what others produce meanwhile.
    pub async fn follow(&mut self, duration: Duration) -> Result<RunResult, String> {
        let outcome = self.only_consume(ReadFrom::End, Some(duration)).await?;
        Ok(self.result(Command::Consume, outcome))
    }

    async fn only_consume(&mut self, from: ReadFrom, duration: Option<Duration>) -> Result<Outcome, String> {
        let mut plan = self.plan(Load::Unlimited, Duration::ZERO);
        plan.run = self.run.wrapping_add(1);
        plan.producers = 0;
        plan.duration = duration;
        plan.read_from = from;
        self.note("from", if from == ReadFrom::Begin { "begin" } else { "end" });
        self.note("duration_s", duration.map(|duration| duration.as_secs_f64()));
        self.note("warm_up_s", plan.warm_up.as_secs_f64());
        let mut outcome = self.run(plan, "consume").await?;
        if outcome.phases.iter().all(|phase| phase.received == 0) {
            outcome.reason.get_or_insert("there was nothing to read".to_owned());
        }
        Ok(outcome)
    }

    /// Consumers that begin far behind while producers go on.
    pub async fn catch_up(
        &mut self,
        load: &LoadArgs,
        backlog: u64,
        duration: Duration,
        give_up: Duration,
    ) -> Result<RunResult, String> {
        self.note_load(load.load());
        self.note("backlog", backlog);
        self.note("duration_s", duration.as_secs_f64());
        let filled = self.preload(backlog).await?;
        if filled.reason.is_some() {
            return Ok(self.result(Command::CatchUp, filled));
        }
        let mut plan = self.plan(load.load(), Duration::ZERO);
        self.note("warm_up_s", plan.warm_up.as_secs_f64());
        plan.run = self.run.wrapping_add(1);
        plan.read_from = ReadFrom::Begin;
        plan.after_catching_up = Some(duration);
        plan.give_up = give_up;
        let mut outcome = self.run(plan, "catch-up").await?;
        outcome.phases.splice(0..0, filled.phases);
        outcome.books.accounts.extend(filled.books.accounts);
        if let [_, only] = &mut outcome.phases[..] {
            "catch-up".clone_into(&mut only.label);
        }
        Ok(self.result(Command::CatchUp, outcome))
    }

    /// Fills the topics.
    async fn preload(&mut self, records: u64) -> Result<Outcome, String> {
        let mut plan = self.plan(Load::Unlimited, Duration::ZERO);
        plan.warm_up = Duration::ZERO;
        plan.consumers = 0;
        plan.records = Some(records);
        plan.delete_topics = false;
        plan.threads = plan.threads.min(plan.producers);
        let mut outcome = self.run(plan, "preload").await?;
        outcome.phases.iter_mut().for_each(|phase| "preload".clone_into(&mut phase.label));
        Ok(outcome)
    }

    /// What the flags say for all commands alike.
    pub fn plan(&self, load: Load, warm_up: Duration) -> Plan {
        let args = &self.args;
        Plan {
            run: self.run,
            topics: args.topics(self.run),
            partitions: args.partitions,
            producers: args.producers(),
            consumers: self.consumers,
            connections: args.connections,
            threads: args.threads,
            load,
            sizes: args.size.clone(),
            payload: self.payload.clone(),
            keys: args.keys,
            seed: args.seed,
            warm_up: args.warm_up.unwrap_or(warm_up),
            duration: None,
            records: None,
            read_from: ReadFrom::End,
            after_catching_up: None,
            give_up: Duration::MAX,
            timeout: args.timeout,
            drain: args.timeout,
            keep_going: args.keep_going,
            max_outstanding: args.max_outstanding,
            wait: match args.wait {
                Wait::Block => WaitPolicy::Block,
                Wait::Spin => WaitPolicy::Spin(SPIN),
            },
            spin: args.spin(),
            delete_topics: args.topic.is_none(),
        }
    }

    /// Runs one plan.
    pub async fn run(&mut self, plan: Plan, label: &str) -> Result<Outcome, String> {
        self.watch.progress.label(label);
        run(&self.target, plan, &mut self.watch).await
    }

    /// A run that all went into.
    fn result(&self, command: Command, outcome: Outcome) -> RunResult {
        let void = outcome.phases.iter().filter(|phase| phase.label != "preload").find_map(void);
        let mut result = self.result_of(command, outcome);
        result.void = void;
        result
    }

    /// A result without a verdict on lateness.
    pub fn result_of(&self, command: Command, outcome: Outcome) -> RunResult {
        let Outcome {
            description,
            broker_pid,
            phases,
            books,
            to_the_end,
            reason,
            overloaded,
            caught_up_seconds,
        } = outcome;
        let checked = self.consumers > 0 && !books.ledgers.is_empty();
        let verification = checked.then(|| settle(books.ledgers, &books.accounts, to_the_end));
        let reason = reason.or(overloaded);
        RunResult {
            schema: SCHEMA,
            command,
            started: self.started.to_string(),
            environment: environment(
                &description,
                broker_pid,
                &format!("{:?}", self.args.driver).to_lowercase(),
            ),
            settings: self.settings.clone(),
            complete: reason.is_none(),
            reason,
            void: None,
            verification,
            phases,
            saturation: None,
            caught_up_seconds,
        }
    }

    /// Notes a setting as it is used.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    fn note_load(&mut self, load: Load) {
        match load {
            Load::Rate { per_second, arrivals } => {
                self.note("rate", per_second);
                self.note("arrivals", arrivals.to_string());
            }
            Load::Depth(depth) => self.note("depth", depth),
            Load::Unlimited => self.note("unlimited", true),
        }
    }

    fn note_settings(&mut self) {
        let args = self.args.clone();
        self.note("servers", args.servers.join(","));
        self.note("ack", args.ack.name());
        self.note("batch_bytes", args.batch_bytes);
        self.note("linger_us", args.linger.as_micros() as u64);
        self.note("compression", format!("{:?}", args.compression).to_lowercase());
        self.note("driver", format!("{:?}", args.driver).to_lowercase());
        self.note("wait", format!("{:?}", args.wait).to_lowercase());
        self.note("connections", args.connections);
        self.note("topics", args.topics);
        self.note("partitions", args.partitions);
        self.note("producers", args.producers());
        self.note("consumers", self.consumers);
        self.note("size", args.size.to_string());
        self.note("payload", args.payload.to_string());
        self.note("keys", args.keys.to_string());
        self.note("seed", args.seed);
        self.note("threads", args.threads);
        self.note("timeout_s", args.timeout.as_secs_f64());
        self.note("max_outstanding", args.max_outstanding);
        self.note("spin_us", args.spin().as_micros() as u64);
        if let Some(topic) = args.topic {
            self.note("topic", topic);
        }
    }

    /// Whether the user wants an end.
    pub fn is_interrupted(&self) -> bool {
        self.watch.interrupted.load(Ordering::Relaxed)
    }

    /// Another run with its own stamps and topics begins.
    pub fn next_run(&mut self) {
        self.run = self.run.wrapping_add(1);
    }
}

/// Why a phase's latencies must not be believed: the generator was itself too late.
pub fn void(phase: &Phase) -> Option<String> {
    let p99 = |latency: &Option<crate::result::Latency>| latency.as_ref()?.percentile_us("99");
    let late = p99(&phase.lateness)?;
    let measured = p99(&phase.ack).or_else(|| p99(&phase.end_to_end))?;
    (late > measured / 10.0).then(|| {
        format!(
            "the generator began records {} late (p99), over a tenth of the latency that it measured, \
             {} (p99): something else had its CPU; \
             try an idle machine, less load, more --threads, or a longer --spin",
            time(late),
            time(measured)
        )
    })
}
