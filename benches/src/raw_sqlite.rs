//! The baseline of SQLITE: a loop by hand that does the same inserts and deletes in the same transactions.
//!
//! One connection, one thread, prepared statements, the same columns and the same pragmas. Each turn inserts a
//! batch in one transaction, takes it in hand in another, and deletes it in a third once it is handled: what a process
//! that dies had in hand is known, as it must be where others go on with it. As the provider does, it asks for the
//! disk only where something was taken: a delete that power takes back is delivered again, and nothing is lost.

use crate::Result;
use bytes::Bytes;
use ductape_core::config::Durability;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use std::ops::Range;
use std::path::Path;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    attributes ANY NOT NULL,
    time INTEGER NOT NULL,
    uid ANY NOT NULL,
    finish INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    extensions BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE claim (id INTEGER PRIMARY KEY, consumer INTEGER, first INTEGER, expires INTEGER, entries BLOB) STRICT;
CREATE TABLE consumer_group (id INTEGER PRIMARY KEY, head INTEGER NOT NULL, claims INTEGER NOT NULL) STRICT;
INSERT INTO consumer_group VALUES (1, 0, 0);
";

/// Bytes that a claim holds of each message: what of it is left, its key, its attempt.
const ENTRY: usize = 12;

/// A file of one table.
pub struct RawSqlite {
    connection: Connection,
    inserts: &'static str,
    /// The id of the next message.
    next: u64,
}

impl RawSqlite {
    /// Makes the file.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn create(path: &Path, durability: Durability) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(SCHEMA)?;
        let inserts = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        Ok(RawSqlite { connection, inserts, next: 0 })
    }

    /// Inserts, reads and deletes `count` messages of one payload, `batch` in a transaction.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn insert_and_delete(&mut self, payload: &Bytes, count: u64, batch: u64) -> Result<()> {
        while self.next < count {
            let (first, now) = (self.next, batch.min(count - self.next));
            let end = self.insert(&vec![payload.clone(); now as usize])?;
            self.read_and_delete(first..end, |payload| _ = std::hint::black_box(payload))?;
        }
        Ok(())
    }

    /// Inserts messages in one transaction. Returns how many were ever inserted.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn insert(&mut self, payloads: &[Bytes]) -> Result<u64> {
        self.connection.pragma_update(None, "synchronous", self.inserts)?;
        let transaction = self.connection.transaction()?;
        {
            let sql =
                "INSERT INTO message (id, attributes, time, uid, finish, payload) VALUES (?, ?, ?, ?, ?, ?)";
            let mut insert = transaction.prepare_cached(sql)?;
            let uid = [7_u8; 16];
            for (id, payload) in (self.next as i64..).zip(payloads) {
                insert.execute(params![id, 1, 1_700_000_000_000_000_i64, uid, id * 64, &payload[..]])?;
            }
        }
        transaction.commit()?;
        self.next += payloads.len() as u64;
        Ok(self.next)
    }

    /// Takes messages in hand, hands out their payloads, and deletes them.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn read_and_delete(&mut self, ids: Range<u64>, payload: impl FnMut(&[u8])) -> Result<()> {
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        let (first, end) = (ids.start as i64, ids.end as i64);
        self.claim(first, end, payload)?;
        self.settle(first, end)
    }

    fn claim(&mut self, first: i64, end: i64, mut payload: impl FnMut(&[u8])) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let sql = "SELECT id, attributes, time, uid, key, headers, extensions, payload FROM message \
                       WHERE id >= ? AND id < ?";
            let mut select = transaction.prepare_cached(sql)?;
            let mut rows = select.query([first, end])?;
            while let Some(row) = rows.next()? {
                let owned: Vec<u8> = row.get(7)?;
                payload(&owned);
            }
            let entries = vec![0_u8; usize::try_from(end - first)? * ENTRY];
            transaction
                .prepare_cached(
                    "INSERT INTO claim (id, consumer, first, expires, entries) VALUES (?, 1, ?, ?, ?)",
                )?
                .execute(params![first, first, 1_700_000_000_000_000_i64, entries])?;
            transaction
                .prepare_cached("UPDATE consumer_group SET head = ?, claims = claims + 1 WHERE id = 1")?
                .execute([end])?;
        }
        Ok(transaction.commit()?)
    }

    fn settle(&mut self, first: i64, end: i64) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            transaction.prepare_cached("DELETE FROM claim WHERE id = ?")?.execute([first])?;
            transaction
                .prepare_cached("DELETE FROM message WHERE id >= ? AND id < ?")?
                .execute([first, end])?;
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut raw = RawSqlite::create(&folder.path().join("raw.db"), Durability::Normal).unwrap();
        raw.insert_and_delete(&Bytes::from_static(b"payload"), 25, 10).unwrap();
        let count = |sql| raw.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let left = count("SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM claim)");
        assert_eq!((left, count("SELECT head FROM consumer_group")), (0, 25));
    }
}
