//! What deliveries cost their shard of late, and what follows from it: how many shards a batch is worth, and how long a
//! turn may be.
//!
//! Waking another thread takes tens of microseconds, and what two threads share goes to and fro between them. A batch of
//! deliveries that cost less than that altogether is done sooner by one shard; where each is work, all shards get some.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long one shard may have its hands full before another is worth waking.
const LIGHT: Duration = Duration::from_micros(250);
/// How long a shard may go on before other tasks get their turn.
const TURN: Duration = Duration::from_millis(2);
/// The most handlers that are started in one turn, however light they are.
const MOST_STARTS: u64 = 1024;
/// What a delivery is taken to cost before any was handled: work, so that every shard gets some.
const UNKNOWN: Duration = Duration::from_millis(1);

/// The cost of a delivery in a shard: handler, settling, and everything between.
#[derive(Debug)]
pub(super) struct Pace {
    /// Nanoseconds, at least 1. Shards overwrite each other's: any of them will do.
    cost: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { cost: AtomicU64::new(UNKNOWN.as_nanos() as u64) }
    }

    /// A shard was busy for so long, and so many deliveries have their verdict.
    pub(super) fn note(&self, busy: Duration, concluded: usize) {
        let seen = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX) / concluded.max(1) as u64;
        let known = self.cost.load(Ordering::Relaxed);
        // A turn during which the thread had to wait for a processor tells nothing, so one alone does not count for much;
        // what is dear now is believed sooner than what is cheap.
        let cost = if seen > known { seen.min(known.saturating_mul(4)) } else { known - (known - seen) / 4 };
        self.cost.store(cost.max(1), Ordering::Relaxed);
    }

    /// How many of so many shards a batch of this size is worth.
    pub(super) fn shards(&self, batch: usize, most: usize) -> usize {
        let whole = self.cost.load(Ordering::Relaxed).saturating_mul(batch as u64);
        usize::try_from(whole / LIGHT.as_nanos() as u64).unwrap_or(usize::MAX).saturating_add(1).min(most)
    }

    /// How many handlers may be started in one turn.
    pub(super) fn starts(&self) -> usize {
        let starts = TURN.as_nanos() as u64 / self.cost.load(Ordering::Relaxed);
        starts.clamp(1, MOST_STARTS) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_or_work_is_for_all_shards_and_what_is_light_for_one() {
        let pace = Pace::new();
        assert_eq!((pace.shards(16, 4), pace.starts()), (4, 2));
        for _ in 0..100 {
            pace.note(Duration::from_micros(20), 100);
        }
        assert_eq!((pace.shards(1024, 4), pace.starts() as u64), (1, MOST_STARTS));
        assert_eq!(pace.shards(4096, 4), 4);
        for _ in 0..10 {
            pace.note(Duration::from_millis(1), 1);
        }
        assert_eq!((pace.shards(2, 4), pace.shards(1024, 4), pace.starts()), (4, 4, 2));
    }

    #[test]
    fn one_turn_that_was_kept_waiting_changes_little() {
        let pace = Pace::new();
        for _ in 0..100 {
            pace.note(Duration::from_micros(10), 100);
        }
        pace.note(Duration::from_millis(10), 100);
        assert_eq!((pace.shards(256, 4), pace.starts() as u64), (1, MOST_STARTS));
        pace.note(Duration::ZERO, 0);
        pace.note(Duration::MAX, 1);
        assert!(pace.starts() >= 1);
    }
}
