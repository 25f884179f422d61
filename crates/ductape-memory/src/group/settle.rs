//! Settling: acks in runs, everything else one by one.

use super::Group;
use crate::log::Log;
use crate::moment::Moment;
use ductape_core::{Error, Result, Settlement, Token, Verdict};
use std::time::Duration;

/// The delivery is not this member's, or not any more.
struct NotHeld;

impl Group {
    /// Settles deliveries of a member: one result each, in order. What is settled already is settled again
    /// without effect.
    pub(crate) fn settle(
        &mut self,
        log: &mut Log,
        member: u32,
        batch: &[Settlement],
        now: Moment,
        lost: impl Fn() -> Error,
    ) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        while let Some(settlement) = batch.get(results.len()) {
            let acked = if self.tracking { 0 } else { self.ack_run(log, member, &batch[results.len()..]) };
            match acked {
                0 => results.push(self.settle_one(log, member, settlement, now).map_err(|NotHeld| lost())),
                _ => results.extend(std::iter::repeat_n((), acked).map(Ok)),
            }
        }
        results
    }

    fn settle_one(
        &mut self,
        log: &mut Log,
        member: u32,
        settlement: &Settlement,
        now: Moment,
    ) -> std::result::Result<(), NotHeld> {
        let Token::Numbers(number, lease) = settlement.token else { return Err(NotHeld) };
        let Some(slot) = self.slots.get(number) else {
            return if number < self.slots.next() { Ok(()) } else { Err(NotHeld) };
        };
        if !slot.is_held_under(member, lease) {
            return Err(NotHeld);
        }
        match settlement.verdict {
            Verdict::Ack => self.ack(log, number, member),
            Verdict::Retry(Duration::ZERO) => self.put_back(log, number, None, true),
            Verdict::Retry(delay) => self.put_back(log, number, Some(now.after(delay)), true),
            Verdict::Release => self.put_back(log, number, None, false),
        }
        Ok(())
    }

    fn ack(&mut self, log: &mut Log, number: u64, member: u32) {
        if let (true, Some(key)) = (self.tracking, log.key(number)) {
            self.lanes.unhold(key);
        }
        self.slots.take(number);
        self.acked(member, 1);
        log.settled(number);
    }

    /// Acknowledges from the front as long as nothing but acks of one segment come; gives how many. Without
    /// lanes only: it is what an ack costs where nothing else is asked.
    fn ack_run(&mut self, log: &mut Log, member: u32, batch: &[Settlement]) -> usize {
        let Some(&Settlement { token: Token::Numbers(first, _), .. }) = batch.first() else { return 0 };
        let Some(mut slots) = self.slots.part_mut(first) else { return 0 };
        let mut acked = 0;
        log.settled_together(first, || {
            let Settlement { token: Token::Numbers(number, lease), verdict: Verdict::Ack } =
                *batch.get(acked)?
            else {
                return None;
            };
            slots.drop_if(number, |slot| slot.is_held_under(member, lease)).then(|| {
                acked += 1;
                number
            })
        });
        self.slots.end_part(first);
        self.acked(member, acked);
        acked
    }

    fn acked(&mut self, member: u32, count: usize) {
        self.settled += count as u64;
        if let Some(this) = self.member(member) {
            this.in_flight -= count;
        }
    }
}
