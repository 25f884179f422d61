//! The far end of a destination's log: deleting what every group has settled.
//!
//! ```text
//!        swept                 low                 next
//!  · · p · │ settled by all     │ waiting or in hand │
//!    ▲     └── retained, or deleted by the next sweep
//!    └ parked in some group, or long in hand, so kept on its own: it trails
//! ```

use crate::entries;
use crate::ids::{DestinationId, sequence};
use crate::log::Tail;
use crate::message;
use crate::store::Store;
use ductape_core::Timestamp;
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;

/// The most sequences that one transaction sweeps, so that no publish waits long for it.
const SWEEP_STEP: i64 = 8192;

/// How far the groups may be beyond a message that is in hand before it is kept on its own.
const LONGEST_TRAIL: i64 = 16_384;

/// Messages that are kept on their own.
#[derive(Default)]
struct Trailing {
    messages: i64,
    bytes: i64,
}

impl Store {
    /// Deletes what all groups have settled and nothing retains: what is older than the retention at `now`, or
    /// whatever its age where `now` is not given. Answers whether it deleted anything.
    pub(crate) fn sweep(
        &mut self,
        destination: DestinationId,
        now: Option<Timestamp>,
    ) -> rusqlite::Result<bool> {
        let tail = self.tail(destination)?;
        let mut low = self.lowest_unsettled(destination, &tail)?.min(tail.swept + SWEEP_STEP);
        if let (Some(retain), Some(now)) = (tail.retain, now) {
            low = self.first_retained(destination, tail.swept, low, retain, now.as_micros())?;
        }
        if low <= tail.swept {
            return Ok(false);
        }
        let kept = self.delete_range(destination, tail.swept, low)?;
        let mut moved = self.statement(
            "UPDATE destination SET swept = ?, trailing = trailing + ?, trailing_bytes = trailing_bytes + ? \
             WHERE id = ?",
        )?;
        moved.execute([low, kept.messages, kept.bytes, destination.0])?;
        drop(moved);
        if let Some(known) = self.transaction.tails.get_mut(&destination) {
            known.swept = low;
        }
        Ok(true)
    }

    /// The lowest sequence that a group has in hand or before it; the next where there are no groups. What is in
    /// hand for so long that the groups are far beyond it does not count: it is kept on its own.
    fn lowest_unsettled(&self, destination: DestinationId, tail: &Tail) -> rusqlite::Result<i64> {
        let mut lows = self.statement(
            "SELECT min(head), min(ifnull((SELECT min(first) FROM claim \
                 WHERE claim.id BETWEEN g.id << 32 AND ((g.id + 1) << 32) - 1), head)) \
             FROM consumer_group g WHERE destination = ?",
        )?;
        let lows: (Option<i64>, Option<i64>) =
            lows.query_row([destination.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(head), Some(first)) = lows else { return Ok(tail.next) };
        Ok(first.min(head).max(head - LONGEST_TRAIL))
    }

    /// The first sequence from `from` whose message is retained still; `to` where none before it is. One that is timed
    /// after `now` tells nothing of its age: it is retained for as long as what came after it.
    fn first_retained(
        &self,
        destination: DestinationId,
        from: i64,
        to: i64,
        retain: i64,
        now: i64,
    ) -> rusqlite::Result<i64> {
        let old = now.saturating_sub(retain);
        let (low, high) = (destination.message(from), destination.message(to));
        let sql = "SELECT id, time FROM message WHERE id >= ? AND id < ? AND time > ? ORDER BY id LIMIT 1";
        let first: Option<(i64, i64)> = self
            .statement(sql)?
            .query_row([low, high, old], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match first {
            None => Ok(to),
            Some((id, time)) if time <= now => Ok(sequence(id)),
            Some((future, _)) => self.behind_last_old(low, future, high, old, now),
        }
    }

    /// As [`Store::first_retained`], where the first that may be retained, `future`, is timed after `now`.
    fn behind_last_old(&self, low: i64, future: i64, high: i64, old: i64, now: i64) -> rusqlite::Result<i64> {
        let sql =
            "SELECT id FROM message WHERE id > ? AND id < ? AND time > ? AND time <= ? ORDER BY id LIMIT 1";
        let retained: Option<i64> =
            self.statement(sql)?.query_row([future, high, old, now], |row| row.get(0)).optional()?;
        let sql = "SELECT id FROM message WHERE id >= ? AND id < ? AND time <= ? ORDER BY id DESC LIMIT 1";
        let last_old: Option<i64> = self
            .statement(sql)?
            .query_row([low, retained.unwrap_or(high), old], |row| row.get(0))
            .optional()?;
        Ok(sequence(last_old.map_or(low, |id| id + 1)))
    }

    /// Deletes the messages of these sequences, but for those that a group has not settled, which it answers.
    fn delete_range(&self, destination: DestinationId, from: i64, to: i64) -> rusqlite::Result<Trailing> {
        let mut delete = self.statement("DELETE FROM message WHERE id >= ? AND id < ?")?;
        let (mut kept, mut start) = (Trailing::default(), from);
        for seq in self.unsettled_between(destination, from, to)? {
            if start < seq {
                delete.execute([destination.message(start), destination.message(seq)])?;
            }
            start = seq + 1;
            kept.messages += 1;
            kept.bytes += self.bytes_of(destination, seq)?;
        }
        if start < to {
            delete.execute([destination.message(start), destination.message(to)])?;
        }
        Ok(kept)
    }

    fn bytes_of(&self, destination: DestinationId, seq: i64) -> rusqlite::Result<i64> {
        let mut bytes = self.statement("SELECT bytes FROM message_bytes WHERE id = ?")?;
        bytes.query_row([destination.message(seq)], |row| row.get(0))
    }

    /// The sequences that are parked or in hand in some group.
    fn unsettled_between(
        &self,
        destination: DestinationId,
        from: i64,
        to: i64,
    ) -> rusqlite::Result<BTreeSet<i64>> {
        let mut parked = self.statement(
            "SELECT seq FROM consumer_group g JOIN parked p ON p.consumer_group = g.id \
             WHERE destination = ? AND seq >= ? AND seq < ?",
        )?;
        let rows = parked.query_map([destination.0, from, to], |row| row.get(0))?;
        let mut unsettled = rows.collect::<rusqlite::Result<BTreeSet<i64>>>()?;
        let mut claims = self.statement(
            "SELECT first, entries FROM consumer_group g \
             JOIN claim ON claim.id BETWEEN g.id << 32 AND ((g.id + 1) << 32) - 1 \
             WHERE destination = ? AND first < ?",
        )?;
        let mut rows = claims.query([destination.0, to])?;
        while let Some(row) = rows.next()? {
            let held = entries::decode(row.get(0)?, row.get_ref(1)?.as_blob()?);
            let held = held.map_err(|e| message::damaged(1, e))?.map(|entry| entry.seq);
            unsettled.extend(held.filter(|seq| (from..to).contains(seq)));
        }
        Ok(unsettled)
    }

    /// Deletes a settled message that its log has left behind, unless another group has not settled it.
    pub(crate) fn delete_straggler(&mut self, destination: DestinationId, seq: i64) -> rusqlite::Result<()> {
        let is_left = seq < self.tail(destination)?.swept;
        if !is_left || !self.unsettled_between(destination, seq, seq + 1)?.is_empty() {
            return Ok(());
        }
        let Some(bytes) = self.bytes_of(destination, seq).optional()? else { return Ok(()) };
        self.statement("DELETE FROM message WHERE id = ?")?.execute([destination.message(seq)])?;
        let mut shorter = self.statement(
            "UPDATE destination SET trailing = trailing - 1, trailing_bytes = trailing_bytes - ? WHERE id = ?",
        )?;
        shorter.execute([bytes, destination.0])?;
        Ok(())
    }
}
