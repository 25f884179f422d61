//! Handing out: what waits and is due first, then what is at the cursor.

use super::Group;
use super::slot::{Slot, State};
use crate::log::Log;
use crate::moment::Moment;
use ductape_core::message::BatchAttributes;
use ductape_core::{Delivery, Key};

/// How many messages that were never handed out may be passed over, since their key is with another member or
/// waits, before the group looks no further. It bounds what is remembered of a backlog of one key.
const LOOK_AHEAD: usize = 8192;

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
        let batch = &mut BatchAttributes::new(limit);
        match self.tracking {
            true => self.hand_out_in_lanes(log, member, limit, now, batch, out),
            false => self.hand_out_next(log, member, limit, now, batch, out),
        }
        let handed_out = out.len();
        if let Some(this) = self.member(member) {
            this.in_flight += handed_out;
        }
        self.rest();
        handed_out > 0 && self.expect_expiry(lease_end)
    }

    /// Hands out what is at the cursor, as it comes.
    fn hand_out_next(
        &mut self,
        log: &Log,
        member: u32,
        limit: usize,
        now: Moment,
        batch: &mut BatchAttributes,
        out: &mut Vec<Delivery>,
    ) {
        let slot = Slot { state: State::Held, owner: member, handed: 1, uncounted: 0, since: now };
        while out.len() < limit && self.slots.next() < log.next() {
            let (first, before) = (self.slots.next(), out.len());
            let entries = log.part(first).iter().map_while(Option::as_ref).take(limit - before);
            for (entry, number) in entries.zip(first..) {
                out.push(slot.delivery(&entry.message, number, batch));
            }
            match out.len() - before {
                0 => self.slots.push_gap(),
                handed => self.slots.repeat(handed, slot),
            }
        }
    }

    /// Hands out what waits and is due, and then what is at the cursor, as far as its keys allow.
    fn hand_out_in_lanes(
        &mut self,
        log: &Log,
        member: u32,
        limit: usize,
        now: Moment,
        batch: &mut BatchAttributes,
        out: &mut Vec<Delivery>,
    ) {
        self.hand_out_waiting(log, member, limit, now, batch, out);
        let slot = Slot { state: State::Held, owner: member, handed: 1, uncounted: 0, since: now };
        while out.len() < limit && self.slots.next() < log.next() {
            let number = self.slots.next();
            match log.get(number) {
                None => self.slots.push_gap(),
                Some(message) if self.admits(message.key.as_ref(), member) => {
                    self.slots.push(slot);
                    out.push(slot.delivery(message, number, batch));
                }
                Some(_) if self.passed_over == LOOK_AHEAD => break,
                Some(message) => self.pass_over(number, message.key.as_ref()),
            }
        }
    }

    fn hand_out_waiting(
        &mut self,
        log: &Log,
        member: u32,
        limit: usize,
        now: Moment,
        batch: &mut BatchAttributes,
        out: &mut Vec<Delivery>,
    ) {
        self.lanes.wake(now);
        while out.len() < limit
            && let Some(number) = self.lanes.first_for(member)
            && let (Some(slot), Some(message)) = (self.slots.get_mut(number), log.get(number))
        {
            self.lanes.unpark(number, message.key.as_ref(), member);
            self.passed_over -= usize::from(slot.handed == 0);
            *slot = Slot { state: State::Held, owner: member, handed: slot.handed + 1, since: now, ..*slot };
            out.push(slot.delivery(message, number, batch));
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
