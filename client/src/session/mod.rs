//! One connection's protocol, without I/O and without a clock: bytes in, events out; requests in, bytes out. Time is passed in.
//!
//! Invariants:
//! - Every request with a token ends in exactly one event, or comes back from `end` with word on whether its bytes may have left.
//! - A request counts as sent from the moment that `take_output` handed its bytes out.
//! - The broker may push to a subscription only while its credit is above zero; one push may take it below. Anything else ends
//!   the session, so a broker cannot make the client gather more than credit plus one frame.
//! - Before `Welcome` nothing but `Hello` is sent, and nothing but `Welcome` or an error is taken.
//!
//! After an error the session is good for `end` only: the stream has no known next frame.

mod event;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::messages::{
    Credit, Delivery, ErrorReply, Hello, Position, Subscribe, Unsubscribe, Welcome,
};
use ringlog_protocol::{
    Ack, Body, EncodeError, FixedBody, Frame, Kind, encode_into, frame_len, split_frame, try_encode,
};
use ringlog_reactor::Instant;

pub(crate) use event::{Event, Lost, Reply, SessionError};

use crate::error::Refusal;

/// Room for what one receive usually brings.
const INPUT_BYTES: usize = 64 << 10;

/// Room for many small frames: it is used again once they have left.
const SCRATCH_BYTES: usize = 4 << 10;

/// One connection's state. `T` is whatever the owner wants back with the answer to its request.
#[derive(Debug)]
pub(crate) struct Session<T> {
    welcomed: bool,
    input: BytesMut,
    output: Vec<Bytes>,
    /// Frames are encoded here and split off.
    scratch: BytesMut,
    events: VecDeque<Event<T>>,
    pending: BTreeMap<u32, Pending<T>>,
    subscriptions: BTreeMap<u32, Flow>,
    last_request: u32,
    /// Requests made so far, and how many of them were handed out.
    made: u64,
    handed_out: u64,
    request_timeout: Duration,
    last_received: Instant,
    pinging: bool,
}

#[derive(Debug)]
struct Pending<T> {
    token: Option<T>,
    expects: Kind,
    order: u64,
    deadline: Instant,
    /// The subscription that this request ends.
    ends: Option<u32>,
}

#[derive(Debug)]
struct Flow {
    /// What it was made with: it leads frames about it to its core.
    handle: u32,
    credit: i64,
    /// Unsubscribed, and the broker has not said so yet: what still comes is dropped.
    ending: bool,
}

impl<T> Session<T> {
    /// A session that begins with `Hello`.
    pub fn new(
        client_id: &str,
        shard: Option<u32>,
        request_timeout: Duration,
        now: Instant,
    ) -> Result<Self, EncodeError> {
        let hello = try_encode(Kind::Hello, 0, 0, 0, &Hello::new(client_id, shard))?.freeze();
        Ok(Self {
            welcomed: false,
            input: BytesMut::with_capacity(INPUT_BYTES),
            output: vec![hello],
            scratch: BytesMut::with_capacity(SCRATCH_BYTES),
            events: VecDeque::new(),
            pending: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            last_request: 0,
            made: 0,
            handed_out: 0,
            request_timeout,
            last_received: now,
            pinging: false,
        })
    }

    /// Makes a request without a payload.
    pub fn request<B: Body>(
        &mut self,
        now: Instant,
        kind: Kind,
        handle: u32,
        body: &B,
        token: Option<T>,
    ) -> Result<(), EncodeError> {
        let request = self.free_number();
        let frame = try_encode(kind, request, handle, 0, body)?.freeze();
        self.queue(frame);
        self.expect(request, reply_to(kind), now, token, None);
        Ok(())
    }

    /// Sends one record batch. Without an ack there is no answer, and the token comes back.
    pub fn produce(&mut self, now: Instant, handle: u32, ack: Ack, batch: Bytes, token: T) -> Option<T> {
        let request = self.free_number();
        let head = self.encode(Kind::Produce, request, handle, ack.flags(), &(), batch.len());
        self.queue(head);
        self.queue(batch);
        if ack == Ack::None {
            return Some(token);
        }
        self.expect(request, Kind::Produced, now, Some(token), None);
        None
    }

    /// Begins a subscription and gives its id.
    pub fn subscribe(
        &mut self,
        now: Instant,
        handle: u32,
        from: Position,
        credit_bytes: u32,
        token: T,
    ) -> u32 {
        let request = self.free_number();
        let frame = self.encode(Kind::Subscribe, request, handle, 0, &Subscribe { from, credit_bytes }, 0);
        self.queue(frame);
        self.subscriptions.insert(request, Flow { handle, credit: i64::from(credit_bytes), ending: false });
        self.expect(request, Kind::Subscribed, now, Some(token), None);
        request
    }

    /// Bytes that the broker may still push; none when the subscription is not there any more.
    pub fn credit_left(&self, subscription: u32) -> Option<i64> {
        self.subscriptions.get(&subscription).filter(|flow| !flow.ending).map(|flow| flow.credit)
    }

    /// Gives a subscription more credit.
    pub fn grant(&mut self, subscription: u32, bytes: u32) {
        let Some(flow) = self.subscriptions.get_mut(&subscription).filter(|flow| !flow.ending) else {
            return;
        };
        flow.credit += i64::from(bytes);
        let handle = flow.handle;
        let frame = self.encode(Kind::Credit, subscription, handle, 0, &Credit { bytes }, 0);
        self.queue(frame);
    }

    /// Ends a subscription. What the broker has pushed meanwhile is dropped.
    pub fn unsubscribe(&mut self, now: Instant, subscription: u32) {
        let Some(flow) = self.subscriptions.get_mut(&subscription).filter(|flow| !flow.ending) else {
            return;
        };
        flow.ending = true;
        let handle = flow.handle;
        let request = self.free_number();
        let frame = self.encode(Kind::Unsubscribe, request, handle, 0, &Unsubscribe { subscription }, 0);
        self.queue(frame);
        self.expect(request, Kind::UnsubscribeReply, now, None, Some(subscription));
    }

    /// Puts everything to be sent, in order, into `output`, which is empty. The requests in it count as sent from now on.
    pub fn take_output(&mut self, output: &mut Vec<Bytes>) {
        self.handed_out = self.made;
        std::mem::swap(&mut self.output, output);
    }

    /// Takes bytes that came from the broker, in pieces of any size.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), SessionError> {
        self.last_received = now;
        self.input.extend_from_slice(bytes);
        while let Some(length) = frame_len(&self.input)? {
            if self.input.len() < length {
                self.input.reserve(length - self.input.len());
                break;
            }
            let frame = self.input.split_to(length).freeze();
            self.take_frame(&frame)?;
        }
        Ok(())
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Looks for requests that waited too long, and asks for a sign of life when a subscriber has heard nothing for `keepalive`.
    pub fn tick(&mut self, now: Instant, keepalive: Duration) -> Result<(), SessionError> {
        if let Some(late) = self.pending.values().find(|pending| pending.deadline <= now) {
            return Err(SessionError::TimedOut { expected: late.expects });
        }
        if !self.subscriptions.is_empty() && !self.pinging && now - self.last_received >= keepalive {
            self.pinging = true;
            let request = self.free_number();
            let frame = self.encode(Kind::Ping, request, 0, 0, &(), 0);
            self.queue(frame);
            self.expect(request, Kind::PingReply, now, None, None);
        }
        Ok(())
    }

    /// The connection is gone: gives back what was not answered, in the order in which it was asked.
    pub fn end(&mut self) -> Vec<Lost<T>> {
        let mut left: Vec<_> = std::mem::take(&mut self.pending).into_values().collect();
        left.sort_by_key(|pending| pending.order);
        let handed_out = self.handed_out;
        self.subscriptions.clear();
        self.output.clear();
        left.into_iter()
            .filter_map(|pending| pending.token.map(|token| Lost { token, sent: pending.order < handed_out }))
            .collect()
    }

    fn take_frame(&mut self, bytes: &Bytes) -> Result<(), SessionError> {
        let Some((frame, _)) = split_frame(bytes)? else {
            return Err(SessionError::Unexpected { what: "a frame shorter than its length".into() });
        };
        match frame.header.kind {
            Kind::Error => self.take_error(&frame),
            Kind::Welcome if !self.welcomed => {
                self.welcomed = true;
                self.events.push_back(Event::Welcome(frame.message::<Welcome>()?));
                Ok(())
            }
            kind if !self.welcomed => Err(unexpected(kind, "before Welcome")),
            Kind::Delivery => self.take_delivery(&frame, bytes),
            _ => self.take_reply(&frame),
        }
    }

    fn take_delivery(&mut self, frame: &Frame<'_>, bytes: &Bytes) -> Result<(), SessionError> {
        let subscription = frame.header.request;
        let Some(flow) = self.subscriptions.get_mut(&subscription) else {
            return Err(unexpected(Kind::Delivery, "for no subscription"));
        };
        if flow.credit <= 0 {
            return Err(SessionError::CreditExceeded { subscription });
        }
        flow.credit -= frame.payload.len() as i64;
        let high_watermark = frame.access::<Delivery>()?.high_watermark.to_native();
        if !flow.ending {
            let payload = bytes.slice_ref(frame.payload);
            self.events.push_back(Event::Delivery { subscription, high_watermark, payload });
        }
        Ok(())
    }

    fn take_error(&mut self, frame: &Frame<'_>) -> Result<(), SessionError> {
        let reply = frame.message::<ErrorReply>()?;
        let refusal = Refusal {
            code: reply.error_code(),
            retryable: reply.retryable,
            message: Arc::from(reply.message),
        };
        let request = frame.header.request;
        if request == 0 {
            return Err(SessionError::Refused(refusal));
        }
        if let Some(pending) = self.pending.remove(&request) {
            self.pinging &= pending.expects != Kind::PingReply;
            // A refused Unsubscribe: the subscription had ended by itself.
            self.subscriptions.remove(&pending.ends.unwrap_or(request));
            if let Some(token) = pending.token {
                self.events.push_back(Event::Refused { token, refusal });
            }
        } else if let Some(flow) = self.subscriptions.remove(&request) {
            if !flow.ending {
                self.events.push_back(Event::SubscriptionEnded { subscription: request, refusal });
            }
        } else {
            self.events.push_back(Event::Complaint(refusal));
        }
        Ok(())
    }

    fn take_reply(&mut self, frame: &Frame<'_>) -> Result<(), SessionError> {
        let kind = frame.header.kind;
        let Some(pending) = self.pending.remove(&frame.header.request) else {
            return Err(unexpected(kind, "to no request"));
        };
        if pending.expects != kind {
            let what = format!("{kind:?} where {:?} was due", pending.expects).into();
            // Its token comes back from `end`.
            self.pending.insert(frame.header.request, pending);
            return Err(SessionError::Unexpected { what });
        }
        self.pinging &= kind != Kind::PingReply;
        if let Some(subscription) = pending.ends {
            self.subscriptions.remove(&subscription);
        }
        let reply = match Reply::read(frame) {
            Ok(reply) => reply,
            Err(error) => {
                self.pending.insert(frame.header.request, pending);
                return Err(error);
            }
        };
        if let Some(token) = pending.token {
            self.events.push_back(Event::Reply { token, reply });
        }
        Ok(())
    }

    fn expect(&mut self, request: u32, expects: Kind, now: Instant, token: Option<T>, ends: Option<u32>) {
        let deadline = now + self.request_timeout;
        self.pending.insert(request, Pending { token, expects, order: self.made, deadline, ends });
        self.made += 1;
    }

    fn encode<B: FixedBody>(
        &mut self,
        kind: Kind,
        request: u32,
        handle: u32,
        flags: u8,
        body: &B,
        payload: usize,
    ) -> Bytes {
        encode_into(&mut self.scratch, kind, request, handle, flags, body, payload);
        self.scratch.split().freeze()
    }

    fn queue(&mut self, bytes: Bytes) {
        self.output.push(bytes);
    }

    /// A request number that nothing alive has. 0 means the connection itself.
    fn free_number(&mut self) -> u32 {
        loop {
            self.last_request = self.last_request.wrapping_add(1);
            let number = self.last_request;
            if number != 0 && !self.pending.contains_key(&number) && !self.subscriptions.contains_key(&number)
            {
                return number;
            }
        }
    }
}

fn reply_to(kind: Kind) -> Kind {
    Kind::from_u8(kind as u8 | 0x80).expect("every request with an answer has a reply kind")
}

fn unexpected(kind: Kind, when: &str) -> SessionError {
    SessionError::Unexpected { what: format!("{kind:?} {when}").into() }
}
