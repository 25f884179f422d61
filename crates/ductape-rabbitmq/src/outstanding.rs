//! Which deliveries of a channel are not settled, and how acks leave in as few frames as can be.

use std::collections::BTreeMap;

/// What is with a consumer and not settled, by delivery tag. The server numbers the deliveries of a channel from
/// one, so everything below the first entry is settled.
#[derive(Debug)]
pub(crate) struct Outstanding<T> {
    open: BTreeMap<u64, T>,
    /// The last tag that was delivered.
    highest: u64,
}

impl<T> Default for Outstanding<T> {
    fn default() -> Self {
        Outstanding { open: BTreeMap::new(), highest: 0 }
    }
}

/// Acks as the server is told them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    /// Whether it stands for all that came before it too.
    pub(crate) multiple: bool,
}

impl<T> Outstanding<T> {
    /// Takes in what was delivered.
    pub(crate) fn add(&mut self, tag: u64, what: T) {
        self.highest = self.highest.max(tag);
        self.open.insert(tag, what);
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut T> {
        self.open.get_mut(&tag)
    }

    pub(crate) fn remove(&mut self, tag: u64) -> Option<T> {
        self.open.remove(&tag)
    }

    /// Whether this tag was delivered, and so is settled if it is not open.
    pub(crate) fn was_delivered(&self, tag: u64) -> bool {
        tag <= self.highest
    }

    /// How many of these tags, which are no longer open, come after one that is.
    pub(crate) fn behind_an_open_one(&self, tags: &[u64]) -> usize {
        let first_open = self.first_open();
        tags.iter().filter(|tag| **tag > first_open).count()
    }

    fn first_open(&self) -> u64 {
        self.open.first_key_value().map_or(u64::MAX, |(tag, _)| *tag)
    }

    /// Frames that acknowledge these tags, which are no longer open: those in front of everything that is open go
    /// together as one.
    pub(crate) fn acks(&self, mut tags: Vec<u64>) -> Vec<Ack> {
        tags.sort_unstable();
        let first_open = self.first_open();
        let contiguous = tags.partition_point(|tag| *tag < first_open);
        let run = tags[..contiguous].last().map(|tag| Ack { tag: *tag, multiple: contiguous > 1 });
        let single = tags[contiguous..].iter().map(|tag| Ack { tag: *tag, multiple: false });
        run.into_iter().chain(single).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(open: &[u64], highest: u64) -> Outstanding<()> {
        let mut outstanding = Outstanding::default();
        outstanding.add(highest, ());
        outstanding.remove(highest);
        open.iter().for_each(|tag| outstanding.add(*tag, ()));
        outstanding
    }

    fn acks(open: &[u64], tags: &[u64]) -> Vec<(u64, bool)> {
        with(open, 100).acks(tags.to_vec()).into_iter().map(|ack| (ack.tag, ack.multiple)).collect()
    }

    #[test]
    fn what_lies_before_everything_open_is_one_frame() {
        assert_eq!(acks(&[], &[3, 1, 2]), [(3, true)]);
        assert_eq!(acks(&[4], &[1, 2, 3]), [(3, true)]);
    }

    #[test]
    fn an_ack_never_stands_for_what_is_open() {
        assert_eq!(acks(&[2], &[1, 3, 4]), [(1, false), (3, false), (4, false)]);
        assert_eq!(acks(&[1], &[2, 3]), [(2, false), (3, false)]);
    }

    #[test]
    fn acks_behind_an_open_one_are_counted() {
        assert_eq!(with(&[4], 100).behind_an_open_one(&[1, 2, 5, 9]), 2);
        assert_eq!(with(&[], 100).behind_an_open_one(&[1, 2]), 0);
    }

    #[test]
    fn nothing_to_acknowledge_is_no_frame() {
        assert_eq!(acks(&[1], &[]), []);
    }

    #[test]
    fn what_was_delivered_and_is_not_open_is_settled() {
        let outstanding = with(&[7], 9);
        assert!(outstanding.was_delivered(8) && !outstanding.was_delivered(10));
        assert_eq!(outstanding.len(), 1);
    }
}
