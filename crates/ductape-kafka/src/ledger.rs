//! What a member has in hand, and how far each partition is settled.
//!
//! ```text
//!  offsets    40  41  43  44  47 │ 48 …            (42, 45, 46 are gone: compaction, transactions)
//!             ack ack ▲       ▲  └ read: nothing above it was taken in
//!                     │       └ acked, but above an open one
//!                     └ watermark: the first that is open. Committed: 43, and how often 43 was handed out
//! ```
//!
//! What is settled above the watermark is told beside it, within a bound, so that it does not come again either.
//! Only what is open is kept, so memory follows the bound and not the distance between watermark and read position.
//! Offsets need not be contiguous. No input or output happens here.

mod mark;
mod open;

use crate::ranges::Ranges;
use ductape_core::{Delivery, Error, ErrorKind, Settlement, Token, Verdict};
pub(crate) use mark::Mark;
use open::Open;
use std::collections::{BTreeMap, BTreeSet};

/// What a member has in hand.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By their epochs, each of which stands for one assignment of one partition.
    partitions: BTreeMap<u32, Partition>,
    /// How many are open, in all partitions.
    open: usize,
}

#[derive(Debug)]
struct Partition {
    number: i32,
    open: Open<Entry>,
    /// What is to be handed out again. All of it lies before what was not handed out yet.
    again: BTreeSet<i64>,
    /// Behind everything that was handed out.
    handed_out: i64,
    /// Settled above the watermark.
    done: Ranges,
    /// Behind everything that was taken in.
    read: i64,
    /// What the cluster has.
    committed: Mark,
    /// Whether the mark must be told although the watermark has not moved.
    restless: bool,
    counting: Counting,
    /// Whether it goes to another member: nothing more of it is handed out.
    leaves: bool,
}

/// Whether the first message of an assignment is counted. It may be the one that killed the process the last time, so
/// that it has been handed out is committed before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// None has come.
    Waits,
    /// One has, and is held back until the cluster has its count.
    Held,
    /// It is.
    Done,
}

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    /// How often it was handed out and failed.
    failed: u32,
    /// How often it was handed out, which its token tells: a verdict on one time is none on the next.
    times: u32,
    in_hand: bool,
}

/// What a batch of settlements comes to.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) results: Vec<Result<(), Error>>,
    /// The epochs of which more is settled than the cluster knows: the settlement holds once the cluster has it.
    pub(crate) moved: BTreeSet<u32>,
}

impl Ledger {
    /// Takes a partition in, which stands at `mark`.
    pub(crate) fn assign(&mut self, epoch: u32, number: i32, mark: Mark, is_new: bool) {
        let partition = Partition {
            number,
            open: Open::default(),
            again: BTreeSet::new(),
            handed_out: mark.offset,
            done: mark.done.clone(),
            read: mark.offset,
            committed: mark,
            restless: is_new,
            counting: Counting::Waits,
            leaves: false,
        };
        self.partitions.insert(epoch, partition);
    }

    /// Hands nothing more of a partition out. What is in hand may still be settled.
    pub(crate) fn leave(&mut self, epoch: u32) {
        if let Some(partition) = self.partitions.get_mut(&epoch) {
            partition.leaves = true;
        }
    }

    /// Whether nothing of a partition is in a handler's hands.
    pub(crate) fn is_idle(&self, epoch: u32) -> bool {
        self.partitions.get(&epoch).is_none_or(|p| !p.open.values().any(|entry| entry.in_hand))
    }

    /// Gives a partition up: what is settled of it later is not this member's any more.
    pub(crate) fn lose(&mut self, epoch: u32) {
        if let Some(partition) = self.partitions.remove(&epoch) {
            self.open -= partition.open.len();
        }
    }

    pub(crate) fn epoch_of(&self, number: i32) -> Option<u32> {
        self.partitions.iter().find(|(_, p)| p.number == number).map(|(epoch, _)| *epoch)
    }

    pub(crate) fn epochs(&self) -> Vec<u32> {
        self.partitions.keys().copied().collect()
    }

    /// How many are not settled.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Takes a message in that is not handed out yet, in the order of its partition.
    pub(crate) fn take_in(&mut self, epoch: u32, offset: i64, delivery: Delivery) {
        let Some(partition) = self.partitions.get_mut(&epoch) else { return };
        if partition.leaves {
            return;
        }
        if offset < partition.read && partition.counting == Counting::Waits {
            partition.begin_anew(offset);
        }
        if offset < partition.read {
            return;
        }
        if partition.done.contains(offset) {
            // Settled by whoever had the partition before, and so is the whole run.
            partition.read = partition.done.behind(offset);
            partition.forget_done();
            return;
        }
        let here = partition.committed.offset == offset;
        let failed =
            if here && partition.counting == Counting::Waits { partition.committed.attempts } else { 0 };
        if partition.counting == Counting::Waits {
            partition.counting = Counting::Held;
            partition.restless = true;
        }
        partition.read = offset + 1;
        partition.open.push(offset, Entry { delivery, failed, times: 0, in_hand: false });
        partition.forget_done();
        self.open += 1;
    }

    /// Hands out what waits, up to `max`, in the order of each partition.
    pub(crate) fn hand_out(&mut self, max: usize, into: &mut Vec<Delivery>) {
        // Of one that waits for its count the whole partition waits.
        let ready = |partition: &&mut Partition| partition.counting == Counting::Done && !partition.leaves;
        for partition in self.partitions.values_mut().filter(ready) {
            partition.hand_out(max, into);
        }
    }

    /// Settles a batch: as many results as settlements, in their order.
    pub(crate) fn settle(&mut self, batch: &[Settlement]) -> Settled {
        let mut settled = Settled { results: Vec::with_capacity(batch.len()), ..Settled::default() };
        for settlement in batch {
            let result = self.settle_one(settlement, &mut settled.moved);
            settled.results.push(result);
        }
        settled
    }

    fn settle_one(&mut self, settlement: &Settlement, moved: &mut BTreeSet<u32>) -> Result<(), Error> {
        let Parts { epoch, times, offset } = parts(&settlement.token).ok_or_else(lease_lost)?;
        let partition = self.partitions.get_mut(&epoch).ok_or_else(lease_lost)?;
        let in_hand = |entry: &&mut Entry| entry.in_hand && entry.times == times;
        let Some(entry) = partition.open.get_mut(offset).filter(in_hand) else {
            // Settled before, or handed out again: this verdict comes too late. One that is told again since its
            // commit was not answered holds once there is an answer.
            if settlement.verdict == Verdict::Ack && partition.awaits_commit(offset) {
                moved.insert(epoch);
            }
            return if offset < partition.read { Ok(()) } else { Err(lease_lost()) };
        };
        match settlement.verdict {
            Verdict::Ack => {
                if partition.ack(offset) {
                    moved.insert(epoch);
                }
                self.open -= 1;
            }
            verdict => {
                entry.in_hand = false;
                entry.failed += u32::from(matches!(verdict, Verdict::Retry(_)));
                partition.again.insert(offset);
            }
        }
        Ok(())
    }

    /// What the cluster should be told: of partitions whose watermark moved, or that are restless.
    pub(crate) fn to_commit(&self) -> Vec<(u32, i32, Mark)> {
        let due = self.partitions.iter().filter(|(_, p)| p.restless || p.watermark() != p.committed.offset);
        due.map(|(epoch, partition)| (*epoch, partition.number, partition.mark())).collect()
    }

    /// What the cluster should be told at last: also how often what is at the watermark was handed out.
    pub(crate) fn to_commit_at_last(&self) -> Vec<(u32, i32, Mark)> {
        let due = self.partitions.iter().filter(|(_, p)| p.restless || p.mark() != p.committed);
        due.map(|(epoch, partition)| (*epoch, partition.number, partition.mark())).collect()
    }

    /// Whether there is anything to tell.
    pub(crate) fn is_due(&self) -> bool {
        self.partitions.values().any(|p| p.restless || p.watermark() != p.committed.offset)
    }

    /// The cluster has this.
    pub(crate) fn committed(&mut self, epoch: u32, mark: Mark) {
        let Some(partition) = self.partitions.get_mut(&epoch) else { return };
        let is_all = mark == partition.mark();
        partition.committed = mark;
        // What changed while this was under way is told with the next.
        if is_all {
            partition.restless = false;
            if partition.counting == Counting::Held {
                partition.counting = Counting::Done;
            }
        }
    }

    /// Whether a partition holds messages back until their count is told.
    #[cfg(test)]
    fn holds_back(&self, epoch: u32) -> bool {
        self.partitions[&epoch].counting == Counting::Held
    }
}

impl Partition {
    /// The log ended below where the group stood, and the client library went back to what is there.
    fn begin_anew(&mut self, offset: i64) {
        (self.read, self.handed_out) = (offset, offset);
        self.done = Ranges::default();
    }

    /// True where the cluster can be told of it: at the watermark always, above it while there are not too many gaps.
    fn ack(&mut self, offset: i64) -> bool {
        let before = self.watermark();
        self.open.remove(offset);
        if self.open.first().is_none() {
            // What comes next may have been settled by whoever had the partition before.
            self.read = self.done.behind(self.read);
        }
        if self.watermark() != before {
            self.forget_done();
            return true;
        }
        let told = self.done.insert(offset);
        self.restless |= told;
        told
    }

    /// What is below the watermark need not be told apart.
    fn forget_done(&mut self) {
        if !self.done.is_empty() {
            self.done.trim(self.watermark());
        }
    }

    fn watermark(&self) -> i64 {
        self.open.first().map_or(self.read, |(offset, _)| offset)
    }

    /// The message at the watermark counts as handed out once it is held back for its count.
    fn mark(&self) -> Mark {
        match self.open.first() {
            Some((offset, entry)) => {
                let handed = entry.in_hand || self.counting == Counting::Held;
                let attempts = entry.failed + u32::from(handed);
                Mark { offset, attempts, done: self.done.clone() }
            }
            // Nothing has come yet: the count is of a message that will.
            None if self.read == self.committed.offset => self.committed.clone(),
            None => Mark { offset: self.read, attempts: 0, done: self.done.clone() },
        }
    }

    /// Whether this one is acked, and the cluster does not know it yet but will.
    fn awaits_commit(&self, offset: i64) -> bool {
        let is_acked = offset < self.watermark() || self.done.contains(offset);
        is_acked && !self.committed.covers(offset)
    }

    fn hand_out(&mut self, max: usize, into: &mut Vec<Delivery>) {
        let first = self.open.first().map(|(offset, _)| offset);
        while into.len() < max
            && let Some(offset) = self.again.pop_first()
        {
            let Some(entry) = self.open.get_mut(offset) else { continue };
            self.restless |= entry.hand_out(into) && Some(offset) == first;
        }
        for (offset, entry) in self.open.onward(self.handed_out).take(max.saturating_sub(into.len())) {
            self.restless |= entry.hand_out(into) && Some(offset) == first;
            self.handed_out = offset + 1;
        }
    }
}

impl Entry {
    /// True where it failed before: its count goes up while it is at the watermark.
    fn hand_out(&mut self, into: &mut Vec<Delivery>) -> bool {
        self.in_hand = true;
        self.times = self.times.wrapping_add(1);
        let mut delivery = self.delivery.clone();
        delivery.attempt = self.failed + 1;
        delivery.token = nth_token(&delivery.token, self.times);
        into.push(delivery);
        self.failed > 0
    }
}

/// What settles a delivery, before it is handed out.
pub(crate) fn token(epoch: u32, offset: i64) -> Token {
    Token::Numbers(u64::from(epoch), offset.unsigned_abs())
}

/// The same of the time it is handed out, which stands above the epoch.
fn nth_token(token: &Token, times: u32) -> Token {
    match token {
        Token::Numbers(first, offset) => {
            Token::Numbers(first & u64::from(u32::MAX) | u64::from(times) << 32, *offset)
        }
        Token::Text(_) => token.clone(),
    }
}

/// The assignment that a delivery is of.
pub(crate) fn epoch(token: &Token) -> Option<u32> {
    parts(token).map(|parts| parts.epoch)
}

struct Parts {
    epoch: u32,
    times: u32,
    offset: i64,
}

fn parts(token: &Token) -> Option<Parts> {
    match token {
        Token::Numbers(first, offset) => {
            let (epoch, times) = (*first as u32, (first >> 32) as u32);
            Some(Parts { epoch, times, offset: i64::try_from(*offset).ok()? })
        }
        Token::Text(_) => None,
    }
}

/// The verdict comes for what is not this member's.
pub(crate) fn lease_lost() -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        "the delivery's partition is with another member, and it comes there again",
    )
    .with_help(
        "a handler that takes longer than a partition waits for it should know what it has done already",
    )
}

#[cfg(test)]
mod tests;
