//! What becomes of what is held when its lease is renewed, runs out, or should be another's.

use super::{Held, Outstanding};
use ductape_core::Key;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long deliveries wait here before others get them.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// Those beyond the bound.
    pub(crate) beyond: Duration,
    /// Those whose lease ran out here, since somebody last asked.
    pub(crate) unasked: Duration,
}

impl Held {
    /// Its key, where its destination is ordered.
    fn key(&self) -> Option<Key> {
        self.delivery.as_ref().and_then(|delivery| delivery.message.key.clone())
    }
}

impl Outstanding {
    /// Lets go of one that is no longer ours, and of those that wait behind it with its key: the service delivers all of
    /// them again, in their order, and handed out now they would overtake it.
    pub(crate) fn lose(&mut self, number: u64) {
        let lost = self.remove(number).as_ref().and_then(Held::key);
        if !self.ordered || lost.is_none() {
            return;
        }
        let behind = |number: &&u64| self.open.get(number).and_then(Held::key) == lost;
        let behind: Vec<_> = self.ready.range(number..).filter(behind).copied().collect();
        for number in behind {
            self.remove(number);
        }
    }

    /// Forgets what was handed out and is no longer ours, so that it takes no place of what comes. It may come again here
    /// as well as anywhere else.
    pub(crate) fn forget_lost(&mut self, now: Instant) {
        let is_lost = |held: &Held| held.is_handed && held.until <= now;
        let lost: Vec<_> = self.open.iter().filter(|(_, held)| is_lost(held)).map(|(n, _)| *n).collect();
        for number in lost {
            self.lapse(number);
        }
    }

    /// Loses one whose lease ran out in somebody's hands.
    pub(super) fn lapse(&mut self, number: u64) {
        self.lapsed.extend(self.open.get(&number).map(|held| held.message_id.clone()));
        self.lose(number);
    }

    /// Lets go of what others should have: what waits here beyond the bound, the latest first, and what lapsed here where
    /// nobody has asked for long. The ack ids. What has a place in an order stays, since others of its key are here.
    pub(crate) fn surplus(&mut self, bound: usize, patience: Patience, now: Instant) -> Vec<String> {
        let mut over = self.open.len().saturating_sub(bound);
        let is_asked = now.saturating_duration_since(self.asked) < patience.unasked;
        if over == 0 && (is_asked || self.lapsed.is_empty()) {
            return Vec::new();
        }
        let waits = |held: &Held| held.until <= now + self.lease.saturating_sub(patience.beyond);
        let is_free = |held: &Held| {
            !self.ordered || held.delivery.as_ref().is_none_or(|delivery| delivery.message.key.is_none())
        };
        let mut goes = |number: &u64| {
            let Some(held) = self.open.get(number).filter(|held| waits(held) && is_free(held)) else {
                return false;
            };
            let is_over = over > 0;
            over = over.saturating_sub(1);
            is_over || (!is_asked && self.lapsed.contains(&held.message_id))
        };
        let surplus: Vec<_> = self.ready.iter().rev().copied().filter(|number| goes(number)).collect();
        surplus.into_iter().filter_map(|number| self.remove(number)).map(|held| held.ack_id).collect()
    }

    /// The ack ids of what is ours to give back, in the order in which it arrived, without what the server is being told
    /// is done: that would come again if it were given back first. Of an order that is all up to there: with one left out
    /// that the service may still count as ours, those behind it would come before it.
    pub(crate) fn ours(&self, now: Instant) -> Vec<String> {
        let mut left_out = HashSet::new();
        let mut is_ours = |held: &&Held| {
            if held.is_acking {
                left_out.extend(held.key());
                return false;
            }
            if self.ordered {
                held.key().is_none_or(|key| !left_out.contains(&key))
            } else {
                held.until > now
            }
        };
        self.open.values().filter(|held| is_ours(held)).map(|held| held.ack_id.clone()).collect()
    }

    /// The ack ids of everything that is held, whose lease has not run out, and which somebody may still settle.
    pub(crate) fn leased(&self, now: Instant) -> Vec<(u64, String)> {
        let leased = self.open.iter().filter(|(_, held)| held.until > now && !held.is_doubtful);
        leased.map(|(number, held)| (*number, held.ack_id.clone())).collect()
    }

    /// The leases of these run on from `now`.
    pub(crate) fn extended(&mut self, numbers: impl IntoIterator<Item = u64>, now: Instant) {
        for number in numbers {
            if let Some(held) = self.open.get_mut(&number) {
                held.until = held.until.max(now + self.lease);
            }
        }
    }
}
