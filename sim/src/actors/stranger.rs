//! A stranger: does not keep to the protocol. It must cost nobody else anything.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringlog_protocol::batch::{BatchBuilder, BatchHeader, HEADER_BYTES, crc_of};
use ringlog_protocol::messages::{Hello, Open};
use ringlog_protocol::{Ack, Kind, encode_with_payload, split_frame, try_encode};
use ringlog_reactor::net::TcpStream;
use ringlog_reactor::{sim, timeout};

use crate::random::Dice;
use crate::stage::{BROKER_ADDRESS, Stage};

/// How long it stays at most.
const STAY: Duration = Duration::from_secs(40);

/// Comes again and again until the stage finishes.
pub async fn run(stage: Rc<Stage>, mut dice: Dice) {
    let _part = stage.enter();
    loop {
        let life = stage.life();
        for _ in 0..4 {
            let _ = timeout(STAY, visit(&stage, &mut dice)).await;
        }
        if !stage.next_life(life).await {
            return;
        }
    }
}

/// Keeps to the protocol, and produces batches that no reader could read. If the broker takes one, a reader says so.
async fn produce_unreadable(stream: &TcpStream, dice: &mut Dice) -> std::io::Result<()> {
    let hello = try_encode(Kind::Hello, 1, 0, 0, &Hello::new("stranger", None)).expect("a short name fits");
    ask(stream, hello).await?;
    let open = Open { topic: "topic-0".into(), partition: 0 };
    let open = try_encode(Kind::Open, 2, 0, 0, &open).expect("a short name fits");
    let (kind, handle) = ask(stream, open).await?;
    if kind != Kind::Opened {
        return Ok(());
    }
    for request in 3..3 + dice.within(1..6) as u32 {
        let batch = unreadable(dice);
        let mut frame =
            encode_with_payload(Kind::Produce, request, handle, Ack::Memory.flags(), &(), batch.len());
        frame.extend_from_slice(&batch);
        if ask(stream, frame).await?.0 == Kind::Error {
            sim::reached("unreadable batch refused");
        }
    }
    Ok(())
}

/// A batch with a sound header and checksum, and records that are none.
fn unreadable(dice: &mut Dice) -> BytesMut {
    let mut builder = BatchBuilder::new(1 << 16);
    for _ in 0..dice.within(1..4) {
        builder.push(0, None, Some(b"unreadable"), []).expect("a few records fit");
    }
    let mut batch = BytesMut::from(&builder.finish_plain()[..]);
    match dice.within(0..3) {
        // A record more than there is.
        0 => {
            let records = count_of(&batch) + 1;
            batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
            batch[57..61].copy_from_slice(&records.to_be_bytes());
        }
        // What is said to be compressed, and is not.
        1 => batch[22] = dice.within(1..5) as u8,
        // The length of the first record.
        _ => batch[HEADER_BYTES] ^= 2,
    }
    let crc = crc_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn count_of(batch: &[u8]) -> i32 {
    BatchHeader::parse(batch).expect("a batch was built").record_count
}

/// Sends one frame and gives the kind and the handle of the next that comes.
async fn ask(stream: &TcpStream, frame: BytesMut) -> std::io::Result<(Kind, u32)> {
    stream.send(vec![frame.freeze()]).await?;
    let mut received = BytesMut::new();
    loop {
        match split_frame(&received) {
            Ok(Some((frame, _))) => return Ok((frame.header.kind, frame.header.handle)),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        match stream.recv().await? {
            Some(more) => received.extend_from_slice(&more),
            None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn visit(stage: &Stage, dice: &mut Dice) -> std::io::Result<()> {
    let address = BROKER_ADDRESS.parse().expect("an address");
    let stream = TcpStream::connect(address).await?;
    sim::reached("stranger");
    if dice.once_in(4) {
        return produce_unreadable(&stream, dice).await;
    }
    let hello = try_encode(Kind::Hello, 1, 0, 0, &Hello::new("stranger", None)).expect("a short name fits");
    if dice.once_in(2) {
        stream.send(vec![hello.clone().freeze()]).await?;
    }
    let open = Open { topic: "topic-0".into(), partition: 0 };
    let mut frame = try_encode(Kind::Open, 2, 0, 0, &open).expect("a short name fits").to_vec();
    match dice.within(0..5) {
        // Says nothing at all.
        0 => stage.pause(Duration::from_millis(dice.any_magnitude(1..30_000))).await,
        // Half a frame, then nothing.
        1 => {
            frame.truncate(frame.len() / 2);
            stream.send(vec![frame.into()]).await?;
            stage.pause(Duration::from_millis(dice.any_magnitude(1..30_000))).await;
        }
        // One byte at a time.
        2 => {
            for byte in hello.iter().copied() {
                stream.send(vec![Bytes::copy_from_slice(&[byte])]).await?;
                stage.pause(Duration::from_micros(dice.any_magnitude(1..10_000))).await;
            }
        }
        // A frame with a wrong byte.
        3 => {
            let at = dice.within(0..frame.len() as u64) as usize;
            frame[at] ^= dice.within(1..256) as u8;
            stream.send(vec![frame.into()]).await?;
            let _ = timeout(Duration::from_secs(1), stream.recv()).await;
        }
        // Noise.
        _ => {
            let noise: Vec<u8> = (0..dice.any_magnitude(1..5_000)).map(|_| dice.next() as u8).collect();
            stream.send(vec![noise.into()]).await?;
            let _ = timeout(Duration::from_secs(1), stream.recv()).await;
        }
    }
    Ok(())
}
