//! A stranger: does not keep to the protocol. It must cost nobody else anything.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringlog_protocol::messages::{Hello, Open};
use ringlog_protocol::{Kind, try_encode};
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

async fn visit(stage: &Stage, dice: &mut Dice) -> std::io::Result<()> {
    let address = BROKER_ADDRESS.parse().expect("an address");
    let stream = TcpStream::connect(address).await?;
    sim::reached("stranger");
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
