//! The messages of one destination, each kept once until every group has settled it.

use crate::message::Entry;
use crate::ring::Ring;
use ductape_core::config::MemoryConfig;
use ductape_core::{Key, Message};
use std::collections::VecDeque;
use std::ops::Range;
use std::vec::IntoIter;

/// The bounds of a destination, as the config says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most messages that some group has not settled.
    pub(crate) max_messages: usize,
    /// The most bytes of such.
    pub(crate) max_bytes: usize,
    /// How many messages are kept after all groups have settled them.
    pub(crate) retain: usize,
}

impl From<&MemoryConfig> for Limits {
    fn from(config: &MemoryConfig) -> Self {
        Limits {
            max_messages: config.max_messages,
            max_bytes: config.max_bytes,
            retain: config.retain_messages,
        }
    }
}

/// The log of a destination.
pub(crate) struct Log {
    entries: Ring<Entry>,
    limits: Limits,
    /// Messages that some group has not settled, and their bytes.
    owed_messages: usize,
    owed_bytes: usize,
    /// Numbers of the messages that are kept although all groups have settled them, oldest settled first.
    retained: VecDeque<u64>,
    retained_bytes: usize,
}

impl Log {
    /// An empty log. Messages are numbered from 1.
    pub(crate) fn new(limits: Limits) -> Self {
        Log {
            entries: Ring::starting_at(1),
            limits,
            owed_messages: 0,
            owed_bytes: 0,
            retained: VecDeque::new(),
            retained_bytes: 0,
        }
    }

    /// The bounds that it was made with.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The number that the next message gets.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.entries.next()
    }

    /// Appends messages until one has no room, for so many groups to settle, and gives their numbers.
    pub(crate) fn append(&mut self, batch: &mut IntoIter<Message>, groups: u32) -> Range<u64> {
        let (count, bytes) = self.fitting(batch.as_slice());
        let first = self.next();
        self.entries.extend(count, batch.map(|message| Entry { message, owed: groups }));
        self.owed_messages += count;
        self.owed_bytes += bytes;
        if groups == 0 {
            (first..self.next()).for_each(|number| self.forget(number));
        }
        first..self.next()
    }

    /// How many of these messages have room, and their bytes.
    fn fitting(&self, batch: &[Message]) -> (usize, usize) {
        let room = self.limits.max_messages.saturating_sub(self.owed_messages);
        let room_bytes = self.limits.max_bytes.saturating_sub(self.owed_bytes);
        let (mut count, mut bytes) = (0, 0_usize);
        for message in batch.iter().take(room) {
            let with_this = bytes.saturating_add(message.size());
            if with_this > room_bytes {
                break;
            }
            (count, bytes) = (count + 1, with_this);
        }
        (count, bytes)
    }

    /// The message under this number, while it is kept.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&Message> {
        self.entries.get(number).map(|entry| &entry.message)
    }

    /// The key of the message under this number.
    #[inline]
    pub(crate) fn key(&self, number: u64) -> Option<&Key> {
        self.get(number)?.key.as_ref()
    }

    /// What is kept from this number on, for a while, gaps included: all in one piece of memory.
    #[inline]
    pub(crate) fn part(&self, number: u64) -> &[Option<Entry>] {
        self.entries.part(number)
    }

    /// One group has settled this message, which it owed.
    pub(crate) fn settled(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.owed -= 1;
        if entry.owed == 0 {
            self.forget(number);
        }
    }

    /// As [`Log::settled`], for numbers of one segment as long as `next` gives some.
    #[inline]
    pub(crate) fn settled_together(&mut self, number: u64, mut next: impl FnMut() -> Option<u64>) {
        if self.limits.retain > 0 {
            return std::iter::from_fn(next).for_each(|number| self.settled(number));
        }
        let Some(mut part) = self.entries.part_mut(number) else { return };
        let (mut messages, mut bytes) = (0, 0);
        while let Some(number) = next() {
            let dropped = part.drop_if(number, |entry| {
                entry.owed -= 1;
                bytes += if entry.owed == 0 { entry.message.size() } else { 0 };
                entry.owed == 0
            });
            messages += usize::from(dropped);
        }
        self.owed_messages -= messages;
        self.owed_bytes -= bytes;
        self.entries.end_part(number);
    }

    /// A new group owes everything that is kept: gives the first number and how many there are.
    pub(crate) fn owe_all(&mut self) -> (u64, u64) {
        let kept: Vec<u64> = self.entries.iter_from(0).map(|(number, _)| number).collect();
        for &number in &kept {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.owed += 1;
            }
        }
        self.owed_messages += self.retained.len();
        self.owed_bytes += self.retained_bytes;
        self.retained.clear();
        self.retained_bytes = 0;
        (kept.first().copied().unwrap_or(self.next()), kept.len() as u64)
    }

    /// The numbers of what is kept from `number` on.
    pub(crate) fn numbers_from(&self, number: u64) -> Vec<u64> {
        self.entries.iter_from(number).map(|(number, _)| number).collect()
    }

    /// Messages kept and their bytes.
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.owed_messages + self.retained.len(), self.owed_bytes + self.retained_bytes)
    }

    /// No group owes this message any more: retention alone may keep it.
    fn forget(&mut self, number: u64) {
        let size = self.get(number).map_or(0, Message::size);
        self.owed_messages -= 1;
        self.owed_bytes -= size;
        if self.limits.retain == 0 {
            self.entries.take(number);
            return;
        }
        self.retained.push_back(number);
        self.retained_bytes += size;
        if self.retained.len() > self.limits.retain
            && let Some(entry) = self.retained.pop_front().and_then(|oldest| self.entries.take(oldest))
        {
            self.retained_bytes -= entry.message.size();
        }
    }
}
