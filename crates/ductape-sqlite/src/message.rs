//! A message and its row: pure functions both ways.

use crate::entries::KeyHash;
use crate::ids;
use bytes::Bytes;
use ductape_core::message::{Attributes, Extensions, HeaderValue, Headers};
use ductape_core::{Key, Message, MessageId, Timestamp, wire};
use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Result, Row};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64;
use uuid::Uuid;

/// The largest message, in bytes as [`Message::size`] counts them: 64 MiB. SQLite itself ends near 1 GB; past
/// this a file is the better place.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The longest delay of a retry: 365 days.
pub const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// An odd number without a pattern: the golden ratio's first 64 bits. A product with it is undone by no other.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Selects what [`read`] and [`key_hash`] expect, of a range of row ids.
pub(crate) const SELECT_RANGE: &str = "SELECT id, attributes, time, uid, key, headers, extensions, payload, digest \
     FROM message WHERE id >= ? AND id < ? ORDER BY id";

/// Selects what [`read`] and [`key_hash`] expect, of one row id.
pub(crate) const SELECT_ONE: &str =
    "SELECT id, attributes, time, uid, key, headers, extensions, payload, digest FROM message WHERE id = ?";

/// Bytes of a row's fixed columns, and of what SQLite keeps with it, roughly.
const FIXED: usize = 64;

/// What of a message's row has to be worked out. Whoever publishes does that, and not the thread that all wait for.
pub(crate) struct NewRow {
    /// The bytes that the message takes in the file, its fixed columns aside.
    pub(crate) bytes: i64,
    /// What tells damage.
    pub(crate) digest: i32,
    headers: Box<[u8]>,
    extensions: Box<[u8]>,
}

impl NewRow {
    /// The row of this message.
    fn of(message: &Message) -> Self {
        let (mut headers, mut extensions) = (Vec::new(), Vec::new());
        for (name, value) in message.headers.iter() {
            put_pair(&mut headers, name.as_bytes(), value.as_bytes());
        }
        if let Some(some) = &message.extensions {
            wire::write_extensions(some, |name: &str, value: &str| {
                put_pair(&mut extensions, name.as_bytes(), value.as_bytes());
            });
        }
        let (headers, extensions) = (headers.into_boxed_slice(), extensions.into_boxed_slice());
        let mut row = NewRow { bytes: 0, headers, extensions, digest: 0 };
        let columns = row.columns(message);
        let optional = [columns.key, columns.headers, columns.extensions];
        let others: usize = optional.into_iter().flatten().map(<[u8]>::len).sum();
        (row.bytes, row.digest) = ((columns.payload.len() + others) as i64, columns.digest());
        row
    }

    /// A message, with its row.
    pub(crate) fn with_message(message: Message) -> (Message, Self) {
        let row = NewRow::of(&message);
        (message, row)
    }

    /// What it adds to a transaction, in bytes, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.bytes as usize + FIXED
    }

    /// The columns of this message, whose row it is.
    pub(crate) fn columns<'r>(&'r self, message: &'r Message) -> Columns<'r> {
        let unless_empty = |blob: &'r [u8]| (!blob.is_empty()).then_some(blob);
        Columns {
            time: message.time.as_micros(),
            uid: id_column(&message.id),
            key: message.key.as_ref().map(|key| key.as_bytes()),
            headers: unless_empty(&self.headers),
            extensions: unless_empty(&self.extensions),
            payload: &message.payload,
        }
    }
}

/// An id as its column holds it: 16 bytes where it is a UUID, else text.
fn id_column(id: &MessageId) -> ValueRef<'_> {
    match id {
        MessageId::Uuid(uuid) => ValueRef::Blob(uuid.as_bytes()),
        MessageId::Text(text) => ValueRef::Text(text.as_bytes()),
    }
}

/// A row as it is read and written, without what the log adds.
pub(crate) struct Columns<'r> {
    pub(crate) time: i64,
    pub(crate) uid: ValueRef<'r>,
    pub(crate) key: Option<&'r [u8]>,
    pub(crate) headers: Option<&'r [u8]>,
    pub(crate) extensions: Option<&'r [u8]>,
    pub(crate) payload: &'r [u8],
}

impl Columns<'_> {
    /// What tells damage: XXH3 of every column, each mixed with those before, folded to 32 bits. It stands in the file,
    /// so it may never change. The hashes have no seed of their own, which would cost them a table each.
    pub(crate) fn digest(&self) -> i32 {
        let uid = match self.uid {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
            _ => &[],
        };
        let optional = [Some(uid), self.key, self.headers, self.extensions, Some(self.payload)];
        let parts = (1..).zip(optional).filter_map(|(number, part)| Some((number, part?)));
        let digest = parts.fold(self.time.cast_unsigned(), |digest, (number, part): (u64, _)| {
            let hash = XxHash3_64::oneshot(part).wrapping_add(number);
            (digest ^ hash).wrapping_mul(GOLDEN).rotate_left(29)
        });
        (digest ^ (digest >> 32)) as i32
    }
}

/// The digest of the key of a selected row, without reading what follows.
pub(crate) fn key_hash(row: &Row<'_>) -> Result<KeyHash> {
    Ok(row.get_ref(4)?.as_blob_or_null()?.map_or(KeyHash::NONE, KeyHash::of))
}

/// The message of a selected row, whose attributes the caller has looked up.
pub(crate) fn read(row: &Row<'_>, attributes: Arc<Attributes>) -> Result<Message> {
    let columns = Columns {
        time: row.get(2)?,
        uid: row.get_ref(3)?,
        key: row.get_ref(4)?.as_blob_or_null()?,
        headers: row.get_ref(5)?.as_blob_or_null()?,
        extensions: row.get_ref(6)?.as_blob_or_null()?,
        payload: row.get_ref(7)?.as_blob()?,
    };
    if columns.digest() != row.get::<_, i32>(8)? {
        return Err(damaged(8, Altered { row: row.get(0)? }));
    }
    Ok(Message {
        payload: Bytes::copy_from_slice(columns.payload),
        key: columns.key.map(|key| Key::from_bytes(Bytes::copy_from_slice(key))),
        headers: columns.headers.map_or_else(|| Ok(Headers::default()), read_headers)?,
        id: read_id(columns.uid)?,
        time: Timestamp::from_micros(columns.time),
        attributes,
        extensions: columns.extensions.map(read_extensions).transpose()?.flatten(),
    })
}

fn read_id(uid: ValueRef<'_>) -> Result<MessageId> {
    match uid {
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).map(MessageId::Uuid).map_err(|e| damaged(3, e)),
        other => Ok(MessageId::Text(other.as_str()?.into())),
    }
}

fn read_headers(blob: &[u8]) -> Result<Headers> {
    let pairs = Pairs(blob).map(|pair| {
        let (name, value) = pair?;
        Ok((Arc::<str>::from(name), HeaderValue::from(value)))
    });
    pairs.collect::<Result<Vec<_>, Torn>>().map(Headers::from_iter).map_err(|torn| damaged(5, torn))
}

fn read_extensions(blob: &[u8]) -> Result<Option<Arc<Extensions>>> {
    // The prefix stands before no extension's name, so that none is taken for CloudEvents' own.
    let mut reader = wire::Reader::new("ce_");
    for pair in Pairs(blob) {
        let (name, value) = pair.map_err(|torn| damaged(6, torn))?;
        reader.header(name, value);
    }
    Ok(reader.finish(Bytes::new(), "", "", Timestamp::default()).extensions)
}

/// A row whose digest is not that of its columns.
#[derive(Debug)]
struct Altered {
    row: i64,
}

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (destination, sequence) = ids::parts(self.row);
        write!(f, "message {sequence} of destination {destination} is not as it was written")
    }
}

impl std::error::Error for Altered {}

/// A column that does not hold what was written: the file is damaged.
pub(crate) fn damaged(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(why))
}

/// Appends a name and its value, each behind its length.
pub(crate) fn put_pair(blob: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        // A message of 4 GiB is refused long before.
        blob.extend_from_slice(&(part.len() as u32).to_le_bytes());
        blob.extend_from_slice(part);
    }
}

/// The names and values of a blob, in order.
pub(crate) struct Pairs<'b>(pub(crate) &'b [u8]);

impl<'b> Pairs<'b> {
    fn part(&mut self) -> Result<&'b [u8], Torn> {
        let (len, rest) = self.0.split_first_chunk().ok_or(Torn)?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(Torn)?;
        self.0 = rest;
        Ok(part)
    }

    fn pair(&mut self) -> Result<(&'b str, &'b [u8]), Torn> {
        let name = std::str::from_utf8(self.part()?).map_err(|_| Torn)?;
        Ok((name, self.part()?))
    }
}

impl<'b> Iterator for Pairs<'b> {
    type Item = Result<(&'b str, &'b [u8]), Torn>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.0 = &[];
        }
        Some(pair)
    }
}

/// A blob that ends in the middle of a pair.
#[derive(Debug)]
pub(crate) struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers or extensions end in the middle")
    }
}

impl std::error::Error for Torn {}

impl From<Torn> for FromSqlError {
    fn from(torn: Torn) -> Self {
        FromSqlError::Other(Box::new(torn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_they_were_written_and_a_torn_end_is_seen() {
        let mut blob = Vec::new();
        put_pair(&mut blob, b"name", b"\xff\x00");
        put_pair(&mut blob, b"", b"");
        let read: Vec<_> = Pairs(&blob).map(Result::unwrap).collect();
        assert_eq!(read, [("name", &b"\xff\x00"[..]), ("", &b""[..])]);
        for cut in 1..blob.len() {
            let last = Pairs(&blob[..cut]).last().unwrap();
            assert_eq!(last.is_err(), cut != 14, "cut at {cut}");
        }
    }
}
