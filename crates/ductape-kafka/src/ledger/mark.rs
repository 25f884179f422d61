//! How far a group is in a partition, as the cluster keeps it.

use crate::ranges::Ranges;

/// Where a group stands in a partition: the offset of the first message that is not settled, and how often that one
/// was handed out, and what is settled above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: i64,
    pub(crate) attempts: u32,
    pub(crate) done: Ranges,
}

impl Mark {
    const ATTEMPTS: &'static str = "ductape attempts=";
    const DONE: &'static str = " done=";

    /// A mark above which nothing is settled.
    pub(crate) fn new(offset: i64, attempts: u32) -> Self {
        Mark { offset, attempts, done: Ranges::default() }
    }

    /// Whether it tells that this one is settled.
    pub(super) fn covers(&self, offset: i64) -> bool {
        offset < self.offset || self.done.contains(offset)
    }

    /// What stands beside the committed offset: how often its message was handed out, and what is settled above it.
    pub(crate) fn metadata(&self) -> String {
        if self.attempts == 0 && self.done.is_empty() {
            return String::new();
        }
        let mut text = format!("{}{}", Mark::ATTEMPTS, self.attempts);
        if !self.done.is_empty() {
            text.push_str(Mark::DONE);
            self.done.write(self.offset, &mut text);
        }
        text
    }

    /// A mark as the cluster keeps it. Metadata of others counts for nothing.
    pub(crate) fn read(offset: i64, metadata: &str) -> Self {
        let Some(text) = metadata.strip_prefix(Mark::ATTEMPTS) else { return Mark::new(offset, 0) };
        let (attempts, done) = text.split_once(Mark::DONE).unwrap_or((text, ""));
        Mark { offset, attempts: attempts.parse().unwrap_or(0), done: Ranges::read(offset, done) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for attempts in [0, 1, 42] {
            let mark = Mark::new(9, attempts);
            assert_eq!(Mark::read(9, &mark.metadata()), mark);
        }
        assert_eq!(Mark::read(9, "somebody else's words").attempts, 0);
    }
}
