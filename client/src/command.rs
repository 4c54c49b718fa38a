//! What the application says to the driver, from any thread.
//!
//! Requests go through a bounded queue whose senders wait. Doorbells say "look at this handle's shared state"; a handle has at most
//! one under way, and there are at most `MAX_HANDLES` of them, so their queue has room but for a moment of many drops.
//!
//! A request to open something carries the line of the handle that comes back, so the driver outlives the request, and a handle that
//! nobody takes rings as it is dropped.

use std::sync::Arc;
use std::time::Duration;

use ringlog_protocol::messages::{ListOffsetsReply, Opened, Position, TopicMetadata};
use ringlog_reactor::mailbox;

use crate::accumulator::{Accumulator, ProducerSettings};
use crate::doorbell::{Doorbell, HandleId, Shared};
use crate::error::{AdminError, ConnectError, OpenError};
use crate::inbox::Inbox;
use crate::limits;
use crate::plan::ConsumerPlan;

/// Where the answer to one command goes. The asker may be gone.
pub(crate) type Reply<T, E> = flume::Sender<Result<T, E>>;

#[derive(Debug)]
pub(crate) enum Command {
    Connect {
        reply: Reply<(), ConnectError>,
    },
    CreateTopic {
        name: String,
        partitions: u32,
        config: Vec<(String, String)>,
        reply: Reply<TopicMetadata, AdminError>,
    },
    DeleteTopic {
        name: String,
        reply: Reply<(), AdminError>,
    },
    Topics {
        reply: Reply<Vec<TopicMetadata>, AdminError>,
    },
    Topic {
        name: Arc<str>,
        reply: Reply<TopicMetadata, AdminError>,
    },
    Offsets {
        topic: Arc<str>,
        partition: u32,
        at: Position,
        reply: Reply<(Opened, ListOffsetsReply), AdminError>,
    },
    OpenProducer {
        topic: Arc<str>,
        settings: ProducerSettings,
        line: Line,
        reply: Reply<Handle<Accumulator>, OpenError>,
    },
    CloseProducer {
        id: HandleId,
        deadline: Duration,
        reply: Reply<(), ()>,
    },
    OpenConsumer {
        topic: Arc<str>,
        plan: ConsumerPlan,
        line: Line,
        reply: Reply<Handle<Inbox>, OpenError>,
    },
}

/// The driver's end of the line.
#[derive(Debug)]
pub(crate) struct Orders {
    pub commands: mailbox::Receiver<Command>,
    pub doorbell: Arc<Doorbell>,
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.doorbell.remove();
    }
}

/// The application's end of the line to the driver.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub commands: mailbox::Sender<Command>,
    doorbell: Arc<Doorbell>,
}

impl Line {
    /// A line that nobody has said anything on.
    pub fn new() -> (Self, Orders) {
        let (commands, command_queue) = mailbox::channel(limits::COMMAND_QUEUE);
        let doorbell = Arc::new(Doorbell::default());
        (Self { commands, doorbell: Arc::clone(&doorbell) }, Orders { commands: command_queue, doorbell })
    }

    /// Sends a command and waits for its answer. `None`: the driver has ended.
    pub async fn ask<T, E>(&self, command: impl FnOnce(Reply<T, E>) -> Command) -> Option<Result<T, E>> {
        let (reply, answer) = flume::bounded(1);
        self.commands.send(command(reply)).await.ok()?;
        answer.recv_async().await.ok()
    }

    /// As `ask`, and an ended driver is an error of the operation.
    pub async fn request<T, E: From<ConnectError>>(
        &self,
        command: impl FnOnce(Reply<T, E>) -> Command,
    ) -> Result<T, E> {
        match self.ask(command).await {
            Some(answer) => answer,
            None => Err(E::from(ConnectError::Closed)),
        }
    }

    /// Tells the driver to look at a handle. False: the driver has ended.
    pub fn ring(&self, id: HandleId) -> bool {
        self.doorbell.ring(id)
    }
}

/// The application's end of a producer or consumer. Dropped, also by a `build` that was cancelled, it ends what it is of.
#[derive(Debug)]
pub(crate) struct Handle<S: Shared> {
    pub id: HandleId,
    pub line: Line,
    pub shared: Arc<S>,
}

impl<S: Shared> Drop for Handle<S> {
    fn drop(&mut self) {
        if self.shared.release() {
            self.line.ring(self.id);
        }
    }
}
