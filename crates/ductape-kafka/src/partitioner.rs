//! Which partition a key lies in: as the Java client has it, so that both put a key in the same place.

use rdkafka::producer::Partitioner;
use std::sync::atomic::{AtomicU32, Ordering};

/// Murmur2 of the key; messages without one go round, so that members of a group have equal shares.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    next: AtomicU32,
}

impl Partitioner for Placement {
    fn partition(
        &self,
        _topic: &str,
        key: Option<&[u8]>,
        count: i32,
        is_available: impl Fn(i32) -> bool,
    ) -> i32 {
        match key {
            Some(key) => of_key(key, count),
            None => self.round(count, is_available),
        }
    }
}

impl Placement {
    /// The next one whose leader is known; where none is, the next one all the same.
    fn round(&self, count: i32, is_available: impl Fn(i32) -> bool) -> i32 {
        let count = count.unsigned_abs().max(1);
        let mut first = None;
        for _ in 0..count {
            let next = (self.next.fetch_add(1, Ordering::Relaxed) % count).cast_signed();
            if is_available(next) {
                return next;
            }
            first.get_or_insert(next);
        }
        first.unwrap_or(0)
    }
}

/// The partition of a key among so many (Kafka's `BuiltInPartitioner.partitionForKey`).
fn of_key(key: &[u8], count: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff).cast_signed();
    positive % count.max(1)
}

/// Austin Appleby's MurmurHash2 with the seed of Kafka's clients (`Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    #[expect(clippy::cast_possible_truncation, reason = "the hash is defined over 32 bits of the length")]
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * n);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_that_of_kafkas_own_tests() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn a_key_stays_where_it_is() {
        let placement = Placement::default();
        for key in ["", "a", "N12345"] {
            let there = placement.partition("t", Some(key.as_bytes()), 7, |_| false);
            assert!((0..7).contains(&there));
            assert_eq!(placement.partition("t", Some(key.as_bytes()), 7, |_| true), there);
        }
    }

    #[test]
    fn without_a_key_all_partitions_get_the_same_and_those_without_a_leader_nothing() {
        let placement = Placement::default();
        let mut counts = [0; 4];
        (0..40).for_each(|_| counts[placement.partition("t", None, 4, |_| true) as usize] += 1);
        assert_eq!(counts, [10; 4]);
        assert!((0..40).all(|_| placement.partition("t", None, 4, |n| n == 2) == 2));
        assert!((0..4).contains(&placement.partition("t", None, 4, |_| false)));
    }
}
