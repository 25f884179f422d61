//! Destinations and groups: making, looking at, deleting.

use crate::entries;
use crate::error::{self, Fault};
use crate::ids::{DestinationId, GroupId};
use crate::request::Request;
use crate::store::Store;
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Timestamp};
use rusqlite::{OptionalExtension, Result, params};
use std::sync::Arc;
use std::time::Duration;

/// The sequence of a destination's first message.
const FIRST: i64 = 1;

/// Sees to it that a destination and its default group are there.
pub(crate) struct Ensure {
    pub(crate) destination: Destination,
    pub(crate) retain: Option<Duration>,
}

/// Looks at a destination.
pub(crate) struct Inspect {
    pub(crate) destination: Arc<str>,
    pub(crate) now: Timestamp,
}

/// Deletes a group and what waits for it.
pub(crate) struct DeleteGroup {
    pub(crate) destination: Arc<str>,
    pub(crate) group: String,
    pub(crate) now: Timestamp,
}

/// Finds the row of a destination.
pub(crate) struct Find(pub(crate) Arc<str>);

/// Proves that the file can be read and locked.
pub(crate) struct Ping;

impl Request for Ensure {
    type Answer = ();

    fn run(&self, store: &mut Store) -> Result<(), Fault> {
        let name = &self.destination.name;
        let retain = self.retain.map(|retain| i64::try_from(retain.as_micros()).unwrap_or(i64::MAX));
        let destination = match store.destination(name)? {
            Some(destination) => destination,
            None if self.destination.provision == Provision::Verify => {
                return Err(error::no_destination(name).into());
            }
            None => {
                let mut insert =
                    store.statement("INSERT INTO destination (name, retain, swept, trailing, trailing_bytes) VALUES (?, ?, ?, 0, 0)")?;
                DestinationId(insert.insert(params![&**name, retain, FIRST])?)
            }
        };
        let mut update =
            store.statement("UPDATE destination SET retain = ?1 WHERE id = ?2 AND retain IS NOT ?1")?;
        update.execute(params![retain, destination.0])?;
        drop(update);
        store.ensure_group(destination, &self.destination.default_group, false)?;
        Ok(())
    }
}

impl Request for Inspect {
    type Answer = Inspection;

    fn run(&self, store: &mut Store) -> Result<Inspection, Fault> {
        let found = store.destination(&self.destination)?;
        let destination = found.ok_or_else(|| error::no_destination(&self.destination))?;
        let (messages, bytes) = store.stored(destination)?;
        Ok(Inspection {
            messages: Some(messages.unsigned_abs()),
            bytes: Some(bytes.unsigned_abs()),
            groups: store.inspect_groups(destination, self.now)?,
            notes: Vec::new(),
        })
    }
}

impl Request for DeleteGroup {
    type Answer = ();

    fn run(&self, store: &mut Store) -> Result<(), Fault> {
        let found = store.destination(&self.destination)?;
        let destination = found.ok_or_else(|| error::no_destination(&self.destination))?;
        let found = store.find_group(destination, &self.group)?;
        let group = found.ok_or_else(|| error::no_group(&self.destination, &self.group))?;
        store.delete_group(destination, group)?;
        store.transaction.to_sweep.insert(destination, self.now);
        // Its consumers learn of it by asking.
        store.transaction.to_wake.insert(destination);
        Ok(())
    }
}

impl Request for Find {
    type Answer = DestinationId;

    fn run(&self, store: &mut Store) -> Result<DestinationId, Fault> {
        Ok(store.destination(&self.0)?.ok_or_else(|| error::no_destination(&self.0))?)
    }
}

impl Request for Ping {
    type Answer = ();

    fn run(&self, store: &mut Store) -> Result<(), Fault> {
        store.statement("SELECT count(*) FROM destination")?.query_row([], |_| Ok(()))?;
        Ok(())
    }
}

impl Store {
    /// The row of a destination of this name.
    pub(crate) fn destination(&self, name: &str) -> Result<Option<DestinationId>> {
        let mut find = self.statement("SELECT id FROM destination WHERE name = ?")?;
        find.query_row([name], |row| row.get(0).map(DestinationId)).optional()
    }

    /// The row of a group of this name.
    pub(crate) fn find_group(&self, destination: DestinationId, name: &str) -> Result<Option<GroupId>> {
        let mut find = self.statement("SELECT id FROM consumer_group WHERE destination = ? AND name = ?")?;
        find.query_row(params![destination.0, name], |row| row.get(0).map(GroupId)).optional()
    }

    /// All groups of a destination, by name.
    pub(crate) fn inspect_groups(
        &mut self,
        destination: DestinationId,
        now: Timestamp,
    ) -> Result<Vec<GroupInspection>> {
        let next = self.tail(destination)?.next;
        let mut groups = self.statement(
            "SELECT name, id, head, (SELECT count(*) FROM parked p WHERE p.consumer_group = g.id), \
                 (SELECT count(*) FROM consumer c WHERE c.consumer_group = g.id) \
             FROM consumer_group g WHERE destination = ? ORDER BY name",
        )?;
        let rows = groups.query_map([destination.0], |row| {
            let (head, parked): (i64, i64) = (row.get(2)?, row.get(3)?);
            let (claimed, in_flight) = self.count_claimed(GroupId(row.get(1)?), now)?;
            Ok(GroupInspection {
                name: row.get(0)?,
                lag: Some((next - head + parked).unsigned_abs() + claimed),
                in_flight,
                members: Some(row.get::<_, i64>(4)?.unsigned_abs()),
            })
        })?;
        rows.collect()
    }

    /// How many deliveries the group's claims hold, and how many of those within their lease.
    fn count_claimed(&self, group: GroupId, now: Timestamp) -> Result<(u64, u64)> {
        let mut claims = self.statement("SELECT expires, entries FROM claim WHERE id BETWEEN ? AND ?")?;
        let mut rows = claims.query([group.claims().0, group.claims().1])?;
        let (mut all, mut leased) = (0, 0);
        while let Some(row) = rows.next()? {
            let count = entries::count(row.get_ref(1)?.as_blob()?) as u64;
            all += count;
            if row.get::<_, i64>(0)? > now.as_micros() {
                leased += count;
            }
        }
        Ok((all, leased))
    }

    fn delete_group(&mut self, destination: DestinationId, group: GroupId) -> Result<()> {
        let swept = self.tail(destination)?.swept;
        let claims = self.claims_of(group, None)?;
        let mut left_behind: Vec<i64> = claims
            .iter()
            .flat_map(|(_, held)| held)
            .map(|entry| entry.seq)
            .filter(|seq| *seq < swept)
            .collect();
        let mut parked = self.statement("SELECT seq FROM parked WHERE consumer_group = ? AND seq < ?")?;
        for seq in parked.query_map([group.0, swept], |row| row.get(0))? {
            left_behind.push(seq?);
        }
        drop(parked);
        for (claim, _) in &claims {
            self.delete_claim(*claim)?;
        }
        self.statement("DELETE FROM parked WHERE consumer_group = ?")?.execute([group.0])?;
        self.statement("DELETE FROM consumer WHERE consumer_group = ?")?.execute([group.0])?;
        self.statement("DELETE FROM consumer_group WHERE id = ?")?.execute([group.0])?;
        let stragglers = left_behind.into_iter().map(|seq| (destination, seq));
        self.transaction.stragglers.extend(stragglers);
        // Nothing is kept for it any more.
        self.recent.forget();
        Ok(())
    }
}
