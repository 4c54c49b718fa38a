//! A client without the bundled library. It looks at every frame: pushes against a ledger of credit, and the answers to
//! batches, large and small, in the order in which they were sent.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use ringlog_client::Ack;
use ringlog_protocol::batch::{BatchBuilder, split_batches};
use ringlog_protocol::messages::{Credit, ErrorReply, Hello, Open, Opened, Position, Produced, Subscribe};
use ringlog_protocol::{
    Body, ErrorCode, Frame, Kind, encode_with_payload, frame_len, split_frame, try_encode,
};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{sim, timeout, wall_clock_ms};

use crate::history::{Event, Outcome, Place};
use crate::random::Dice;
use crate::record::{self, RecordId, Stamp};
use crate::stage::{BROKER_ADDRESS, LiveTopic, Stage};

/// How long it stays at most.
const STAY: Duration = Duration::from_secs(20);

/// Batches that it sends in one go, and how often.
const BURST: std::ops::Range<u64> = 1..20;
const BURSTS: u64 = 10;

const HELLO: u32 = 1;
const OPEN: u32 = 2;
const SUBSCRIPTION: u32 = 3;
/// Produce requests have the numbers from here on.
const FIRST_BATCH: u32 = 4;

/// Comes again in every life until the stage finishes. Batches of `bypass_bytes` are large ones.
pub async fn run(stage: Rc<Stage>, bypass_bytes: usize, mut dice: Dice, machine: usize) {
    let _part = stage.enter();
    loop {
        let life = stage.life();
        for _ in 0..2 {
            let topics = stage.topics();
            if topics.is_empty() || stage.is_finishing() {
                break;
            }
            let topic = dice.pick(&topics).clone();
            let place =
                Place { topic: topic.made.id, partition: dice.within(0..topic.partitions.into()) as u32 };
            let producer = stage.next_producer(machine);
            let mut visit = Visit::new(&stage, place, producer, bypass_bytes);
            let _ = timeout(STAY, visit.pay(&topic, &mut dice)).await;
            visit.give_up();
        }
        if !stage.next_life(life).await {
            return;
        }
    }
}

/// Why a visit ends early: the connection is gone, or the topic.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Over {
        Over
    }
}

struct Visit<'a> {
    stage: &'a Stage,
    place: Place,
    producer: u32,
    bypass_bytes: usize,
    input: BytesMut,
    handle: u32,
    /// Batches that were sent and not answered: their requests and records, oldest first.
    sent: VecDeque<(u32, RecordId)>,
    next_sequence: u32,
    /// Where the batch ends that was acknowledged last.
    acked_end: i64,
    /// Bytes that may still be pushed, as far as is known here; none without a subscription.
    credit: Option<i64>,
    /// The offset that a push must go on with, after the first.
    next_offset: Option<i64>,
}

impl<'a> Visit<'a> {
    fn new(stage: &'a Stage, place: Place, producer: u32, bypass_bytes: usize) -> Visit<'a> {
        Visit {
            stage,
            place,
            producer,
            bypass_bytes,
            input: BytesMut::new(),
            handle: 0,
            sent: VecDeque::new(),
            next_sequence: 0,
            acked_end: 0,
            credit: None,
            next_offset: None,
        }
    }

    async fn pay(&mut self, topic: &LiveTopic, dice: &mut Dice) -> Result<(), Over> {
        let stream = TcpStream::connect(BROKER_ADDRESS.parse().expect("an address")).await?;
        let shard = dice.once_in(2).then(|| dice.within(0..4) as u32);
        send(&stream, Kind::Hello, HELLO, 0, &Hello::new("by the wire", shard)).await?;
        self.until(&stream, |visit, frame| visit.is(frame, Kind::Welcome)).await?;
        let open = Open { topic: topic.made.name.clone(), partition: self.place.partition };
        send(&stream, Kind::Open, OPEN, 0, &open).await?;
        self.until(&stream, |visit, frame| visit.opened(frame)).await?;
        if dice.once_in(2) {
            let credit = dice.any_magnitude(1..50_000) as u32;
            self.credit = Some(credit.into());
            let subscribe = Subscribe { from: Position::Begin, credit_bytes: credit };
            send(&stream, Kind::Subscribe, SUBSCRIPTION, self.handle, &subscribe).await?;
        }
        for _ in 0..BURSTS {
            if self.stage.is_finishing() || topic.leaving.get() {
                return Ok(());
            }
            for _ in 0..dice.within(BURST) {
                self.send_batch(&stream, dice).await?;
                if dice.once_in(2) {
                    // So that some batches come when those before them are just becoming durable.
                    self.receive_for(&stream, Duration::from_micros(dice.any_magnitude(1..1_000))).await?;
                }
            }
            self.grant(&stream, dice).await?;
            self.receive_for(&stream, Duration::from_micros(dice.any_magnitude(1..20_000))).await?;
        }
        while !self.sent.is_empty() || self.credit.is_some_and(|credit| credit <= 0) {
            self.grant(&stream, dice).await?;
            self.receive(&stream).await?;
        }
        sim::reached("visit by the wire");
        Ok(())
    }

    /// What has no answer may be in the log or not.
    fn give_up(self) {
        for (_, record) in self.sent {
            let why = Outcome::Unknown("the connection ended".to_owned());
            self.stage.saw(Event::Resolved(record, why));
        }
    }

    async fn send_batch(&mut self, stream: &TcpStream, dice: &mut Dice) -> Result<(), Over> {
        let record = RecordId { producer: self.producer, sequence: self.next_sequence };
        let stamp = Stamp { topic: self.place.topic, record };
        let large = dice.once_in(3);
        let bytes =
            if large { self.bypass_bytes as u64 + dice.within(0..2_000) } else { dice.within(20..2_000) };
        let time_ms = wall_clock_ms();
        let mut builder = BatchBuilder::new(2 << 20);
        builder.push(time_ms, None, Some(&record::encode(stamp, bytes as usize)), []).expect("it fits");
        let batch = builder.finish_plain();
        let request = FIRST_BATCH + self.next_sequence;
        let head =
            encode_with_payload(Kind::Produce, request, self.handle, Ack::Disk.flags(), &(), batch.len());
        self.next_sequence += 1;
        self.stage.saw(Event::Sent { stamp, ack: Ack::Disk, time_ms });
        self.sent.push_back((request, record));
        Ok(stream.send(vec![head.freeze(), batch]).await?)
    }

    async fn grant(&mut self, stream: &TcpStream, dice: &mut Dice) -> Result<(), Over> {
        let Some(credit) = self.credit.as_mut().filter(|credit| **credit < 50_000) else { return Ok(()) };
        let bytes = dice.any_magnitude(1..20_000) as u32;
        *credit += i64::from(bytes);
        send(stream, Kind::Credit, SUBSCRIPTION, self.handle, &Credit { bytes }).await
    }

    /// Receives until a frame pleases.
    async fn until(
        &mut self,
        stream: &TcpStream,
        mut pleases: impl FnMut(&mut Self, &Frame<'_>) -> Result<bool, Over>,
    ) -> Result<(), Over> {
        loop {
            let length = frame_len(&self.input).map_err(|_| self.broken("a bad frame"))?;
            if let Some(length) = length.filter(|length| *length <= self.input.len()) {
                let whole = self.input.split_to(length).freeze();
                let split = split_frame(&whole).map_err(|_| self.broken("a bad frame"))?;
                let (frame, _) = split.ok_or_else(|| self.broken("a frame shorter than its length"))?;
                if pleases(self, &frame)? {
                    return Ok(());
                }
                continue;
            }
            let bytes = stream.recv().await?.ok_or(Over)?;
            self.input.extend_from_slice(&bytes);
        }
    }

    /// Receives one frame, if it comes soon.
    async fn receive_for(&mut self, stream: &TcpStream, patience: Duration) -> Result<(), Over> {
        timeout(patience, self.receive(stream)).await.unwrap_or(Ok(()))
    }

    /// Receives one frame.
    async fn receive(&mut self, stream: &TcpStream) -> Result<(), Over> {
        self.until(stream, |visit, frame| visit.take(frame).map(|()| true)).await
    }

    fn is(&self, frame: &Frame<'_>, kind: Kind) -> Result<bool, Over> {
        if frame.header.kind == Kind::Error { Err(Over) } else { Ok(frame.header.kind == kind) }
    }

    fn opened(&mut self, frame: &Frame<'_>) -> Result<bool, Over> {
        self.is(frame, Kind::Opened)?;
        let opened: Opened = frame.message().map_err(|_| self.broken("an answer to Open that is none"))?;
        // Another topic may have the name by now.
        if opened.topic_id != self.place.topic {
            return Err(Over);
        }
        self.handle = frame.header.handle;
        Ok(true)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), Over> {
        match frame.header.kind {
            Kind::Produced => self.produced(frame),
            Kind::Delivery => self.delivered(frame),
            Kind::Error => self.refused(frame),
            _ => Ok(()),
        }
    }

    fn produced(&mut self, frame: &Frame<'_>) -> Result<(), Over> {
        let produced: Produced = frame.message().map_err(|_| self.broken("an ack that is none"))?;
        let Some((request, record)) = self.sent.pop_front() else {
            return Err(self.broken("an ack of nothing"));
        };
        if frame.header.request != request || produced.base_offset < self.acked_end {
            let what = format!(
                "the ack of request {} at offset {} came while request {request} was the oldest without an answer, after \
                 offset {}",
                frame.header.request, produced.base_offset, self.acked_end
            );
            return Err(self.broken(&what));
        }
        self.acked_end = produced.base_offset + 1;
        self.stage.saw(Event::Resolved(record, Outcome::Acked(self.place, Some(produced.base_offset))));
        Ok(())
    }

    /// Refusals do not wait for the batches before them.
    fn refused(&mut self, frame: &Frame<'_>) -> Result<(), Over> {
        let refusal: ErrorReply = frame.message().map_err(|_| self.broken("an error that is none"))?;
        if frame.header.request == SUBSCRIPTION {
            self.credit = None;
            return Ok(());
        }
        let Some(at) = self.sent.iter().position(|(request, _)| *request == frame.header.request) else {
            return Err(Over);
        };
        let (_, record) = self.sent.remove(at).expect("it stands there");
        let outcome = match refusal.error_code() {
            ErrorCode::StorageFailed => Outcome::Unknown(refusal.message),
            _ => Outcome::Failed(refusal.message),
        };
        self.stage.saw(Event::Resolved(record, outcome));
        Ok(())
    }

    fn delivered(&mut self, frame: &Frame<'_>) -> Result<(), Over> {
        let bytes = frame.payload.len();
        match &mut self.credit {
            Some(credit) if *credit > 0 => *credit -= bytes as i64,
            credit => {
                let what = format!("{bytes} bytes were pushed on a credit of {credit:?}");
                return Err(self.broken(&what));
            }
        }
        for batch in split_batches(frame.payload) {
            let (header, _) = batch.map_err(|_| self.broken("a push that is no batch"))?;
            if self.next_offset.is_some_and(|next| next != header.base_offset) {
                let what =
                    format!("offset {} was pushed where {:?} is due", header.base_offset, self.next_offset);
                return Err(self.broken(&what));
            }
            self.next_offset = Some(header.next_offset());
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> Over {
        self.stage.saw(Event::Broken(format!("a client of {} got what it must not: {what}", self.place)));
        Over
    }
}

async fn send<T: Body>(
    stream: &TcpStream,
    kind: Kind,
    request: u32,
    handle: u32,
    body: &T,
) -> Result<(), Over> {
    let frame = try_encode(kind, request, handle, 0, body).expect("a short message fits");
    Ok(stream.send(vec![frame.freeze()]).await?)
}
