//! The user's headers.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// The longest header name that may be published, in bytes (AMQP's short string, the least of the providers).
pub const MAX_HEADER_NAME_LEN: usize = 255;

/// Headers in the order they were given. Cloning shares them; changing copies only what is shared.
///
/// A name may stand more than once in a foreign message (Kafka allows it); [`Headers::insert`] replaces.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Entry>>>);

type Entry = (Arc<str>, HeaderValue);

/// The value of a header: bytes, which are text in most cases.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(Bytes);

impl Headers {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |entries| entries.len())
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|entries| entries.is_empty())
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Sets a header, in the place of all of that name.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: impl Into<HeaderValue>) {
        let name = name.into();
        self.remove(&name);
        self.append(name, value);
    }

    /// Adds a header behind those of the same name.
    pub fn append(&mut self, name: impl Into<Arc<str>>, value: impl Into<HeaderValue>) {
        Arc::make_mut(self.0.get_or_insert_default()).push((name.into(), value.into()));
    }

    /// Takes all headers of this name away.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_some()
            && let Some(entries) = &mut self.0
        {
            let entries = Arc::make_mut(entries);
            entries.retain(|(n, _)| &**n != name);
            if entries.is_empty() {
                // As if there had never been any: equal to what has none.
                self.0 = None;
            }
        }
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().flat_map(|entries| entries.iter()).map(|(n, v)| (&**n, v))
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> usize {
        self.iter().map(|(n, v)| n.len() + v.as_bytes().len()).sum()
    }
}

impl HeaderValue {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, where it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl<N: Into<Arc<str>>, V: Into<HeaderValue>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        let entries: Vec<_> = iter.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        Headers((!entries.is_empty()).then(|| Arc::new(entries)))
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        HeaderValue(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        HeaderValue(Bytes::from(text))
    }
}

impl From<Bytes> for HeaderValue {
    fn from(bytes: Bytes) -> Self {
        HeaderValue(bytes)
    }
}

impl From<Vec<u8>> for HeaderValue {
    fn from(bytes: Vec<u8>) -> Self {
        HeaderValue(Bytes::from(bytes))
    }
}

impl From<&[u8]> for HeaderValue {
    fn from(bytes: &[u8]) -> Self {
        HeaderValue(Bytes::copy_from_slice(bytes))
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_replaces_and_append_adds() {
        let mut headers: Headers = [("a", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        headers.append("b", "4");
        headers.insert("a", "5");
        let all: Vec<_> = headers.iter().map(|(n, v)| (n, v.as_str().unwrap())).collect();
        assert_eq!(all, [("b", "3"), ("b", "4"), ("a", "5")]);
        assert_eq!(headers.size(), 6);
    }

    #[test]
    fn a_change_does_not_reach_a_clone() {
        let mut headers: Headers = [("a", "1")].into_iter().collect();
        let clone = headers.clone();
        headers.remove("a");
        assert_eq!(headers, Headers::default());
        assert_eq!(clone.get("a").unwrap().as_bytes(), b"1");
    }

    #[test]
    fn no_headers_take_no_allocation() {
        let none: Headers = std::iter::empty::<(&str, &str)>().collect();
        assert!(none.0.is_none() && none == Headers::default());
    }
}
