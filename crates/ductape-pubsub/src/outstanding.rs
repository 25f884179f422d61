//! What a consumer holds: deliveries that arrived, those that it handed out, and the ack ids that settle them.
//!
//! ```text
//!  arrives ─▶ ready ─▶ handed out ─▶ acknowledged, given back, or its lease ran out
//!               ▲          │
//!               └──────────┘ of an ordered destination a retry goes no further than this: given back to the server, it
//!                            would come behind later ones of its key
//! ```
//!
//! Pub/Sub may deliver again what is still held, with a new ack id. Then only the ack id is replaced: nobody gets a
//! message twice at once.

mod leases;

pub(crate) use leases::Patience;

use ductape_core::{Delivery, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// By which part of a lease it may have ended at the server already, whose clock began earlier.
const EARLIER: u32 = 10;

/// Everything that a consumer holds, by the number that it gave each.
pub(crate) struct Outstanding {
    open: BTreeMap<u64, Held>,
    by_message: HashMap<String, u64>,
    /// What is to be handed out, in the order in which it arrived.
    ready: BTreeSet<u64>,
    handed: usize,
    next: u64,
    ordered: bool,
    lease: Duration,
    /// When somebody last asked for deliveries.
    asked: Instant,
    /// Those whose lease ran out here since somebody last asked: where they come again, others should have them. No more
    /// than were handed out by then.
    lapsed: HashSet<String>,
}

struct Held {
    ack_id: String,
    message_id: String,
    /// When the lease ends, as far as we know.
    until: Instant,
    is_handed: bool,
    /// Whether the server is being told that it is done.
    is_acking: bool,
    /// Whether an acknowledgement of it failed: it may be tried again, and else must come again.
    is_doubtful: bool,
    /// Kept while it may have to be handed out.
    delivery: Option<Delivery>,
}

/// What comes of a verdict.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: it waits here to be handed out again.
    Nothing,
    /// It is no longer ours.
    Lost,
    /// The server is to be told that it is done; it is held until [`Outstanding::acked`].
    Ack(String),
    /// The server is to be told that it is free.
    Nack(String),
}

impl Outstanding {
    pub(crate) fn new(ordered: bool, lease: Duration) -> Self {
        Outstanding {
            open: BTreeMap::new(),
            by_message: HashMap::new(),
            ready: BTreeSet::new(),
            handed: 0,
            next: 0,
            ordered,
            lease,
            asked: Instant::now(),
            lapsed: HashSet::new(),
        }
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many are handed out.
    pub(crate) fn handed(&self) -> usize {
        self.handed
    }

    /// Whether there is something to hand out within this bound.
    pub(crate) fn has_ready(&self, bound: usize) -> bool {
        self.handed < bound && !self.ready.is_empty()
    }

    /// Takes in what arrived. `delivery` is made with the number that it gets, where it is not held already.
    pub(crate) fn arrive(
        &mut self,
        ack_id: String,
        message_id: String,
        now: Instant,
        delivery: impl FnOnce(u64) -> Delivery,
    ) {
        let until = now + self.lease;
        if let Some(number) = self.by_message.get(&message_id).copied()
            && let Some(held) = self.open.get_mut(&number)
        {
            // One that comes at the end of its lease came because of that.
            let is_ours = held.until > now + self.lease / EARLIER && !held.is_doubtful;
            if is_ours || !held.is_handed {
                (held.ack_id, held.until) = (ack_id, until);
                return;
            }
            self.lapse(number);
        }
        let number = self.next;
        self.next += 1;
        self.by_message.insert(message_id.clone(), number);
        let delivery = Some(delivery(number));
        self.open.insert(
            number,
            Held {
                ack_id,
                message_id,
                until,
                is_handed: false,
                is_acking: false,
                is_doubtful: false,
                delivery,
            },
        );
        self.ready.insert(number);
    }

    /// Hands out up to `max`, and no more than `bound` in all.
    pub(crate) fn take(&mut self, max: usize, bound: usize, now: Instant) -> Vec<Delivery> {
        self.asked = now;
        self.lapsed.clear();
        let mut taken = Vec::with_capacity(max.min(self.ready.len()));
        while taken.len() < max
            && self.handed < bound
            && let Some(number) = self.ready.pop_first()
        {
            let Some(held) = self.open.get_mut(&number) else { continue };
            if held.until <= now {
                self.lose(number);
                continue;
            }
            let delivery = if self.ordered { held.delivery.clone() } else { held.delivery.take() };
            held.is_handed = true;
            self.handed += 1;
            taken.extend(delivery);
        }
        taken
    }

    /// Says what is to be done for a verdict.
    pub(crate) fn settle(&mut self, number: u64, verdict: Verdict, now: Instant) -> Told {
        // Settled before, or its lease ran out: nobody remembers which.
        let Some(held) = self.open.get_mut(&number) else { return Told::Lost };
        if !held.is_handed {
            return Told::Nothing;
        }
        // At its end it may be another's by now. An acknowledgement does no harm then, and may still hold; to give it
        // back would take it from whoever has it, and to keep it would double it.
        let doubtful = if verdict == Verdict::Ack { Duration::ZERO } else { self.lease / EARLIER };
        if held.until <= now + doubtful {
            self.lose(number);
            return Told::Lost;
        }
        match (verdict, &mut held.delivery) {
            (Verdict::Ack, _) => {
                held.is_acking = true;
                Told::Ack(held.ack_id.clone())
            }
            (verdict, Some(delivery)) => {
                delivery.attempt += u32::from(matches!(verdict, Verdict::Retry(_)));
                held.is_handed = false;
                self.handed -= 1;
                self.ready.insert(number);
                Told::Nothing
            }
            // At once: it may be back before the server has answered.
            (_, None) => self.remove(number).map_or(Told::Nothing, |held| Told::Nack(held.ack_id)),
        }
    }

    /// The server has the acknowledgement of this one.
    pub(crate) fn acked(&mut self, number: u64) {
        self.remove(number);
    }

    /// Nobody knows whether the server has the acknowledgement of this one.
    pub(crate) fn doubt(&mut self, number: u64) {
        if let Some(held) = self.open.get_mut(&number) {
            (held.is_acking, held.is_doubtful) = (false, true);
        }
    }

    /// Nobody waits any more for what the server says to the acknowledgement of this one.
    pub(crate) fn unanswered(&mut self, number: u64) {
        if let Some(held) = self.open.get_mut(&number) {
            held.is_acking = false;
        }
    }

    /// Whether an acknowledgement is under way.
    pub(crate) fn is_acking(&self) -> bool {
        self.open.values().any(|held| held.is_acking)
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.by_message.clear();
        self.ready.clear();
        self.handed = 0;
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.open.remove(&number)?;
        self.ready.remove(&number);
        self.handed -= usize::from(held.is_handed);
        if self.by_message.get(&held.message_id) == Some(&number) {
            self.by_message.remove(&held.message_id);
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests;
