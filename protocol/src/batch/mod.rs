//! Kafka's record batch v2: the unit on the wire, in memory, on disk and between replicas. Big-endian.
//!
//! ```text
//!   0 base offset i64      8 batch length i32 (bytes after this field)   12 leader epoch i32   16 magic i8 = 2
//!  17 CRC-32C u32 over everything from 21 on
//!  21 attributes i16      23 last offset delta i32      27 base timestamp i64      35 max timestamp i64
//!  43 producer id i64     51 producer epoch i16         53 base sequence i32       57 record count i32
//!  61 records, one after another, perhaps compressed as a whole
//! ```
//! Source: Kafka's documentation, "Message Format", and KIP-98. A broker checks the header ([`header`], [`check`])
//! and that the records can be read ([`walk`]); a client writes ([`builder`]) and reads ([`record`]) what is inside.

pub mod builder;
pub mod check;
mod error;
pub mod header;
pub mod record;
pub(crate) mod varint;
pub mod walk;

pub use builder::{BatchBuilder, PushError};
pub use check::{check_for_produce, split_batches, verify_crc};
pub use error::BatchError;
pub use header::{
    BatchHeader, CRC_FROM, Compression, HEADER_BYTES, NO_TIMESTAMP, crc_of, patch, records_section, stamp,
};
pub use record::{Header, Headers, Record, RecordError, RecordIter};
pub use walk::{RecordFault, RecordsError, Walked, check_records};
