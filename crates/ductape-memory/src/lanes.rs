//! Who may have which key next: the messages that wait, and the order of each key among members that compete.
//!
//! ```text
//! key k:  held by one member only (owner) ── then what waits, in order: [head] [..] [..]
//!
//! only a head can be handed out:   lane without owner  → `ready`     anybody takes it
//!                                  lane with an owner  → `owned[m]`  that member alone
//!                                  not due yet         → `delayed`   nobody, until its time
//! ```
//!
//! A message without a key has no lane: it is ready, or delayed. While one member holds a message of a key, the
//! key is its alone, so two members never handle one key at once.

use crate::moment::Moment;
use ductape_core::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The time of what is due: before every other.
const DUE: Moment = Moment::START;

/// The waiting messages of a group and the owners of its keys.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: HashMap<Key, Lane>,
    ready: BTreeSet<u64>,
    owned: HashMap<u32, BTreeSet<u64>>,
    delayed: BTreeMap<(Moment, u64), Option<Key>>,
    waiting: usize,
}

/// One key: what is held of it, by whom, and what waits.
#[derive(Default)]
struct Lane {
    /// The member that holds messages of it. Means nothing while `held` is 0.
    owner: u32,
    held: usize,
    /// What waits, with the time before which it may not be handed out.
    waiting: BTreeMap<u64, Moment>,
}

impl Lanes {
    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Forgets the owners of all keys. Only while nothing waits.
    pub(crate) fn clear(&mut self) {
        self.lanes.clear();
        self.owned.clear();
    }

    /// Forgets a member that holds nothing any more.
    pub(crate) fn leave(&mut self, member: u32) {
        self.owned.remove(&member);
    }

    /// Whether this member may be handed a message of this key that is behind all that wait.
    pub(crate) fn admits(&self, key: &Key, member: u32) -> bool {
        self.lanes
            .get(key)
            .is_none_or(|lane| lane.waiting.is_empty() && (lane.held == 0 || lane.owner == member))
    }

    /// This member was handed a message of this key.
    pub(crate) fn hold(&mut self, key: &Key, member: u32) {
        self.edit(key, |lane| {
            lane.owner = member;
            lane.held += 1;
        });
    }

    /// A message of this key that was held is settled.
    pub(crate) fn unhold(&mut self, key: &Key) {
        self.edit(key, |lane| lane.held -= 1);
    }

    /// A message waits from now on. `held` says that it was handed out until now.
    pub(crate) fn park(&mut self, number: u64, key: Option<&Key>, not_before: Option<Moment>, held: bool) {
        self.waiting += 1;
        if let Some(time) = not_before {
            self.delayed.insert((time, number), key.cloned());
        }
        match key {
            Some(key) => self.edit(key, |lane| {
                lane.held -= usize::from(held);
                lane.waiting.insert(number, not_before.unwrap_or(DUE));
            }),
            None if not_before.is_none() => {
                self.ready.insert(number);
            }
            None => {}
        }
    }

    /// The earliest message that waits and that this member may be handed.
    pub(crate) fn first_for(&self, member: u32) -> Option<u64> {
        let owned = self.owned.get(&member).and_then(BTreeSet::first);
        match (self.ready.first(), owned) {
            (Some(ready), Some(owned)) => Some(*ready.min(owned)),
            (ready, owned) => ready.or(owned).copied(),
        }
    }

    /// Hands out what [`Lanes::first_for`] named.
    pub(crate) fn unpark(&mut self, number: u64, key: Option<&Key>, member: u32) {
        self.waiting -= 1;
        match key {
            Some(key) => self.edit(key, |lane| {
                lane.waiting.remove(&number);
                lane.owner = member;
                lane.held += 1;
            }),
            None => {
                self.ready.remove(&number);
            }
        }
    }

    /// Makes ready whose time has come.
    pub(crate) fn wake(&mut self, now: Moment) {
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let ((_, number), key) = first.remove_entry();
            match key {
                Some(key) => self.edit(&key, |lane| {
                    lane.waiting.insert(number, DUE);
                }),
                None => {
                    self.ready.insert(number);
                }
            }
        }
    }

    /// When the next of what is delayed is due.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.delayed.first_key_value().map(|((time, _), _)| *time)
    }

    /// Changes a lane and sees to it that its head, and nothing else of it, is on offer.
    fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Lane)) {
        let mut lane = match self.lanes.get_mut(key) {
            Some(lane) => std::mem::take(lane),
            None => Lane::default(),
        };
        if let Some(head) = lane.head_on_offer() {
            self.ready.remove(&head);
            self.owned.entry(lane.owner).and_modify(|owned| {
                owned.remove(&head);
            });
        }
        change(&mut lane);
        if let Some(head) = lane.head_on_offer() {
            match lane.held {
                0 => self.ready.insert(head),
                _ => self.owned.entry(lane.owner).or_default().insert(head),
            };
        }
        if lane.held == 0 && lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else if let Some(place) = self.lanes.get_mut(key) {
            *place = lane;
        } else {
            self.lanes.insert(key.clone(), lane);
        }
    }
}

impl Lane {
    /// The first that waits, where its time has come.
    fn head_on_offer(&self) -> Option<u64> {
        self.waiting.first_key_value().filter(|(_, time)| **time == DUE).map(|(number, _)| *number)
    }
}
