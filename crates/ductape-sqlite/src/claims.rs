//! Handing out and settling.
//!
//! ```text
//!   parked, due ──┐
//!                 ├─▶ one row of `claim` ──ack──▶ gone ──▶ the log sweeps
//!   head of log ──┘        │
//!                          ├─ retry, release, lease over, consumer gone ──▶ parked
//!   head, key in other hands ──────────────────────────────────────────────▶ parked
//! ```
//!
//! What may go to whom is in [`crate::pick`].

use crate::entries::{self, Entry, KeyHash};
use crate::error::{self, Fault};
use crate::ids::{ConsumerId, DestinationId, GroupId};
use crate::message;
use crate::parked::{NOW, Parked};
use crate::pick::{Held, Picker, Taken};
use crate::request::Request;
use crate::store::Store;
use ductape_core::{Delivery, Message, Position, Timestamp, Token};
use rusqlite::{OptionalExtension, params};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A consumer in its group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) consumer: ConsumerId,
    pub(crate) group: GroupId,
    pub(crate) destination: DestinationId,
    pub(crate) destination_name: Arc<str>,
    pub(crate) group_name: Arc<str>,
}

/// Asks for deliveries.
pub(crate) struct Claim {
    pub(crate) member: Member,
    /// The most now, and the most unsettled.
    pub(crate) max: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) lease: Duration,
    pub(crate) now: Timestamp,
}

/// What a consumer gets.
pub(crate) struct Claimed {
    pub(crate) deliveries: Vec<Delivery>,
    /// Until when they are its own.
    pub(crate) expires: Timestamp,
    /// When something will happen by itself: a delay or a lease is over.
    pub(crate) next: Option<Timestamp>,
    /// Whether only settling helps.
    pub(crate) at_bound: bool,
}

/// What a look at the group's claims showed.
#[derive(Default)]
struct Hands {
    /// How many the consumer itself has unsettled.
    own: usize,
    /// What other consumers have, by key.
    others: HashMap<KeyHash, Held>,
    expired: Vec<(i64, Vec<Entry>)>,
    next_expiry: Option<Timestamp>,
}

impl Request for Claim {
    type Answer = Claimed;

    fn run(&self, store: &mut Store) -> Result<Claimed, Fault> {
        let group = self.member.group;
        store.check_member(&self.member)?;
        let (head, claims) = store.group(&self.member)?;
        let hands = store.look(self)?;
        if !hands.expired.is_empty() {
            store.expire(&self.member, &hands.expired)?;
            store.transaction.to_wake.insert(self.member.destination);
        }
        let room = self.max.min(self.max_in_flight.saturating_sub(hands.own));
        let picker = Picker::new(self, hands.others, room, store.has_parked(group)?);
        let picked = picker.pick(store, head)?;
        let expires = self.now.saturating_add(self.lease);
        let new_head = (picked.head != head).then_some(picked.head);
        let deliveries = store.hand_out(self, picked.taken, claims, expires, new_head)?;
        let next = match (deliveries.is_empty(), picked.unfinished) {
            (false, _) => None,
            (true, true) => Some(self.now),
            (true, false) => earlier(hands.next_expiry, store.next_due(group, self.now)?),
        };
        Ok(Claimed { deliveries, expires, next, at_bound: room == 0 })
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl Store {
    fn check_member(&self, member: &Member) -> Result<(), Fault> {
        match self.members.contains(&member.consumer) {
            true => Ok(()),
            false => Err(error::closed("the consumer").into()),
        }
    }

    /// Where the group's head is, and how many claims it had.
    fn group(&self, member: &Member) -> Result<(i64, i64), Fault> {
        let mut group = self.statement("SELECT head, claims FROM consumer_group WHERE id = ?")?;
        let row = group.query_row([member.group.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        row.ok_or_else(|| error::no_group(&member.destination_name, &member.group_name).into())
    }

    /// Reads the claims of the group.
    fn look(&self, ask: &Claim) -> rusqlite::Result<Hands> {
        let (low, high) = ask.member.group.claims();
        let mut claims = self
            .statement("SELECT id, consumer, first, expires, entries FROM claim WHERE id BETWEEN ? AND ?")?;
        let mut rows = claims.query([low, high])?;
        let mut hands = Hands::default();
        while let Some(row) = rows.next()? {
            let expires = Timestamp::from_micros(row.get(3)?);
            let blob = row.get_ref(4)?.as_blob()?;
            let read = || entries::decode(row.get(2)?, blob).map_err(|e| message::damaged(4, e));
            if expires <= ask.now {
                hands.expired.push((row.get(0)?, read()?.collect()));
                continue;
            }
            hands.next_expiry = earlier(hands.next_expiry, Some(expires));
            if row.get::<_, i64>(1)? == ask.member.consumer.0 {
                hands.own += entries::count(blob);
                continue;
            }
            for Entry { seq, key, .. } in read()?.filter(|entry| entry.key.is_some()) {
                let held = hands.others.entry(key).or_insert(Held { first: seq, until: expires });
                if seq < held.first {
                    *held = Held { first: seq, until: expires };
                }
            }
        }
        Ok(hands)
    }

    /// Takes back what was in hand for too long.
    fn expire(&self, member: &Member, expired: &[(i64, Vec<Entry>)]) -> rusqlite::Result<()> {
        for (claim, entries) in expired {
            self.delete_claim(*claim)?;
            for entry in entries {
                self.park(member.group, Parked::tried(*entry, NOW))?;
            }
        }
        self.let_go(member.group, expired.iter().flat_map(|(_, entries)| entries))
    }

    /// These are in nobody's hands any more: what stood aside for their keys may be looked at.
    pub(crate) fn let_go<'e>(
        &self,
        group: GroupId,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> rusqlite::Result<()> {
        let keys: HashSet<_> = entries.map(|entry| entry.key).filter(|key| key.is_some()).collect();
        keys.into_iter().try_for_each(|key| self.bring_forward(group, key))
    }

    /// The message of this sequence, which must be there.
    pub(crate) fn message(&mut self, destination: DestinationId, seq: i64) -> rusqlite::Result<Message> {
        let mut one = self.connection.prepare_cached(message::SELECT_ONE)?;
        one.query_row([destination.message(seq)], |row| {
            let attributes = self.attributes.load(&self.connection, row.get_ref(1)?)?;
            message::read(row, attributes)
        })
    }

    /// Writes the claims of what is taken, which is in order, and where the head is now.
    fn hand_out(
        &self,
        ask: &Claim,
        taken: Vec<Taken>,
        claims: i64,
        expires: Timestamp,
        new_head: Option<i64>,
    ) -> rusqlite::Result<Vec<Delivery>> {
        let Member { group, consumer, .. } = ask.member;
        let entries: Vec<_> = taken.iter().map(|taken| taken.entry).collect();
        let mut taken = taken.into_iter();
        let mut deliveries = Vec::with_capacity(entries.len());
        let mut number = claims;
        for chunk in entries::chunks(&entries) {
            let id = group.claim(number);
            number += 1;
            let sql = "INSERT INTO claim (id, consumer, first, expires, entries) VALUES (?, ?, ?, ?, ?)";
            let blob = entries::encode(chunk);
            self.statement(sql)?.execute(params![id, consumer.0, chunk[0].seq, expires.as_micros(), blob])?;
            deliveries.extend(taken.by_ref().take(chunk.len()).map(|taken| delivery(taken, id)));
        }
        if number != claims || new_head.is_some() {
            let sql = "UPDATE consumer_group SET head = ifnull(?, head), claims = ? WHERE id = ?";
            self.statement(sql)?.execute(params![new_head, number, group.0])?;
        }
        Ok(deliveries)
    }

    /// Deletes a claim with all that is left in it.
    pub(crate) fn delete_claim(&self, claim: i64) -> rusqlite::Result<()> {
        self.statement("DELETE FROM claim WHERE id = ?")?.execute([claim])?;
        Ok(())
    }
}

fn delivery(taken: Taken, claim: i64) -> Delivery {
    let Taken { entry, message } = taken;
    // Row ids and sequences are never negative.
    let (claim, seq) = (claim.unsigned_abs(), entry.seq.unsigned_abs());
    Delivery {
        message,
        attempt: entry.attempt,
        position: Position::Sequence(seq),
        token: Token::Numbers(claim, seq),
    }
}
