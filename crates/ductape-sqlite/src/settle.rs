//! Settling deliveries, and renewing the lease of those that are not.

use crate::claims::Member;
use crate::entries::{self, Entry};
use crate::error::Fault;
use crate::message;
use crate::parked::{NOW, Parked};
use crate::request::Request;
use crate::store::Store;
use ductape_core::{Settlement, Timestamp, Token, Verdict};
use rusqlite::{OptionalExtension, params};

/// Settles deliveries of one consumer.
pub(crate) struct Settle {
    pub(crate) member: Member,
    pub(crate) batch: Vec<Settlement>,
    pub(crate) now: Timestamp,
}

/// Renews the lease of all that a consumer has in hand.
pub(crate) struct Extend {
    pub(crate) member: Member,
    pub(crate) expires: Timestamp,
}

/// A claim as it was read, with what is left of it.
struct Open {
    id: i64,
    first: i64,
    entries: Vec<Option<Entry>>,
}

impl Request for Settle {
    /// Of each settlement, whether the delivery was this consumer's to settle.
    type Answer = Vec<bool>;

    fn weight(&self) -> usize {
        self.batch.len() * 16
    }

    fn run(&self, store: &mut Store) -> Result<Vec<bool>, Fault> {
        let mut results = vec![false; self.batch.len()];
        let mut any_parked = store.has_parked(self.member.group)?;
        let swept = store.tail(self.member.destination)?.swept;
        let mut order: Vec<_> = self.batch.iter().enumerate().filter_map(numbers).collect();
        // One visit a claim, however its deliveries are mixed with others.
        order.sort_unstable_by_key(|(claim, _, index)| (*claim, *index));
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            let Some(mut open) = store.open_claim(&self.member, run[0].0)? else { continue };
            for (_, seq, index) in run {
                let Some(entry) = open.take(*seq) else { continue };
                any_parked |= self.apply(store, swept, entry, self.batch[*index].verdict)?;
                if any_parked && entry.key.is_some() {
                    store.bring_forward(self.member.group, entry.key)?;
                }
                results[*index] = true;
            }
            store.write_back(&open)?;
        }
        self.follow(store, any_parked);
        Ok(results)
    }
}

/// The claim, the sequence and the place in the batch of a settlement whose token is one of ours.
fn numbers((index, settlement): (usize, &Settlement)) -> Option<(i64, i64, usize)> {
    match settlement.token {
        Token::Numbers(claim, seq) => Some((i64::try_from(claim).ok()?, i64::try_from(seq).ok()?, index)),
        Token::Text(_) => None,
    }
}

impl Settle {
    /// Does what the verdict says, and answers whether it parked the message. Up to `swept` the log was swept before.
    fn apply(&self, store: &mut Store, swept: i64, entry: Entry, verdict: Verdict) -> rusqlite::Result<bool> {
        let parked = match verdict {
            Verdict::Ack => {
                // The sweep deletes what this group is done with, unless it has passed it already.
                if entry.seq < swept {
                    store.transaction.stragglers.push((self.member.destination, entry.seq));
                }
                return Ok(false);
            }
            Verdict::Retry(delay) if delay.is_zero() => Parked::tried(entry, NOW),
            Verdict::Retry(delay) => Parked::tried(entry, self.now.saturating_add(delay)),
            Verdict::Release => Parked::untried(entry),
        };
        store.park(self.member.group, parked)?;
        Ok(true)
    }

    fn follow(&self, store: &mut Store, any_parked: bool) {
        let destination = self.member.destination;
        store.transaction.to_sweep.insert(destination, self.now);
        // What came back, and what stood aside for a key that is free now.
        if any_parked {
            store.transaction.to_wake.insert(destination);
        }
    }
}

impl Open {
    fn take(&mut self, seq: i64) -> Option<Entry> {
        // The place in a claim that nothing was taken from is most often the distance from its first.
        let guess = usize::try_from(seq - self.first).ok()?.min(self.entries.len().checked_sub(1)?);
        let is_it = |entry: &&mut Option<Entry>| entry.is_some_and(|entry| entry.seq == seq);
        if let Some(entry) = self.entries.get_mut(guess).filter(|entry| is_it(entry)) {
            return entry.take();
        }
        self.entries.iter_mut().find(is_it)?.take()
    }
}

impl Store {
    /// A claim of this consumer; `None` where it has none of this number.
    fn open_claim(&self, member: &Member, id: i64) -> rusqlite::Result<Option<Open>> {
        let mut claim = self.statement("SELECT first, entries FROM claim WHERE id = ? AND consumer = ?")?;
        let open = claim.query_row([id, member.consumer.0], |row| {
            let first = row.get(0)?;
            let entries = entries::decode(first, row.get_ref(1)?.as_blob()?);
            let entries = entries.map_err(|e| message::damaged(1, e))?.map(Some).collect();
            Ok(Open { id, first, entries })
        });
        open.optional()
    }

    /// Keeps what is left of a claim, and deletes it where nothing is.
    fn write_back(&self, open: &Open) -> rusqlite::Result<()> {
        let left: Vec<_> = open.entries.iter().flatten().copied().collect();
        match left.first() {
            None => self.delete_claim(open.id),
            Some(_) if left.len() == open.entries.len() => Ok(()),
            Some(first) => {
                let mut update = self.statement("UPDATE claim SET first = ?, entries = ? WHERE id = ?")?;
                update.execute(params![first.seq, entries::encode(&left), open.id]).map(drop)
            }
        }
    }
}

impl Request for Extend {
    type Answer = ();

    fn run(&self, store: &mut Store) -> Result<(), Fault> {
        let (low, high) = self.member.group.claims();
        let mut extend =
            store.statement("UPDATE claim SET expires = ? WHERE id BETWEEN ? AND ? AND consumer = ?")?;
        extend.execute([self.expires.as_micros(), low, high, self.member.consumer.0])?;
        Ok(())
    }
}
