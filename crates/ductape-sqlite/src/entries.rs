//! What a claim holds: the deliveries of one hand-out, packed into one blob.
//!
//! Twelve bytes an entry, little-endian: sequence from the claim's first, hash of the key, attempt. One row for
//! a whole batch is what makes receiving and settling cheap: handing out 256 messages is one insert, settling
//! them one delete.

use std::fmt;

/// The most entries of one claim: with them its row still fits one page of 4096 bytes.
pub(crate) const MAX_ENTRIES: usize = 256;
const WIDTH: usize = 12;

/// One delivery in a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) key: KeyHash,
    /// The attempt that its delivery said.
    pub(crate) attempt: u32,
}

/// A digest of a message's key, or of none. Two keys with one digest merely wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(pub(crate) u32);

impl KeyHash {
    /// No key: nothing is ordered after it.
    pub(crate) const NONE: KeyHash = KeyHash(0);

    /// FNV-1a (draft-eastlake-fnv), folded to 32 bits. It stands in the file, so it may never change.
    pub(crate) fn of(key: &[u8]) -> Self {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        KeyHash(((hash >> 32) as u32 ^ hash as u32).max(1))
    }

    /// Whether there is a key.
    pub(crate) fn is_some(self) -> bool {
        self != KeyHash::NONE
    }
}

/// Splits entries, which are in order of their sequence, into what one claim each can hold.
pub(crate) fn chunks(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let first = rest.first()?.seq;
        let fits = |entry: &Entry| u32::try_from(entry.seq - first).is_ok();
        let len = rest.iter().take(MAX_ENTRIES).take_while(|entry| fits(entry)).count();
        let (chunk, after) = rest.split_at(len);
        rest = after;
        Some(chunk)
    })
}

/// The blob of entries that are in order and fit one claim.
pub(crate) fn encode(entries: &[Entry]) -> Vec<u8> {
    let first = entries.first().map_or(0, |entry| entry.seq);
    let mut blob = Vec::with_capacity(entries.len() * WIDTH);
    for entry in entries {
        blob.extend_from_slice(&((entry.seq - first) as u32).to_le_bytes());
        blob.extend_from_slice(&entry.key.0.to_le_bytes());
        blob.extend_from_slice(&entry.attempt.to_le_bytes());
    }
    blob
}

/// The entries of a claim whose first has this sequence.
pub(crate) fn decode(first: i64, blob: &[u8]) -> Result<impl Iterator<Item = Entry> + '_, Misshapen> {
    let (entries, []) = blob.as_chunks::<WIDTH>() else { return Err(Misshapen(blob.len())) };
    Ok(entries.iter().map(move |&[s0, s1, s2, s3, k0, k1, k2, k3, a0, a1, a2, a3]| Entry {
        seq: first + i64::from(u32::from_le_bytes([s0, s1, s2, s3])),
        key: KeyHash(u32::from_le_bytes([k0, k1, k2, k3])),
        attempt: u32::from_le_bytes([a0, a1, a2, a3]),
    }))
}

/// How many entries a blob of this length has.
pub(crate) fn count(blob: &[u8]) -> usize {
    blob.len() / WIDTH
}

/// A blob that is not a whole number of entries.
#[derive(Debug)]
pub(crate) struct Misshapen(usize);

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a claim has {} bytes, not a multiple of {WIDTH}", self.0)
    }
}

impl std::error::Error for Misshapen {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: i64) -> Entry {
        Entry { seq, key: KeyHash::of(b"k"), attempt: 3 }
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let entries = [entry(5), entry(6), entry(5 + i64::from(u32::MAX))];
        let blob = encode(&entries);
        assert_eq!(decode(5, &blob).unwrap().collect::<Vec<_>>(), entries);
        assert_eq!(count(&blob), 3);
        assert!(decode(5, &blob[1..]).is_err());
    }

    #[test]
    fn a_claim_holds_no_more_entries_and_no_wider_span_than_it_can() {
        let many: Vec<_> = (0..600).map(entry).collect();
        assert_eq!(chunks(&many).map(<[Entry]>::len).collect::<Vec<_>>(), [256, 256, 88]);
        let wide = [entry(1), entry(2 + i64::from(u32::MAX))];
        assert_eq!(chunks(&wide).count(), 2);
        assert_eq!(chunks(&[]).count(), 0);
    }

    #[test]
    fn a_key_never_hashes_to_none_and_always_to_the_same() {
        assert!(KeyHash::of(b"").is_some());
        assert_eq!(KeyHash::of(b"N14228"), KeyHash(0x7c1b_2c4f));
        assert!(!KeyHash::NONE.is_some());
    }
}
