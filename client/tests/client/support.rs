//! A broker made for tests: topics in memory, real sockets, the real protocol, and a script that makes it misbehave.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::{BatchHeader, patch};
use ringlog_protocol::messages::*;
use ringlog_protocol::{
    Ack, ErrorCode, Frame, FrameHeader, Kind, encode, encode_error, encode_with_payload, split_frame,
    try_encode,
};
use ringlog_reactor::net::{Listener, TcpStream};
use ringlog_reactor::{CoreConfig, Notify, launch, mailbox, spawn};

/// What the broker saw of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Which connection, counted from 0.
    pub connection: usize,
    pub kind: Kind,
    /// How many frames of this kind came before, over all connections.
    pub nth: usize,
    /// The shard that `Hello` asked for.
    pub shard: Option<u32>,
    /// Where `Subscribe` begins, and the credit of `Subscribe` and `Credit`.
    pub from: Option<Position>,
    pub credit: u32,
    pub partition: Option<u32>,
}

/// What the script wants done with a frame.
pub enum Verdict {
    Serve,
    /// Do it, and let the answer leave with the next one.
    ServeAndWait,
    Refuse(ErrorCode),
    /// Close the connection and do nothing.
    Cut,
    /// Do it, and close the connection before the answer.
    ServeAndCut,
    /// Do it, answer, and close the connection in the same breath.
    AnswerAndCut,
    /// Neither do it nor answer.
    Ignore,
    /// Take no more bytes of this connection.
    Stall,
}

type Script = Box<dyn FnMut(&Seen) -> Verdict + Send>;

#[derive(Debug)]
enum Control {
    CutAll,
    Push {
        partition: u32,
        batch: Bytes,
    },
    /// Push to every subscription of the partition, whatever its credit.
    Flood {
        partition: u32,
        batch: Bytes,
    },
}

/// The test's end of the broker. It stops when this is dropped.
pub struct FakeBroker {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    logs: Arc<Mutex<BTreeMap<u32, Vec<Bytes>>>>,
    open: Arc<AtomicUsize>,
    in_memory: Arc<AtomicBool>,
    topic_id: Arc<AtomicU64>,
    control: mailbox::Sender<Control>,
}

pub const SHARDS: u32 = 3;

impl FakeBroker {
    /// A broker with the topic `orders`, whose partition p lives on shard p % 3.
    pub fn start(partitions: u32, script: impl FnMut(&Seen) -> Verdict + Send + 'static) -> Self {
        let (control, commands) = mailbox::channel(64);
        let (tell, address) = flume::bounded(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let logs = Arc::new(Mutex::new(BTreeMap::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&open);
        let in_memory = Arc::new(AtomicBool::new(false));
        let at_memory = Arc::clone(&in_memory);
        let topic_id = Arc::new(AtomicU64::new(1));
        let id = Arc::clone(&topic_id);
        let (see, keep) = (Arc::clone(&seen), Arc::clone(&logs));
        let script: Script = Box::new(script);
        let _core =
            launch(CoreConfig { name: "fake-broker".into(), ..CoreConfig::default() }, move || async move {
                let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
                tell.send(listener.local_addr()).expect("the test waits");
                let world = Rc::new(World {
                    partitions,
                    script: RefCell::new(script),
                    seen: see,
                    logs: keep,
                    open: opened,
                    in_memory: at_memory,
                    topic_id: id,
                    connections: RefCell::default(),
                });
                let accepting = Rc::clone(&world);
                let accept = spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        Connection::start(&accepting, stream);
                    }
                });
                while let Some(command) = commands.recv().await {
                    world.obey(command);
                }
                drop(accept);
            })
            .expect("a core");
        let address = address.recv().expect("the broker listens");
        Self { address, seen, logs, open, in_memory, topic_id, control }
    }

    /// From now on the topic acknowledges in memory.
    pub fn acknowledge_in_memory(&self) {
        self.in_memory.store(true, Ordering::SeqCst);
    }

    /// A crash leaves so many batches of a partition.
    pub fn crash(&self, partition: u32, batches: usize) {
        let mut logs = self.logs.lock().expect("no panic under the lock");
        logs.entry(partition).or_default().truncate(batches);
        drop(logs);
        self.cut_all();
    }

    /// The topic is deleted and made again.
    pub fn make_topic_again(&self) {
        self.logs.lock().expect("no panic under the lock").clear();
        self.topic_id.fetch_add(1, Ordering::SeqCst);
    }

    pub fn addresses(&self) -> [String; 1] {
        [self.address.to_string()]
    }

    pub fn seen(&self, kind: Kind) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no panic under the lock");
        seen.iter().filter(|frame| frame.kind == kind).cloned().collect()
    }

    /// Connections whose other end is open.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The batches of a partition.
    pub fn log(&self, partition: u32) -> Vec<Bytes> {
        self.logs.lock().expect("no panic under the lock").get(&partition).cloned().unwrap_or_default()
    }

    pub fn cut_all(&self) {
        self.control.send_blocking(Control::CutAll).expect("the broker runs");
    }

    /// Appends a batch as if somebody else had produced it.
    pub fn push(&self, partition: u32, batch: Bytes) {
        self.control.send_blocking(Control::Push { partition, batch }).expect("the broker runs");
    }

    pub fn flood(&self, partition: u32, batch: Bytes) {
        self.control.send_blocking(Control::Flood { partition, batch }).expect("the broker runs");
    }
}

struct World {
    partitions: u32,
    script: RefCell<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
    logs: Arc<Mutex<BTreeMap<u32, Vec<Bytes>>>>,
    open: Arc<AtomicUsize>,
    in_memory: Arc<AtomicBool>,
    topic_id: Arc<AtomicU64>,
    connections: RefCell<Vec<Rc<Connection>>>,
}

struct Connection {
    number: usize,
    stream: TcpStream,
    output: RefCell<Vec<Bytes>>,
    /// Close it behind what is in the output.
    closing: Cell<bool>,
    stalled: Cell<bool>,
    /// What is put into the output does not leave yet.
    waiting: Cell<bool>,
    more: Notify,
    subscriptions: RefCell<BTreeMap<u32, Flow>>,
}

struct Flow {
    partition: u32,
    next: i64,
    credit: i64,
}

impl World {
    fn obey(&self, command: Control) {
        match command {
            Control::CutAll => {
                self.connections.borrow_mut().drain(..).for_each(|connection| connection.stream.shutdown());
            }
            Control::Push { partition, batch } => {
                self.append(partition, &batch);
            }
            Control::Flood { partition, batch } => {
                for connection in self.connections.borrow().iter() {
                    for (id, flow) in connection.subscriptions.borrow().iter() {
                        if flow.partition == partition {
                            connection.send_delivery(*id, 0, batch.clone());
                        }
                    }
                }
            }
        }
    }

    fn append(&self, partition: u32, batch: &[u8]) -> i64 {
        let base = {
            let mut logs = self.logs.lock().expect("no panic under the lock");
            let log = logs.entry(partition).or_default();
            let base = log.last().map_or(0, |last| end_of(last));
            let mut batch = BytesMut::from(batch);
            patch(&mut batch, base, 0);
            log.push(batch.freeze());
            base
        };
        for connection in self.connections.borrow().iter() {
            self.feed(connection);
        }
        base
    }

    fn end(&self, partition: u32) -> i64 {
        let logs = self.logs.lock().expect("no panic under the lock");
        logs.get(&partition).and_then(|log| log.last()).map_or(0, |last| end_of(last))
    }

    /// Pushes to the subscriptions of a connection as far as their credit goes, a batch at a time.
    fn feed(&self, connection: &Connection) {
        let logs = self.logs.lock().expect("no panic under the lock");
        for (id, flow) in connection.subscriptions.borrow_mut().iter_mut() {
            for batch in logs.get(&flow.partition).into_iter().flatten() {
                if flow.credit > 0 && end_of(batch) > flow.next {
                    flow.next = end_of(batch);
                    flow.credit -= batch.len() as i64;
                    connection.send_delivery(*id, flow.next, batch.clone());
                }
            }
        }
    }

    fn topic(&self) -> TopicMetadata {
        let partitions = (0..self.partitions).map(|partition| PartitionMetadata {
            partition,
            shard: partition % SHARDS,
            leader: 0,
            leader_epoch: 0,
        });
        let id = self.topic_id.load(Ordering::SeqCst);
        TopicMetadata { name: "orders".into(), id, partitions: partitions.collect(), config: Vec::new() }
    }
}

fn end_of(batch: &[u8]) -> i64 {
    let header = BatchHeader::parse(batch).expect("a whole batch");
    header.base_offset + i64::from(header.last_offset_delta) + 1
}

impl Connection {
    fn start(world: &Rc<World>, stream: TcpStream) {
        let connection = Rc::new(Self {
            number: world
                .seen
                .lock()
                .expect("no panic under the lock")
                .iter()
                .map(|s| s.connection + 1)
                .max()
                .unwrap_or(0),
            stream,
            output: RefCell::default(),
            closing: Cell::new(false),
            stalled: Cell::new(false),
            waiting: Cell::new(false),
            more: Notify::new(),
            subscriptions: RefCell::default(),
        });
        world.connections.borrow_mut().push(Rc::clone(&connection));
        spawn(Rc::clone(&connection).write()).detach();
        let world = Rc::clone(world);
        world.open.fetch_add(1, Ordering::SeqCst);
        spawn(async move {
            connection.read(&world).await;
            world.open.fetch_sub(1, Ordering::SeqCst);
        })
        .detach();
    }

    async fn write(self: Rc<Self>) {
        loop {
            let more = self.more.notified();
            let output = std::mem::take(&mut *self.output.borrow_mut());
            if output.is_empty() {
                more.await;
            } else if self.stream.send(output).await.is_err() {
                return;
            }
            if self.closing.get() {
                self.stream.shutdown();
                return;
            }
        }
    }

    async fn read(self: &Rc<Self>, world: &World) {
        let mut input = BytesMut::new();
        while let Ok(Some(bytes)) = self.stream.recv().await {
            input.extend_from_slice(&bytes);
            while let Some((frame, consumed)) = split_frame(&input).expect("the client sends good frames") {
                if !self.take(world, &frame) {
                    self.stream.shutdown();
                    self.subscriptions.borrow_mut().clear();
                    return;
                }
                let _ = input.split_to(consumed);
                if self.stalled.get() {
                    return std::future::pending().await;
                }
            }
        }
        self.subscriptions.borrow_mut().clear();
    }

    /// Does what the script wants with a frame. False cuts the connection.
    fn take(&self, world: &World, frame: &Frame<'_>) -> bool {
        let seen = self.see(world, frame);
        world.seen.lock().expect("no panic under the lock").push(seen.clone());
        let verdict = (world.script.borrow_mut())(&seen);
        match verdict {
            Verdict::Serve => {
                self.serve(world, frame);
                true
            }
            Verdict::ServeAndWait => {
                self.waiting.set(true);
                self.serve(world, frame);
                self.waiting.set(false);
                true
            }
            Verdict::Refuse(code) => {
                self.send(encode_error(frame.header.request, 0, code, "as the script wants").freeze());
                true
            }
            Verdict::Cut => false,
            Verdict::ServeAndCut => {
                self.serve(world, frame);
                self.output.borrow_mut().clear();
                false
            }
            Verdict::AnswerAndCut => {
                self.serve(world, frame);
                self.closing.set(true);
                true
            }
            Verdict::Ignore => true,
            Verdict::Stall => {
                self.stalled.set(true);
                true
            }
        }
    }

    fn see(&self, world: &World, frame: &Frame<'_>) -> Seen {
        let kind = frame.header.kind;
        let nth =
            world.seen.lock().expect("no panic under the lock").iter().filter(|s| s.kind == kind).count();
        let mut seen = Seen {
            connection: self.number,
            kind,
            nth,
            shard: None,
            from: None,
            credit: 0,
            partition: frame.header.handle.checked_sub(1),
        };
        match kind {
            Kind::Hello => seen.shard = frame.message::<Hello>().expect("a hello").shard,
            Kind::Subscribe => {
                let subscribe = frame.message::<Subscribe>().expect("a subscribe");
                (seen.from, seen.credit) = (Some(subscribe.from), subscribe.credit_bytes);
            }
            Kind::Credit => seen.credit = frame.message::<Credit>().expect("a credit").bytes,
            _ => {}
        }
        seen
    }

    fn serve(&self, world: &World, frame: &Frame<'_>) {
        let FrameHeader { kind, request, handle, flags, .. } = frame.header;
        let partition = handle.wrapping_sub(1);
        match kind {
            Kind::Hello => {
                let shard = frame.message::<Hello>().expect("a hello").shard.unwrap_or(0);
                let welcome = Welcome {
                    version: 1,
                    broker: "fake".into(),
                    node: 0,
                    shard,
                    shards: SHARDS,
                    max_frame_bytes: 1 << 24,
                    max_batch_bytes: 1 << 20,
                };
                self.send(try_encode(Kind::Welcome, request, 0, 0, &welcome).expect("fits").freeze());
            }
            Kind::Metadata => {
                let asked = frame.message::<MetadataRequest>().expect("a request").topics;
                let named = |name: &str| asked.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
                let topics = if named("orders") { vec![world.topic()] } else { Vec::new() };
                let unknown = asked.into_iter().flatten().filter(|name| name != "orders").collect();
                let reply = MetadataReply { shards: SHARDS, topics, unknown };
                self.send(try_encode(Kind::MetadataReply, request, 0, 0, &reply).expect("fits").freeze());
            }
            Kind::Open => {
                let partition = frame.message::<Open>().expect("an open").partition;
                let opened = Opened {
                    topic_id: world.topic_id.load(Ordering::SeqCst),
                    start_offset: 0,
                    high_watermark: world.end(partition),
                    max_batch_bytes: 1 << 20,
                    ack: if world.in_memory.load(Ordering::SeqCst) { Ack::Memory } else { Ack::Disk },
                    quarantined: false,
                };
                // A handle that says its partition makes scripts simple.
                self.send(encode(Kind::Opened, request, partition + 1, 0, &opened).freeze());
            }
            Kind::Produce => {
                let base_offset = world.append(partition, frame.payload);
                if flags != Ack::None.flags() {
                    let produced = Produced { base_offset, start_offset: 0 };
                    self.send(encode(Kind::Produced, request, handle, 0, &produced).freeze());
                }
            }
            Kind::Fetch => {
                let offset = frame.message::<Fetch>().expect("a fetch").offset;
                let logs = world.logs.lock().expect("no panic under the lock");
                let found =
                    logs.get(&partition).and_then(|log| log.iter().find(|batch| end_of(batch) > offset));
                let batch = found.cloned().unwrap_or_default();
                let fetched = Fetched { start_offset: 0, high_watermark: 0 };
                self.send(encode_with_payload(Kind::Fetched, request, 0, 0, &fetched, batch.len()).freeze());
                self.send(batch);
            }
            Kind::Subscribe => {
                let subscribe = frame.message::<Subscribe>().expect("a subscribe");
                let next = match subscribe.from {
                    Position::Begin | Position::Time(_) => 0,
                    Position::End => world.end(partition),
                    Position::Offset(offset) => offset,
                };
                let high_watermark = world.end(partition);
                let subscribed = Subscribed { next_offset: next, start_offset: 0, high_watermark };
                self.send(encode(Kind::Subscribed, request, handle, 0, &subscribed).freeze());
                let flow = Flow { partition, next, credit: i64::from(subscribe.credit_bytes) };
                self.subscriptions.borrow_mut().insert(request, flow);
                world.feed(self);
            }
            Kind::Credit => {
                let bytes = frame.message::<Credit>().expect("a credit").bytes;
                if let Some(flow) = self.subscriptions.borrow_mut().get_mut(&request) {
                    flow.credit += i64::from(bytes);
                }
                world.feed(self);
            }
            Kind::Unsubscribe => {
                let id = frame.message::<Unsubscribe>().expect("an unsubscribe").subscription;
                self.subscriptions.borrow_mut().remove(&id);
                self.send(encode(Kind::UnsubscribeReply, request, 0, 0, &()).freeze());
            }
            Kind::ListOffsets => {
                let at = frame.message::<ListOffsets>().expect("a question").at;
                let high_watermark = world.end(partition);
                let offset = if at == Position::End { high_watermark } else { 0 };
                let reply = ListOffsetsReply { offset, timestamp: -1, start_offset: 0, high_watermark };
                self.send(encode(Kind::ListOffsetsReply, request, handle, 0, &reply).freeze());
            }
            Kind::Close => self.send(encode(Kind::CloseReply, request, handle, 0, &()).freeze()),
            Kind::Ping => self.send(encode(Kind::PingReply, request, 0, 0, &()).freeze()),
            other => panic!("the fake broker does not serve {other:?}"),
        }
    }

    fn send_delivery(&self, id: u32, high_watermark: i64, batch: Bytes) {
        let body = Delivery { high_watermark };
        let head = encode_with_payload(Kind::Delivery, id, 0, 0, &body, batch.len()).freeze();
        self.output.borrow_mut().extend([head, batch]);
        self.more.notify_all();
    }

    fn send(&self, frame: Bytes) {
        self.output.borrow_mut().push(frame);
        if !self.waiting.get() {
            self.more.notify_all();
        }
    }
}
