//! What the parts of one worker share: bounds, counts, and the things they all call.

use super::pace::Pace;
use super::stats::Stats;
use crate::capability::{Attempts, Capabilities};
use crate::dead_letter::DeadLetterSink;
use crate::delivery::OnRetry;
use crate::retry::RetryPolicy;
use crate::time::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// Everything about a subscription that its shards read.
pub(super) struct Shared<H> {
    pub(super) handler: H,
    pub(super) group: Arc<str>,
    pub(super) retry: RetryPolicy,
    pub(super) timeout: Duration,
    pub(super) capabilities: Capabilities,
    pub(super) clock: Clock,
    pub(super) deadline: Duration,
    pub(super) on_retry: OnRetry,
    pub(super) dead_letters: Arc<DeadLetterSink>,
    pub(super) stats: Arc<Stats>,
    /// One permit for each handler that may be pending or running.
    pub(super) slots: Arc<Semaphore>,
    /// All of `slots`.
    pub(super) concurrency: u32,
    pub(super) in_flight: InFlight,
    pub(super) pace: Pace,
    /// Whether a suspect is in hand: see [`Shared::suspicion`].
    pub(super) suspect: watch::Sender<bool>,
    /// The last consumer, by its generation, that did not take a verdict.
    pub(super) given_up: watch::Sender<Option<u64>>,
    /// Whether a shard is gone.
    pub(super) broken: watch::Sender<bool>,
    /// The generation of the consumer that is received from.
    pub(super) generation: AtomicU64,
    /// Whether the worker stops.
    pub(super) stopping: AtomicBool,
}

/// What the attempt number of a delivery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing.
    None,
    /// It was handed out as often as a handler may have it, and no attempt came to an end: it may have killed the
    /// process, or was in hand when another message did. It is tried once more, alone.
    Suspect,
    /// It had that chance too, more than once where it may have been in hand beside another suspect.
    Convict,
}

impl<H> Shared<H> {
    /// Has a consumer replaced, where it is still the one that is received from.
    pub(super) fn give_up(&self, generation: u64) {
        self.given_up.send_if_modified(|last| {
            let newer = last.is_none_or(|last| last < generation);
            if newer {
                *last = Some(generation);
            }
            newer
        });
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Holds an attempt number against the retry policy. A process that dies counts up all that it has in hand, and
    /// only one of them is to blame; so that the others are not given up with it, each suspect runs while no other
    /// handler does, and no other suspect is in hand.
    #[inline]
    pub(super) fn suspicion(&self, attempt: u32) -> Suspicion {
        let most = self.retry.attempts;
        if attempt <= most {
            return Suspicion::None;
        }
        let chances = match self.capabilities.attempts {
            // What only lay beside the one to blame is counted up too, so a few more must not convict it.
            Attempts::Overcounted => most.saturating_mul(2),
            // One is its own. It may be in hand for a moment together with what kills the process, before it goes back.
            _ => 3,
        };
        if attempt - most <= chances { Suspicion::Suspect } else { Suspicion::Convict }
    }
}

/// How many bounds of verdicts may be on their way.
const ON_THEIR_WAY: usize = 8;

/// Counts deliveries that are handed out and not settled, so that receiving pauses at the bound. One that has its
/// verdict is a token of a few words; while that is on its way to the provider it takes up no room, up to a multiple of
/// the bound: a provider takes milliseconds for it (a commit of Kafka), which handlers need not wait for.
pub(super) struct InFlight {
    count: AtomicUsize,
    /// Those of `count` that have their verdict.
    concluded: AtomicUsize,
    bound: usize,
    room: Notify,
}

impl InFlight {
    pub(super) fn new(bound: usize) -> Self {
        InFlight { count: AtomicUsize::new(0), concluded: AtomicUsize::new(0), bound, room: Notify::new() }
    }

    /// How many verdicts are worth a call of their own though others are under way.
    pub(super) fn large(&self) -> usize {
        (self.bound / 8).max(1)
    }

    pub(super) fn add(&self, n: usize) {
        self.count.fetch_add(n, Ordering::AcqRel);
    }

    /// So many have their verdict.
    pub(super) fn conclude(&self, n: usize) {
        self.concluded.fetch_add(n, Ordering::AcqRel);
        self.room.notify_one();
    }

    /// The verdicts of so many are with the provider, or given up.
    pub(super) fn remove(&self, n: usize) {
        self.concluded.fetch_sub(n, Ordering::AcqRel);
        self.count.fetch_sub(n, Ordering::AcqRel);
        self.room.notify_one();
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Those that take up room. The count is read first: what is settled in between is then counted twice rather than
    /// not at all.
    fn open(&self) -> usize {
        let count = self.count();
        let concluded = self.concluded.load(Ordering::Acquire);
        count.saturating_sub(concluded.min(self.bound.saturating_mul(ON_THEIR_WAY)))
    }

    /// Waits until nothing is in hand. Only the receiver calls it.
    pub(super) async fn none(&self) {
        while self.count() > 0 {
            self.room.notified().await;
        }
    }

    /// Waits until there is room, and says for how many. Only the receiver calls it.
    pub(super) async fn room(&self) -> usize {
        loop {
            let room = self.bound.saturating_sub(self.open());
            if room > 0 {
                return room;
            }
            // A permit left in between makes this return at once.
            self.room.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_verdict_makes_room_before_it_is_taken_and_not_without_a_bound() {
        let hand = InFlight::new(2);
        hand.add(2);
        assert_eq!(hand.open(), 2);
        for round in 1..=ON_THEIR_WAY {
            hand.conclude(2);
            assert_eq!((hand.room().await, hand.count()), (2, 2 * round));
            hand.add(2);
        }
        hand.conclude(2);
        assert_eq!(hand.open(), 2, "too many are on their way");
        hand.remove(2);
        assert_eq!((hand.room().await, hand.count()), (2, 2 * ON_THEIR_WAY));
    }
}
