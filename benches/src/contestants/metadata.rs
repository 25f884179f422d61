//! What a message carries besides its payload. A raw client that leaves it out has less to do, and its consumer less
//! to go by: without an id nobody knows a message that was delivered twice.

/// What is the same for every message: CloudEvents' names and values, as our providers write them.
#[cfg(feature = "servers")]
pub(super) const CONSTANT: [(&str, &str); 5] = [
    ("specversion", "1.0"),
    ("source", "/bench"),
    ("type", "bench:messages"),
    ("time", "2026-01-01T00:00:00.000000Z"),
    ("datacontenttype", "application/octet-stream"),
];

/// The name of what is each message's own.
#[cfg(feature = "servers")]
pub(super) const ID: &str = "id";

const DIGITS: usize = 12;

/// Ids as long as ours.
#[derive(Debug)]
pub(super) struct Ids {
    text: [u8; 36],
    next: u64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Ids { text: *b"0190a5d8-1111-7222-8333-000000000000", next: 0 }
    }

    /// The next id.
    pub(super) fn next(&mut self) -> &str {
        let digits = self.text.len() - DIGITS;
        for (place, digit) in self.text[digits..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.next >> (4 * (DIGITS - 1 - place))) as usize & 15];
        }
        self.next += 1;
        // Digits and dashes always are text.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up() {
        let mut ids = Ids::new();
        assert!(ids.next().ends_with("-000000000000"));
        assert_eq!(ids.next(), "0190a5d8-1111-7222-8333-000000000001");
    }
}
