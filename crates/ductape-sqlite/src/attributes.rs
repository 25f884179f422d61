//! What many messages share, stored once: source, event and content type.

use crate::message::{Pairs, damaged, put_pair};
use ductape_core::message::Attributes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The most rows of `attributes`. A publisher that gives every message others would fill the file with rows that
/// nobody deletes; beyond this they stand in each message's own row.
const MAX_ROWS: i64 = 1024;

type Names = [Arc<str>; 3];

/// The rows of `attributes` that were seen, both ways.
#[derive(Default)]
pub(crate) struct AttributeCache {
    by_names: HashMap<Names, i64>,
    by_id: HashMap<i64, Arc<Attributes>>,
    /// The last that was written: most often the next as well.
    last: Option<(Arc<Attributes>, Stored)>,
    /// The last that was read: likewise.
    last_read: Option<(i64, Arc<Attributes>)>,
}

/// Attributes as a message's row refers to them.
#[derive(Clone)]
pub(crate) enum Stored {
    /// A row of `attributes`.
    Row(i64),
    /// Themselves, packed.
    Here(Arc<[u8]>),
}

impl Stored {
    /// As the column `attributes` holds it.
    pub(crate) fn column(&self) -> ToSqlOutput<'_> {
        ToSqlOutput::Borrowed(match self {
            Stored::Row(id) => ValueRef::Integer(*id),
            Stored::Here(packed) => ValueRef::Blob(packed),
        })
    }
}

impl AttributeCache {
    /// Forgets all, since rows may have been rolled back.
    pub(crate) fn clear(&mut self) {
        *self = AttributeCache::default();
    }

    /// How a message's row refers to these, which get a row where they have none.
    pub(crate) fn store(&mut self, connection: &Connection, attributes: &Arc<Attributes>) -> Result<Stored> {
        if let Some((last, stored)) = &self.last
            && (Arc::ptr_eq(last, attributes) || last == attributes)
        {
            return Ok(stored.clone());
        }
        let stored = match self.row(connection, attributes)? {
            Some(id) => Stored::Row(id),
            None => Stored::Here(pack(attributes)),
        };
        self.last = Some((Arc::clone(attributes), stored.clone()));
        Ok(stored)
    }

    /// The row of these; `None` where there are too many rows to add another.
    fn row(&mut self, connection: &Connection, attributes: &Attributes) -> Result<Option<i64>> {
        let names = [&attributes.source, &attributes.event, &attributes.content_type].map(Arc::clone);
        if let Some(id) = self.by_names.get(&names) {
            return Ok(Some(*id));
        }
        let [source, event, content_type] = [&*names[0], &*names[1], &*names[2]];
        let found = connection
            .prepare_cached("SELECT id FROM attributes WHERE source = ? AND event = ? AND content_type = ?")?
            .query_row(params![source, event, content_type], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                let mut count = connection.prepare_cached("SELECT count(*) FROM attributes")?;
                if count.query_row([], |row| row.get::<_, i64>(0))? >= MAX_ROWS {
                    return Ok(None);
                }
                connection
                    .prepare_cached("INSERT INTO attributes (source, event, content_type) VALUES (?, ?, ?)")?
                    .insert(params![source, event, content_type])?
            }
        };
        self.by_names.insert(names, id);
        Ok(Some(id))
    }

    /// What the column `attributes` of a message's row refers to.
    pub(crate) fn load(&mut self, connection: &Connection, column: ValueRef<'_>) -> Result<Arc<Attributes>> {
        let id = match column {
            ValueRef::Integer(id) => id,
            other => return unpack(other.as_blob()?),
        };
        if let Some((last, attributes)) = &self.last_read
            && *last == id
        {
            return Ok(Arc::clone(attributes));
        }
        let attributes = match self.by_id.entry(id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                let mut select = connection
                    .prepare_cached("SELECT source, event, content_type FROM attributes WHERE id = ?")?;
                Arc::clone(place.insert(Arc::new(select.query_row([id], from_row)?)))
            }
        };
        self.last_read = Some((id, Arc::clone(&attributes)));
        Ok(attributes)
    }
}

fn from_row(row: &Row<'_>) -> Result<Attributes> {
    Ok(Attributes { source: row.get(0)?, event: row.get(1)?, content_type: row.get(2)? })
}

fn pack(attributes: &Attributes) -> Arc<[u8]> {
    let mut packed = Vec::new();
    put_pair(&mut packed, attributes.source.as_bytes(), attributes.event.as_bytes());
    put_pair(&mut packed, attributes.content_type.as_bytes(), b"");
    packed.into()
}

fn unpack(packed: &[u8]) -> Result<Arc<Attributes>> {
    let mut pairs = Pairs(packed);
    let mut pair = || pairs.next().unwrap_or(Err(crate::message::Torn)).map_err(|torn| damaged(1, torn));
    let ((source, event), (content_type, _)) = (pair()?, pair()?);
    let event = std::str::from_utf8(event).map_err(|e| damaged(1, e))?;
    Ok(Arc::new(Attributes { source: source.into(), event: event.into(), content_type: content_type.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(content_type: &str) -> Arc<Attributes> {
        Arc::new(Attributes {
            source: "/shop".into(),
            event: "a:b".into(),
            content_type: content_type.into(),
        })
    }

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE attributes (id INTEGER PRIMARY KEY, source, event, content_type)";
        connection.execute_batch(table).unwrap();
        connection
    }

    #[test]
    fn the_same_attributes_get_the_same_row_and_are_read_from_it() {
        let (connection, mut cache) = (connection(), AttributeCache::default());
        let [Stored::Row(a), Stored::Row(b), Stored::Row(again)] =
            ["x", "y", "x"].map(|name| cache.store(&connection, &attributes(name)).unwrap())
        else {
            panic!("not in rows");
        };
        assert!(a != b && a == again);
        cache.clear();
        assert_eq!(cache.load(&connection, ValueRef::Integer(b)).unwrap(), attributes("y"));
    }

    #[test]
    fn beyond_the_most_rows_they_stand_in_the_message() {
        let (connection, mut cache) = (connection(), AttributeCache::default());
        for n in 0..=MAX_ROWS {
            let own = attributes(&n.to_string());
            let stored = cache.store(&connection, &own).unwrap();
            assert_eq!(matches!(stored, Stored::Here(_)), n == MAX_ROWS);
            let ToSqlOutput::Borrowed(column) = stored.column() else { panic!("not borrowed") };
            assert_eq!(cache.load(&connection, column).unwrap(), own);
        }
    }
}
