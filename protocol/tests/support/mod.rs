//! Seeded randomness for the fuzz tests: the same cases on every run.

/// Xorshift, 64 bits.
pub struct Random(u64);

impl Random {
    /// The sequence of this seed, which is not zero.
    pub fn new(seed: u64) -> Random {
        assert_ne!(seed, 0, "zero stays zero");
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 11) % end as u64) as usize
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// One to three faults of the sorts that break decoders: flipped bits, extreme numbers, bytes lost, added and repeated.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(3) {
            self.mutate_once(bytes);
        }
    }

    fn mutate_once(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(self.next() as u8);
            return;
        }
        let at = self.below(bytes.len());
        match self.below(8) {
            0 | 1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            3 => bytes[at] = self.next() as u8,
            4 => {
                let end = bytes.len().min(at + 4);
                bytes[at..end].fill([0, 0xff][self.below(2)]);
            }
            5 => bytes.truncate(at),
            6 => bytes.insert(at, self.next() as u8),
            _ => {
                let from = self.below(bytes.len());
                let length = (1 + self.below(8)).min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + length, at);
            }
        }
    }
}
