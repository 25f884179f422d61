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
        let (mut run, mut next) = (store.recent.take(destination, group, head), head);
        while !self.full()
            && let Some(message) = run.get(next)
        {
            let key = message.key.as_ref().map_or(KeyHash::NONE, |key| KeyHash::of(key.as_bytes()));
            if self.blocked_until(store, next, key)?.is_some() {
                break;
            }
            let Some(message) = run.hand_out(group, next) else { break };
            self.take(Entry { seq: next, key, attempt: 1 }, message);
            next += 1;
        }
        let is_all = run.is_end(next);
        store.recent.put_back(destination, group, next, run);
        Ok((next, is_all))
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
mod tests {
    use super::*;
    use crate::admin::Ensure;
    use crate::claims::{Claimed, Member};
    use crate::log::Append;
    use crate::members::Join;
    use crate::request::Request;
    use crate::schema;
    use crate::settle::{Extend, Settle};
    use crate::turn::Turn;
    use ductape_core::message::{Attributes, IdSource};
    use ductape_core::{ConsumerOptions, Delivery, Destination, Settlement, Verdict};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const LEASE: Duration = Duration::from_secs(30);
    /// More than one look goes through, and less than two.
    const BACKLOG: usize = MOST_PASSED_OVER + MOST_PASSED_OVER / 2;

    fn open(path: &Path) -> Store {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut connection = schema::open(path, deadline).unwrap();
        let turn = Turn::open(path).unwrap();
        schema::prepare(&mut connection, &turn.wait(deadline).unwrap(), path, deadline).unwrap();
        Store::new(connection, path, Arc::default())
    }

    fn run<R: Request>(store: &mut Store, request: R) -> R::Answer {
        let answer = request.run(store).unwrap_or_else(|_| panic!("a request failed"));
        store.committed();
        answer
    }

    fn join(store: &mut Store) -> Member {
        let options = ConsumerOptions::new("billing");
        let join = Join { destination: "orders".into(), options, queue: Arc::default() };
        run(store, join).member().clone()
    }

    fn claim(store: &mut Store, member: &Member, now: Timestamp) -> Claimed {
        let member = member.clone();
        run(store, Claim { member, max: 1, max_in_flight: usize::MAX, lease: LEASE, now })
    }

    fn publish(store: &mut Store, member: &Member, keys: impl Iterator<Item = &'static str>) {
        let attributes =
            Arc::new(Attributes { source: "".into(), event: "".into(), content_type: "".into() });
        let message = |key: &str| {
            let id = IdSource::new().next(START);
            let mut message = Message::new(b"m".to_vec(), id, START, Arc::clone(&attributes));
            message.key = Some(key.into());
            message
        };
        let batch: Vec<_> = keys.map(message).collect();
        let (rows, name) =
            (batch.iter().map(message::NewRow::of).collect(), Arc::clone(&member.destination_name));
        let append = Append {
            destination: member.destination,
            name,
            batch,
            rows,
            full: false,
            max_bytes: None,
            now: START,
            weight: 0,
        };
        run(store, append);
    }

    fn key(delivery: &Delivery) -> &[u8] {
        delivery.message.key.as_ref().unwrap().as_bytes()
    }

    #[test]
    fn what_is_due_behind_a_backlog_of_a_key_in_other_hands_comes_without_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::File::create(&path).unwrap();
        let store = &mut open(&path);
        run(store, Ensure { destination: Destination::new("orders", "billing"), retain: None });
        let (slow, quick) = (join(store), join(store));
        publish(store, &slow, std::iter::repeat_n("slow", BACKLOG).chain(["quick"]));
        assert_eq!(claim(store, &slow, START).deliveries.len(), 1);
        let first = (0..3).find_map(|_| claim(store, &quick, START).deliveries.pop()).unwrap();
        assert_eq!(key(&first), b"quick");
        // Falls due with all that stands aside for the slow one.
        let retry = Settlement { token: first.token, verdict: Verdict::Retry(LEASE) };
        run(store, Settle { member: quick.clone(), batch: vec![retry], now: START });
        let now = START.saturating_add(LEASE);
        run(store, Extend { member: slow, expires: now.saturating_add(LEASE) });
        let looked = claim(store, &quick, now);
        assert!(looked.deliveries.is_empty());
        assert_eq!(looked.next, Some(now), "it looks again at once");
        let second = claim(store, &quick, now).deliveries.pop().unwrap();
        assert_eq!((key(&second), second.attempt), (&b"quick"[..], 2));
        let rest = claim(store, &quick, now);
        assert_eq!(rest.next, Some(now.saturating_add(LEASE)), "and rests when it has seen all");
    }

    /// The payloads of what a claim of so many gives, in a transaction of its own.
    fn claimed(store: &mut Store, member: &Member, max: usize) -> Vec<Vec<u8>> {
        store.begun().unwrap();
        let claim =
            Claim { member: member.clone(), max, max_in_flight: usize::MAX, lease: LEASE, now: START };
        let deliveries = run(store, claim).deliveries;
        deliveries.into_iter().map(|delivery| delivery.message.payload.to_vec()).collect()
    }

    #[test]
    fn what_was_just_published_is_not_read_from_the_file_unless_another_wrote_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::File::create(&path).unwrap();
        let store = &mut open(&path);
        run(store, Ensure { destination: Destination::new("orders", "billing"), retain: None });
        let member = join(store);
        assert!(claimed(store, &member, 9).is_empty());
        let alter = |connection: &rusqlite::Connection, id: &str| {
            connection
                .execute_batch(&format!(
                    "UPDATE message SET payload = x'00' WHERE id = (SELECT {id}(id) FROM message)"
                ))
                .unwrap();
        };
        publish(store, &member, ["k"; 3].into_iter());
        // By this connection, as nobody does.
        alter(&store.connection, "max");
        assert_eq!(claimed(store, &member, 1), [b"m"]);
        assert_eq!(claimed(store, &member, 9), [b"m", b"m"], "they are not read");
        publish(store, &member, ["k"; 3].into_iter());
        alter(&schema::open(&path, Instant::now() + LEASE).unwrap(), "max");
        store.begun().unwrap();
        assert_eq!(claimed(store, &member, 2), [b"m", b"m"]);
        let claim = Claim { member, max: 1, max_in_flight: usize::MAX, lease: LEASE, now: START };
        assert!(claim.run(store).is_err(), "it is read, and is not as it was written");
    }
}
