//! One connection's protocol by itself, for the benchmark that counts its instructions. Not for applications.

use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::messages::{Position, Welcome};
use ringlog_protocol::{Ack, Kind, try_encode};
use ringlog_reactor::Instant;

use crate::session::Session;

/// A session whose handshake is over. Time stands still.
#[derive(Debug)]
pub struct SessionProbe {
    session: Session<u32>,
    output: Vec<Bytes>,
    now: Instant,
}

impl SessionProbe {
    /// A session that has been welcomed.
    ///
    /// # Panics
    /// If the session does not take a good `Welcome`.
    #[allow(clippy::new_without_default, reason = "there is nothing that a default would mean")]
    pub fn new() -> SessionProbe {
        let now = ringlog_reactor::now();
        let session = Session::new("probe", None, Duration::from_secs(60), now).expect("a short name fits");
        let mut probe = SessionProbe { session, output: Vec::new(), now };
        let welcome = Welcome {
            version: ringlog_protocol::PROTOCOL_VERSION,
            broker: "probe".into(),
            node: 0,
            shard: 0,
            shards: 1,
            max_frame_bytes: 1 << 20,
            max_batch_bytes: 1 << 20,
        };
        let welcome = try_encode(Kind::Welcome, 0, 0, 0, &welcome).expect("a short name fits");
        probe.sent();
        probe.receive(&welcome);
        probe
    }

    /// Sends a batch, whose request has the next number from 1; gives how many bytes go out.
    pub fn produce(&mut self, handle: u32, ack: Ack, batch: Bytes) -> usize {
        self.session.produce(self.now, handle, ack, batch, handle);
        self.sent()
    }

    /// Begins a subscription and gives its id.
    pub fn subscribe(&mut self, handle: u32, credit_bytes: u32) -> u32 {
        let id = self.session.subscribe(self.now, handle, Position::Begin, credit_bytes, handle);
        self.sent();
        id
    }

    /// Takes what a broker sent; gives how many events came of it.
    ///
    /// # Panics
    /// If the broker does not keep to the protocol.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        self.session.receive(self.now, bytes).expect("good frames");
        std::iter::from_fn(|| self.session.next_event()).count()
    }

    /// Hands everything over that is to be sent; gives its bytes.
    fn sent(&mut self) -> usize {
        self.output.clear();
        self.session.take_output(&mut self.output);
        self.output.iter().map(Bytes::len).sum()
    }
}
