//! Subscriptions: records are pushed as soon as they may be read, as far as the client's credit goes.

use std::rc::Rc;

use ringlog_protocol::messages::{Credit, Delivery, Position, Subscribe, Subscribed, Unsubscribe};
use ringlog_protocol::{ErrorCode, Frame, Kind};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::spawn;
use ringlog_storage::{Partition, ReadError};

use crate::limits::{DELIVERY_BYTES, MAX_SUBSCRIPTIONS};
use crate::native::handlers::offsets::resolve;
use crate::native::handlers::{body, partition, read_error};
use crate::native::session::{self, Session};

/// Begins a subscription under the request's number.
pub fn handle(session: &Rc<Session>, frame: &Frame<'_>) {
    let id = frame.header.request;
    let Some(subscribe) = body::<Subscribe>(session, frame) else { return };
    let Some(partition) = partition(session, &frame.header) else { return };
    if !session.may_subscribe(id) {
        let message = match session.credit(id).is_some() {
            true => format!("subscription {id} exists already"),
            false => {
                format!("a connection may have {MAX_SUBSCRIPTIONS} subscriptions; make another connection")
            }
        };
        return session.reply_error(id, ErrorCode::TooManySubscriptions, &message);
    }
    let credit = Rc::new(session::Credit::default());
    credit.grant(subscribe.credit_bytes);
    let task = spawn(push(session.clone(), id, partition, subscribe.from, credit.clone()));
    session.subscribe(id, session::Subscription { credit, task });
}

/// Gives a subscription more credit. Credit for one that just ended crossed its end on the way: no error.
pub fn handle_credit(session: &Session, frame: &Frame<'_>) {
    let Some(more) = body::<Credit>(session, frame) else { return };
    if let Some(credit) = session.credit(frame.header.request) {
        credit.grant(more.bytes);
    }
}

/// Ends a subscription.
pub fn handle_unsubscribe(session: &Session, frame: &Frame<'_>) {
    let request = frame.header.request;
    let Some(Unsubscribe { subscription }) = body::<Unsubscribe>(session, frame) else { return };
    if session.unsubscribe(subscription) {
        session.reply(Kind::UnsubscribeReply, request, 0, &());
    } else {
        let message = format!("there is no subscription {subscription} on this connection");
        session.reply_error(request, ErrorCode::UnknownSubscription, &message);
    }
}

async fn push(
    session: Rc<Session>,
    id: u32,
    partition: Rc<Partition>,
    from: Position,
    credit: Rc<session::Credit>,
) {
    if let Err(error) = push_until_error(&session, id, &partition, from, &credit).await {
        let (code, message) = read_error(&error);
        session.reply_error(id, code, &message);
    }
    session.subscription_ended(id);
}

/// Never ends but by an error: the client, or its leaving, drops the task.
async fn push_until_error(
    session: &Session,
    id: u32,
    partition: &Partition,
    from: Position,
    credit: &session::Credit,
) -> Result<(), ReadError> {
    let mut next = resolve(partition, from).await?.offset;
    let (start_offset, high_watermark) = (partition.start_offset(), partition.high_watermark());
    if next < start_offset || next > high_watermark {
        return Err(ReadError::OutOfRange { start: start_offset, end: high_watermark });
    }
    session.reply(Kind::Subscribed, id, 0, &Subscribed { next_offset: next, start_offset, high_watermark });
    loop {
        let most = credit.available().await.min(DELIVERY_BYTES);
        session.outbox().wait_for_room().await;
        // Taken before the read, so that a commit between the two is not missed.
        let changed = partition.changed();
        let read = match partition.try_read_tail(next, most) {
            Some(read) => read,
            None => {
                reached("subscriber reads from the disk");
                let _room = session.outbox().reserve(most).await;
                partition.read(next, most).await?
            }
        };
        if read.batches.is_empty() {
            changed.await;
            continue;
        }
        next = read.next_offset;
        if read.bytes >= most && mutant("credit-gap") {
            next = partition.high_watermark();
        }
        credit.spend(if mutant("credit-underspent") { read.bytes.min(most) } else { read.bytes });
        let body = Delivery { high_watermark: partition.high_watermark() };
        session.reply_with_batches(Kind::Delivery, id, &body, read.batches);
    }
}
