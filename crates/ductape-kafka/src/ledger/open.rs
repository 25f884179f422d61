//! The messages of a partition that are not settled, by their offsets.
//!
//! ```text
//!  offset   40  41  43  44  47        taken in at the back, in their order
//!           ▒▒  ░░  ▒▒  ░░  ▒▒        ░░ settled: its place is kept until the ones before it are settled too,
//!           └ front: always open          or until half of all places are such
//! ```

use std::collections::VecDeque;

/// Places that are kept of what is settled, at least, before they are given up.
const SPARE: usize = 64;

/// Entries by rising offsets. As cheap as a queue while they are settled in about their order; whatever the order,
/// memory follows what is open.
#[derive(Debug)]
pub(super) struct Open<T> {
    /// The first and the last are open, unless there are none.
    places: VecDeque<(i64, Option<T>)>,
    /// How many are open.
    count: usize,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Open { places: VecDeque::new(), count: 0 }
    }
}

impl<T> Open<T> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The first that is open.
    pub(super) fn first(&self) -> Option<(i64, &T)> {
        self.places.front().and_then(|(offset, entry)| Some((*offset, entry.as_ref()?)))
    }

    /// Takes one in, behind all others.
    pub(super) fn push(&mut self, offset: i64, entry: T) {
        self.places.push_back((offset, Some(entry)));
        self.count += 1;
    }

    pub(super) fn get_mut(&mut self, offset: i64) -> Option<&mut T> {
        let place = self.place(offset).ok()?;
        self.places[place].1.as_mut()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, offset: i64) -> Option<T> {
        let place = self.place(offset).ok()?;
        let removed = self.places[place].1.take()?;
        self.count -= 1;
        while self.places.front().is_some_and(|(_, entry)| entry.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|(_, entry)| entry.is_none()) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.count + SPARE {
            self.places.retain(|(_, entry)| entry.is_some());
        }
        Some(removed)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, entry)| entry.as_ref())
    }

    /// Those at this offset and behind it.
    pub(super) fn onward(&mut self, offset: i64) -> impl Iterator<Item = (i64, &mut T)> {
        let (Ok(place) | Err(place)) = self.place(offset);
        self.places.range_mut(place..).filter_map(|(offset, entry)| Some((*offset, entry.as_mut()?)))
    }

    /// Where an offset is, or would be.
    fn place(&self, offset: i64) -> Result<usize, usize> {
        // Where no offset is missing it is as far from the first as its offset is.
        let first = self.places.front().map_or(0, |(first, _)| *first);
        let guess = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX);
        match self.places.get(guess) {
            Some((found, _)) if *found == offset => Ok(guess),
            _ => self.places.binary_search_by_key(&offset, |(offset, _)| *offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn one_that_stays_open_keeps_no_places_of_those_behind_it() {
        let mut open = Open::default();
        open.push(0, ());
        open.push(1, ());
        for offset in 2..10_000 {
            open.push(offset, ());
            assert!(open.remove(offset - 1).is_some() && open.places.len() < 2 * SPARE);
        }
        assert_eq!((open.first().unwrap().0, open.len()), (0, 2));
    }

    proptest! {
        #[test]
        fn it_is_a_map_by_offsets(
            gaps in proptest::collection::vec(1i64..4, 1..300),
            removals in proptest::collection::vec(0i64..900, 0..400),
            from in 0i64..900,
        ) {
            let mut at = 0;
            let offsets = gaps.iter().map(|gap| { at += gap; at });
            let mut model: BTreeMap<i64, i64> = offsets.map(|offset| (offset, -offset)).collect();
            let mut open = Open::default();
            model.iter().for_each(|(offset, entry)| open.push(*offset, *entry));
            for offset in removals {
                prop_assert_eq!(open.get_mut(offset).copied(), model.get(&offset).copied());
                prop_assert_eq!(open.remove(offset), model.remove(&offset));
                prop_assert_eq!(open.first().map(|(offset, _)| offset), model.keys().next().copied());
                prop_assert_eq!(open.len(), model.len());
            }
            prop_assert!(open.values().eq(model.values()));
            prop_assert!(open.onward(from).map(|(offset, _)| offset).eq(model.range(from..).map(|(offset, _)| *offset)));
        }
    }
}
