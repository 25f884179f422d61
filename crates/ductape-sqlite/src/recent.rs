//! What this process has just appended, kept for its own consumers: most messages are handed out soon after they were
//! published, and where that is by the same process nothing of them has to be read from the file.
//!
//! ```text
//!            first                      end = the log's own
//!  · · · · ·│ 7 │ 8 │ 9 │ 10 │ 11 │ 12 │
//!           └─ what all groups of this process have had is gone
//! ```
//!
//! A run holds what stands in the file for sure: what this connection has written there, and nobody else has written since
//! (`PRAGMA data_version`). Who finds its head elsewhere reads the file.

use crate::ids::{DestinationId, GroupId};
use ductape_core::Message;
use std::collections::{HashMap, VecDeque};

/// The most messages of a run, and their most bytes.
const MOST_MESSAGES: usize = 4096;
const MOST_BYTES: usize = 4 << 20;

/// The runs of all destinations that are consumed here.
#[derive(Default)]
pub(crate) struct Recent {
    runs: HashMap<DestinationId, Run>,
    /// That of the file when the runs were last looked at.
    version: i64,
}

/// The last messages of a log, without a gap.
#[derive(Default)]
pub(crate) struct Run {
    /// The sequence of the first; none where the log's end is not known.
    first: Option<i64>,
    messages: VecDeque<Message>,
    bytes: usize,
    /// Whether later messages are only in the file.
    is_full: bool,
    /// The groups that read here, and how far they are.
    heads: Vec<(GroupId, i64)>,
}

impl Recent {
    /// A transaction has begun, which sees this version of the file: another than before, where others have written to it.
    pub(crate) fn begun(&mut self, version: i64) {
        if version != self.version {
            self.forget();
            self.version = version;
        }
    }

    /// Forgets all that it holds.
    pub(crate) fn forget(&mut self) {
        self.runs.clear();
    }

    /// The run that what is appended goes to, where anybody here consumes it.
    pub(crate) fn run_mut(&mut self, destination: DestinationId) -> Option<&mut Run> {
        self.runs.get_mut(&destination)
    }

    /// Takes the run out, for a group whose head is there. It is to be put back.
    pub(crate) fn take(&mut self, destination: DestinationId, group: GroupId, head: i64) -> Run {
        let mut run = self.runs.remove(&destination).unwrap_or_default();
        run.read_from(group, head);
        run
    }

    /// Puts a run back, of which a group has had what is before `head`.
    pub(crate) fn put_back(&mut self, destination: DestinationId, group: GroupId, head: i64, mut run: Run) {
        run.read_to(group, head);
        self.runs.insert(destination, run);
    }
}

impl Run {
    fn end(&self) -> Option<i64> {
        Some(self.first? + self.messages.len() as i64)
    }

    /// Takes in a message that was appended under this sequence, if there is room.
    pub(crate) fn append(&mut self, seq: i64, message: &Message) {
        let size = message.size();
        let has_room = self.messages.len() < MOST_MESSAGES && self.bytes + size <= MOST_BYTES;
        self.is_full |= !has_room || self.end().is_some_and(|end| end != seq);
        if self.is_full {
            return;
        }
        self.first.get_or_insert(seq);
        self.bytes += size;
        self.messages.push_back(message.clone());
    }

    /// The message of this sequence.
    pub(crate) fn get(&self, seq: i64) -> Option<&Message> {
        self.messages.get(usize::try_from(seq - self.first?).ok()?)
    }

    /// The message of this sequence, for a group that reads here: out of the run, where nobody else does.
    pub(crate) fn hand_out(&mut self, group: GroupId, seq: i64) -> Option<Message> {
        let is_alone = matches!(self.heads[..], [(reader, _)] if reader == group);
        if is_alone && self.first == Some(seq) { self.pop() } else { self.get(seq).cloned() }
    }

    fn pop(&mut self) -> Option<Message> {
        let (first, message) = (self.first?, self.messages.pop_front()?);
        self.bytes -= message.size();
        self.first = Some(first + 1);
        Some(message)
    }

    /// Whether nothing was appended to the log from here on.
    pub(crate) fn is_end(&self, seq: i64) -> bool {
        !self.is_full && self.end() == Some(seq)
    }

    /// A group reads on from here. One that is beyond what a full run holds begins another.
    fn read_from(&mut self, group: GroupId, head: i64) {
        if self.is_full && self.end().is_none_or(|end| head >= end) {
            *self = Run::default();
        }
        let is_here = self.first.is_some_and(|first| head >= first);
        if is_here && !self.heads.iter().any(|(reader, _)| *reader == group) {
            self.heads.push((group, head));
        }
    }

    /// A group has had what is before this. What all have had is let go.
    fn read_to(&mut self, group: GroupId, head: i64) {
        if let Some((_, read)) = self.heads.iter_mut().find(|(reader, _)| *reader == group) {
            *read = head;
        }
        let Some(least) = self.heads.iter().map(|(_, head)| *head).min() else { return };
        while self.first.is_some_and(|first| first < least) && self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::Timestamp;
    use ductape_core::message::{Attributes, IdSource};
    use std::sync::Arc;

    const HERE: DestinationId = DestinationId(1);
    const ONE: GroupId = GroupId(1);
    const OTHER: GroupId = GroupId(2);

    fn message(bytes: usize) -> Message {
        let attributes =
            Arc::new(Attributes { source: "".into(), event: "".into(), content_type: "".into() });
        let time = Timestamp::default();
        Message::new(vec![7; bytes], IdSource::new().next(time), time, attributes)
    }

    /// What a group whose head is here gets, at most so many.
    fn read(recent: &mut Recent, group: GroupId, head: i64, most: usize) -> usize {
        let mut run = recent.take(HERE, group, head);
        let got = (head..).map_while(|seq| run.hand_out(group, seq)).take(most).count();
        recent.put_back(HERE, group, head + got as i64, run);
        got
    }

    fn append(recent: &mut Recent, seqs: impl Iterator<Item = i64>) {
        let run = recent.run_mut(HERE).unwrap();
        seqs.for_each(|seq| run.append(seq, &message(10)));
    }

    fn kept(recent: &mut Recent) -> (usize, usize) {
        let run = recent.run_mut(HERE).unwrap();
        (run.messages.len(), run.bytes)
    }

    #[test]
    fn nothing_is_kept_of_what_nobody_here_consumes() {
        let mut recent = Recent::default();
        assert!(recent.run_mut(HERE).is_none());
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 5..8);
        assert_eq!(kept(&mut recent), (3, 30));
    }

    #[test]
    fn what_all_groups_have_had_is_let_go() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 1..11);
        assert_eq!(read(&mut recent, ONE, 1, 2), 2);
        assert_eq!(read(&mut recent, OTHER, 3, 1), 1);
        assert_eq!(read(&mut recent, ONE, 3, 10), 8);
        assert_eq!(kept(&mut recent), (7, 70), "the other is behind");
        assert_eq!(read(&mut recent, OTHER, 4, 10), 7);
        assert_eq!(kept(&mut recent), (0, 0));
        assert!(recent.run_mut(HERE).unwrap().is_end(11));
        append(&mut recent, 11..12);
        assert_eq!((read(&mut recent, ONE, 11, 10), read(&mut recent, OTHER, 11, 10)), (1, 1));
    }

    #[test]
    fn who_is_before_a_run_reads_the_file_and_keeps_nothing_from_being_let_go() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 5..8);
        assert_eq!(read(&mut recent, OTHER, 1, 10), 0);
        assert_eq!(read(&mut recent, ONE, 5, 10), 3);
        assert_eq!(kept(&mut recent), (0, 0));
    }

    #[test]
    fn a_run_is_bounded_and_begins_anew_with_who_is_beyond_it() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        let most = MOST_MESSAGES as i64;
        append(&mut recent, 1..most + 11);
        assert_eq!(kept(&mut recent).0, MOST_MESSAGES);
        assert_eq!(read(&mut recent, ONE, 1, usize::MAX), MOST_MESSAGES);
        assert!(!recent.run_mut(HERE).unwrap().is_end(most + 1), "there is more in the file");
        assert_eq!(read(&mut recent, ONE, most + 1, 10), 0);
        append(&mut recent, most + 11..most + 13);
        assert_eq!(read(&mut recent, ONE, most + 1, 10), 0);
        assert_eq!(read(&mut recent, ONE, most + 11, 10), 2);
        recent.run_mut(HERE).unwrap().append(most + 13, &message(MOST_BYTES + 1));
        assert_eq!(kept(&mut recent), (0, 0));
    }

    #[test]
    fn after_a_gap_nothing_is_kept() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, (1..3).chain(4..6));
        assert_eq!(kept(&mut recent).0, 2);
        assert_eq!(read(&mut recent, ONE, 1, 10), 2);
    }

    #[test]
    fn what_others_have_written_since_makes_it_forget_all() {
        let mut recent = Recent::default();
        recent.begun(7);
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 1..3);
        recent.begun(7);
        assert_eq!(kept(&mut recent).0, 2);
        recent.begun(8);
        assert!(recent.run_mut(HERE).is_none());
    }
}
