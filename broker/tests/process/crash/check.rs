//! Reads a topic and tells the ledger what is there.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use ringlog_client::{Client, Position, block_on};

use super::super::helpers::patiently;
use super::ledger::{Fault, Ledger};

/// Where the partitions end.
pub fn ends(client: &Client, ledger: &Ledger) -> Result<Vec<i64>, Fault> {
    let end = |partition| {
        let mut last = None;
        let found = patiently(|wait| {
            let asked = block_on(client.admin().offsets(ledger.topic.name, partition, Position::End));
            // The client may find out only now that the broker was away.
            asked.map_err(|error| last = Some((thread::sleep(wait), error))).ok()
        });
        let words = || last.map(|(_, error)| error.to_string()).unwrap_or_default();
        let offsets = found
            .ok_or_else(|| Fault::new(format!("the end of topic {}: {}", ledger.topic.name, words())))?;
        Ok(offsets.high_watermark)
    };
    (0..ledger.topic.partitions).map(end).collect()
}

/// Reads what was not read yet, up to where the topic ends now; gives those ends.
pub fn read_on(client: &Client, ledger: &Arc<Ledger>) -> Result<Vec<i64>, Fault> {
    let ends = ends(client, ledger)?;
    read(client, ledger, ledger.ends_of_read(), ends.clone(), Ledger::read)?;
    Ok(ends)
}

/// Reads again what was read before.
pub fn read_again(client: &Client, ledger: &Arc<Ledger>) -> Result<(), Fault> {
    let ends = ledger.ends_of_read();
    read(client, ledger, vec![0; ends.len()], ends, Ledger::read_again)
}

type Note = fn(&Ledger, u32, i64, &[u8]) -> Result<(), Fault>;

/// On a thread of its own, so that records that do not come are a fault and no hang.
fn read(
    client: &Client,
    ledger: &Arc<Ledger>,
    from: Vec<i64>,
    ends: Vec<i64>,
    note: Note,
) -> Result<(), Fault> {
    let (tell, told) = channel();
    let (client, reading, until) = (client.clone(), Arc::clone(ledger), ends.clone());
    thread::spawn(move || {
        let mut next = from;
        let outcome =
            read_until(&client, &reading, &mut next, &until, note, |at| tell.send(Ok(at.to_vec())).is_ok());
        // Nobody listens any more when the time is up.
        let _ = tell.send(outcome.map(|()| until));
    });
    let mut at = Vec::new();
    while at != ends {
        match patiently(|wait| told.recv_timeout(wait).ok()) {
            Some(progress) => at = progress?,
            None => {
                let name = ledger.topic.name;
                return Err(Fault::new(format!(
                    "topic {name} ends at {ends:?}, and nothing came behind {at:?}"
                )));
            }
        }
    }
    Ok(())
}

fn read_until(
    client: &Client,
    ledger: &Ledger,
    next: &mut [i64],
    ends: &[i64],
    note: Note,
    progress: impl Fn(&[i64]) -> bool,
) -> Result<(), Fault> {
    let open = |next: &[i64]| next.iter().zip(ends).any(|(next, end)| next < end);
    if !open(next) {
        return Ok(());
    }
    let from: Vec<_> =
        next.iter().enumerate().map(|(partition, offset)| (partition as u32, *offset)).collect();
    let building = client.consumer(ledger.topic.name).from_offsets(from).build();
    let mut consumer = block_on(building).map_err(Fault::of("a consumer that checks"))?;
    let mut batches = consumer.batches();
    while open(next) {
        let batch = block_on(batches.next()).ok_or_else(|| Fault::new("a consumer that checks has ended"))?;
        let batch = batch.map_err(Fault::of("a consumer that checks"))?;
        for record in &batch.records {
            note(ledger, record.partition, record.offset, record.value.as_deref().unwrap_or_default())?;
            next[record.partition as usize] = record.offset + 1;
        }
        if !progress(next) {
            break;
        }
    }
    Ok(())
}
