//! What a consumer holds: messages that it received and has not handed out, those that it has and that are not
//! settled, and the room that is left.

use crate::answer::Ticket;
use ductape_core::{Delivery, Error};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most messages of one receive.
pub(crate) const MAX_RECEIVE: usize = 10;
/// The most receives under way at once.
const MAX_POLLS: usize = 16;
/// SQS hides a message for twelve hours in all.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(12 * 60 * 60);
/// The message was hidden a moment before this side knew of it.
const MOMENT: Duration = Duration::from_secs(10);
/// The last messages that were settled, of which it is known.
const REMEMBERED: usize = 1024;

/// A message that is this consumer's for now.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) receipt: Arc<str>,
    pub(crate) group: Option<Arc<str>>,
    /// When SQS gives it to another.
    pub(crate) expires: Instant,
    /// When it was received.
    pub(crate) since: Instant,
    /// A verdict on it was not taken. Nobody may be left who tells it again, so its lease is left to end.
    pub(crate) doubtful: bool,
}

impl Held {
    /// How long SQS can hide it from now on at most.
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        (LONGEST_LEASE - MOMENT).saturating_sub(now.saturating_duration_since(self.since))
    }

    /// Whether its lease is not over, and to be renewed before that.
    fn is_kept(&self, now: Instant) -> bool {
        !self.doubtful && self.expires > now && now + self.longest(now) > self.expires
    }
}

/// A lease that is renewed.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) number: u64,
    pub(crate) receipt: Arc<str>,
    /// For how long from now.
    pub(crate) lease: Duration,
}

/// What is to come again, not before some time.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) number: u64,
    pub(crate) held: Held,
    pub(crate) until: Instant,
}

/// What a token leads to.
pub(crate) enum Found {
    /// It is in hand, and is from now on with whoever settles it.
    Held(Held),
    /// SQS is being told of a verdict on it: [`Hand::join`] follows.
    BeingTold,
    /// It was settled before.
    Settled,
    /// Its lease ran out, it went back, or it is nobody's.
    Lost,
}

/// How a receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// With so many of those asked for.
    Messages { asked: usize, got: usize },
    /// Without an answer.
    Failed,
}

pub(crate) struct Hand {
    /// The most that may be out of SQS for this consumer.
    bound: usize,
    buffer: VecDeque<(u64, Delivery)>,
    /// All that is in hand, the buffer included, by number.
    held: HashMap<u64, Held>,
    /// What SQS is being told a verdict on, with those who settled it again meanwhile.
    told: HashMap<u64, Vec<Ticket<()>>>,
    /// How much is going back unsettled.
    releasing: usize,
    /// The last that SQS has a verdict on.
    settled: VecDeque<u64>,
    /// Whose leases are being renewed, with what a renewal may undo.
    renewing: HashMap<u64, Option<Hidden>>,
    /// What the receives under way may bring.
    reserved: usize,
    polls: usize,
    /// How many receives there may be at once, as the last ones showed.
    target: usize,
    next: u64,
    failed: Option<Error>,
}

impl Hand {
    pub(crate) fn new(bound: usize) -> Self {
        Hand {
            bound: bound.max(1),
            buffer: VecDeque::new(),
            held: HashMap::new(),
            told: HashMap::new(),
            releasing: 0,
            settled: VecDeque::new(),
            renewing: HashMap::new(),
            reserved: 0,
            polls: 0,
            target: 1,
            next: 1,
            failed: None,
        }
    }

    /// Takes up to `max` that wait to be handed out. What waited for longer than its lease is left to SQS.
    pub(crate) fn take(&mut self, max: usize, now: Instant) -> Vec<Delivery> {
        let mut taken = Vec::with_capacity(max.min(self.buffer.len()));
        while taken.len() < max
            && let Some((number, delivery)) = self.buffer.pop_front()
        {
            match self.held.get(&number) {
                Some(held) if held.expires > now => taken.push(delivery),
                _ => drop(self.held.remove(&number)),
            }
        }
        taken
    }

    /// How many messages each receive that should begin now asks for. They count as under way from here on.
    pub(crate) fn plan(&mut self, max: usize, now: Instant) -> Vec<usize> {
        if self.room() < MAX_RECEIVE {
            self.held.retain(|_, held| held.expires > now);
            self.buffer.retain(|(number, _)| self.held.contains_key(number));
        }
        let mut room = self.room().min(max.saturating_sub(self.reserved + self.buffer.len()));
        let mut polls = Vec::new();
        // A small receive costs as much as a full one, so it begins only where there is none.
        while self.polls < self.target && (room >= MAX_RECEIVE || room > 0 && self.polls == 0) {
            let ask = room.min(MAX_RECEIVE);
            room -= ask;
            self.reserved += ask;
            self.polls += 1;
            polls.push(ask);
        }
        polls
    }

    /// Whether as much is out of SQS as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.room() == 0
    }

    fn room(&self) -> usize {
        self.bound.saturating_sub(self.held.len() + self.told.len() + self.releasing + self.reserved)
    }

    /// A receive ended.
    pub(crate) fn polled(&mut self, asked: usize, outcome: Result<usize, Error>) {
        self.reserved -= asked;
        self.polls -= 1;
        let polled = match outcome {
            Ok(got) => {
                self.failed = None;
                Polled::Messages { asked, got }
            }
            Err(error) => {
                self.failed = Some(error);
                Polled::Failed
            }
        };
        self.target = adapt(self.target, polled);
    }

    /// Why the last receive failed, once.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// A number for what comes in.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn add(&mut self, number: u64, held: Held, delivery: Delivery) {
        self.held.insert(number, held);
        self.buffer.push_back((number, delivery));
    }

    /// Takes a delivery out of the hand to settle it. [`Hand::settled`] or [`Hand::keep`] follows.
    pub(crate) fn begin(&mut self, number: u64, now: Instant) -> Found {
        match self.held.remove(&number) {
            Some(held) if held.expires > now => {
                self.told.insert(number, Vec::new());
                Found::Held(held)
            }
            Some(_) => Found::Lost,
            None if self.told.contains_key(&number) => Found::BeingTold,
            None if self.settled.contains(&number) => Found::Settled,
            None => Found::Lost,
        }
    }

    /// Answers this with what SQS will have said to the verdict that it is being told.
    pub(crate) fn join(&mut self, number: u64, ticket: Ticket<()>) {
        if let Some(others) = self.told.get_mut(&number) {
            others.push(ticket);
        }
    }

    /// SQS has the verdict, or will not take it. Who settled it again is told too.
    pub(crate) fn settled(&mut self, number: u64, taken: bool) -> Vec<Ticket<()>> {
        if taken {
            self.settled.push_back(number);
            if self.settled.len() > REMEMBERED {
                self.settled.pop_front();
            }
        }
        self.told.remove(&number).unwrap_or_default()
    }

    /// SQS did not take the verdict, and it may be told again. Who settled it again is told too.
    pub(crate) fn keep(&mut self, number: u64, held: Held) -> Vec<Ticket<()>> {
        self.held.insert(number, Held { doubtful: true, ..held });
        self.told.remove(&number).unwrap_or_default()
    }

    /// SQS was told that one comes again unsettled.
    pub(crate) fn released(&mut self) {
        self.releasing -= 1;
    }

    /// Whether nothing is in hand that could be settled soon.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.len() == self.buffer.len()
    }

    /// Takes out of the buffer what must not be handed out before an earlier message of its group, which goes back.
    pub(crate) fn recall(&mut self, group: &Arc<str>) -> Vec<(u64, Held)> {
        let numbers: Vec<u64> = self.buffer.iter().map(|(number, _)| *number).collect();
        let of_group =
            |number: &u64| self.held.get(number).and_then(|held| held.group.as_ref()) == Some(group);
        let recalled: Vec<u64> = numbers.into_iter().filter(of_group).collect();
        self.buffer.retain(|(number, _)| !recalled.contains(number));
        self.let_go(recalled)
    }

    /// Takes out everything, for the close.
    pub(crate) fn clear(&mut self) -> Vec<(u64, Held)> {
        self.buffer.clear();
        let mut numbers: Vec<u64> = self.held.keys().copied().collect();
        // In the order they came, in which they are to come again.
        numbers.sort_unstable();
        self.let_go(numbers)
    }

    fn let_go(&mut self, numbers: Vec<u64>) -> Vec<(u64, Held)> {
        let held = numbers.into_iter().filter_map(|number| Some((number, self.held.remove(&number)?)));
        let held: Vec<_> = held.collect();
        self.releasing += held.len();
        held
    }

    /// What has less than this left of its lease, and is still ours.
    pub(crate) fn due(&self, left: Duration, now: Instant) -> Vec<u64> {
        let due = |held: &Held| held.expires <= now + left && held.is_kept(now);
        self.held.iter().filter(|(_, held)| due(held)).map(|(number, _)| *number).collect()
    }

    /// Begins to renew those of these that are in hand yet. [`Hand::renewals_over`] follows.
    pub(crate) fn begin_renewal(&mut self, numbers: &[u64], lease: Duration, now: Instant) -> Vec<Renewal> {
        let mut renewals = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let Some(held) = self.held.get(&number).filter(|held| held.is_kept(now)) else { continue };
            if let Entry::Vacant(free) = self.renewing.entry(number) {
                free.insert(None);
                let lease = lease.min(Duration::from_secs(held.longest(now).as_secs()));
                renewals.push(Renewal { number, receipt: Arc::clone(&held.receipt), lease });
            }
        }
        renewals
    }

    /// SQS is told to hide it for so long, which a renewal that is under way may undo.
    pub(crate) fn hide(&mut self, number: u64, held: &Held, delay: Duration, now: Instant) {
        if let Some(undone) = self.renewing.get_mut(&number) {
            let until = now.checked_add(delay);
            *undone = until.map(|until| Hidden { number, held: held.clone(), until });
        }
    }

    /// Renewals ended, somehow; what they may have undone.
    pub(crate) fn renewals_over(&mut self, renewals: &[Renewal]) -> Vec<Hidden> {
        renewals.iter().filter_map(|renewal| self.renewing.remove(&renewal.number)?).collect()
    }

    pub(crate) fn renewed(&mut self, number: u64, expires: Instant) {
        if let Some(held) = self.held.get_mut(&number) {
            held.expires = expires;
        }
    }

    /// It is another's by now.
    pub(crate) fn lost(&mut self, number: u64) {
        self.held.remove(&number);
        self.buffer.retain(|(other, _)| *other != number);
    }
}

/// How many receives there may be at once after one of `current` ended so: twice as many while they come back full,
/// half while they do not, one where there is nothing.
fn adapt(current: usize, polled: Polled) -> usize {
    match polled {
        Polled::Messages { asked, got } if got >= asked => (current * 2).min(MAX_POLLS),
        Polled::Messages { got: 0, .. } | Polled::Failed => 1,
        Polled::Messages { asked, got } if got * 2 >= asked => current,
        Polled::Messages { .. } => (current / 2).max(1),
    }
}

#[cfg(test)]
mod tests;
