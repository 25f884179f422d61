//! What this process has just appended, kept for its own consumers: most messages are handed out soon after they were
//! published, and where that is by the same process nothing of them has to be read from the file.
//!
//! ```text
//!            first                      end: the log's own, or a bound
//!  · · · · ·│ 7 │ 8 │ 9 │ 10 │ 11 │ 12 │
//!           └─ what all groups of this process have had is gone
//! ```
//!
//! A run holds what stands in the file for sure: what this connection has written there, and nobody else has written since
//! (`PRAGMA data_version`). Who finds its head elsewhere reads the file.

use crate::ids::{DestinationId, GroupId};
use ductape_core::message::{Extensions, HeaderValue, Payloads};
use ductape_core::{Key, Message};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The most messages of a run, and the most bytes of all runs.
const MOST_MESSAGES: usize = 4096;
const MOST_BYTES: usize = 4 << 20;
/// What a message takes beside its bytes, roughly.
const FIXED: usize = 256;
/// The places that a run without messages keeps.
const PLACES: usize = 256;

/// The runs of all destinations that are consumed here.
#[derive(Default)]
pub(crate) struct Recent {
    runs: HashMap<DestinationId, Run>,
    /// That of the file when the runs were last looked at.
    version: i64,
    bytes: usize,
}

/// Messages of one log, without a gap: its last ones, unless it is full.
#[derive(Default)]
struct Run {
    /// The sequence of the first; none where the log's end is not known.
    first: Option<i64>,
    messages: VecDeque<Kept>,
    /// Their own, so that what lies together is let go together.
    payloads: Payloads,
    /// Whether later messages are only in the file.
    is_full: bool,
    /// The groups that read here, and how far they are.
    heads: Vec<(GroupId, i64)>,
}

struct Kept {
    message: Message,
    bytes: usize,
}

impl Recent {
    /// A transaction has begun, which sees this version of the file: another than before, where others have written to it.
    pub(crate) fn begun(&mut self, version: i64) {
        if version != self.version {
            self.forget();
            self.version = version;
        }
    }

    /// Whether it holds nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Forgets all that it holds.
    pub(crate) fn forget(&mut self) {
        self.runs.clear();
        self.bytes = 0;
    }

    /// Takes in a message that was appended under this sequence, where anybody here consumes it and there is room. `bytes` is
    /// what it takes in the file.
    pub(crate) fn append(&mut self, destination: DestinationId, seq: i64, message: &Message, bytes: i64) {
        if self.runs.get(&destination).is_none_or(|run| run.is_full) {
            return;
        }
        let bytes = bytes.unsigned_abs() as usize + FIXED;
        if self.bytes + bytes > MOST_BYTES {
            self.let_full_ones_go(destination);
        }
        let Some(run) = self.runs.get_mut(&destination) else { return };
        let has_room = run.messages.len() < MOST_MESSAGES && self.bytes + bytes <= MOST_BYTES;
        run.is_full |= !has_room || run.end().is_some_and(|end| end != seq);
        if !run.is_full {
            run.first.get_or_insert(seq);
            let message = copy(message, &mut run.payloads);
            run.messages.push_back(Kept { message, bytes });
            self.bytes += bytes;
        }
    }

    /// Whose group has come to a halt is not to keep all others from their room: it reads the file once it goes on.
    fn let_full_ones_go(&mut self, but: DestinationId) {
        for (destination, run) in &mut self.runs {
            if run.is_full && *destination != but {
                self.bytes -= run.bytes();
                *run = Run::default();
            }
        }
    }

    /// A group reads on from here: what it finds by [`Recent::get`]. One that is beyond what a full run holds begins another.
    pub(crate) fn read_from(&mut self, destination: DestinationId, group: GroupId, head: i64) {
        let run = self.runs.entry(destination).or_default();
        if run.is_full && run.end().is_none_or(|end| head >= end) {
            self.bytes -= run.bytes();
            *run = Run::default();
        }
        let is_here = run.first.is_some_and(|first| head >= first);
        if is_here && !run.heads.iter().any(|(reader, _)| *reader == group) {
            run.heads.push((group, head));
        }
    }

    /// The message of this sequence.
    pub(crate) fn get(&self, destination: DestinationId, seq: i64) -> Option<&Message> {
        self.runs.get(&destination)?.get(seq).map(|kept| &kept.message)
    }

    /// The message of this sequence, for a group that reads here: out of the run, where nobody else does.
    pub(crate) fn hand_out(
        &mut self,
        destination: DestinationId,
        group: GroupId,
        seq: i64,
    ) -> Option<Message> {
        let run = self.runs.get_mut(&destination)?;
        let is_alone = matches!(run.heads[..], [(reader, _)] if reader == group);
        if !is_alone || run.first != Some(seq) {
            return run.get(seq).map(|kept| kept.message.clone());
        }
        let Kept { message, bytes } = run.pop()?;
        self.bytes -= bytes;
        Some(message)
    }

    /// A group has had what is before this. What all have had is let go. Whether nothing was appended to the log from here on.
    pub(crate) fn read_to(&mut self, destination: DestinationId, group: GroupId, head: i64) -> bool {
        let Some(run) = self.runs.get_mut(&destination) else { return false };
        if let Some((_, read)) = run.heads.iter_mut().find(|(reader, _)| *reader == group) {
            *read = head;
        }
        let least = run.heads.iter().map(|(_, head)| *head).min().unwrap_or(i64::MIN);
        while run.first.is_some_and(|first| first < least)
            && let Some(kept) = run.pop()
        {
            self.bytes -= kept.bytes;
        }
        !run.is_full && run.end() == Some(head)
    }
}

impl Run {
    fn end(&self) -> Option<i64> {
        Some(self.first? + self.messages.len() as i64)
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(|kept| kept.bytes).sum()
    }

    fn get(&self, seq: i64) -> Option<&Kept> {
        self.messages.get(usize::try_from(seq - self.first?).ok()?)
    }

    fn pop(&mut self) -> Option<Kept> {
        let (first, kept) = (self.first?, self.messages.pop_front()?);
        self.first = Some(first + 1);
        if self.messages.is_empty() {
            self.messages.shrink_to(PLACES);
        }
        Some(kept)
    }
}

/// The message as it would be read from the file. Its payload may be a small part of a large buffer, which is not kept.
fn copy(message: &Message, payloads: &mut Payloads) -> Message {
    let header =
        |(name, value): (&str, &HeaderValue)| (Arc::<str>::from(name), HeaderValue::from(value.as_bytes()));
    Message {
        payload: payloads.copy(&message.payload),
        key: message.key.as_ref().map(|key| Key::from_bytes(payloads.copy(key.as_bytes()))),
        headers: message.headers.iter().map(header).collect(),
        id: message.id.clone(),
        time: message.time,
        attributes: Arc::clone(&message.attributes),
        extensions: message.extensions.clone().filter(|some| **some != Extensions::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ductape_core::Timestamp;
    use ductape_core::message::{Attributes, IdSource};

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
        recent.read_from(HERE, group, head);
        let got = (head..).map_while(|seq| recent.hand_out(HERE, group, seq)).take(most).count();
        recent.read_to(HERE, group, head + got as i64);
        got
    }

    fn append(recent: &mut Recent, seqs: impl Iterator<Item = i64>) {
        seqs.for_each(|seq| recent.append(HERE, seq, &message(10), 10));
    }

    /// How many are kept, by all that is counted.
    fn kept(recent: &Recent) -> usize {
        let runs: Vec<_> = recent.runs.values().collect();
        let count = runs.iter().map(|run| run.messages.len()).sum();
        assert_eq!(recent.bytes, runs.iter().map(|run| run.bytes()).sum::<usize>());
        assert_eq!(recent.bytes, count * (10 + FIXED));
        count
    }

    #[test]
    fn nothing_is_kept_of_what_nobody_here_consumes() {
        let mut recent = Recent::default();
        append(&mut recent, 1..5);
        assert_eq!(kept(&recent), 0);
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 5..8);
        assert_eq!(kept(&recent), 3);
    }

    #[test]
    fn what_all_groups_have_had_is_let_go() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 1..11);
        assert_eq!(read(&mut recent, ONE, 1, 2), 2);
        assert_eq!(read(&mut recent, OTHER, 3, 1), 1);
        assert_eq!(read(&mut recent, ONE, 3, 10), 8);
        assert_eq!(kept(&recent), 7, "the other is behind");
        assert_eq!(read(&mut recent, OTHER, 4, 10), 7);
        assert_eq!(kept(&recent), 0);
        assert!(recent.read_to(HERE, ONE, 11));
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
        assert_eq!(kept(&recent), 0);
    }

    #[test]
    fn a_run_is_bounded_and_begins_anew_with_who_is_beyond_it() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        let most = MOST_MESSAGES as i64;
        append(&mut recent, 1..most + 11);
        assert_eq!(kept(&recent), MOST_MESSAGES);
        assert_eq!(read(&mut recent, ONE, 1, usize::MAX), MOST_MESSAGES);
        assert!(!recent.read_to(HERE, ONE, most + 1), "there is more in the file");
        assert_eq!(read(&mut recent, ONE, most + 1, 10), 0);
        append(&mut recent, most + 11..most + 13);
        assert_eq!(read(&mut recent, ONE, most + 1, 10), 0);
        assert_eq!(read(&mut recent, ONE, most + 11, 10), 2);
        recent.append(HERE, most + 13, &message(0), MOST_BYTES as i64);
        assert_eq!(kept(&recent), 0);
    }

    #[test]
    fn after_a_gap_nothing_is_kept() {
        let mut recent = Recent::default();
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, (1..3).chain(4..6));
        assert_eq!(kept(&recent), 2);
        assert_eq!(read(&mut recent, ONE, 1, 10), 2);
    }

    #[test]
    fn what_others_have_written_since_makes_it_forget_all() {
        let mut recent = Recent::default();
        recent.begun(7);
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        append(&mut recent, 1..3);
        recent.begun(7);
        assert_eq!(kept(&recent), 2);
        recent.begun(8);
        assert_eq!(kept(&recent), 0);
        append(&mut recent, 3..4);
        assert_eq!(kept(&recent), 0);
    }

    #[test]
    fn all_runs_share_one_bound_of_bytes() {
        let mut recent = Recent::default();
        let others = (2..10).map(DestinationId);
        for destination in others.clone() {
            recent.read_from(destination, ONE, 1);
            (1..9).for_each(|seq| recent.append(destination, seq, &message(0), MOST_BYTES as i64 / 16));
        }
        assert!(recent.bytes <= MOST_BYTES && recent.bytes > MOST_BYTES / 2);
        for destination in others {
            recent.read_from(destination, ONE, 1);
            (1..9).for_each(|seq| drop(recent.hand_out(destination, ONE, seq)));
            recent.read_to(destination, ONE, 9);
        }
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn one_whose_group_has_come_to_a_halt_leaves_the_room_to_the_others() {
        let (mut recent, halted) = (Recent::default(), DestinationId(2));
        recent.read_from(halted, ONE, 1);
        (1..20).for_each(|seq| recent.append(halted, seq, &message(0), MOST_BYTES as i64 / 16));
        assert!(recent.bytes > MOST_BYTES / 2 && recent.get(halted, 1).is_some());
        assert_eq!(read(&mut recent, ONE, 1, 10), 0);
        (1..3).for_each(|seq| recent.append(HERE, seq, &message(0), MOST_BYTES as i64 / 4));
        assert!(recent.get(HERE, 2).is_some() && recent.get(halted, 1).is_none());
        assert_eq!(read(&mut recent, ONE, 1, 10), 2);
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn what_is_kept_keeps_no_other_bytes_of_its_publishers_buffer() {
        let (mut payloads, buffer) = (Payloads::default(), Bytes::from(vec![7; 100_000]));
        let kept: Vec<_> = [0, 10, 50_000]
            .map(|len| {
                let mut published = message(0);
                published.payload = buffer.slice(..len);
                published.key = Some(Key::from_bytes(buffer.slice(..8)));
                published.headers.append("a", buffer.slice(..9));
                published.extensions_mut();
                let kept = copy(&published, &mut payloads);
                assert!(kept.extensions.is_none(), "as the file has it");
                published.extensions = None;
                assert_eq!(kept, published);
                kept
            })
            .into();
        assert!(buffer.is_unique() && kept.len() == 3);
    }
}
