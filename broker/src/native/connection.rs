//! One client's socket: bytes are received, cut into frames and served; replies are sent.
//!
//! Invariants
//! - Requests are served in the order they came; one that has to wait for room stops the reading of this
//!   socket and of no other.
//! - Nothing that waits holds a receive buffer of the core: what is left in it is copied first.
//! - A peer that takes no bytes, or does not finish a frame, within `STALLED_AFTER` is cut off.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes};
use ringlog_protocol::{ErrorCode, Frame, FrameError, split_frame};
use ringlog_reactor::net::{RecvBuf, TcpStream};
use ringlog_reactor::sim::reached;
use ringlog_reactor::{Elapsed, Instant, Notify, Watchdog, now, timeout};

use crate::limits::{FORWARD_BYTES, GATHER_FREE_BYTES, PEEK_BYTES, STALLED_AFTER};
use crate::native::request::{Handled, Request};
use crate::native::session::Session;
use crate::native::table::{handle, handle_gathered, route};
use crate::net::gather_budget::GatherPermit;
use crate::net::holder::Holder;
use crate::net::outbox::Outbox;
use crate::net::reassembly::{Fill, PartialFrame};
use crate::ops::record_checks::check_aside;
use crate::peers::{ConnectionId, PeerMessage};
use crate::shard::state::Shard;

/// A client whose socket lives on this core.
pub struct Connection {
    id: ConnectionId,
    this: Weak<Connection>,
    stream: TcpStream,
    session: Rc<Session>,
    partial: RefCell<PartialFrame>,
    /// When the frame in `partial` began, or went on after a pause of ours.
    frame_began: Cell<Instant>,
    /// The last bytes that came were those of a large frame.
    after_large: Cell<bool>,
    /// Requests on their way to other cores, by number: their bytes, and the memory that the large ones hold.
    forwarding: RefCell<BTreeMap<u64, (usize, Option<GatherPermit>)>>,
    next_forward: Cell<u64>,
    forwarded: Notify,
    /// Cores that hold a session for this client.
    linked: RefCell<BTreeSet<u32>>,
}

impl Holder for Connection {
    fn cut_off(&self) {
        tracing::warn!(
            connection = self.id.number,
            "cut off: a large frame comes too slowly while others wait for memory"
        );
        self.close();
    }
}

/// Why serving stopped before the end of what was received.
enum Pause {
    /// The client has as much under way as it may.
    Busy,
    /// The log memory or the journal is at its bound.
    NoRoom,
    /// A large frame needs memory to be gathered in: it has `whole` bytes, and `have` have come.
    Memory { have: usize, whole: usize },
    /// The records of a batch are to be checked beside the core.
    Check { limit: usize },
    /// A request belongs to another core.
    Forward { shard: u32, frame: Bytes },
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the client does not keep to the protocol")]
    Broken,
    #[error("no progress for {} s", STALLED_AFTER.as_secs())]
    Stalled,
}

impl From<Elapsed> for Ending {
    fn from(_: Elapsed) -> Self {
        Ending::Stalled
    }
}

impl Connection {
    /// A connection of this core, not served yet.
    pub fn new(id: ConnectionId, stream: TcpStream) -> Rc<Connection> {
        let session = Session::new(id.home, Rc::new(Outbox::default()));
        Rc::new_cyclic(|this| Connection {
            id,
            this: this.clone(),
            stream,
            session,
            partial: RefCell::default(),
            frame_began: Cell::new(now()),
            after_large: Cell::new(false),
            forwarding: RefCell::default(),
            next_forward: Cell::new(0),
            forwarded: Notify::new(),
            linked: RefCell::default(),
        })
    }

    /// Its session on this core.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Hangs up; whoever serves the socket sees that and ends, whatever it waits for.
    pub fn close(&self) {
        self.session.hang_up();
        self.forwarded.notify_all();
        self.stream.shutdown();
    }

    /// The same, once all replies have left.
    pub async fn close_when_sent(&self) {
        let _ = timeout(STALLED_AFTER, self.session.outbox().drained()).await;
        self.close();
    }

    /// Serves the client until it goes, misbehaves, or the socket is shut down.
    pub async fn serve(self: Rc<Self>, shard: Rc<Shard>) {
        let sender = ringlog_reactor::spawn(self.clone().send());
        let ending = self.receive(&shard).await;
        if let Err(ending) = &ending {
            tracing::debug!(connection = self.id.number, %ending, "connection ended");
        }
        if let Err(Ending::Frame(error)) = &ending {
            self.session.break_off(error.code(), &error.to_string());
        }
        if ending.is_ok() {
            let _ = timeout(STALLED_AFTER, self.give_due_acks()).await;
        }
        if self.session.is_broken() {
            let _ = timeout(STALLED_AFTER, self.session.outbox().drained()).await;
        }
        drop(sender);
        self.session.end();
        self.close();
        for &peer in self.linked.take().iter() {
            shard.peers().tell(peer, PeerMessage::ClientGone(self.id)).await;
        }
    }

    /// A client that will send nothing more may still read: it gets the acknowledgements that are due here.
    async fn give_due_acks(&self) {
        self.session.end_waiting();
        self.session.acks_given().await;
        self.session.outbox().drained().await;
    }

    async fn send(self: Rc<Self>) {
        let outbox = self.session.outbox();
        let mut watchdog = Watchdog::new(STALLED_AFTER);
        let mut pieces = Vec::new();
        while outbox.take(&mut pieces).await {
            let bytes = pieces.iter().map(Bytes::len).sum();
            match watchdog.watch(self.stream.send_from(&mut pieces)).await {
                Ok(Ok(())) => outbox.sent(bytes),
                Ok(Err(_)) => break,
                Err(Elapsed) => {
                    tracing::warn!(connection = self.id.number, "cut off: took no bytes for 30 s");
                    break;
                }
            }
        }
        self.close();
    }

    async fn receive(&self, shard: &Rc<Shard>) -> Result<(), Ending> {
        loop {
            let lacks = self.partial.borrow().lacks();
            if lacks > 0 {
                if !self.receive_rest(lacks).await? {
                    return Ok(());
                }
                if let (_, Some(pause)) = self.advance(shard, &[])? {
                    self.finish(shard, Bytes::new(), pause).await?;
                }
                continue;
            }
            let received = if self.partial.borrow().is_empty() {
                self.receive_some().await?
            } else {
                timeout(self.time_left(), self.receive_some()).await??
            };
            let Some(buffer) = received else { return Ok(()) };
            let (used, pause) = self.advance(shard, &buffer)?;
            if let Some(pause) = pause {
                let rest = Bytes::copy_from_slice(&buffer[used..]);
                drop(buffer);
                self.finish(shard, rest, pause).await?;
            }
        }
    }

    /// How long the client may take for the frame it has begun.
    fn time_left(&self) -> Duration {
        self.frame_began.get() + STALLED_AFTER - now()
    }

    async fn receive_some(&self) -> std::io::Result<Option<RecvBuf>> {
        if self.after_large.replace(false) && !self.stream.is_armed() {
            let bytes = self.stream.recv_once(PEEK_BYTES).await?;
            return Ok((!bytes.is_empty()).then(|| bytes.into()));
        }
        self.stream.recv().await
    }

    /// Receives what a large frame lacks straight into its memory. False if the stream ends before.
    async fn receive_rest(&self, lacks: usize) -> Result<bool, Ending> {
        let memory = std::mem::take(self.partial.borrow_mut().memory());
        let memory = timeout(self.time_left(), self.stream.recv_into(memory, lacks)).await??;
        self.after_large.set(true);
        let mut partial = self.partial.borrow_mut();
        *partial.memory() = memory;
        let is_filled = partial.lacks() == 0;
        if is_filled {
            partial.is_filled();
        }
        Ok(is_filled)
    }

    /// Serves the rest of what was received, waiting as often as it must.
    async fn finish(&self, shard: &Rc<Shard>, mut rest: Bytes, pause: Pause) -> Result<(), Ending> {
        let mut pause = Some(pause);
        while let Some(reason) = pause {
            let paused = now();
            self.wait(shard, reason, &rest).await?;
            // A pause of ours is not the client's time.
            self.frame_began.set(self.frame_began.get() + (now() - paused));
            if self.session.outbox().is_closed() {
                return Ok(());
            }
            let (used, next) = self.advance(shard, &rest)?;
            rest.advance(used);
            pause = next;
        }
        Ok(())
    }

    /// Waits for what serving paused for. What it is about is the gathered frame, or the one at the front of `rest`.
    async fn wait(&self, shard: &Rc<Shard>, reason: Pause, rest: &Bytes) -> Result<(), Ending> {
        match reason {
            Pause::Busy => self.session.wait_until_free().await,
            Pause::NoRoom => shard.store().room().await,
            Pause::Check { limit } => self.check(limit, rest).await?,
            Pause::Memory { have, whole } => self.wait_for_memory(shard, have, whole).await,
            Pause::Forward { shard: to, frame } => self.forward(shard, to, frame).await,
        }
        Ok(())
    }

    /// Has the batch that is next checked beside the core.
    async fn check(&self, limit: usize, rest: &Bytes) -> Result<(), Ending> {
        let verdict = if self.partial.borrow().is_empty() {
            let frame = split_frame(rest)?.map(|(frame, _)| rest.slice_ref(frame.payload));
            check_aside(frame.unwrap_or_default(), limit).await.1
        } else {
            let lent = self.partial.borrow_mut().lend();
            let (lent, verdict) = check_aside(lent, limit).await;
            let Some(lent) = lent else {
                // The frame is gone with a check that came to no end.
                self.session.break_off(ErrorCode::Internal, "a batch could not be checked");
                return Err(Ending::Broken);
            };
            self.partial.borrow_mut().put_back(lent);
            verdict
        };
        self.session.set_verdict(verdict);
        Ok(())
    }

    async fn wait_for_memory(&self, shard: &Rc<Shard>, have: usize, whole: usize) {
        reached("large frame gathered");
        let budget = shard.gather_budget();
        if have < GATHER_FREE_BYTES {
            match budget.try_take_whole(whole, &self.holder()) {
                Some(permit) => self.partial.borrow_mut().give(permit),
                None => self.partial.borrow_mut().gather_in_steps(),
            }
            return;
        }
        let permit = budget.take_step(have, whole, &self.holder()).await;
        self.partial.borrow_mut().give(permit);
    }

    fn holder(&self) -> Weak<dyn Holder> {
        self.this.clone()
    }

    /// Serves whole frames until the input ends or something must be waited for; never waits itself.
    fn advance(&self, shard: &Rc<Shard>, mut input: &[u8]) -> Result<(usize, Option<Pause>), Ending> {
        let length = input.len();
        let mut partial = self.partial.borrow_mut();
        loop {
            if partial.is_empty() {
                let Some((frame, used)) = split_frame(input)? else {
                    if input.is_empty() {
                        return Ok((length, None));
                    }
                    self.frame_began.set(now());
                    match partial.fill(input)? {
                        Fill::NeedsMemory { have, whole } => {
                            return Ok((length - input.len(), Some(Pause::Memory { have, whole })));
                        }
                        Fill::Taken(taken) => input = &input[taken..],
                    }
                    continue;
                };
                if let Some(pause) = self.serve_frame(shard, &frame, &input[..used])? {
                    let used = if matches!(pause, Pause::Forward { .. }) { used } else { 0 };
                    return Ok((length - input.len() + used, Some(pause)));
                }
                input = &input[used..];
                continue;
            }
            match partial.fill(input)? {
                Fill::NeedsMemory { have, whole } => {
                    return Ok((length - input.len(), Some(Pause::Memory { have, whole })));
                }
                Fill::Taken(taken) => input = &input[taken..],
            }
            let Some((frame, used)) = split_frame(partial.bytes())? else {
                if input.is_empty() {
                    return Ok((length, None));
                }
                continue;
            };
            let pause = match self.not_now(shard, &frame, &partial.bytes()[..used]) {
                None => self.conclude(handle_gathered(shard, &self.session, &mut partial))?,
                later => later,
            };
            if !matches!(pause, Some(Pause::Busy | Pause::NoRoom | Pause::Check { .. })) {
                partial.clear();
            }
            if pause.is_some() {
                return Ok((length - input.len(), pause));
            }
        }
    }

    /// Serves one frame, or tells why it cannot be served now.
    fn serve_frame(
        &self,
        shard: &Rc<Shard>,
        frame: &Frame<'_>,
        bytes: &[u8],
    ) -> Result<Option<Pause>, Ending> {
        match self.not_now(shard, frame, bytes) {
            None => self.conclude(handle(Request::new(shard, &self.session, frame))),
            later => Ok(later),
        }
    }

    /// Why a frame is not to be handled here and now, if it is not.
    fn not_now(&self, shard: &Rc<Shard>, frame: &Frame<'_>, bytes: &[u8]) -> Option<Pause> {
        if self.session.is_busy() {
            return Some(Pause::Busy);
        }
        let to = route(shard, frame);
        let elsewhere = to != self.id.home && to < shard.peers().count();
        elsewhere.then(|| Pause::Forward { shard: to, frame: Bytes::copy_from_slice(bytes) })
    }

    fn conclude(&self, handled: Handled) -> Result<Option<Pause>, Ending> {
        if self.session.is_broken() {
            return Err(Ending::Broken);
        }
        Ok(match handled {
            Handled::Done => None,
            Handled::NoRoom => Some(Pause::NoRoom),
            Handled::Unchecked { limit } => Some(Pause::Check { limit }),
        })
    }

    async fn forward(&self, shard: &Shard, to: u32, frame: Bytes) {
        let permit = match frame.len() {
            large if large > GATHER_FREE_BYTES => {
                let permit = shard.gather_budget().take_step(large, large, &self.holder()).await;
                // The whole frame has come: no memory waits to be filled.
                permit.is_filled();
                Some(permit)
            }
            _ => None,
        };
        while self.is_forwarding_enough(frame.len()) && !self.session.outbox().is_closed() {
            let forwarded = self.forwarded.notified();
            forwarded.await;
        }
        let number = self.next_forward.get();
        self.next_forward.set(number + 1);
        self.forwarding.borrow_mut().insert(number, (frame.len(), permit));
        self.linked.borrow_mut().insert(to);
        shard.peers().tell(to, PeerMessage::Forward { from: self.id, number, frame }).await;
    }

    fn is_forwarding_enough(&self, more: usize) -> bool {
        let forwarding = self.forwarding.borrow();
        let bytes: usize = forwarding.values().map(|(bytes, _)| bytes).sum();
        bytes > 0 && bytes + more > FORWARD_BYTES
    }

    /// Another core has handled a request.
    pub fn forward_handled(&self, number: u64) {
        let handled = self.forwarding.borrow_mut().remove(&number);
        assert!(handled.is_some(), "a request is handled once");
        self.forwarded.notify_all();
    }
}
