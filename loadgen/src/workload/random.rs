//! The generator of everything random here.

/// SplitMix64 (Steele, Lea, Flood 2014): full-period from any seed, and about as fast as a copy.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of one user of a seed: streams of different numbers do not meet in practice.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random { state: seed };
        let start = random.u64() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        Random { state: start }
    }

    /// 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in (0, 1]: never zero, so that its logarithm exists.
    pub fn unit(&mut self) -> f64 {
        ((self.u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform, 0 ≤ result < bound; the bias is below bound / 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Fills `bytes` with what no codec can make smaller.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.u64().to_le_bytes());
        }
        let rest = words.into_remainder();
        rest.copy_from_slice(&self.u64().to_le_bytes()[..rest.len()]);
    }
}
