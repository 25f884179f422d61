//! Which messages a consumer may have now.
//!
//! **Order by key.** A message goes to a consumer only if no earlier one of its key is parked, or in another
//! consumer's claim. An earlier one in a claim of the same consumer is no obstacle: that consumer has them in
//! order.

use crate::claims::Claim;
use crate::entries::{Entry, KeyHash};
use crate::error::Fault;
use crate::ids::sequence;
use crate::message;
use crate::parked::Parked;
use crate::store::Store;
use ductape_core::{Message, Timestamp};
use std::collections::{HashMap, HashSet};

/// The most messages that one look passes over, so that none takes long.
const MOST_PASSED_OVER: usize = 1024;
/// The most messages that a group may have parked before it passes over more: one busy key must not make its
/// members copy the whole backlog.
const MOST_PARKED: usize = 65_536;
/// The most payload bytes of one hand-out, the first message aside.
const MOST_BYTES: usize = 16 << 20;

/// A message that is about to be handed out.
pub(crate) struct Taken {
    pub(crate) entry: Entry,
    pub(crate) message: Message,
}

/// What another consumer has of a key.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// The lowest sequence.
    pub(crate) first: i64,
    /// When its lease is over.
    pub(crate) until: Timestamp,
}

/// Picks for one consumer.
pub(crate) struct Picker<'a> {
    ask: &'a Claim,
    others: HashMap<KeyHash, Held>,
    room: usize,
    bytes: usize,
    taken: Vec<Taken>,
    passed_over: usize,
    any_parked: bool,
    /// Whether more is due than one look goes through.
    more_due: bool,
}

/// What was picked.
pub(crate) struct Picked {
    /// In order of their sequence.
    pub(crate) taken: Vec<Taken>,
    /// Where the group's head is now.
    pub(crate) head: i64,
    /// Whether another look may find more at once.
    pub(crate) unfinished: bool,
}

impl<'a> Picker<'a> {
    /// A picker of `room` messages at most, who knows what other consumers have in hand.
    pub(crate) fn new(ask: &'a Claim, others: HashMap<KeyHash, Held>, room: usize, any_parked: bool) -> Self {
        let (bytes, taken, passed_over, more_due) = (0, Vec::new(), 0, false);
        Picker { ask, others, room, bytes, taken, passed_over, any_parked, more_due }
    }

    /// Takes what came back first, then what is new from the group's head on.
    pub(crate) fn pick(mut self, store: &mut Store, head: i64) -> Result<Picked, Fault> {
        if self.any_parked {
            self.take_due(store)?;
            self.take_more_of_own_keys(store)?;
        }
        let head = self.take_new(store, head)?;
        self.taken.sort_unstable_by_key(|taken| taken.entry.seq);
        let unfinished = self.more_due || self.passed_over >= MOST_PASSED_OVER;
        Ok(Picked { taken: self.taken, head, unfinished })
    }

    fn full(&self) -> bool {
        self.taken.len() >= self.room || self.bytes >= MOST_BYTES
    }

    fn take(&mut self, entry: Entry, message: Message) {
        self.bytes += message.payload.len();
        self.taken.push(Taken { entry, message });
    }

    fn take_due(&mut self, store: &mut Store) -> Result<(), Fault> {
        if self.full() {
            return Ok(());
        }
        let group = self.ask.member.group;
        let most = MOST_PASSED_OVER.saturating_add(self.room);
        let due = store.parked_due(group, self.ask.now, most)?;
        // Each of these is taken or put off, so that the next look goes on behind them.
        self.more_due = due.len() >= most;
        for parked in due {
            if self.full() {
                break;
            }
            match self.blocked_until(store, parked.seq, parked.key)? {
                None => {
                    self.take_parked(store, parked)?;
                    self.take_run(store, parked.key)?;
                }
                Some(until) if until > self.ask.now => store.put_off(group, parked.seq, until)?,
                // What stands in the way is due itself, and may be far down in the order of this look.
                Some(_) => self.take_run(store, parked.key)?,
            }
        }
        Ok(())
    }

    /// What was put off for this consumer's own sake is no obstacle to it.
    fn take_more_of_own_keys(&mut self, store: &mut Store) -> Result<(), Fault> {
        if self.full() {
            return Ok(());
        }
        let member = &self.ask.member;
        let put_off = store.keys_put_off(member.group, self.ask.now)?;
        if put_off.is_empty() {
            return Ok(());
        }
        let claims = store.claims_of(member.group, Some(member.consumer))?;
        let own: HashSet<_> = claims.iter().flat_map(|(_, held)| held).map(|entry| entry.key).collect();
        for key in put_off.into_iter().filter(|key| own.contains(key)) {
            self.take_run(store, key)?;
        }
        Ok(())
    }

    /// Takes what is parked of a key, in order, as far as nothing stands in the way.
    fn take_run(&mut self, store: &mut Store, key: KeyHash) -> Result<(), Fault> {
        let room = self.room - self.taken.len();
        if !key.is_some() || room == 0 {
            return Ok(());
        }
        let held = self.others.get(&key).map_or(i64::MAX, |held| held.first);
        for parked in store.parked_of(self.ask.member.group, key, room)? {
            if self.full() || parked.floor > self.ask.now || held < parked.seq {
                break;
            }
            self.take_parked(store, parked)?;
        }
        Ok(())
    }

    fn take_parked(&mut self, store: &mut Store, parked: Parked) -> Result<(), Fault> {
        // A run that began earlier in this look may have it.
        if store.unpark(self.ask.member.group, parked.seq)? {
            let message = store.message(self.ask.member.destination, parked.seq)?;
            let attempt = parked.attempts.saturating_add(1);
            self.take(Entry { seq: parked.seq, key: parked.key, attempt }, message);
        }
        Ok(())
    }

    /// Takes from the head of the log and answers where the head is then.
    fn take_new(&mut self, store: &mut Store, head: i64) -> Result<i64, Fault> {
        if self.full() {
            return Ok(head);
        }
        let (group, destination) = (self.ask.member.group, self.ask.member.destination);
        let (head, is_all) = self.take_recent(store, head)?;
        if is_all || self.full() {
            return Ok(head);
        }
        let mut statement = store.connection.prepare_cached(message::SELECT_RANGE)?;
        let mut rows = statement.query([destination.message(head), destination.end()])?;
        let mut next = head;
        while !self.full()
            && self.passed_over < MOST_PASSED_OVER
            && let Some(row) = rows.next()?
        {
            let (seq, key) = (sequence(row.get(0)?), message::key_hash(row)?);
            if let Some(due) = self.blocked_until(store, seq, key)? {
                if self.passed_over == 0 && store.has_parked_many(group, MOST_PARKED)? {
                    break;
                }
                store.park(group, Parked::passed_over(seq, key, due))?;
                self.any_parked = true;
                self.passed_over += 1;
            } else {
                let attributes = store.attributes.load(&store.connection, row.get_ref(1)?)?;
                self.take(Entry { seq, key, attempt: 1 }, message::read(row, attributes)?);
            }
            next = seq + 1;
        }
        Ok(next)
    }

    /// Takes what need not be read from the file, as far as nothing stands in its way. Answers where the head is then, and
    /// whether nothing is behind it.
    fn take_recent(&mut self, store: &mut Store, head: i64) -> Result<(i64, bool), Fault> {
        let (group, destination) = (self.ask.member.group, self.ask.member.destination);
        let mut next = head;
        store.recent.read_from(destination, group, head);
        while !self.full()
            && let Some(message) = store.recent.get(destination, next)
        {
            let key = message.key.as_ref().map_or(KeyHash::NONE, |key| KeyHash::of(key.as_bytes()));
            if self.blocked_until(store, next, key)?.is_some() {
                break;
            }
            let Some(message) = store.recent.hand_out(destination, group, next) else { break };
            self.take(Entry { seq: next, key, attempt: 1 }, message);
            next += 1;
        }
        Ok((next, store.recent.read_to(destination, group, next)))
    }

    /// Until when an earlier message of its key stands in the way of this one, unless somebody moves that;
    /// `None` where none does.
    fn blocked_until(&self, store: &Store, seq: i64, key: KeyHash) -> Result<Option<Timestamp>, Fault> {
        if !key.is_some() {
            return Ok(None);
        }
        if let Some(held) = self.others.get(&key).filter(|held| held.first < seq) {
            return Ok(Some(held.until));
        }
        if !self.any_parked {
            return Ok(None);
        }
        let lowest = store.lowest_parked(self.ask.member.group, key)?;
        Ok(lowest.filter(|lowest| lowest.seq < seq).map(|lowest| lowest.due))
    }
}

#[cfg(test)]
mod tests;
