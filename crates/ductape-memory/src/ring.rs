//! A growing sequence, stored in segments: what is taken out of it leaves a gap, and a segment of gaps is freed.
//!
//! One old message that nobody settles therefore holds one segment and not all that came after it, and a
//! backlog that grows is never copied.

use std::collections::VecDeque;

/// Slots of one segment; a power of two, so that a number splits into segment and slot by bits.
const SEGMENT: u64 = 256;

/// Values under consecutive numbers, of which any may be taken out.
pub(crate) struct Ring<T> {
    /// The number of the first segment.
    first: u64,
    segments: VecDeque<Segment<T>>,
    /// The number that the next value gets.
    next: u64,
    /// The memory of the segment that was freed last, for the next one.
    spare: Vec<Option<T>>,
}

struct Segment<T> {
    slots: Vec<Option<T>>,
    present: u32,
}

/// One segment, to drop values of without looking for it each time.
pub(crate) struct Part<'a, T> {
    /// The number of the first slot.
    first: u64,
    slots: &'a mut [Option<T>],
    present: &'a mut u32,
}

impl<T> Part<'_, T> {
    /// Drops the value under this number where it is, if a condition holds; true if it did.
    #[inline]
    pub(crate) fn drop_if(&mut self, number: u64, condition: impl FnOnce(&mut T) -> bool) -> bool {
        let index = usize::try_from(number.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let drops = slot.as_mut().is_some_and(condition);
        if drops {
            *slot = None;
            *self.present -= 1;
        }
        drops
    }
}

impl<T> Ring<T> {
    /// An empty ring whose first value gets the number `start`.
    pub(crate) fn starting_at(start: u64) -> Self {
        let mut ring = Ring {
            first: start / SEGMENT,
            segments: VecDeque::new(),
            next: start - start % SEGMENT,
            spare: Vec::new(),
        };
        while ring.next < start {
            ring.push_gap();
        }
        ring
    }

    /// The number that the next value gets.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Appends a value.
    pub(crate) fn push(&mut self, value: T) {
        self.extend(1, std::iter::once(value));
    }

    /// Appends the next `count` of these values, or all where there are fewer.
    #[inline]
    pub(crate) fn extend(&mut self, count: usize, mut values: impl Iterator<Item = T>) {
        let end = self.next + count as u64;
        while self.next < end {
            let left = (end - self.next) as usize;
            let added = self.fill(left, |slots, room| slots.extend(values.by_ref().take(room).map(Some)));
            if added == 0 {
                return;
            }
        }
    }

    /// Appends this value so many times.
    #[inline]
    pub(crate) fn repeat(&mut self, count: usize, value: T)
    where
        T: Copy,
    {
        let end = self.next + count as u64;
        while self.next < end {
            let left = (end - self.next) as usize;
            self.fill(left, |slots, room| slots.resize(slots.len() + room, Some(value)));
        }
    }

    /// Appends to the last segment, at most so many values, and gives how many were.
    #[inline]
    fn fill(&mut self, most: usize, fill: impl FnOnce(&mut Vec<Option<T>>, usize)) -> usize {
        let segment = self.tail();
        let before = segment.slots.len();
        fill(&mut segment.slots, most.min(SEGMENT as usize - before));
        let added = segment.slots.len() - before;
        segment.present += added as u32;
        self.next += added as u64;
        added
    }

    /// Appends a gap, as if a value had been appended and taken out.
    pub(crate) fn push_gap(&mut self) {
        self.tail().slots.push(None);
        self.next += 1;
        self.free(self.next - 1);
    }

    /// The value under this number, if it is there.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (segment, slot) = self.place(number)?;
        self.segments.get(segment)?.slots.get(slot)?.as_ref()
    }

    /// The value under this number, if it is there, to change.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (segment, slot) = self.place(number)?;
        self.segments.get_mut(segment)?.slots.get_mut(slot)?.as_mut()
    }

    /// What is stored from this number to the end of its segment, gaps included.
    #[inline]
    pub(crate) fn part(&self, number: u64) -> &[Option<T>] {
        let place = self.place(number);
        let slots = place.and_then(|(segment, slot)| self.segments.get(segment)?.slots.get(slot..));
        slots.unwrap_or_default()
    }

    /// The segment of this number, to drop several values of. [`Ring::end_part`] is to follow.
    #[inline]
    pub(crate) fn part_mut(&mut self, number: u64) -> Option<Part<'_, T>> {
        let (segment, _) = self.place(number)?;
        let segment = self.segments.get_mut(segment)?;
        Some(Part {
            first: number - number % SEGMENT,
            slots: &mut segment.slots,
            present: &mut segment.present,
        })
    }

    /// Frees the segment of this number where all is taken out of it.
    #[inline]
    pub(crate) fn end_part(&mut self, number: u64) {
        let place = self.place(number);
        if place.is_some_and(|(segment, _)| self.segments.get(segment).is_some_and(|s| s.present == 0)) {
            self.free(number);
        }
    }

    /// Takes the value under this number out.
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let (segment, slot) = self.place(number)?;
        let segment = self.segments.get_mut(segment)?;
        let value = segment.slots.get_mut(slot)?.take()?;
        segment.present -= 1;
        self.end_part(number);
        Some(value)
    }

    /// What is there from this number on, in order.
    pub(crate) fn iter_from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let skipped = (number / SEGMENT).saturating_sub(self.first);
        let segments = self.segments.iter().enumerate().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        segments
            .flat_map(move |(index, segment)| {
                let base = (self.first + index as u64) * SEGMENT;
                let slots = segment.slots.iter().enumerate();
                slots.filter_map(move |(slot, value)| Some((base + slot as u64, value.as_ref()?)))
            })
            .filter(move |(n, _)| *n >= number)
    }

    #[inline]
    fn place(&self, number: u64) -> Option<(usize, usize)> {
        let segment = (number / SEGMENT).checked_sub(self.first)?;
        Some((usize::try_from(segment).ok()?, (number % SEGMENT) as usize))
    }

    /// The segment that the next value goes into.
    #[inline]
    fn tail(&mut self) -> &mut Segment<T> {
        if self.next.is_multiple_of(SEGMENT) {
            self.grow();
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    #[cold]
    fn grow(&mut self) {
        if self.segments.is_empty() {
            self.first = self.next / SEGMENT;
        }
        let mut slots = std::mem::take(&mut self.spare);
        slots.reserve_exact(SEGMENT as usize);
        self.segments.push_back(Segment { slots, present: 0 });
    }

    /// Frees the segment of this number where it is full of gaps, and all such at the front.
    #[cold]
    fn free(&mut self, number: u64) {
        let Some((index, _)) = self.place(number) else { return };
        let Some(segment) = self.segments.get_mut(index) else { return };
        if segment.present > 0 || segment.slots.len() < SEGMENT as usize {
            return;
        }
        segment.slots.clear();
        self.spare = std::mem::take(&mut segment.slots);
        while self.segments.front().is_some_and(|s| s.slots.capacity() == 0) {
            self.segments.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_leaves_a_gap_and_the_rest_keeps_its_numbers() {
        let mut ring = Ring::starting_at(1);
        ring.extend(1000, 0..);
        ring.extend(10, std::iter::empty());
        assert_eq!((ring.get(1), ring.get(1000), ring.next()), (Some(&0), Some(&999), 1001));
        assert_eq!((ring.take(500), ring.take(500), ring.get(500)), (Some(499), None, None));
        assert_eq!((ring.get(499), ring.get(501)), (Some(&498), Some(&500)));
        assert_eq!(ring.iter_from(498).take(3).map(|(n, _)| n).collect::<Vec<_>>(), [498, 499, 501]);
        assert_eq!((ring.get(0), ring.get(1001), ring.get(u64::MAX)), (None, None, None));
    }

    #[test]
    fn one_value_that_stays_holds_one_segment() {
        let mut ring = Ring::starting_at(0);
        ring.push(0);
        for value in 1..100_000 {
            ring.push(value);
            ring.take(value);
        }
        let held = ring.segments.iter().filter(|s| s.slots.capacity() > 0).count();
        assert!(held <= 2, "{held} segments are held");
        assert_eq!(ring.take(0), Some(0));
        assert_eq!(ring.segments.len(), 1);
    }

    #[test]
    fn a_ring_that_starts_in_the_middle_of_a_segment_or_has_gaps_numbers_on() {
        for start in [0, 1, 255, 256, 257, 1000] {
            let mut ring = Ring::starting_at(start);
            for _ in 0..600 {
                ring.push_gap();
            }
            ring.push('x');
            assert_eq!(ring.iter_from(0).collect::<Vec<_>>(), [(start + 600, &'x')]);
        }
    }
}
