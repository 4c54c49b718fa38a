//! Subscriptions: records are pushed as soon as they may be read, as far as the client's credit goes.

use std::rc::Rc;

use ringlog_protocol::messages::{Credit, Delivery, Position, Subscribe, Subscribed, Unsubscribe};
use ringlog_protocol::{ErrorCode, Kind};
use ringlog_reactor::sim::mutant;
use ringlog_reactor::spawn;
use ringlog_storage::{Partition, ReadError};

use crate::limits::{DELIVERY_BYTES, MAX_SUBSCRIPTIONS};
use crate::native::request::{Handled, Request};
use crate::native::session::{self, Session};
use crate::ops::offsets::Resolved;
use crate::ops::subscribe::Cursor;

/// Where this stands; `docs/wire.md` says the same.
pub const FILE: &str = file!();

/// Begins a subscription under the request's number.
pub fn handle(request: Request<'_>) -> Handled {
    let Some(subscribe) = request.message::<Subscribe>() else { return Handled::Done };
    let Some(partition) = request.partition() else { return Handled::Done };
    let (session, id) = (request.session, request.number());
    if !session.may_subscribe(id) {
        let message = match session.credit(id).is_some() {
            true => format!("subscription {id} exists already"),
            false => {
                format!("a connection may have {MAX_SUBSCRIPTIONS} subscriptions; make another connection")
            }
        };
        session.reply_error(id, ErrorCode::TooManySubscriptions, &message);
        return Handled::Done;
    }
    let credit = Rc::new(session::Credit::default());
    credit.grant(subscribe.credit_bytes);
    let task = spawn(push(session.clone(), id, partition, subscribe.from, credit.clone()));
    session.subscribe(id, session::Subscription { credit, task });
    Handled::Done
}

/// Gives a subscription more credit. Credit for one that just ended crossed its end on the way: no error.
pub fn handle_credit(request: Request<'_>) -> Handled {
    let Some(more) = request.message::<Credit>() else { return Handled::Done };
    if let Some(credit) = request.session.credit(request.number()) {
        credit.grant(more.bytes);
    }
    Handled::Done
}

/// Ends a subscription.
pub fn handle_unsubscribe(request: Request<'_>) -> Handled {
    let Some(Unsubscribe { subscription }) = request.message::<Unsubscribe>() else { return Handled::Done };
    let (session, number) = (request.session, request.number());
    if session.unsubscribe(subscription) {
        session.reply(Kind::UnsubscribeReply, number, 0, &());
    } else {
        let message = format!("there is no subscription {subscription} on this connection");
        session.reply_error(number, ErrorCode::UnknownSubscription, &message);
    }
    Handled::Done
}

async fn push(
    session: Rc<Session>,
    id: u32,
    partition: Rc<Partition>,
    from: Position,
    credit: Rc<session::Credit>,
) {
    if let Err(error) = push_until_error(&session, id, partition, from, &credit).await {
        session.refuse(id, &error);
    }
    session.subscription_ended(id);
}

/// Never ends but by an error: the client, or its leaving, drops the task.
async fn push_until_error(
    session: &Session,
    id: u32,
    partition: Rc<Partition>,
    from: Position,
    credit: &session::Credit,
) -> Result<(), ReadError> {
    let (mut cursor, at) = Cursor::open(partition, from).await?;
    let Resolved { offset: next_offset, start_offset, high_watermark, .. } = at;
    session.reply(Kind::Subscribed, id, 0, &Subscribed { next_offset, start_offset, high_watermark });
    loop {
        let most = credit.available().await.min(DELIVERY_BYTES);
        session.outbox().wait_for_room().await;
        let Some(next) = cursor.next(most, session.outbox()).await? else { continue };
        credit.spend(if mutant("credit-underspent") { next.bytes.min(most) } else { next.bytes });
        let body = Delivery { high_watermark: next.high_watermark };
        session.reply_with_batches(Kind::Delivery, id, &body, next.batches);
    }
}
