//! Messages that were passed over or came back: nobody has them in hand, and they go out before anything new.
//!
//! Each has two times. Before its `floor` it must not go out: a retry's delay. At `due` it is looked at next: the
//! floor, or later where an earlier message of its key stands in its way. Whoever takes that one out of the way
//! moves `due` back to the floor ([`Store::bring_forward`]), so that what is blocked costs nothing meanwhile; and
//! since `due` is never later than the blocker's own lease or delay, nothing waits for ever.

use crate::entries::{Entry, KeyHash};
use crate::ids::GroupId;
use crate::store::Store;
use ductape_core::Timestamp;
use rusqlite::{OptionalExtension, Result, Row, params};

/// A parked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) seq: i64,
    pub(crate) key: KeyHash,
    /// How often it was handed out so far, as far as that counts.
    pub(crate) attempts: u32,
    pub(crate) due: Timestamp,
    pub(crate) floor: Timestamp,
}

/// Due at once.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(0);

impl Parked {
    /// A message that was never handed out, since an earlier one of its key stands in its way until then.
    pub(crate) fn passed_over(seq: i64, key: KeyHash, due: Timestamp) -> Self {
        Parked { seq, key, attempts: 0, due, floor: NOW }
    }

    /// A delivery that failed or was lost: its attempt counts.
    pub(crate) fn tried(entry: Entry, floor: Timestamp) -> Self {
        Parked { seq: entry.seq, key: entry.key, attempts: entry.attempt, due: floor, floor }
    }

    /// A delivery that was given back: its attempt does not count.
    pub(crate) fn untried(entry: Entry) -> Self {
        Parked { attempts: entry.attempt.saturating_sub(1), ..Parked::tried(entry, NOW) }
    }
}

impl Store {
    /// Puts a message aside.
    pub(crate) fn park(&self, group: GroupId, parked: Parked) -> Result<()> {
        let sql =
            "INSERT INTO parked (consumer_group, seq, key, attempts, due, floor) VALUES (?, ?, ?, ?, ?, ?)";
        let Parked { seq, key, attempts, due, floor } = parked;
        self.statement(sql)?.execute(params![
            group.0,
            seq,
            key.0,
            attempts,
            due.as_micros(),
            floor.as_micros()
        ])?;
        Ok(())
    }

    /// Takes a message out again; `false` where it is not parked.
    pub(crate) fn unpark(&self, group: GroupId, seq: i64) -> Result<bool> {
        let mut delete = self.statement("DELETE FROM parked WHERE consumer_group = ? AND seq = ?")?;
        Ok(delete.execute([group.0, seq])? > 0)
    }

    /// Lets a message be, until then: an earlier one of its key stands in its way.
    pub(crate) fn put_off(&self, group: GroupId, seq: i64, due: Timestamp) -> Result<()> {
        let sql = "UPDATE parked SET due = ? WHERE consumer_group = ? AND seq = ?";
        self.statement(sql)?.execute([due.as_micros(), group.0, seq])?;
        Ok(())
    }

    /// Something of this key is out of the way: the next may be looked at.
    pub(crate) fn bring_forward(&self, group: GroupId, key: KeyHash) -> Result<()> {
        match self.lowest_parked(group, key)? {
            Some(lowest) if lowest.due > lowest.floor => self.put_off(group, lowest.seq, lowest.floor),
            _ => Ok(()),
        }
    }

    /// What is due, in order of its sequence. Where that is more than so many, those that fell due first.
    pub(crate) fn parked_due(&self, group: GroupId, now: Timestamp, most: usize) -> Result<Vec<Parked>> {
        let mut due = self.statement(
            "SELECT seq, key, attempts, due, floor FROM parked INDEXED BY parked_due \
             WHERE consumer_group = ? AND due <= ? ORDER BY due, seq LIMIT ?",
        )?;
        let rows = due.query_map(params![group.0, now.as_micros(), limit(most)], from_row)?;
        let mut parked = rows.collect::<Result<Vec<_>>>()?;
        parked.sort_unstable_by_key(|parked| parked.seq);
        Ok(parked)
    }

    /// What is parked of a key, in order, so many at most.
    pub(crate) fn parked_of(&self, group: GroupId, key: KeyHash, most: usize) -> Result<Vec<Parked>> {
        let mut of_key = self.statement(
            "SELECT seq, key, attempts, due, floor FROM parked INDEXED BY parked_key \
             WHERE consumer_group = ? AND key = ? AND key <> 0 ORDER BY seq LIMIT ?",
        )?;
        of_key.query_map(params![group.0, key.0, limit(most)], from_row)?.collect()
    }

    /// Keys of which something is put off. Not all: those that are looked at again first.
    pub(crate) fn keys_put_off(&self, group: GroupId, now: Timestamp) -> Result<Vec<KeyHash>> {
        let mut keys = self.statement(
            "SELECT DISTINCT key FROM (SELECT key, floor FROM parked INDEXED BY parked_due \
                 WHERE consumer_group = ?1 AND due > ?2 ORDER BY due LIMIT 256) \
             WHERE floor <= ?2",
        )?;
        keys.query_map([group.0, now.as_micros()], |row| row.get(0).map(KeyHash))?.collect()
    }

    /// The first that is parked of this key.
    pub(crate) fn lowest_parked(&self, group: GroupId, key: KeyHash) -> Result<Option<Parked>> {
        let mut lowest = self.statement(
            "SELECT seq, key, attempts, due, floor FROM parked INDEXED BY parked_key \
             WHERE consumer_group = ? AND key = ? AND key <> 0 ORDER BY seq LIMIT 1",
        )?;
        lowest.query_row(params![group.0, key.0], from_row).optional()
    }

    /// When the next falls due that is not due at `now`.
    pub(crate) fn next_due(&self, group: GroupId, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut next = self.statement(
            "SELECT min(due) FROM parked INDEXED BY parked_due WHERE consumer_group = ? AND due > ?",
        )?;
        let due: Option<i64> = next.query_row([group.0, now.as_micros()], |row| row.get(0))?;
        Ok(due.map(Timestamp::from_micros))
    }

    /// Whether anything is parked.
    pub(crate) fn has_parked(&self, group: GroupId) -> Result<bool> {
        self.statement("SELECT 1 FROM parked WHERE consumer_group = ? LIMIT 1")?.exists([group.0])
    }

    /// Whether so many are parked, or more.
    pub(crate) fn has_parked_many(&self, group: GroupId, many: usize) -> Result<bool> {
        let mut nth = self.statement("SELECT 1 FROM parked WHERE consumer_group = ? LIMIT 1 OFFSET ?")?;
        nth.exists(params![group.0, many.saturating_sub(1) as i64])
    }
}

/// A number of rows as SQLite takes it, which would read a negative one as no limit.
fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn from_row(row: &Row<'_>) -> Result<Parked> {
    Ok(Parked {
        seq: row.get(0)?,
        key: KeyHash(row.get(1)?),
        attempts: row.get(2)?,
        due: Timestamp::from_micros(row.get(3)?),
        floor: Timestamp::from_micros(row.get(4)?),
    })
}
