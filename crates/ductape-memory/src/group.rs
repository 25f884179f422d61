//! A group: its cursor in the log, what it has handed out, its members and their leases.
//!
//! What is before the cursor and not settled has a [`Slot`]; what is settled has none. So a message costs a
//! group nothing before it is handed out and nothing after it is settled.

mod hand_out;
mod settle;
mod slot;

use self::slot::{Slot, State};
use crate::lanes::Lanes;
use crate::log::Log;
use crate::moment::Moment;
use crate::ring::Ring;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A group of one destination.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Told when something may have become possible that was not: a message put back, a key free.
    pub(crate) changed: Arc<Notify>,
    /// Tells it from a group of the same name that was deleted.
    pub(crate) id: u64,
    /// One slot for each unsettled message before the cursor; the ring's end is the cursor.
    slots: Ring<Slot>,
    members: Vec<Member>,
    last_member: u32,
    lanes: Lanes,
    /// Whether `lanes` is kept up. Without need (one member, nothing waits) it is not, and no key is looked at.
    tracking: bool,
    /// Waiting messages that were never handed out.
    passed_over: usize,
    /// No lease ends before this time. None where nothing is held.
    next_expiry: Option<Moment>,
    /// How many messages it was given when it was made, and where the log stood then.
    given: u64,
    origin: u64,
    /// How many it has settled.
    settled: u64,
}

struct Member {
    id: u32,
    in_flight: usize,
    max_in_flight: usize,
    lease: Duration,
    renewed: Moment,
}

impl Group {
    /// A group that gets what is appended from now on, or all that is kept too.
    pub(crate) fn new(id: u64, name: Arc<str>, log: &mut Log, from_earliest: bool) -> Self {
        let origin = log.next();
        let (start, given) = if from_earliest { log.owe_all() } else { (origin, 0) };
        Group {
            id,
            name,
            changed: Arc::default(),
            slots: Ring::starting_at(start),
            members: Vec::new(),
            last_member: 0,
            lanes: Lanes::default(),
            tracking: false,
            passed_over: 0,
            next_expiry: None,
            given,
            origin,
            settled: 0,
        }
    }

    /// Messages that it has not settled.
    pub(crate) fn lag(&self, log: &Log) -> u64 {
        self.given + (log.next() - self.origin) - self.settled
    }

    /// Messages that its members hold.
    pub(crate) fn in_flight(&self) -> usize {
        self.members.iter().map(|member| member.in_flight).sum()
    }

    /// How many members it has.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// When something happens by itself: a delay or a lease ends.
    pub(crate) fn next_event(&self) -> Option<Moment> {
        match (self.next_expiry, self.lanes.next_due()) {
            (Some(expiry), Some(due)) => Some(expiry.min(due)),
            (expiry, due) => expiry.or(due),
        }
    }

    /// Takes a member in and gives its number in this group.
    pub(crate) fn join(&mut self, log: &Log, max_in_flight: usize, lease: Duration, now: Moment) -> u32 {
        self.last_member += 1;
        let id = self.last_member;
        self.members.push(Member { id, in_flight: 0, max_in_flight, lease, renewed: now });
        if self.members.len() > 1 {
            self.track(log);
        }
        id
    }

    /// Lets a member go: what it holds goes to others, its attempt counted where it was lost and not closed.
    pub(crate) fn leave(&mut self, log: &Log, member: u32, lost: bool) {
        let held = self.held().filter(|(_, slot, _)| slot.owner == member);
        for number in held.map(|(number, ..)| number).collect::<Vec<_>>() {
            self.put_back(log, number, None, lost);
        }
        self.members.retain(|m| m.id != member);
        self.lanes.leave(member);
        self.rest();
    }

    /// Renews the lease of all that a member holds.
    pub(crate) fn renew(&mut self, member: u32, now: Moment) {
        if let Some(member) = self.member(member) {
            member.renewed = now;
        }
    }

    /// Takes from their members what they have held for longer than their lease; true if there was such.
    pub(crate) fn expire(&mut self, log: &Log, now: Moment) -> bool {
        if self.next_expiry.is_none_or(|time| now < time) {
            return false;
        }
        let expired = self.held().filter(|(_, slot, member)| member.lease_end(slot) <= now);
        let expired: Vec<_> = expired.map(|(number, ..)| number).collect();
        for &number in &expired {
            self.put_back(log, number, None, true);
        }
        self.next_expiry = self.held().map(|(_, slot, member)| member.lease_end(slot)).min();
        !expired.is_empty()
    }

    /// Whether others may have something to do after a settlement by this member: it was at its bound, or keys
    /// are kept and one may be free.
    pub(crate) fn is_watched(&self, member: u32) -> bool {
        self.tracking || self.members.iter().any(|m| m.id == member && m.in_flight >= m.max_in_flight)
    }

    /// Ends the bookkeeping that nobody needs any more.
    pub(crate) fn rest(&mut self) {
        if self.tracking && self.members.len() < 2 && self.lanes.is_idle() {
            self.lanes.clear();
            self.tracking = false;
        }
    }

    /// The numbers of all that it has not settled.
    pub(crate) fn unsettled(&self, log: &Log) -> Vec<u64> {
        let mut numbers: Vec<_> = self.slots.iter_from(0).map(|(number, _)| number).collect();
        numbers.extend(log.numbers_from(self.slots.next()));
        numbers
    }

    /// A message that is held waits again.
    fn put_back(&mut self, log: &Log, number: u64, not_before: Option<Moment>, counted: bool) {
        self.track(log);
        let Some(slot) = self.slots.get_mut(number) else { return };
        let owner = slot.owner;
        slot.state = State::Waiting;
        slot.uncounted += u32::from(!counted);
        if let Some(owner) = self.member(owner) {
            owner.in_flight -= 1;
        }
        self.lanes.park(number, log.key(number), not_before, true);
    }

    /// Begins to keep up `lanes`, with what is held until now.
    fn track(&mut self, log: &Log) {
        if self.tracking {
            return;
        }
        self.tracking = true;
        for (number, slot) in self.slots.iter_from(0) {
            if let Some(key) = log.key(number) {
                self.lanes.hold(key, slot.owner);
            }
        }
    }

    /// What is held, with who holds it.
    fn held(&self) -> impl Iterator<Item = (u64, &Slot, &Member)> {
        let held = self.slots.iter_from(0).filter(|(_, slot)| slot.state == State::Held);
        held.filter_map(|(number, slot)| {
            Some((number, slot, self.members.iter().find(|member| member.id == slot.owner)?))
        })
    }

    fn expect_expiry(&mut self, time: Moment) -> bool {
        let sooner = self.next_expiry.is_none_or(|next| time < next);
        if sooner {
            self.next_expiry = Some(time);
        }
        sooner
    }

    #[inline]
    fn member(&mut self, id: u32) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }
}

impl Member {
    fn lease_end(&self, slot: &Slot) -> Moment {
        slot.since.max(self.renewed).after(self.lease)
    }
}
