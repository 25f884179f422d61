//! Which offsets above the watermark are settled, as few words in the metadata of a commit.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The most runs that are kept. Each takes at most 20 characters, and brokers take 4096 of metadata.
const MAX_RUNS: usize = 128;

/// Runs of offsets: first, and behind the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Takes an offset in; false where there are too many runs, and it is forgotten.
    pub(crate) fn insert(&mut self, offset: i64) -> bool {
        let (mut first, mut behind) = (offset, offset + 1);
        if let Some((start, end)) = self.0.range(..=offset).next_back()
            && *end >= offset
        {
            (first, behind) = (*start, behind.max(*end));
        }
        if let Some(end) = self.0.remove(&behind) {
            behind = end;
        }
        if self.0.len() >= MAX_RUNS && !self.0.contains_key(&first) {
            return false;
        }
        self.0.insert(first, behind);
        true
    }

    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, behind)| offset < *behind)
    }

    /// This offset, or the first behind it that is not contained.
    pub(crate) fn behind(&self, mut offset: i64) -> i64 {
        // Those that were read may touch.
        while let Some((_, behind)) = self.0.range(..=offset).next_back()
            && offset < *behind
        {
            offset = *behind;
        }
        offset
    }

    /// Forgets what lies below.
    pub(crate) fn trim(&mut self, watermark: i64) {
        while self.0.first_entry().is_some_and(|run| *run.get() <= watermark) {
            self.0.pop_first();
        }
    }

    /// How many offsets.
    pub(crate) fn count(&self) -> i64 {
        self.0.iter().map(|(first, behind)| behind - first).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `2,5-7`: counted from `base`, which is settled by none of them.
    pub(crate) fn write(&self, base: i64, text: &mut String) {
        for (n, (first, behind)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let (first, last) = (first - base, behind - 1 - base);
            let _ = match first == last {
                true => write!(text, "{comma}{first}"),
                false => write!(text, "{comma}{first}-{last}"),
            };
        }
    }

    /// What was written; nothing where it does not read as such.
    pub(crate) fn read(base: i64, text: &str) -> Self {
        let run = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            (0 < first && first <= last).then(|| (base + i64::from(first), base + i64::from(last) + 1))
        };
        text.split(',').map(run).collect::<Option<_>>().map_or_else(Ranges::default, Ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn written(ranges: &Ranges, base: i64) -> String {
        let mut text = String::new();
        ranges.write(base, &mut text);
        text
    }

    #[test]
    fn runs_grow_together_and_are_written_from_the_watermark() {
        let mut ranges = Ranges::default();
        [105, 107, 102, 106].iter().for_each(|offset| assert!(ranges.insert(*offset)));
        assert_eq!((written(&ranges, 100).as_str(), ranges.count()), ("2,5-7", 4));
        ranges.trim(103);
        assert_eq!(written(&ranges, 103), "2-4");
    }

    #[test]
    fn what_does_not_read_is_nothing_settled() {
        for text in ["", "x", "0", "5-2", "1,,2", "-1", "1-99999999999"] {
            assert!(Ranges::read(7, text).is_empty(), "{text}");
        }
    }

    #[test]
    fn there_is_a_bound() {
        let mut ranges = Ranges::default();
        let taken = (0..1_000).filter(|n| ranges.insert(1_000_000_000 + n * 2)).count();
        assert_eq!(taken, MAX_RUNS);
        assert!(ranges.insert(1_000_000_001), "what lengthens a run is taken all the same");
        assert!(written(&ranges, 0).len() < 4_000);
    }

    proptest! {
        #[test]
        fn what_is_taken_in_is_contained_and_read_as_written(offsets in proptest::collection::vec(1i64..60, 0..60)) {
            let mut ranges = Ranges::default();
            let all: BTreeSet<i64> = offsets.iter().copied().collect();
            offsets.iter().for_each(|offset| assert!(ranges.insert(*offset)));
            prop_assert!((0..70).all(|offset| ranges.contains(offset) == all.contains(&offset)));
            prop_assert!((0..70).all(|from| Some(ranges.behind(from)) == (from..).find(|n| !all.contains(n))));
            prop_assert_eq!(ranges.count(), all.len() as i64);
            prop_assert_eq!(Ranges::read(0, &written(&ranges, 0)), ranges);
        }
    }
}
