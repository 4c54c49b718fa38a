//! Sessions fed with frames made by hand.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::messages::*;
use ringlog_protocol::{
    Ack, ErrorCode, FrameError, FrameHeader, Kind, encode, encode_error, encode_with_payload, split_frame,
    try_encode,
};
use ringlog_reactor::Instant;

use super::{Event, Lost, Reply, Session, SessionError};

pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn welcome() -> Bytes {
    let welcome = Welcome {
        version: 1,
        broker: "test".into(),
        node: 0,
        shard: 2,
        shards: 4,
        max_frame_bytes: 1 << 20,
        max_batch_bytes: 1 << 20,
    };
    try_encode(Kind::Welcome, 0, 0, 0, &welcome).expect("fits").freeze()
}

fn produced(request: u32, base_offset: i64) -> Bytes {
    encode(Kind::Produced, request, 7, 0, &Produced { base_offset, start_offset: 0 }).freeze()
}

fn delivery(subscription: u32, payload: usize) -> Bytes {
    let body = Delivery { high_watermark: 9 };
    let mut frame = encode_with_payload(Kind::Delivery, subscription, 0, 0, &body, payload);
    frame.resize(frame.len() + payload, 0xAB);
    frame.freeze()
}

/// A session after its handshake, and the time.
fn ready() -> (Session<&'static str>, Instant) {
    let now = ringlog_reactor::now();
    let mut session = Session::new("test", Some(2), TIMEOUT, now).expect("fits");
    output(&mut session);
    session.receive(now, &welcome()).expect("a good frame");
    assert!(matches!(session.next_event(), Some(Event::Welcome(welcome)) if welcome.shard == 2));
    (session, now)
}

fn output<T>(session: &mut Session<T>) -> Vec<Bytes> {
    let mut output = Vec::new();
    session.take_output(&mut output);
    output
}

/// The headers of all frames that wait to be sent.
fn headers(session: &mut Session<&'static str>) -> Vec<FrameHeader> {
    let bytes: Vec<u8> = output(session).concat();
    let mut rest = &bytes[..];
    let mut headers = Vec::new();
    while let Some((frame, consumed)) = split_frame(rest).expect("good frames") {
        headers.push(frame.header);
        rest = &rest[consumed..];
    }
    headers
}

/// Kind and request number of each of them.
fn sent(session: &mut Session<&'static str>) -> Vec<(Kind, u32)> {
    headers(session).iter().map(|header| (header.kind, header.request)).collect()
}

#[test]
fn a_session_begins_with_hello_for_its_shard() {
    let mut session: Session<()> =
        Session::new("me", Some(5), TIMEOUT, ringlog_reactor::now()).expect("fits");
    let bytes = output(&mut session).concat();
    let (frame, _) = split_frame(&bytes).expect("a good frame").expect("a whole frame");
    let hello = frame.message::<Hello>().expect("a hello");
    assert_eq!((hello.client.as_str(), hello.shard), ("me", Some(5)));
}

#[test]
fn nothing_but_welcome_is_taken_before_it() {
    let now = ringlog_reactor::now();
    let mut session: Session<()> = Session::new("me", None, TIMEOUT, now).expect("fits");
    assert!(matches!(session.receive(now, &produced(1, 0)), Err(SessionError::Unexpected { .. })));
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let (mut session, now) = ready();
    assert_eq!(session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "first"), None);
    assert_eq!(session.produce(now, 7, Ack::Disk, Bytes::from_static(b"two"), "second"), None);
    assert_eq!(output(&mut session).len(), 4, "two heads, two payloads");
    session.receive(now, &produced(2, 50)).expect("a good frame");
    session.receive(now, &produced(1, 40)).expect("a good frame");
    for (token, base_offset) in [("second", 50), ("first", 40)] {
        let reply = Reply::Produced(Produced { base_offset, start_offset: 0 });
        assert_eq!(session.next_event(), Some(Event::Reply { token, reply }));
    }
}

#[test]
fn frames_may_come_in_pieces_of_any_size() {
    for size in [1, 3, 16, 17, 1000] {
        let (mut session, now) = ready();
        session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "first");
        let id = session.subscribe(now, 7, Position::Begin, 100, "sub");
        let input = [delivery(id, 60), produced(1, 40)].concat();
        for piece in input.chunks(size) {
            session.receive(now, piece).expect("good frames");
        }
        let payload = Bytes::from(vec![0xAB; 60]);
        let expected = Event::Delivery { subscription: id, high_watermark: 9, payload };
        assert_eq!(session.next_event(), Some(expected));
        assert!(matches!(session.next_event(), Some(Event::Reply { token: "first", .. })));
    }
}

#[test]
fn a_batch_without_an_ack_waits_for_nothing() {
    let (mut session, now) = ready();
    assert_eq!(session.produce(now, 7, Ack::None, Bytes::from_static(b"one"), "token"), Some("token"));
    session.tick(now + TIMEOUT * 2, TIMEOUT * 9).expect("nothing is late");
    let refused = encode_error(1, 7, ErrorCode::DiskFull, "no room");
    session.receive(now, &refused).expect("a good frame");
    assert!(matches!(session.next_event(), Some(Event::Complaint(refusal)) if refusal.retryable));
}

#[test]
fn an_error_goes_to_its_request() {
    let (mut session, now) = ready();
    session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "first");
    session.receive(now, &encode_error(1, 7, ErrorCode::Overloaded, "busy")).expect("a good frame");
    let Some(Event::Refused { token: "first", refusal }) = session.next_event() else { panic!("refused") };
    assert_eq!((refusal.code, refusal.retryable, &*refusal.message), (ErrorCode::Overloaded, true, "busy"));
}

#[test]
fn an_error_of_the_connection_ends_it() {
    let (mut session, now) = ready();
    let ended = session.receive(now, &encode_error(0, 0, ErrorCode::ShuttingDown, "bye"));
    assert!(matches!(ended, Err(SessionError::Refused(refusal)) if refusal.code == ErrorCode::ShuttingDown));
}

#[test]
fn an_answer_to_nothing_ends_the_session() {
    let (mut session, now) = ready();
    assert!(matches!(session.receive(now, &produced(99, 0)), Err(SessionError::Unexpected { .. })));
}

#[test]
fn an_answer_of_the_wrong_kind_ends_the_session_and_loses_no_token() {
    let (mut session, now) = ready();
    session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "first");
    output(&mut session);
    let wrong = encode(Kind::PingReply, 1, 0, 0, &());
    assert!(matches!(session.receive(now, &wrong), Err(SessionError::Unexpected { .. })));
    assert_eq!(session.end(), [Lost { token: "first", sent: true }]);
}

#[test]
fn the_end_tells_what_may_have_left_from_what_has_not() {
    let (mut session, now) = ready();
    session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "handed out");
    output(&mut session);
    session.produce(now, 7, Ack::Disk, Bytes::from_static(b"two"), "kept");
    let lost = session.end();
    assert_eq!(lost, [Lost { token: "handed out", sent: true }, Lost { token: "kept", sent: false }]);
}

#[test]
fn deliveries_spend_credit_and_grants_restore_it() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    session.receive(now, &delivery(id, 70)).expect("within the credit");
    assert_eq!(session.credit_left(id), Some(30));
    session.receive(now, &delivery(id, 70)).expect("one push may pass it");
    assert_eq!(session.credit_left(id), Some(-40));
    session.grant(id, 90);
    assert_eq!(session.credit_left(id), Some(50));
    assert_eq!(sent(&mut session), [(Kind::Subscribe, id), (Kind::Credit, id)]);
}

#[test]
fn what_is_said_of_a_subscription_carries_its_handle() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    session.grant(id, 90);
    session.unsubscribe(now, id);
    let handles: Vec<_> = headers(&mut session).iter().map(|header| (header.kind, header.handle)).collect();
    assert_eq!(handles, [(Kind::Subscribe, 7), (Kind::Credit, 7), (Kind::Unsubscribe, 7)]);
}

#[test]
fn a_push_without_credit_ends_the_session() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    session.receive(now, &delivery(id, 100)).expect("within the credit");
    let ended = session.receive(now, &delivery(id, 1));
    assert_eq!(ended, Err(SessionError::CreditExceeded { subscription: id }));
}

#[test]
fn what_comes_after_unsubscribe_is_dropped_until_the_broker_has_heard() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    session.unsubscribe(now, id);
    session.receive(now, &delivery(id, 10)).expect("it crossed the request");
    assert_eq!(session.next_event(), None);
    session.receive(now, &encode(Kind::UnsubscribeReply, id + 1, 0, 0, &())).expect("a good frame");
    assert!(session.receive(now, &delivery(id, 10)).is_err(), "now it is over");
}

#[test]
fn an_error_can_end_a_subscription_that_runs() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    let subscribed = Subscribed { next_offset: 0, start_offset: 0, high_watermark: 0 };
    session.receive(now, &encode(Kind::Subscribed, id, 7, 0, &subscribed)).expect("a good frame");
    session.receive(now, &encode_error(id, 7, ErrorCode::UnknownTopic, "deleted")).expect("a good frame");
    assert!(matches!(session.next_event(), Some(Event::Reply { token: "sub", .. })));
    assert!(
        matches!(session.next_event(), Some(Event::SubscriptionEnded { subscription, .. }) if subscription == id)
    );
    assert_eq!(session.credit_left(id), None);
}

#[test]
fn a_request_without_an_answer_is_late_after_its_time_out() {
    let (mut session, now) = ready();
    session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "first");
    assert_eq!(session.tick(now + TIMEOUT / 2, TIMEOUT * 9), Ok(()));
    let late = session.tick(now + TIMEOUT, TIMEOUT * 9);
    assert_eq!(late, Err(SessionError::TimedOut { expected: Kind::Produced }));
}

#[test]
fn a_silent_broker_is_asked_for_a_sign_of_life_once() {
    let (mut session, now) = ready();
    let id = session.subscribe(now, 7, Position::End, 100, "sub");
    let subscribed = Subscribed { next_offset: 0, start_offset: 0, high_watermark: 0 };
    session.receive(now, &encode(Kind::Subscribed, id, 7, 0, &subscribed)).expect("a good frame");
    let keepalive = Duration::from_millis(100);
    session.tick(now + keepalive, keepalive).expect("nothing is late");
    session.tick(now + keepalive * 2, keepalive).expect("nothing is late");
    assert_eq!(sent(&mut session), [(Kind::Subscribe, id), (Kind::Ping, id + 1)]);
    assert!(session.tick(now + keepalive + TIMEOUT, keepalive).is_err(), "no answer: it is dead");
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header() {
    let (mut session, now) = ready();
    let mut header = produced(1, 0)[..16].to_vec();
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let refused = session.receive(now, &header);
    assert!(matches!(refused, Err(SessionError::Frame(FrameError::TooLarge { .. }))));
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn hostile_bytes_never_panic_and_every_token_comes_back_once() {
    let mut seed = 0x0DD_5EED;
    for _ in 0..20_000 {
        let (mut session, now) = ready();
        session.produce(now, 7, Ack::Disk, Bytes::from_static(b"one"), "produce");
        let id = session.subscribe(now, 7, Position::Begin, 100, "subscribe");
        session
            .request(now, Kind::Metadata, 0, &MetadataRequest { topics: None }, Some("metadata"))
            .expect("fits");
        let metadata = MetadataReply { shards: 1, topics: Vec::new(), unknown: vec!["x".into()] };
        let metadata = try_encode(Kind::MetadataReply, 3, 0, 0, &metadata).expect("fits");
        let mut input = BytesMut::new();
        for part in [
            produced(1, 4),
            delivery(id, 30),
            metadata.freeze(),
            encode_error(id, 0, ErrorCode::Internal, "x").freeze(),
        ] {
            input.extend_from_slice(&part);
        }
        for _ in 0..xorshift(&mut seed) % 4 {
            let at = xorshift(&mut seed) as usize % input.len();
            input[at] = xorshift(&mut seed) as u8;
        }
        input.truncate(xorshift(&mut seed) as usize % (input.len() + 1));
        let piece = 1 + xorshift(&mut seed) as usize % 64;
        let _ = input.chunks(piece).try_for_each(|piece| session.receive(now, piece));
        let mut back = Vec::new();
        while let Some(event) = session.next_event() {
            if let Event::Reply { token, .. } | Event::Refused { token, .. } = event {
                back.push(token);
            }
        }
        back.extend(session.end().into_iter().map(|lost| lost.token));
        back.sort_unstable();
        assert_eq!(back, ["metadata", "produce", "subscribe"]);
    }
}
