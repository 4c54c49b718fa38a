//! How a batch becomes an entry of the log: its final offset and leader epoch in it, and the broker's time if the topic wants
//! that; its envelope in front, its CRC checked; in the same pass as a copy, or where it lies.

use bytes::{BufMut, BytesMut};
use ringlog_protocol::batch::{self, BatchError, BatchHeader};

use crate::format::envelope::{ENVELOPE_BYTES, EntryKind, Envelope, PREFIX_BYTES};
use crate::partition_id::PartitionId;

/// Bytes copied and summed at a time: they are still in the first cache when they are summed.
const COPY_STEP_BYTES: usize = 16 << 10;

/// Copies a batch behind what `out` holds, as an entry. Returns the envelope's checksum; after an error `out` is as it was.
pub(crate) fn copy_in(
    out: &mut BytesMut,
    id: PartitionId,
    kind: EntryKind,
    batch: &[u8],
    header: &BatchHeader,
) -> Result<u32, BatchError> {
    let before = out.len();
    let mut front = [0; batch::HEADER_BYTES];
    front.copy_from_slice(&batch[..batch::HEADER_BYTES]);
    batch::patch(&mut front, header.base_offset, header.leader_epoch);
    if header.is_log_append_time() {
        batch::stamp(&mut front, header);
    }
    let prefix = front.first_chunk::<PREFIX_BYTES>().expect("a header is longer than its prefix");
    let envelope = Envelope::of(id, kind, batch.len() as u32, prefix);
    out.put_slice(&envelope.encode());
    out.put_slice(prefix);
    let mut crc = 0;
    for step in batch[PREFIX_BYTES..].chunks(COPY_STEP_BYTES) {
        out.put_slice(step);
        crc = crc32c::crc32c_append(crc, step);
    }
    if crc == header.crc {
        if header.is_log_append_time() {
            let batch = before + ENVELOPE_BYTES;
            out[batch..batch + batch::HEADER_BYTES].copy_from_slice(&front);
        }
        return Ok(envelope.crc);
    }
    out.truncate(before);
    Err(BatchError::Crc { stated: header.crc, computed: crc })
}

/// Makes an entry of a batch that lies in memory behind room for its envelope. After an error the memory is as it was.
pub(crate) fn finish_in_place(
    memory: &mut [u8],
    id: PartitionId,
    kind: EntryKind,
    header: &BatchHeader,
) -> Result<(), BatchError> {
    let (front, batch) = memory.split_at_mut(ENVELOPE_BYTES);
    batch::verify_crc(header, batch)?;
    batch::patch(batch, header.base_offset, header.leader_epoch);
    if header.is_log_append_time() {
        batch::stamp(batch, header);
    }
    let prefix = batch.first_chunk::<PREFIX_BYTES>().expect("a batch is longer than its prefix");
    front.copy_from_slice(&Envelope::of(id, kind, batch.len() as u32, prefix).encode());
    Ok(())
}
