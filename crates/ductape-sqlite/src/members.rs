//! Joining and leaving a group, and clearing up after processes that died.

use crate::claims::Member;
use crate::entries::{self, Entry};
use crate::error::{self, Fault};
use crate::ids::{ConsumerId, DestinationId, GroupId, PeerId, sequence};
use crate::message;
use crate::parked::{NOW, Parked};
use crate::queue::Queue;
use crate::request::{Pending, Request, submit};
use crate::store::Store;
use ductape_core::{ConsumerOptions, Start};
use rusqlite::{Result, params};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes a consumer, and its group where it is not there.
pub(crate) struct Join {
    pub(crate) destination: Arc<str>,
    pub(crate) options: ConsumerOptions,
    /// Where the consumer will say that it leaves.
    pub(crate) queue: Arc<Queue>,
}

/// A consumer's place in its group. Dropped without having left, even on its way to who asked for it, it leaves
/// as one that was lost. Until its transaction is committed there is nothing to leave: its number may be another
/// consumer's by then.
pub(crate) struct Seat {
    member: Member,
    queue: Arc<Queue>,
    /// Whether it is in the file and does not leave.
    seated: AtomicBool,
}

/// Ends a consumer. What it has in hand goes to others.
pub(crate) struct Leave {
    pub(crate) member: Member,
    /// Whether the attempts count: they do where it was lost, and do not where it was closed.
    pub(crate) lost: bool,
}

impl Seat {
    /// The consumer in its group.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Leaves, whether or not somebody waits for it; `None` where it leaves or has left.
    pub(crate) fn leave(&self) -> Option<Pending<()>> {
        self.leave_as(false).map(Pending::surely)
    }

    /// It has not left: the file could not be written. The next call, or dropping it, tries again.
    pub(crate) fn stayed(&self) {
        self.seated.store(true, Ordering::Release);
    }

    fn leave_as(&self, lost: bool) -> Option<Pending<()>> {
        let seated = self.seated.swap(false, Ordering::AcqRel);
        seated.then(|| submit(&self.queue, Leave { member: self.member.clone(), lost }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(leaving) = self.leave_as(true) {
            drop(leaving.surely());
        }
    }
}

impl Request for Join {
    type Answer = Seat;

    fn run(&self, store: &mut Store) -> Result<Seat, Fault> {
        let destination =
            store.destination(&self.destination)?.ok_or_else(|| error::no_destination(&self.destination))?;
        let peer = store.peers.own()?;
        let earliest = self.options.start == Start::Earliest;
        let group = store.ensure_group(destination, &self.options.group, earliest)?;
        let mut join =
            store.statement("INSERT INTO consumer (consumer_group, peer, member) VALUES (?, ?, ?)")?;
        let consumer = ConsumerId(join.insert(params![group.0, peer.0, &*self.options.member])?);
        drop(join);
        store.transaction.joined.push(consumer);
        let member = Member {
            consumer,
            group,
            destination,
            destination_name: Arc::clone(&self.destination),
            group_name: Arc::clone(&self.options.group),
        };
        Ok(Seat { member, queue: Arc::clone(&self.queue), seated: AtomicBool::new(false) })
    }

    fn committed(seat: &Seat) {
        seat.seated.store(true, Ordering::Release);
    }
}

impl Request for Leave {
    type Answer = ();

    fn run(&self, store: &mut Store) -> Result<(), Fault> {
        let Member { consumer, group, destination, .. } = self.member;
        store.remove_consumer(consumer, group, destination, self.lost)?;
        store.transaction.left.push(consumer);
        Ok(())
    }
}

impl Store {
    /// The group of this name, made where it is not there.
    pub(crate) fn ensure_group(
        &mut self,
        destination: DestinationId,
        name: &str,
        earliest: bool,
    ) -> Result<GroupId> {
        if let Some(group) = self.find_group(destination, name)? {
            return Ok(group);
        }
        let tail = self.tail(destination)?;
        let head = if earliest { tail.swept } else { tail.next };
        let sql = "INSERT INTO consumer_group (destination, name, head, claims) VALUES (?, ?, ?, 0)";
        let group = GroupId(self.statement(sql)?.insert(params![destination.0, name, head])?);
        if earliest {
            self.park_trailing(group, destination, head)?;
        }
        Ok(group)
    }

    /// Gives a group what the log has swept past and kept for other groups.
    fn park_trailing(&self, group: GroupId, destination: DestinationId, swept: i64) -> Result<()> {
        let mut trailing = self.statement(message::SELECT_RANGE)?;
        let mut rows = trailing.query([destination.message(0), destination.message(swept)])?;
        while let Some(row) = rows.next()? {
            let (seq, key) = (sequence(row.get(0)?), message::key_hash(row)?);
            self.park(group, Parked::passed_over(seq, key, NOW))?;
        }
        Ok(())
    }

    /// Removes a consumer and parks what it has in hand.
    fn remove_consumer(
        &mut self,
        consumer: ConsumerId,
        group: GroupId,
        destination: DestinationId,
        lost: bool,
    ) -> Result<()> {
        let claims = self.claims_of(group, Some(consumer))?;
        for (claim, held) in &claims {
            self.delete_claim(*claim)?;
            for entry in held {
                self.park(group, if lost { Parked::tried(*entry, NOW) } else { Parked::untried(*entry) })?;
            }
            self.transaction.to_wake.insert(destination);
        }
        self.let_go(group, claims.iter().flat_map(|(_, held)| held))?;
        self.statement("DELETE FROM consumer WHERE id = ?")?.execute([consumer.0])?;
        Ok(())
    }

    /// The claims of a group, or of one consumer in it.
    pub(crate) fn claims_of(
        &self,
        group: GroupId,
        consumer: Option<ConsumerId>,
    ) -> Result<Vec<(i64, Vec<Entry>)>> {
        let mut claims = self.statement(
            "SELECT id, first, entries FROM claim WHERE id BETWEEN ?1 AND ?2 AND (?3 IS NULL OR consumer = ?3)",
        )?;
        let (low, high) = group.claims();
        let rows = claims.query_map(params![low, high, consumer.map(|consumer| consumer.0)], |row| {
            let held = entries::decode(row.get(1)?, row.get_ref(2)?.as_blob()?);
            Ok((row.get(0)?, held.map_err(|e| message::damaged(2, e))?.collect()))
        })?;
        rows.collect()
    }

    /// All processes that have consumers of the file, but for this one.
    pub(crate) fn other_peers(&self) -> Result<Vec<PeerId>> {
        let own = self.peers.own_if_any().map(|own| own.0);
        let mut peers = self.statement("SELECT DISTINCT peer FROM consumer WHERE peer IS NOT ?")?;
        let rows = peers.query_map([own], |row| row.get(0).map(PeerId))?;
        rows.collect()
    }

    /// Removes the files beside the database that processes left which died before or after they had consumers.
    pub(crate) fn remove_abandoned_files(&self) {
        if let Ok(others) = self.other_peers() {
            self.peers.remove_abandoned_files(&others);
        }
    }

    /// The other processes that have consumers of this destination.
    pub(crate) fn peers_of(&self, destination: DestinationId) -> Result<Vec<PeerId>> {
        let own = self.peers.own_if_any().map(|own| own.0);
        let mut peers = self.statement(
            "SELECT DISTINCT peer FROM consumer JOIN consumer_group ON consumer_group.id = consumer_group \
             WHERE destination = ? AND peer IS NOT ?",
        )?;
        let rows = peers.query_map(params![destination.0, own], |row| row.get(0).map(PeerId))?;
        rows.collect()
    }

    /// Gives what a process had in hand to others.
    pub(crate) fn bury(&mut self, peer: PeerId) -> Result<()> {
        for (consumer, group, destination) in self.consumers_of(peer)? {
            self.remove_consumer(consumer, group, destination, true)?;
            self.transaction.left.push(consumer);
        }
        Ok(())
    }

    fn consumers_of(&self, peer: PeerId) -> Result<Vec<(ConsumerId, GroupId, DestinationId)>> {
        let mut consumers = self.statement(
            "SELECT c.id, g.id, g.destination FROM consumer c JOIN consumer_group g ON g.id = c.consumer_group \
             WHERE peer = ?",
        )?;
        let rows = consumers.query_map([peer.0], |row| {
            Ok((ConsumerId(row.get(0)?), GroupId(row.get(1)?), DestinationId(row.get(2)?)))
        })?;
        rows.collect()
    }
}
