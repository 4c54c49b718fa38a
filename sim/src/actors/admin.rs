//! The administrator: makes the topics, deletes one now and then, and makes the next of its name.

use std::rc::Rc;
use std::time::Duration;

use ringlog_client::{Admin, AdminError, Client, ErrorCode};
use ringlog_reactor::{sim, sleep};

use crate::history::{Event, TopicMade};
use crate::plan::{Plan, TopicPlan};
use crate::random::Dice;
use crate::stage::{LiveTopic, Stage};

/// Makes the plan's topics; then, if the plan says so, deletes and makes again until the stage finishes.
pub async fn run(stage: Rc<Stage>, plan: Rc<Plan>, mut dice: Dice, client: Client) {
    let _part = stage.enter();
    let admin = client.admin();
    // The administrator before this one may have been killed in the middle.
    for topic in stage.leaving_topics() {
        stage.give_up_name(topic.number);
        delete(&stage, &admin, &topic).await;
    }
    for (number, topic) in plan.topics.iter().enumerate() {
        make(&stage, &admin, number, topic).await;
    }
    let mut life = stage.life();
    while plan.admin && stage.next_life(life).await {
        life = stage.life();
        for _ in 0..plan.topic_changes {
            replace_one(&stage, &plan, &mut dice, &admin).await;
        }
    }
}

/// Deletes a topic and makes the next of its name.
async fn replace_one(stage: &Stage, plan: &Plan, dice: &mut Dice, admin: &Admin) {
    stage.pause(Duration::from_micros(dice.any_magnitude(100..1_000_000))).await;
    let topics = stage.topics();
    if topics.is_empty() {
        return;
    }
    let topic = dice.pick(&topics).clone();
    topic.leaving.set(true);
    // Some of its producers and consumers go before it does.
    stage.pause(Duration::from_micros(dice.any_magnitude(1..20_000))).await;
    if delete(stage, admin, &topic).await {
        make(stage, admin, topic.number, &plan.topics[topic.number]).await;
    }
}

async fn make(stage: &Stage, admin: &Admin, number: usize, plan: &TopicPlan) {
    let name = stage.topic_name(number);
    while !stage.is_finishing() {
        let ack = if plan.volatile { "memory" } else { "disk" };
        let limit = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
        let made = admin
            .create_topic(&name)
            .partitions(plan.partitions)
            .config("ack", ack)
            .config("segment.bytes", plan.segment_bytes.to_string())
            .config("message.timestamp.type", if plan.brokers_time { "LogAppendTime" } else { "CreateTime" })
            .config("retention.bytes", limit(plan.retention_bytes))
            .config("retention.ms", limit(plan.retention_ms))
            .send();
        let Some(made) = stage.in_time("making a topic", made).await else { return };
        let found = match made {
            Ok(topic) => Some(topic),
            // It may be there: the answer to the first try was lost.
            Err(AdminError::Refused(refusal)) if refusal.code == ErrorCode::TopicExists => {
                let looked = stage.in_time("looking a topic up", admin.topic(&name)).await;
                looked.and_then(Result::ok)
            }
            Err(_) => None,
        };
        if let Some(topic) = found {
            let TopicPlan { volatile, brokers_time, retention_bytes, retention_ms, .. } = *plan;
            let id = topic.id;
            let made = TopicMade { id, name, volatile, brokers_time, retention_bytes, retention_ms };
            return stage.add_topic(made, number, plan.partitions);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Deletes the topic; false if it could not be done.
async fn delete(stage: &Stage, admin: &Admin, topic: &LiveTopic) -> bool {
    let TopicMade { id, name, .. } = &topic.made;
    stage.saw(Event::Deleting(*id));
    sim::note(&format!("deleting topic `{name}`, id {id}"));
    while !stage.is_finishing() {
        let Some(deleted) = stage.in_time("deleting a topic", admin.delete_topic(name)).await else {
            return false;
        };
        match deleted {
            Ok(()) | Err(AdminError::UnknownTopic { .. }) => {
                sim::reached("topic deleted");
                stage.saw(Event::Deleted(*id));
                stage.remove_topic(*id);
                return true;
            }
            // The request may arrive later, and find the next topic of that name.
            Err(AdminError::OutcomeUnknown) => stage.give_up_name(topic.number),
            Err(_) => {}
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

/// All topics there are, written down.
pub async fn list(stage: &Stage, client: &Client) -> Option<Vec<ringlog_client::TopicInfo>> {
    let begun = ringlog_reactor::now().as_nanos();
    let topics = stage.in_time("listing the topics", client.admin().topics()).await?.ok()?;
    stage.saw(Event::Listed { begun, topics: topics.iter().map(|topic| topic.id).collect() });
    Some(topics)
}
