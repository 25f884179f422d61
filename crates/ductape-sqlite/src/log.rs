//! The log of a destination: where it stands, and appending to it. Its room is in [`crate::room`], its other end in
//! [`crate::sweep`].

use crate::error::Fault;
use crate::ids::{DestinationId, sequence};
use crate::message::NewRow;
use crate::request::Request;
use crate::room::Room;
use crate::store::Store;
use ductape_core::message::Attributes;
use ductape_core::{Message, Result, Timestamp};
use rusqlite::types::ToSqlOutput;
use rusqlite::{OptionalExtension, Statement};
use std::sync::Arc;

const INSERT: &str = "INSERT INTO message \
     (id, attributes, time, uid, finish, digest, key, headers, extensions, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// Where a destination's log stands.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    /// The sequence that the next message gets.
    pub(crate) next: i64,
    /// The bytes of all messages so far.
    finish: i64,
    /// All before it are deleted but for those that are parked or claimed.
    pub(crate) swept: i64,
    /// For how many microseconds settled messages are kept.
    pub(crate) retain: Option<i64>,
}

/// A batch to be appended.
pub(crate) struct Append {
    pub(crate) destination: DestinationId,
    pub(crate) name: Arc<str>,
    pub(crate) batch: Vec<(Message, NewRow)>,
    /// Whether the commit must be on the disk.
    pub(crate) full: bool,
    /// The most that all messages in the file may take.
    pub(crate) max_bytes: Option<i64>,
    pub(crate) now: Timestamp,
    pub(crate) weight: usize,
}

impl Request for Append {
    /// The sequence of each message, or why it alone was refused.
    type Answer = Vec<Result<i64>>;

    fn must_reach_disk(&self) -> bool {
        self.full
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&self, store: &mut Store) -> Result<Self::Answer, Fault> {
        let mut room = Room::new(self);
        let size = |(_, row): &(_, NewRow)| room.take(store, row.bytes);
        let mut results = self.batch.iter().map(size).collect::<Result<Vec<_>, Fault>>()?;
        let mut tail = store.tail(self.destination)?;
        store.insert_all(self.destination, &mut tail, &self.batch, &mut results)?;
        store.appended(self.destination, &tail, self.now);
        Ok(results)
    }
}

/// What a compiled insert has bound from the message before: neighbours have much in common, which need not be bound
/// again.
#[derive(Default)]
struct Bound<'m> {
    attributes: Option<&'m Arc<Attributes>>,
    optional: [Optional; 3],
}

/// Whether a column that may be NULL, as it is at first, is something else.
#[derive(Default)]
struct Optional(bool);

impl Optional {
    fn bind(
        &mut self,
        insert: &mut Statement<'_>,
        column: usize,
        value: Option<&[u8]>,
    ) -> rusqlite::Result<()> {
        if self.0 || value.is_some() {
            insert.raw_bind_parameter(column, value)?;
        }
        self.0 = value.is_some();
        Ok(())
    }
}

impl Store {
    /// Where the log stands, read once a transaction.
    pub(crate) fn tail(&mut self, destination: DestinationId) -> rusqlite::Result<Tail> {
        if let Some(tail) = self.transaction.tails.get(&destination) {
            return Ok(*tail);
        }
        let (swept, retain) = self
            .statement("SELECT swept, retain FROM destination WHERE id = ?")?
            .query_row([destination.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let last = self
            .statement("SELECT id, finish FROM message WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1")?
            .query_row([destination.message(swept), destination.end()], |row| {
                Ok((sequence(row.get(0)?), row.get(1)?))
            })
            .optional()?;
        let (next, finish) = last.map_or((swept, 0), |(seq, finish)| (seq + 1, finish));
        let tail = Tail { next, finish, swept, retain };
        self.transaction.tails.insert(destination, tail);
        Ok(tail)
    }

    /// Appends those that have room, by their size in `places`, which becomes their sequence.
    fn insert_all(
        &mut self,
        destination: DestinationId,
        tail: &mut Tail,
        batch: &[(Message, NewRow)],
        places: &mut [Result<i64>],
    ) -> rusqlite::Result<()> {
        let Store { connection, attributes, recent, .. } = self;
        // Looked up once: finding it among the compiled ones takes as long as half an insert.
        let mut insert = connection.prepare_cached(INSERT)?;
        let mut bound = Bound::default();
        for ((message, row), place) in batch.iter().zip(places) {
            let Ok(place) = place else { continue };
            tail.finish += *place;
            if bound.attributes.is_none_or(|last| !Arc::ptr_eq(last, &message.attributes)) {
                insert.raw_bind_parameter(2, attributes.store(connection, &message.attributes)?.column())?;
                bound.attributes = Some(&message.attributes);
            }
            let columns = row.columns(message);
            insert.raw_bind_parameter(1, destination.message(tail.next))?;
            insert.raw_bind_parameter(3, columns.time)?;
            insert.raw_bind_parameter(4, ToSqlOutput::Borrowed(columns.uid))?;
            insert.raw_bind_parameter(5, tail.finish)?;
            insert.raw_bind_parameter(6, row.digest)?;
            bound.optional[0].bind(&mut insert, 7, columns.key)?;
            bound.optional[1].bind(&mut insert, 8, columns.headers)?;
            bound.optional[2].bind(&mut insert, 9, columns.extensions)?;
            insert.raw_bind_parameter(10, columns.payload)?;
            insert.raw_execute()?;
            recent.append(destination, tail.next, message, row.bytes);
            *place = tail.next;
            tail.next += 1;
        }
        Ok(())
    }

    fn appended(&mut self, destination: DestinationId, tail: &Tail, now: Timestamp) {
        if let Some(known) = self.transaction.tails.get_mut(&destination) {
            (known.next, known.finish) = (tail.next, tail.finish);
        }
        self.transaction.to_wake.insert(destination);
        if tail.retain.is_some() {
            self.transaction.to_sweep.insert(destination, now);
        }
    }
}
