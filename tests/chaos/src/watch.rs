//! Following a run by the logs of its actors, while they write them: how far it is, and what its rates were.

use crate::actor_name::ActorName;
use crate::journal::Reader;
use crate::record::{Failing, Kind, MessageRef, Record};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// Bit of a message that was taken. Above it there is one for each group that is done with it.
const TAKEN: u8 = 1;

/// How far a run is.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
    attempts: u16,
    logs: BTreeMap<ActorName, Option<Reader>>,
    /// By publisher and number.
    marks: Vec<Vec<u8>>,
    sent: Vec<u32>,
    answered: Vec<u32>,
    taken: u64,
    /// Taken messages that each group is done with.
    done: Vec<u64>,
    /// All that each group was done with, taken or not.
    handled: Vec<u64>,
    ready: HashSet<ActorName>,
    /// Redriven dead letters that are not handled yet, with their group.
    redriven: HashSet<(u8, MessageRef)>,
    /// How often anything moved.
    changes: u64,
}

impl Watch {
    /// Follows a run in this folder.
    pub(crate) fn new(folder: &Path, publishers: u16, messages: u32, groups: usize, attempts: u32) -> Self {
        let publishers = usize::from(publishers);
        Watch {
            folder: folder.to_owned(),
            attempts: u16::try_from(attempts).unwrap_or(u16::MAX),
            logs: BTreeMap::new(),
            marks: vec![vec![0; messages as usize]; publishers],
            sent: vec![0; publishers],
            answered: vec![0; publishers],
            taken: 0,
            done: vec![0; groups],
            handled: vec![0; groups],
            ready: HashSet::new(),
            redriven: HashSet::new(),
            changes: 0,
        }
    }

    /// Follows one more actor.
    pub(crate) fn follow(&mut self, name: ActorName) {
        self.logs.entry(name).or_insert(None);
    }

    /// Reads what was written since the last look.
    ///
    /// # Errors
    /// Where a log cannot be read.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let mut logs = std::mem::take(&mut self.logs);
        for (name, reader) in &mut logs {
            if reader.is_none() {
                *reader = match Reader::open(&name.log(&self.folder)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    opened => Some(opened?),
                };
            }
            let Some(reader) = reader else { continue };
            while let Some(record) = reader.read()? {
                self.note(*name, &record);
            }
        }
        self.logs = logs;
        Ok(())
    }

    fn note(&mut self, name: ActorName, record: &Record) {
        match (record.kind, name) {
            (Kind::Ready, _) => drop(self.ready.insert(name)),
            (Kind::Intent, ActorName::Publisher { index, .. }) => {
                self.sent[usize::from(index)] = record.message.number + record.extra;
            }
            (Kind::Taken, ActorName::Publisher { index, .. }) => {
                self.answered[usize::from(index)] += record.extra;
                for number in record.message.number..record.message.number + record.extra {
                    self.is_taken(MessageRef { number, ..record.message });
                }
            }
            (Kind::Refused | Kind::Uncertain, ActorName::Publisher { index, .. }) => {
                self.answered[usize::from(index)] += 1;
            }
            (Kind::Handled, ActorName::Subscriber { group, .. }) => {
                self.redriven.remove(&(group, record.message));
                self.is_done(group, record.message);
            }
            (Kind::Failed, ActorName::Subscriber { group, .. })
                if record.detail == Failing::Reject as u8 || record.attempt >= self.attempts =>
            {
                self.is_done(group, record.message);
            }
            _ => return,
        }
        self.changes += 1;
    }

    fn is_taken(&mut self, message: MessageRef) {
        let Some(mark) = self.marks[usize::from(message.publisher)].get_mut(message.number as usize) else {
            return;
        };
        if *mark & TAKEN == 0 {
            *mark |= TAKEN;
            self.taken += 1;
            for (group, done) in self.done.iter_mut().enumerate() {
                *done += u64::from(*mark & TAKEN << (group + 1) != 0);
            }
        }
    }

    fn is_done(&mut self, group: u8, message: MessageRef) {
        let marks = self.marks.get_mut(usize::from(message.publisher));
        let Some(mark) = marks.and_then(|marks| marks.get_mut(message.number as usize)) else { return };
        let (group, bit) = (usize::from(group), TAKEN << (group + 1));
        if *mark & bit == 0 {
            *mark |= bit;
            self.handled[group] += 1;
            self.done[group] += u64::from(*mark & TAKEN != 0);
        }
    }

    /// Counts a message as done with by a group, because it is among its dead letters, and waits for its redrive.
    pub(crate) fn expect_redriven(&mut self, group: u8, message: MessageRef) {
        self.redriven.insert((group, message));
    }

    /// How many redriven dead letters are not handled yet.
    pub(crate) fn redriven_open(&self) -> usize {
        self.redriven.len()
    }

    /// Whether an actor has said that it is ready.
    pub(crate) fn is_ready(&self, name: ActorName) -> bool {
        self.ready.contains(&name)
    }

    /// How many messages a publisher was about to send.
    pub(crate) fn sent_by(&self, publisher: u16) -> u32 {
        self.sent[usize::from(publisher)]
    }

    /// How many messages publishers were about to send.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.iter().copied().map(u64::from).sum()
    }

    /// How many of a group's messages are done with, whether their publish is known to be taken or not.
    pub(crate) fn handled(&self, group: usize) -> u64 {
        self.handled[group]
    }

    /// Taken messages that the slowest group is not done with.
    pub(crate) fn lag(&self) -> u64 {
        self.done.iter().map(|done| self.taken.saturating_sub(*done)).max().unwrap_or(0)
    }

    /// The share of all messages that publishers were about to send.
    pub(crate) fn progress(&self) -> f64 {
        let all: usize = self.marks.iter().map(Vec::len).sum();
        self.sent() as f64 / all.max(1) as f64
    }

    /// Grows with everything that moves.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_run_is_done_when_every_group_is_done_with_all_that_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (publisher, subscriber) = (
            ActorName::Publisher { index: 0, life: 0 },
            ActorName::Subscriber { group: 0, member: 0, life: 0 },
        );
        let mut watch = Watch::new(folder.path(), 1, 4, 1, 3);
        watch.follow(publisher);
        watch.follow(subscriber);
        watch.look().unwrap();
        let published = Journal::create(&publisher.log(folder.path())).unwrap();
        let handled = Journal::create(&subscriber.log(folder.path())).unwrap();
        let message = |number| MessageRef { publisher: 0, number };
        published.write(Record::of(Kind::Intent, message(0)).extra(4));
        handled.write(Record::of(Kind::Handled, message(0)));
        published.write(Record::of(Kind::Taken, message(0)).extra(3));
        handled.write(Record::of(Kind::Failed, message(1)).attempt(2).detail(Failing::Panic as u8));
        watch.look().unwrap();
        assert_eq!((watch.sent(), watch.lag()), (4, 2));
        handled.write(Record::of(Kind::Failed, message(1)).attempt(3).detail(Failing::Panic as u8));
        handled.write(Record::of(Kind::Failed, message(2)).detail(Failing::Reject as u8));
        watch.look().unwrap();
        assert_eq!((watch.handled(0), watch.lag()), (3, 0));
        assert!((watch.progress() - 1.0).abs() < 1e-9);
    }
}
