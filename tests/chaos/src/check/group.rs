//! One group's history, record by record.

use super::Promises;
use super::cause::Cause;
use super::published::{Outcome, Published};
use super::report::{DeadReport, Example, GroupReport, StopReport};
use super::world::World;
use crate::actor_name::ActorName;
use crate::fault::Fault;
use crate::record::{Ending, Failing, Kind, MessageRef, Record};
use std::collections::HashMap;
use std::time::Duration;

/// Where a message stands.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Unseen,
    InHand,
    Failed,
    Handled,
    Settled,
}

/// What is remembered of each message.
#[derive(Clone, Copy, Default)]
struct Mark {
    state: State,
    flags: u8,
    /// Who had it last: a place in `holders`.
    holder: u16,
    /// When that was, in milliseconds from the group's first record.
    millis: u32,
    /// The digest of its position then.
    position: u32,
    /// Which attempt that was.
    attempt: u16,
}

const HANDLED: u8 = 1;
const REJECTED: u8 = 2;
const ABORTED: u8 = 4;
const DEAD: u8 = 8;
const VERDICT_REFUSED: u8 = 16;

impl Mark {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn is_done(self) -> bool {
        self.has(HANDLED | REJECTED | DEAD)
    }
}

/// A subscriber in one life.
struct Holder {
    code: u32,
    /// When it last lost its consumer.
    lost: u64,
}

pub(super) struct GroupChecker<'c> {
    index: u8,
    promises: &'c Promises,
    published: &'c Published,
    world: &'c World,
    marks: Vec<Vec<Mark>>,
    holders: Vec<Holder>,
    places: HashMap<ActorName, u16>,
    /// When a holder first received what its handler has not got yet, and how often.
    lying: HashMap<(u16, MessageRef), (u64, u32)>,
    /// When a holder's handler failed with what it may try again without receiving it anew.
    failed: HashMap<(u16, MessageRef), u64>,
    begin: Option<u64>,
    stops: Vec<Duration>,
    report: GroupReport,
}

impl<'c> GroupChecker<'c> {
    pub(super) fn new(
        index: u8,
        name: &str,
        promises: &'c Promises,
        published: &'c Published,
        world: &'c World,
    ) -> Self {
        GroupChecker {
            index,
            promises,
            published,
            world,
            marks: published.lengths().map(|length| vec![Mark::default(); length]).collect(),
            holders: Vec::new(),
            places: HashMap::new(),
            lying: HashMap::new(),
            failed: HashMap::new(),
            begin: None,
            stops: Vec::new(),
            report: GroupReport { name: name.to_owned(), ..GroupReport::default() },
        }
    }

    pub(super) fn step(&mut self, actor: ActorName, record: &Record) {
        let begin = *self.begin.get_or_insert(record.time);
        if actor == ActorName::Conductor {
            match record.kind {
                Kind::Dead if record.detail == self.index => self.dead_letter(record),
                Kind::Leftover if record.detail == self.index => self.note(Example::Leftover, record),
                _ => {}
            }
            return;
        }
        let holder = self.holder(actor);
        let millis = (record.time.saturating_sub(begin) / 1_000_000) as u32;
        match record.kind {
            Kind::Received => {
                self.lying.entry((holder, record.message)).or_insert((record.time, 0)).1 += 1;
            }
            Kind::Delivered => self.delivered(holder, millis, record),
            Kind::Foreign => self.note(Example::Invented, record),
            Kind::Altered => self.note(Example::Altered, record),
            Kind::Handled => self.change(record, |mark| {
                (mark.state, mark.flags) = (State::Handled, mark.flags | HANDLED);
            }),
            Kind::Failed => self.failed(holder, record),
            Kind::Settled => self.change(record, |mark| {
                // Of what somebody else has by now it says nothing.
                if mark.holder == holder {
                    (mark.state, mark.millis) = (State::Settled, millis);
                }
            }),
            Kind::Unsettled => self.change(record, |mark| mark.flags |= VERDICT_REFUSED),
            Kind::Lost => self.holders[usize::from(holder)].lost = record.time,
            Kind::Stopped => self.stops.push(Duration::from_millis(record.extra.into())),
            _ => {}
        }
    }

    fn holder(&mut self, actor: ActorName) -> u16 {
        *self.places.entry(actor).or_insert_with(|| {
            self.holders.push(Holder { code: actor.code(), lost: 0 });
            (self.holders.len() - 1) as u16
        })
    }

    fn mark(&mut self, message: MessageRef) -> Option<&mut Mark> {
        self.marks.get_mut(usize::from(message.publisher))?.get_mut(message.number as usize)
    }

    fn seen(&self, message: MessageRef) -> Mark {
        let own = self.marks.get(usize::from(message.publisher));
        own.and_then(|own| own.get(message.number as usize)).copied().unwrap_or_default()
    }

    fn change(&mut self, record: &Record, change: impl FnOnce(&mut Mark)) {
        // What has no mark was told of when it was delivered.
        if let Some(mark) = self.mark(record.message) {
            change(mark);
        }
    }

    fn delivered(&mut self, holder: u16, millis: u32, record: &Record) {
        let outcome = self.published.outcome(record.message);
        let received = self.take_up(holder, record);
        match outcome {
            Outcome::Unsent => return self.note(Example::Invented, record),
            Outcome::Refused => self.note(Example::Refused, record),
            Outcome::Taken | Outcome::Uncertain => {}
        }
        let before = self.seen(record.message);
        match before.state {
            State::Unseen => self.first_delivery(outcome, record),
            _ if record.detail == 1 => self.report.redriven += 1,
            State::Failed => self.report.retries += 1,
            _ => self.again(before, outcome, holder, received, record),
        }
        self.change(record, |mark| {
            mark.state = State::InHand;
            (mark.holder, mark.millis, mark.position) = (holder, millis, record.extra);
            mark.attempt = record.attempt;
            mark.flags &= !VERDICT_REFUSED;
        });
    }

    /// When a holder received what its handler gets now.
    fn take_up(&mut self, holder: u16, record: &Record) -> u64 {
        let lying = (holder, record.message);
        let failed = self.failed.remove(&lying);
        // A retry within the worker was received once, before it failed.
        let Some((received, count)) = self.lying.get_mut(&lying) else {
            return failed.unwrap_or(record.time);
        };
        let received = *received;
        *count -= 1;
        if *count == 0 {
            self.lying.remove(&lying);
        }
        received
    }

    fn first_delivery(&mut self, outcome: Outcome, record: &Record) {
        if outcome != Outcome::Taken {
            self.report.delivered_uncertain += 1;
            return;
        }
        self.report.delivered += 1;
        if !self.promises.ordered {
            return;
        }
        let Some(previous) = self.published.previous(record.message) else { return };
        let previous = self.seen(previous);
        if previous.state == State::Unseen && !previous.is_done() {
            self.note(Example::OutOfOrder, record);
        } else if !previous.is_done() && !previous.has(ABORTED) {
            self.note(Example::Overtaking, record);
        }
    }

    fn again(&mut self, before: Mark, outcome: Outcome, holder: u16, received: u64, record: &Record) {
        let cause = match before.state {
            State::Settled => self.cause_after_settled(before, outcome, holder, received, record),
            _ => self.cause(before, outcome, record),
        };
        *self.report.duplicates.entry(cause).or_default() += 1;
        match cause {
            Cause::AckIgnored => self.note(Example::AckIgnored, record),
            Cause::Unexplained => self.note(Example::Unexplained, record),
            _ => {}
        }
    }

    fn time(&self, millis: u32) -> u64 {
        self.begin.unwrap_or(0) + u64::from(millis) * 1_000_000
    }

    /// What could have moved a delivery from one holder to another between these times.
    fn moving(&self, from: u64, to: u64) -> Option<Fault> {
        self.world.moving_between(from, to, self.promises.aftermath.as_nanos() as u64)
    }

    /// Of what was delivered again after its acknowledgement was taken.
    fn cause_after_settled(
        &self,
        before: Mark,
        outcome: Outcome,
        holder: u16,
        received: u64,
        record: &Record,
    ) -> Cause {
        let settled = self.time(before.millis);
        // Handed out before the acknowledged one was: it says so itself, or was written down as received.
        let stale = received < settled || record.attempt < before.attempt;
        let ended = self.world.ended_by(self.holders[usize::from(before.holder)].code, record.time);
        match self.moving(settled.min(received), record.time) {
            // It had lain here since before, and was taken from here meanwhile.
            Some(fault) if stale => Cause::Moved(fault),
            _ if stale && self.holders[usize::from(holder)].lost >= received => Cause::ConsumerLost,
            _ if before.position != record.extra => Cause::StoredTwice,
            _ if outcome == Outcome::Uncertain => Cause::Uncertain,
            moved if !self.promises.acks_hold && (moved.is_some() || ended.is_some()) => Cause::AckAtRisk,
            _ => Cause::AckIgnored,
        }
    }

    fn cause(&self, before: Mark, outcome: Outcome, record: &Record) -> Cause {
        let since = self.time(before.millis);
        let moved = self.moving(since, record.time);
        let holder = &self.holders[usize::from(before.holder)];
        let twice = before.position != record.extra;
        match self.world.ended_by(holder.code, record.time) {
            Some(Ending::Killed) => return Cause::Killed,
            Some(Ending::Crashed) => return Cause::Crashed,
            Some(Ending::Stopped) => return Cause::Stopped,
            None => {}
        }
        match moved {
            _ if twice => Cause::StoredTwice,
            _ if holder.lost >= since => Cause::ConsumerLost,
            _ if before.has(VERDICT_REFUSED) => Cause::VerdictRefused,
            Some(fault) => Cause::Moved(fault),
            None if outcome == Outcome::Uncertain => Cause::Uncertain,
            None => Cause::Unexplained,
        }
    }

    fn failed(&mut self, holder: u16, record: &Record) {
        let given_up = record.detail == Failing::Reject as u8 || record.attempt >= self.promises.attempts;
        if !given_up {
            self.failed.insert((holder, record.message), record.time);
        }
        let aborted = record.detail == Failing::Abort as u8;
        self.change(record, |mark| {
            mark.state = State::Failed;
            if aborted {
                mark.flags |= ABORTED;
            } else if given_up {
                mark.flags |= REJECTED;
            }
        });
    }

    fn dead_letter(&mut self, record: &Record) {
        let mark = self.seen(record.message);
        match () {
            () if self.published.outcome(record.message) == Outcome::Unsent => {
                self.note(Example::Invented, record);
            }
            () if mark.has(DEAD) => self.report.dead.twice += 1,
            () if mark.has(REJECTED | ABORTED) => self.report.dead.found += 1,
            () => {
                self.report.dead.unasked += 1;
                self.note(Example::DeadUnasked, record);
            }
        }
        // Redriven, it has to be handled anew.
        self.change(record, |mark| mark.flags = (mark.flags | DEAD) & !HANDLED);
    }

    fn note(&mut self, what: Example, record: &Record) {
        self.report.note(what, record.message, record.time);
    }

    pub(super) fn finish(mut self, stops: &mut StopReport) -> GroupReport {
        stops.count += self.stops.len() as u64;
        stops.longest = self.stops.iter().copied().fold(stops.longest, Duration::max);
        stops.late += self.stops.iter().filter(|stop| **stop > self.promises.stop_within).count() as u64;
        let published = self.published;
        for message in published.taken() {
            self.end_of(message);
        }
        self.report
    }

    fn end_of(&mut self, message: MessageRef) {
        let mark = self.seen(message);
        let DeadReport { rejected, missing, not_redriven, .. } = &mut self.report.dead;
        if mark.has(REJECTED | ABORTED) {
            *rejected += 1;
        }
        let fault = if mark.state == State::Unseen && !mark.has(DEAD) {
            Example::Lost
        } else if mark.has(REJECTED | ABORTED) && !mark.has(DEAD | HANDLED) {
            *missing += 1;
            Example::DeadMissing
        } else if mark.has(DEAD) && self.world.redriven && !mark.has(HANDLED) {
            *not_redriven += 1;
            Example::NotRedriven
        } else if !mark.is_done() {
            Example::Unfinished
        } else {
            return;
        };
        match fault {
            Example::Lost | Example::Unfinished | Example::DeadMissing if !self.promises.to_the_end => {
                self.report.backlog += 1
            }
            fault => self.report.note(fault, message, 0),
        }
    }
}
