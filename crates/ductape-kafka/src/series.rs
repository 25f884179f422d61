//! Messages that come one after another, most of which differ from the one before in id, time and key alone.

use ductape_core::message::Attributes;
use ductape_core::{Key, Message, MessageId, Timestamp};
use std::sync::Arc;

const ID: &str = "ce_id";
const TIME: &str = "ce_time";
const KEY: &str = "ce_partitionkey";

/// What the metadata of the last messages had alike: names and order of the headers, and the values of most. A message of
/// which that holds too is read by comparing bytes, and shares its attributes.
///
/// It never changes what is read: what is not alike in all is for core's [`Reader`](ductape_core::wire::Reader).
#[derive(Debug, Default)]
pub(crate) struct Series {
    attributes: Option<Arc<Attributes>>,
    headers: Vec<(Box<str>, Part)>,
}

/// What a header of a known name holds.
#[derive(Debug)]
enum Part {
    Id,
    Time,
    Key,
    /// The same in all messages.
    Same(Box<[u8]>),
}

/// What is a message's own, and what it shares.
#[derive(Debug)]
pub(crate) struct Recognized<'s> {
    pub(crate) id: MessageId,
    pub(crate) time: Timestamp,
    pub(crate) attributes: &'s Arc<Attributes>,
}

impl Series {
    /// The attributes of the message before.
    pub(crate) fn attributes(&self) -> Option<&Arc<Attributes>> {
        self.attributes.as_ref()
    }

    /// Reads a message that is like the last ones.
    pub(crate) fn recognize<'h>(
        &self,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        key: Option<&[u8]>,
    ) -> Option<Recognized<'_>> {
        let (mut id, mut time, mut known) = (None, None, self.headers.iter());
        for (name, value) in headers {
            let (expected, part) = known.next()?;
            if expected.as_bytes() != name {
                return None;
            }
            match part {
                Part::Same(same) if **same == *value => {}
                Part::Same(_) => return None,
                Part::Id => id = Some(MessageId::parse(std::str::from_utf8(value).ok()?)),
                Part::Time => time = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                Part::Key if key == Some(value) => {}
                Part::Key => return None,
            }
        }
        if known.next().is_some() {
            return None;
        }
        Some(Recognized { id: id?, time: time?, attributes: self.attributes.as_ref()? })
    }

    /// Takes a message in that was made of these headers by core's reader. By the second of two that share their
    /// attributes others are recognized, if it has no headers of a user.
    pub(crate) fn learn<'h>(
        &mut self,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        message: &Message,
    ) {
        let is_second = self.attributes.as_ref().is_some_and(|last| Arc::ptr_eq(last, &message.attributes));
        if !is_second {
            self.attributes = Some(Arc::clone(&message.attributes));
            self.headers.clear();
            return;
        }
        if !message.headers.is_empty() || message.extensions.is_some() {
            return;
        }
        let part = |name: &str, value: &[u8]| match name {
            ID => Some(Part::Id),
            TIME => Some(Part::Time),
            // One that is not the record's own key counts only where the record has none, which its bytes do not tell.
            KEY => (message.key.as_ref().map(Key::as_bytes) == Some(value)).then_some(Part::Key),
            _ => Some(Part::Same(value.into())),
        };
        let known = headers.into_iter().map(|(name, value)| Some((name.into(), part(name, value)?)));
        self.headers = known.collect::<Option<_>>().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ductape_core::message::IdSource;
    use ductape_core::wire::{Reader, write};

    type Headers = Vec<(String, Vec<u8>)>;

    fn message(attributes: &Arc<Attributes>, key: Option<&str>) -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let mut message = Message::new("", IdSource::new().next(time), time, Arc::clone(attributes));
        message.key = key.map(Into::into);
        message
    }

    fn headers(message: &Message) -> Headers {
        let mut headers = Vec::new();
        write(message, "ce_", |name, value| headers.push((name.to_owned(), value.into())));
        headers.extend(
            message.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())),
        );
        headers
    }

    fn each(headers: &Headers) -> impl Iterator<Item = (&str, &[u8])> {
        headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn bytes_of(headers: &Headers) -> impl Iterator<Item = (&[u8], &[u8])> {
        each(headers).map(|(name, value)| (name.as_bytes(), value))
    }

    /// Reads as a provider does, and says whether the message was recognized.
    fn read(series: &mut Series, headers: &Headers, key: Option<&str>) -> (Message, bool) {
        if let Some(it) = series.recognize(bytes_of(headers), key.map(str::as_bytes)) {
            let mut message = Message::new("", it.id, it.time, Arc::clone(it.attributes));
            message.key = key.map(Into::into);
            return (message, true);
        }
        let mut reader = Reader::new("ce_").like(series.attributes());
        each(headers).for_each(|(name, value)| reader.borrowed_header(name, value));
        if let Some(key) = key {
            reader.key(key.into());
        }
        let message = reader.finish(Bytes::new(), "d", 1, Timestamp::default());
        series.learn(each(headers), &message);
        (message, false)
    }

    fn attributes(event: &str) -> Arc<Attributes> {
        Arc::new(Attributes { source: "/s".into(), event: event.into(), content_type: "t".into() })
    }

    #[test]
    fn from_the_third_alike_message_on_all_are_recognized_and_read_the_same() {
        let (mut series, alike) = (Series::default(), attributes("a:b"));
        for round in 0..6 {
            let message = message(&alike, Some(["k", "other"][round % 2]));
            let (read, recognized) =
                read(&mut series, &headers(&message), message.key.as_ref().and_then(Key::as_str));
            assert_eq!((read, recognized), (message, round >= 2));
        }
    }

    #[test]
    fn what_differs_in_anything_else_is_not_recognized() {
        let (mut series, alike) = (Series::default(), attributes("a:b"));
        let plain = message(&alike, None);
        (0..3).for_each(|_| _ = read(&mut series, &headers(&plain), None));
        assert!(read(&mut series, &headers(&plain), None).1);
        let mut with_header = message(&alike, None);
        with_header.headers = [("a", "1")].into_iter().collect();
        let mut traced = message(&alike, None);
        traced.extensions_mut().traceparent = Some("00-1".into());
        let others = [with_header, traced, message(&attributes("a:c"), None), message(&alike, Some("k"))];
        for other in &others {
            (0..3).for_each(|_| _ = read(&mut series, &headers(&plain), None));
            let key = other.key.as_ref().and_then(Key::as_str);
            assert_eq!(read(&mut series, &headers(other), key), (other.clone(), false));
        }
        for damage in [("ce_time", &b"yesterday"[..]), ("ce_id", b"\xff"), ("ce_specversion", b"0.3")] {
            (0..3).for_each(|_| _ = read(&mut series, &headers(&plain), None));
            let mut damaged = headers(&plain);
            damaged
                .iter_mut()
                .filter(|(name, _)| name == damage.0)
                .for_each(|(_, value)| *value = damage.1.into());
            let (read, recognized) = read(&mut series, &damaged, None);
            assert_eq!((read.headers.len(), recognized), (1, false), "{damage:?}");
        }
        let mut short = headers(&plain);
        short.pop();
        assert!(series.recognize(bytes_of(&short), None).is_none());
        assert!(series.recognize(std::iter::empty(), None).is_none());
    }

    #[test]
    fn a_key_among_the_headers_that_is_not_the_records_is_left_to_the_reader() {
        let (mut series, alike) = (Series::default(), attributes("a:b"));
        let foreign = headers(&message(&alike, Some("header")));
        for key in [Some("record"), Some("record"), Some("record"), None] {
            let (read, recognized) = read(&mut series, &foreign, key);
            let expected = key.unwrap_or("header");
            assert_eq!((read.key.as_ref().and_then(Key::as_str), recognized), (Some(expected), false));
        }
    }
}
