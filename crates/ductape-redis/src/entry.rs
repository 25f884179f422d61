//! The ids and fields of stream entries as the server answers them.

use crate::resp::{Head, Malformed, Values};
use ductape_core::{Position, Token};
use redis::Value;
use std::fmt;

/// The id of a stream's entry: milliseconds and a number. Ordered as the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct StreamId {
    pub(crate) millis: u64,
    pub(crate) number: u64,
}

impl StreamId {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (millis, number) = text.split_once('-')?;
        Some(StreamId { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }

    pub(crate) fn of(value: &Value) -> Option<Self> {
        Self::parse(bytes(value)?)
    }

    /// The id that a delivery's token stands for.
    pub(crate) fn of_token(token: &Token) -> Option<Self> {
        match token {
            Token::Numbers(millis, number) => Some(StreamId { millis: *millis, number: *number }),
            Token::Text(_) => None,
        }
    }

    pub(crate) fn token(self) -> Token {
        Token::Numbers(self.millis, self.number)
    }

    pub(crate) fn position(self) -> Position {
        Position::Stream { millis: self.millis, number: self.number }
    }

    /// Hands its text to `then`. Each message needs it twice, so it is written without the formatter's detours.
    fn with_text<R>(self, then: impl FnOnce(&str) -> R) -> R {
        // Two numbers of twenty digits at most, written from their ends.
        let mut text = [b'-'; 41];
        let dash = digits(&mut text, 41, self.number) - 1;
        let begin = digits(&mut text, dash, self.millis);
        then(std::str::from_utf8(&text[begin..]).unwrap_or_default())
    }
}

/// Writes a number so that it ends before `end`, and returns where it begins.
fn digits(text: &mut [u8], end: usize, mut number: u64) -> usize {
    let mut begin = end;
    loop {
        begin -= 1;
        text[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return begin;
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl redis::ToRedisArgs for StreamId {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        self.with_text(|text| out.write_arg(text.as_bytes()));
    }
}

/// An entry as it was read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: StreamId,
    /// Names and values in turn; none where the entry was deleted while it was pending.
    pub(crate) fields: Option<Vec<Value>>,
}

impl Entry {
    pub(crate) fn fields(&self) -> Option<Fields<'_>> {
        self.fields.as_deref().map(Fields::Values)
    }
}

/// Pairs of name and value, where they lie.
#[derive(Clone, Debug)]
pub(crate) enum Fields<'b> {
    Raw(Values<'b>),
    Values(&'b [Value]),
}

impl<'b> Iterator for Fields<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Fields::Raw(values) => Some((values.bytes()?, values.bytes()?)),
            Fields::Values(values) => {
                let [name, value, rest @ ..] = *values else { return None };
                *values = rest;
                Some((bytes(name).unwrap_or_default(), bytes(value).unwrap_or_default()))
            }
        }
    }
}

/// What a pending entry is told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: StreamId,
    /// How often it was delivered.
    pub(crate) count: u32,
}

/// The entries that `XREADGROUP` and `XREAD` answer of one stream. Nothing where none came.
pub(crate) fn read(answer: Value) -> Option<Vec<Entry>> {
    let of_stream = match answer {
        Value::Nil => return Some(Vec::new()),
        Value::Array(streams) => streams.into_iter().next().and_then(|stream| match stream {
            Value::Array(mut pair) if pair.len() == 2 => pair.pop(),
            _ => None,
        }),
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        _ => None,
    };
    entries(of_stream?)
}

/// The entries of an answer such as `XCLAIM` gives.
pub(crate) fn entries(answer: Value) -> Option<Vec<Entry>> {
    let Value::Array(entries) = answer else { return None };
    entries.into_iter().filter_map(entry).collect()
}

/// An entry; `Some(None)` where it is malformed. Older servers tell a deleted one as nothing at all.
fn entry(value: Value) -> Option<Option<Entry>> {
    let mut parts = match value {
        Value::Nil => return None,
        Value::Array(parts) if parts.len() == 2 => parts,
        _ => return Some(None),
    };
    let fields = parts.pop();
    let Some(id) = parts.pop().as_ref().and_then(StreamId::of) else { return Some(None) };
    match fields {
        Some(Value::Array(fields)) => Some(Some(Entry { id, fields: Some(fields) })),
        Some(Value::Nil) => Some(Some(Entry { id, fields: None })),
        _ => Some(None),
    }
}

/// The id and the fields of an entry that lies as the server sent it. No fields, or nothing at all, as with [`entry()`].
pub(crate) fn raw(bytes: &[u8]) -> Result<Option<(StreamId, Option<Fields<'_>>)>, Malformed> {
    let mut values = Values::new(bytes);
    match values.head() {
        Some(Head::Values(2)) => {}
        Some(Head::Nil) => return Ok(None),
        _ => return Err(Malformed),
    }
    let id = values.bytes().and_then(StreamId::parse).ok_or(Malformed)?;
    match values.head() {
        Some(Head::Values(count)) if values.are_bytes(count) => Ok(Some((id, Some(Fields::Raw(values))))),
        Some(Head::Nil) => Ok(Some((id, None))),
        _ => Err(Malformed),
    }
}

/// What `XPENDING` answers of a range: id, consumer, idle time and count each.
pub(crate) fn pending(answer: &Value) -> Option<Vec<Pending>> {
    list(answer)?
        .iter()
        .map(|row| {
            let row = list(row)?;
            let count = u32::try_from(number(row.get(3)?)?).unwrap_or(u32::MAX);
            Some(Pending { id: StreamId::of(row.first()?)?, count })
        })
        .collect()
}

/// A list, be it an array or a set.
pub(crate) fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(items),
        _ => None,
    }
}

/// A field of an answer of names and values, as an array or a map.
pub(crate) fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| bytes(key) == Some(name.as_bytes())).map(|(_, v)| v)
        }
        Value::Array(items) => items.chunks_exact(2).find_map(|pair| match pair {
            [key, value] if bytes(key) == Some(name.as_bytes()) => Some(value),
            _ => None,
        }),
        _ => None,
    }
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => std::str::from_utf8(bytes(other)?).ok()?.parse().ok(),
    }
}

pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub(crate) fn text(value: &Value) -> Option<String> {
    bytes(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn ids_are_ordered_as_entries_are() {
        let parse = |text: &str| StreamId::parse(text.as_bytes());
        assert!(parse("9-10").unwrap() > parse("9-9").unwrap());
        assert!(parse("10-0").unwrap() > parse("9-9").unwrap());
        assert_eq!(parse("12-3").unwrap().to_string(), "12-3");
        let longest = StreamId { millis: u64::MAX, number: u64::MAX };
        assert_eq!(longest.position().to_string(), longest.to_string());
        assert_eq!(StreamId::of_token(&parse("12-3").unwrap().token()), parse("12-3"));
        for wrong in ["", "1", "-", "a-1", "1-2-3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn entries_are_read_from_both_forms_of_an_answer() {
        let one = || Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("a"), bulk("b")])]);
        let array = Value::Array(vec![Value::Array(vec![bulk("s"), Value::Array(vec![one()])])]);
        let map = Value::Map(vec![(bulk("s"), Value::Array(vec![one()]))]);
        for answer in [array, map] {
            let entries = read(answer).unwrap();
            assert_eq!((entries.len(), entries[0].id.millis), (1, 1));
            assert_eq!(entries[0].fields.as_ref().unwrap().len(), 2);
        }
        assert!(read(Value::Nil).unwrap().is_empty());
        assert!(read(Value::Okay).is_none());
    }

    #[test]
    fn a_deleted_entry_has_no_fields_or_is_left_out() {
        let deleted = Value::Array(vec![bulk("1-0"), Value::Nil]);
        let entries = entries(Value::Array(vec![Value::Nil, deleted])).unwrap();
        assert_eq!(entries.len(), 1);
        assert!(entries[0].fields.is_none());
    }
}
