//! Which partition a key belongs to: Kafka's default partitioner, so that placement agrees with Kafka's clients.

/// The partition of a key among `partitions`: Kafka's `toPositive(murmur2(key)) % partitions`.
///
/// # Panics
/// If `partitions` is zero: a topic has at least one.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has at least one partition");
    (murmur2(key) as u32 & 0x7fff_ffff) % partitions
}

/// MurmurHash2, 32 bits, as in Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_agree_with_kafkas_own_vectors() {
        // From Kafka's UtilsTest.testMurmur2.
        let vectors: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_not_its_magnitude() {
        // toPositive masks the sign bit; abs() would place "foobar" elsewhere.
        assert_eq!(partition_for_key(b"foobar", 1000), ((-790332482_i32 & 0x7fff_ffff) % 1000) as u32);
    }

    #[test]
    fn every_key_lands_inside_the_topic() {
        for partitions in [1, 2, 3, 7, 10_000] {
            for key in 0..1000_u32 {
                assert!(partition_for_key(&key.to_be_bytes(), partitions) < partitions);
            }
        }
    }
}
