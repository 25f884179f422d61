//! Which partition a key lies in: as the Java client has it, so that both put a key in the same place.

use rdkafka::producer::Partitioner;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Murmur2 of the key. Messages without one go round, so that members of a group have equal shares: one by one, and
/// in runs while many come, since what each partition gets of a moment is a batch of its own for the cluster to write.
#[derive(Debug)]
pub(crate) struct Placement(Mutex<Run>);

/// Messages in a row that go to one partition.
#[derive(Debug)]
struct Run {
    partition: u32,
    length: u32,
    left: u32,
    began: Instant,
    /// Messages that came without a pause.
    steady: u32,
}

/// The longest run.
const LONGEST: u32 = 64;
/// A run is this part of what came without a pause, so that a burst still goes to all partitions alike.
const PART: u32 = 16;
/// A run that took longer had a pause in it.
const PAUSE: Duration = Duration::from_millis(5);

impl Default for Placement {
    fn default() -> Self {
        Placement(Mutex::new(Run { partition: 0, length: 1, left: 1, began: Instant::now(), steady: 0 }))
    }
}

impl Run {
    /// The partition of the next message, not yet bounded by how many there are.
    fn next(&mut self, now: impl Fn() -> Instant) -> u32 {
        if self.left == 0 {
            let now = now();
            let paused = now.saturating_duration_since(self.began) > PAUSE;
            self.steady = if paused { 0 } else { self.steady.saturating_add(self.length) };
            self.length = (self.steady / PART).clamp(1, LONGEST);
            (self.partition, self.left, self.began) = (self.partition.wrapping_add(1), self.length, now);
        }
        self.left -= 1;
        self.partition
    }
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
    /// The run's, or the next after it whose leader is known; where none is, the run's all the same.
    fn round(&self, count: i32, is_available: impl Fn(i32) -> bool) -> i32 {
        let count = count.unsigned_abs().max(1);
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now);
        let partition = |step: u32| (first.wrapping_add(step) % count).cast_signed();
        (0..count).map(partition).find(|number| is_available(*number)).unwrap_or_else(|| partition(0))
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

    /// How long each run is, of messages that come `every` so often.
    fn runs(run: &mut Run, messages: u32, every: Duration) -> Vec<u32> {
        let began = Instant::now();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for message in 0..messages {
            let partition = run.next(|| began + every * message);
            match runs.last_mut() {
                Some((last, length)) if *last == partition => *length += 1,
                _ => runs.push((partition, 1)),
            }
        }
        runs.into_iter().map(|(_, length)| length).collect()
    }

    #[test]
    fn runs_grow_while_messages_come_fast_and_a_pause_ends_them() {
        let mut run = Placement::default().0.into_inner().unwrap();
        let fast = runs(&mut run, 10_000, Duration::from_micros(20));
        let whole = &fast[..fast.len() - 1];
        assert!(
            whole[..PART as usize].iter().all(|length| *length == 1),
            "a burst goes round one by one: {fast:?}"
        );
        assert!(whole.is_sorted() && whole.last() == Some(&LONGEST), "{fast:?}");
        let slow = runs(&mut run, 200, PAUSE * 2);
        assert!(slow.len() > 100, "{slow:?}");
        let rest = &slow[2..];
        assert!(rest.iter().all(|length| *length == 1), "what comes now and then goes round: {slow:?}");
    }
}
