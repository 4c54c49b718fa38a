//! The cores of a node, as they see each other: bounded mailboxes and what may be put in them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use ringlog_reactor::mailbox;
use ringlog_reactor::net::SocketParts;
use ringlog_storage::{FolderTurn, PreviousEpoch, RecoveryError, RecoverySummary, StoreError};

use crate::metadata::file::Metadata;
use crate::metadata::topic::Topic;

/// A client's connection as the other cores name it: the core its socket lives on, and a number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The shard that has the socket.
    pub home: u32,
    /// Its number there, never used again.
    pub number: u64,
}

/// A client that has introduced itself.
pub struct Introduced {
    /// The number of its Hello, which Welcome repeats.
    pub request: u32,
    /// The version both speak.
    pub version: u16,
    /// The shard it is to live on.
    pub shard: u32,
}

/// How a peer's request is answered.
pub type ReplyTo<T> = mailbox::Sender<Result<T, PeerError>>;

/// Why a core has not done what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// The disk is full: the same request may succeed when there is space.
    #[error("{0}")]
    DiskFull(String),
    /// The core has ended: the node is stopping.
    #[error("shard {0} has ended")]
    Ended(usize),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl PeerError {
    fn of_shard(self, shard: usize) -> PeerError {
        let named = |why| format!("shard {shard}: {why}");
        match self {
            PeerError::DiskFull(why) => PeerError::DiskFull(named(why)),
            PeerError::Failed(why) => PeerError::Failed(named(why)),
            PeerError::Ended(_) => self,
        }
    }
}

impl From<StoreError> for PeerError {
    fn from(error: StoreError) -> PeerError {
        let why = error.to_string();
        if error.is_disk_full() { PeerError::DiskFull(why) } else { PeerError::Failed(why) }
    }
}

impl From<RecoveryError> for PeerError {
    fn from(error: RecoveryError) -> PeerError {
        PeerError::Failed(error.to_string())
    }
}

/// Of two failures the one that is told: who is told of a full disk tries again, and must not when a sync has failed beside it.
fn worse(before: Option<PeerError>, error: PeerError) -> Option<PeerError> {
    match before {
        Some(PeerError::DiskFull(_) | PeerError::Ended(_)) if matches!(error, PeerError::Failed(_)) => {
            Some(error)
        }
        None => Some(error),
        before => before,
    }
}

/// What one core tells another.
pub enum PeerMessage {
    /// Recover the partitions you own.
    Recover {
        /// What to recover, the same for all shards.
        plan: Arc<RecoveryPlan>,
        /// When done.
        done: ReplyTo<RecoverySummary>,
    },
    /// The new epoch is durable: begin to write.
    Activate {
        /// For the controller's shard: what its file says.
        metadata: Option<Metadata>,
        /// When done.
        done: ReplyTo<()>,
    },
    /// A client wants to live on your core.
    Adopt(SocketParts, Introduced),
    /// A request of a client whose socket is elsewhere.
    Forward {
        /// Whose.
        from: ConnectionId,
        /// Which of its requests to other cores.
        number: u64,
        /// One whole frame.
        frame: Bytes,
    },
    /// A forwarded request was handled.
    ForwardHandled {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        number: u64,
    },
    /// Replies for a client of yours; the next come after [`PeerMessage::RepliesTaken`].
    Replies {
        /// For whom.
        connection: ConnectionId,
        /// By which shard.
        from: u32,
        /// Whole frames, in order.
        pieces: Vec<Bytes>,
    },
    /// The replies went on their way: send more.
    RepliesTaken {
        /// Whose.
        connection: ConnectionId,
        /// How many bytes.
        bytes: usize,
    },
    /// A client that has a session with you is gone.
    ClientGone(ConnectionId),
    /// The session of a client of yours was broken off: close its connection.
    SessionBroken(ConnectionId),
    /// Topics change.
    Topics {
        /// How.
        change: TopicChange,
        /// When done.
        done: ReplyTo<()>,
    },
    /// Finish commits, checkpoint, close.
    Stop {
        /// When done.
        done: ReplyTo<()>,
    },
    /// All shards have stopped: the core may go.
    End,
}

/// What all shards need to know to recover.
#[derive(Debug)]
pub struct RecoveryPlan {
    /// The epoch that will be live.
    pub epoch: u64,
    /// The epoch to recover from, if there was one.
    pub previous: Option<PreviousEpoch>,
    /// All topics.
    pub topics: Vec<Arc<Topic>>,
    /// Descriptors of each shard's storage.
    pub open_files: usize,
    /// Which shard may make folders of partitions.
    pub folder_turn: FolderTurn,
}

/// A step of making or removing a topic.
#[derive(Clone, Debug)]
pub enum TopicChange {
    /// Make the partitions you own; nobody knows of the topic yet.
    Prepare(Arc<Topic>),
    /// The topic is durable: let clients see it.
    Publish(Arc<Topic>),
    /// Whether the topic is still there only a restart will tell: acknowledge nothing in it, and keep its files.
    Freeze(Arc<Topic>),
    /// The topic is gone, or could not be made: remove its partitions.
    Withdraw(Arc<Topic>),
}

/// The mailboxes of all cores.
#[derive(Clone)]
pub struct Peers {
    own: u32,
    mailboxes: Arc<[mailbox::Sender<PeerMessage>]>,
    /// Clients of all cores together: the one number they share.
    connections: Arc<AtomicUsize>,
}

impl Peers {
    /// The view of shard 0; [`Peers::seen_from`] gives the others'.
    pub fn new(mailboxes: Vec<mailbox::Sender<PeerMessage>>) -> Peers {
        Peers { own: 0, mailboxes: mailboxes.into(), connections: Arc::default() }
    }

    /// The same cores, seen from another one.
    pub fn seen_from(&self, own: u32) -> Peers {
        Peers { own, ..self.clone() }
    }

    /// Clients of all cores together.
    pub fn connections(&self) -> &AtomicUsize {
        &self.connections
    }

    /// This core's shard.
    pub fn own(&self) -> u32 {
        self.own
    }

    /// How many shards there are.
    pub fn count(&self) -> u32 {
        self.mailboxes.len() as u32
    }

    /// Tells a shard something; waits for room in its mailbox. A core that ended takes no messages, which is
    /// no news to anybody: the node is stopping.
    pub async fn tell(&self, shard: u32, message: PeerMessage) {
        let _ = self.mailboxes[shard as usize].send(message).await;
    }

    /// Asks all shards for something and collects what they say, in shard order.
    ///
    /// # Errors
    /// That of the first shard that failed, with its number; but what is final comes before what may go well later.
    pub async fn ask_all<T: Send + 'static>(
        &self,
        message: impl Fn(u32, ReplyTo<T>) -> PeerMessage,
    ) -> Result<Vec<T>, PeerError> {
        let mut waiting = Vec::new();
        for shard in 0..self.count() {
            let (done, answer) = mailbox::channel(1);
            self.tell(shard, message(shard, done)).await;
            waiting.push(answer);
        }
        let mut answers = Vec::new();
        let mut failure = None;
        for (shard, answer) in waiting.into_iter().enumerate() {
            match answer.recv().await {
                Some(Ok(answer)) => answers.push(answer),
                Some(Err(error)) => failure = worse(failure, error.of_shard(shard)),
                None => failure = worse(failure, PeerError::Ended(shard)),
            }
        }
        failure.map_or(Ok(answers), Err)
    }
}

#[cfg(test)]
mod tests {
    use ringlog_reactor::sim::Simulation;
    use ringlog_reactor::spawn;

    use super::*;

    /// What is said when the shards answer so; a shard without an answer ends.
    fn told(answers: Vec<Option<PeerError>>) -> PeerError {
        Simulation::new(1).run(async {
            let (mailboxes, inboxes): (Vec<_>, Vec<_>) = answers.iter().map(|_| mailbox::channel(1)).unzip();
            let peers = Peers::new(mailboxes);
            let shards =
                answers.into_iter().zip(inboxes).map(|(answer, inbox): (_, mailbox::Receiver<_>)| {
                    spawn(async move {
                        let Some(PeerMessage::Stop { done }) = inbox.recv().await else {
                            panic!("asked to stop")
                        };
                        if let Some(error) = answer {
                            let _ = done.send(Err(error)).await;
                        }
                    })
                });
            let _shards: Vec<_> = shards.collect();
            peers.ask_all(|_, done| PeerMessage::Stop { done }).await.unwrap_err()
        })
    }

    #[test]
    fn a_failure_that_is_final_is_told_before_one_that_may_go_well_later() {
        let full = || Some(PeerError::DiskFull("full".into()));
        let failed = || Some(PeerError::Failed("rotten".into()));
        assert!(matches!(told(vec![full(), failed()]), PeerError::Failed(why) if why.contains("shard 1")));
        assert!(matches!(told(vec![failed(), full()]), PeerError::Failed(why) if why.contains("shard 0")));
        assert!(matches!(told(vec![full(), full()]), PeerError::DiskFull(why) if why.contains("shard 0")));
        assert!(matches!(told(vec![None, failed()]), PeerError::Failed(_)));
        assert!(matches!(told(vec![None, full()]), PeerError::Ended(0)));
    }
}
