//! Makes the records of one producer, in memory that many of them share: one allocation for each arena, none for each
//! record.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::plan::Plan;
use crate::stamp::{STAMP_BYTES, Stamp};
use crate::workload::{KeySource, PayloadSource, Random, Sizes};

const ARENA_BYTES: usize = 256 << 10;
/// Streams of one seed: schedules have the even ones, records the odd ones.
const RECORD_STREAM: u64 = 1;

/// See the module.
pub struct Maker {
    sizes: Sizes,
    payload: PayloadSource,
    keys: KeySource,
    random: Random,
    arena: BytesMut,
    made: u64,
}

impl Maker {
    /// For producer `index`.
    pub fn new(plan: &Plan, index: u32) -> Maker {
        Maker {
            sizes: plan.sizes.clone(),
            payload: plan.payload.clone(),
            keys: KeySource::new(plan.keys),
            random: Random::new(plan.seed, 2 * u64::from(index) + RECORD_STREAM),
            arena: BytesMut::new(),
            made: 0,
        }
    }

    /// The next record's key, if records have keys.
    pub fn key(&mut self) -> Option<Bytes> {
        let key = self.keys.next(&mut self.random)?;
        self.make_room(24);
        // Memory takes every write.
        let _ = write!((&mut self.arena).writer(), "key-{key:012}");
        Some(self.arena.split().freeze())
    }

    /// The next record's value, with this stamp.
    pub fn value(&mut self, stamp: &Stamp) -> Bytes {
        let length = match self.payload.length(self.made) {
            Some(length) => STAMP_BYTES + length,
            None => self.sizes.next(&mut self.random),
        };
        self.make_room(length);
        self.arena.resize(length, 0);
        self.payload.fill(self.made, &mut self.random, &mut self.arena[STAMP_BYTES..]);
        stamp.write(&mut self.arena);
        self.made += 1;
        self.arena.split().freeze()
    }

    fn make_room(&mut self, length: usize) {
        if self.arena.capacity() < length {
            self.arena = BytesMut::with_capacity(ARENA_BYTES.max(length));
        }
    }
}
