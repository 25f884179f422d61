//! What is handed out and not settled, by id.
//!
//! Nearly all of it is handed out in the stream's order and settled in much the same, so it stands in one row, in that
//! order: putting in is at the end, taking out near the front, and nothing else moves. What is settled leaves a gap, which
//! goes with the front, or once there are more gaps than not.

use crate::entry::StreamId;
use crate::hand::Held;
use std::collections::VecDeque;

/// Gaps that are not worth closing.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Open {
    /// In the order of the ids. The first and the last are no gaps.
    row: VecDeque<(StreamId, Option<Held>)>,
    count: usize,
}

impl Open {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, id: StreamId, held: Held) {
        let place = match self.row.back() {
            Some((last, _)) if *last >= id => self.row.binary_search_by_key(&id, |(id, _)| *id),
            _ => Err(self.row.len()),
        };
        let before = match place {
            Ok(place) => self.row[place].1.replace(held),
            Err(place) => {
                self.row.insert(place, (id, Some(held)));
                None
            }
        };
        self.count += usize::from(before.is_none());
    }

    pub(crate) fn contains(&self, id: StreamId) -> bool {
        self.place(id).is_some_and(|place| self.row[place].1.is_some())
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Held> {
        let place = self.place(id)?;
        let held = self.row[place].1.take()?;
        self.count -= 1;
        self.close_gaps();
        Some(held)
    }

    /// Keeps what it is told to.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Held) -> bool) {
        self.row.retain_mut(|(_, held)| held.as_mut().is_some_and(&mut keep));
        self.count = self.row.len();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId, &Held)> {
        self.row.iter().filter_map(|(id, held)| Some((*id, held.as_ref()?)))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.row.iter_mut().filter_map(|(_, held)| held.as_mut())
    }

    pub(crate) fn clear(&mut self) {
        self.row.clear();
        self.count = 0;
    }

    fn place(&self, id: StreamId) -> Option<usize> {
        match self.row.front() {
            Some((first, _)) if *first == id => Some(0),
            _ => self.row.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }

    fn close_gaps(&mut self) {
        while self.row.pop_front_if(|(_, held)| held.is_none()).is_some() {}
        while self.row.pop_back_if(|(_, held)| held.is_none()).is_some() {}
        if self.row.len() > 2 * self.count + FEW {
            self.row.retain(|(_, held)| held.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand::tests::{delivery, id};
    use std::collections::BTreeSet;
    use std::time::Instant;

    fn held(number: u64) -> Held {
        Held { delivery: delivery(number), until: Instant::now() }
    }

    fn numbers(open: &Open) -> Vec<u64> {
        open.iter().map(|(id, _)| id.millis).collect()
    }

    #[test]
    fn it_is_a_set_in_order_whatever_comes_and_goes() {
        let (mut open, mut model) = (Open::default(), BTreeSet::new());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let number = random.u64(0..200);
            if random.bool() {
                open.insert(id(number), held(number));
                model.insert(number);
            } else {
                let removed = open.remove(id(number)).map(|held| held.delivery.token);
                assert_eq!(removed, model.remove(&number).then(|| id(number).token()));
            }
            assert_eq!((open.len(), open.contains(id(number))), (model.len(), model.contains(&number)));
            assert!(open.row.len() <= 2 * open.count + FEW, "{} in a row of {}", open.count, open.row.len());
        }
        assert_eq!(numbers(&open), model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn one_that_stays_does_not_keep_the_room_of_all_that_came_after() {
        let mut open = Open::default();
        open.insert(id(0), held(0));
        for number in 1..10_000 {
            open.insert(id(number), held(number));
            assert!(open.remove(id(number)).is_some());
        }
        assert_eq!((open.row.len(), open.len()), (1, 1));
        for number in 1..10_000 {
            open.insert(id(number), held(number));
        }
        (1..9_999).for_each(|number| assert!(open.remove(id(number)).is_some()));
        assert_eq!(numbers(&open), [0, 9_999]);
        assert!(open.row.len() <= 4 + FEW);
    }

    #[test]
    fn what_is_let_go_leaves_no_gap() {
        let mut open = Open::default();
        (0..10).for_each(|number| open.insert(id(number), held(number)));
        open.remove(id(4));
        open.retain(|held| held.delivery.token != id(7).token());
        assert_eq!((numbers(&open), open.row.len()), (vec![0, 1, 2, 3, 5, 6, 8, 9], 8));
        open.clear();
        assert_eq!((open.len(), numbers(&open)), (0, vec![]));
    }
}
