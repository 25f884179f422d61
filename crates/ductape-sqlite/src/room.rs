//! How much the messages in the file take, and whether there is room for more below `maxBytes`.

use crate::error::{self, Fault};
use crate::ids::DestinationId;
use crate::log::Append;
use crate::store::Store;
use ductape_core::{Error, Result};
use rusqlite::OptionalExtension;

/// The room below `maxBytes` while a batch is appended.
pub(crate) struct Room<'a> {
    append: &'a Append,
    most: i64,
    /// The bytes of all messages in the file and of what was taken, where they count.
    kept: Option<i64>,
    /// The bytes of what was taken of the batch, which is not in the file yet.
    taken: i64,
    /// What the rest of the batch hears as well.
    refusal: Option<Error>,
}

impl<'a> Room<'a> {
    /// The room of a batch.
    pub(crate) fn new(append: &'a Append) -> Self {
        Room { append, most: append.max_bytes.unwrap_or(i64::MAX), kept: None, taken: 0, refusal: None }
    }

    /// Takes so many bytes for a message and gives them, or says why it is refused. Settled messages that are merely
    /// retained give way.
    pub(crate) fn take(&mut self, store: &mut Store, bytes: i64) -> Result<Result<i64>, Fault> {
        if self.append.max_bytes.is_none() {
            return Ok(Ok(bytes));
        }
        if bytes > self.most {
            return Ok(Err(error::larger_than_the_file(&self.append.name, bytes, self.most)));
        }
        let mut kept = self.kept(store)?;
        while kept + bytes > self.most {
            if self.refusal.is_some() || !store.sweep_anywhere(self.append.destination)? {
                return Ok(Err(self.refuse(store)?));
            }
            kept = store.kept_bytes()? + self.taken;
        }
        self.kept = Some(kept + bytes);
        self.taken += bytes;
        Ok(Ok(bytes))
    }

    fn kept(&mut self, store: &mut Store) -> rusqlite::Result<i64> {
        match self.kept {
            Some(kept) => Ok(kept),
            None => Ok(*self.kept.insert(store.kept_bytes()?)),
        }
    }

    fn refuse(&mut self, store: &mut Store) -> rusqlite::Result<Error> {
        if self.refusal.is_none() {
            self.refusal = Some(store.full_error(self.append)?);
        }
        let refusal = self.refusal.as_ref().map(Error::replicate);
        Ok(refusal.unwrap_or_else(|| error::full(&self.append.name, self.most, None)))
    }
}

impl Store {
    /// The bytes of all messages in the file.
    fn kept_bytes(&self) -> rusqlite::Result<i64> {
        let each = self.destinations()?.into_iter().map(|destination| Ok(self.stored(destination)?.1));
        each.sum()
    }

    fn destinations(&self) -> rusqlite::Result<Vec<DestinationId>> {
        let mut all = self.statement("SELECT id FROM destination")?;
        let rows = all.query_map([], |row| row.get(0).map(DestinationId))?;
        rows.collect()
    }

    /// How many messages the destination has in the file, and how many bytes they take. Counted from the two
    /// ends of the log, not from every row.
    pub(crate) fn stored(&self, destination: DestinationId) -> rusqlite::Result<(i64, i64)> {
        let (swept, trailing): (i64, (i64, i64)) = self
            .statement("SELECT swept, trailing, trailing_bytes FROM destination WHERE id = ?")?
            .query_row([destination.0], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        let bounds = [destination.message(swept), destination.end()];
        let first: Option<(i64, i64)> = self
            .statement(
                "SELECT m.id, finish - bytes FROM message m JOIN message_bytes USING (id) \
                 WHERE m.id >= ? AND m.id < ? ORDER BY m.id LIMIT 1",
            )?
            .query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let last: Option<(i64, i64)> = self
            .statement("SELECT id, finish FROM message WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1")?
            .query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let log = first.zip(last).map(|((first, start), (last, finish))| (last - first + 1, finish - start));
        let (messages, bytes) = log.unwrap_or((0, 0));
        Ok((messages + trailing.0, bytes + trailing.1))
    }

    /// Deletes what is merely retained: of this destination first, else of any other. Answers whether there was
    /// something.
    fn sweep_anywhere(&mut self, first: DestinationId) -> rusqlite::Result<bool> {
        let others = self.destinations()?.into_iter().filter(|other| *other != first);
        for destination in [first].into_iter().chain(others) {
            if self.sweep(destination, None)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn full_error(&mut self, append: &Append) -> rusqlite::Result<Error> {
        let groups = self.inspect_groups(append.destination, append.now)?;
        let slowest = groups.into_iter().max_by_key(|group| group.lag).filter(|group| group.lag > Some(0));
        let slowest = slowest.and_then(|group| Some((group.name, group.lag?)));
        Ok(error::full(&append.name, append.max_bytes.unwrap_or(i64::MAX), slowest))
    }
}
