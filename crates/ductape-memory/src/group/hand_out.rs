//! Handing out: what waits and is due first, then what is at the cursor.

use super::Group;
use super::slot::{Slot, State};
use crate::log::Log;
use crate::moment::Moment;
use ductape_core::message::BatchAttributes;
use ductape_core::{Delivery, Key, Message};

/// How many messages that were never handed out may be passed over, since their key is with another member or
/// waits, before the group looks no further. It bounds what is remembered of a backlog of one key.
const LOOK_AHEAD: usize = 8192;

/// One handing out: of what, to whom and how many at most, and what it comes to.
struct Round<'r> {
    log: &'r Log,
    member: u32,
    limit: usize,
    now: Moment,
    batch: BatchAttributes,
    out: &'r mut Vec<Delivery>,
}

impl Round<'_> {
    fn has_room(&self) -> bool {
        self.out.len() < self.limit
    }

    /// What is remembered of a message that nobody had before.
    fn first_handing_out(&self) -> Slot {
        Slot { state: State::Held, owner: self.member, handed: 1, uncounted: 0, since: self.now }
    }

    #[inline]
    fn hand_out(&mut self, slot: Slot, message: &Message, number: u64) {
        self.out.push(slot.delivery(message, number, &mut self.batch));
    }
}

impl Group {
    /// Hands out up to `max` messages; true if a lease now ends before the others had to expect one to.
    pub(crate) fn hand_out(
        &mut self,
        log: &Log,
        member: u32,
        max: usize,
        now: Moment,
        out: &mut Vec<Delivery>,
    ) -> bool {
        let Some(this) = self.member(member) else { return false };
        let lease_end = now.after(this.lease);
        let count = max.min(this.max_in_flight - this.in_flight);
        let limit = count.min(usize::try_from(self.lag(log)).unwrap_or(usize::MAX));
        out.reserve(limit);
        let mut round = Round { log, member, limit, now, batch: BatchAttributes::new(limit), out };
        match self.tracking {
            true => self.hand_out_in_lanes(&mut round),
            false => self.hand_out_next(&mut round),
        }
        let handed_out = out.len();
        if let Some(this) = self.member(member) {
            this.in_flight += handed_out;
        }
        self.rest();
        handed_out > 0 && self.expect_expiry(lease_end)
    }

    /// Hands out what is at the cursor, as it comes.
    fn hand_out_next(&mut self, round: &mut Round<'_>) {
        let slot = round.first_handing_out();
        while round.has_room() && self.slots.next() < round.log.next() {
            let (first, before) = (self.slots.next(), round.out.len());
            let entries = round.log.part(first).iter().map_while(Option::as_ref).take(round.limit - before);
            for (entry, number) in entries.zip(first..) {
                round.hand_out(slot, &entry.message, number);
            }
            match round.out.len() - before {
                0 => self.slots.push_gap(),
                handed => self.slots.repeat(handed, slot),
            }
        }
    }

    /// Hands out what waits and is due, and then what is at the cursor, as far as its keys allow.
    fn hand_out_in_lanes(&mut self, round: &mut Round<'_>) {
        self.hand_out_waiting(round);
        let slot = round.first_handing_out();
        while round.has_room() && self.slots.next() < round.log.next() {
            let number = self.slots.next();
            match round.log.get(number) {
                None => self.slots.push_gap(),
                Some(message) if self.admits(message.key.as_ref(), round.member) => {
                    self.slots.push(slot);
                    round.hand_out(slot, message, number);
                }
                Some(_) if self.passed_over == LOOK_AHEAD => break,
                Some(message) => self.pass_over(number, message.key.as_ref()),
            }
        }
    }

    fn hand_out_waiting(&mut self, round: &mut Round<'_>) {
        let (member, since) = (round.member, round.now);
        self.lanes.wake(since);
        while round.has_room()
            && let Some(number) = self.lanes.first_for(member)
            && let (Some(slot), Some(message)) = (self.slots.get_mut(number), round.log.get(number))
        {
            self.lanes.unpark(number, message.key.as_ref(), member);
            self.passed_over -= usize::from(slot.handed == 0);
            *slot = Slot { state: State::Held, owner: member, handed: slot.handed + 1, since, ..*slot };
            round.hand_out(*slot, message, number);
        }
    }

    /// Whether the message at the cursor may go to this member; if so, its key is this member's.
    fn admits(&mut self, key: Option<&Key>, member: u32) -> bool {
        let Some(key) = key else { return true };
        let admits = self.lanes.admits(key, member);
        if admits {
            self.lanes.hold(key, member);
        }
        admits
    }

    /// The message at the cursor waits, and the cursor passes it.
    fn pass_over(&mut self, number: u64, key: Option<&Key>) {
        self.passed_over += 1;
        let since = Moment::START;
        self.slots.push(Slot { state: State::Waiting, owner: 0, handed: 0, uncounted: 0, since });
        self.lanes.park(number, key, None, false);
    }
}
