//! What waits to be sent, and which of it makes the next request.
//!
//! A request holds ten messages and 1 MiB. Of a standard queue the next ones are simply the first; of a FIFO queue
//! those of one message group are never in two requests at once, so that none overtakes another:
//!
//! ```text
//!  push ─▶ group a: [1 2 3]   ready  ─┐
//!          group b: [1]       ready  ─┴─▶ take: a1 a2 a3 b1        done(a, b) makes them ready again
//!          group c: [4 5]     under way
//! ```

use crate::answer::Ticket;
use crate::message::{MAX_REQUEST_BYTES, Outgoing};
use ductape_core::Position;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The most entries of a request.
pub(crate) const MAX_ENTRIES: usize = 10;

/// A message that waits, and who waits for it.
pub(crate) struct Waiting {
    pub(crate) message: Outgoing,
    pub(crate) ticket: Ticket<Position>,
}

/// What makes one request, and the groups that are under way with it.
pub(crate) struct Batch {
    pub(crate) messages: Vec<Waiting>,
    pub(crate) groups: Vec<Arc<str>>,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Of a standard queue: all of it.
    plain: VecDeque<Waiting>,
    /// Of a FIFO queue: the groups of which anything waits or is under way.
    groups: HashMap<Arc<str>, Group>,
    /// Groups with something that may go now.
    ready: VecDeque<Arc<str>>,
    len: usize,
    ready_len: usize,
    ready_bytes: usize,
}

#[derive(Default)]
struct Group {
    waiting: VecDeque<Waiting>,
    under_way: bool,
}

impl Outbox {
    /// All that waits.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether anything may go now.
    pub(crate) fn has_any(&self) -> bool {
        self.ready_len > 0
    }

    /// Whether what may go now fills a request.
    pub(crate) fn has_full(&self) -> bool {
        self.ready_len >= MAX_ENTRIES || self.ready_bytes > MAX_REQUEST_BYTES
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.len += 1;
        let bytes = waiting.message.bytes;
        match waiting.message.group.clone() {
            None => self.plain.push_back(waiting),
            Some(name) => {
                let group = self.groups.entry(Arc::clone(&name)).or_default();
                let first = group.waiting.is_empty();
                group.waiting.push_back(waiting);
                if group.under_way {
                    return;
                }
                if first {
                    self.ready.push_back(name);
                }
            }
        }
        self.ready_len += 1;
        self.ready_bytes += bytes;
    }

    /// The next request, or `None` where nothing may go now. What nobody waits for any more is left out.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let mut batch = Batch { messages: Vec::with_capacity(MAX_ENTRIES), groups: Vec::new() };
        let mut filled = Filled::default();
        filled.fill(&mut batch.messages, &mut self.plain);
        while batch.messages.len() < MAX_ENTRIES
            && let Some(name) = self.ready.pop_front()
        {
            let before = batch.messages.len();
            let Some(group) = self.groups.get_mut(&name) else { continue };
            filled.fill(&mut batch.messages, &mut group.waiting);
            if batch.messages.len() == before {
                if group.waiting.is_empty() {
                    // Nobody waited for any of it.
                    self.groups.remove(&name);
                    continue;
                }
                // Its first does not fit any more.
                self.ready.push_front(name);
                break;
            }
            // What is left of it waits until this is answered.
            group.under_way = true;
            self.ready_len -= group.waiting.len();
            self.ready_bytes -= group.waiting.iter().map(|waiting| waiting.message.bytes).sum::<usize>();
            batch.groups.push(name);
        }
        let left = batch.messages.len() + filled.dropped;
        self.len -= left;
        self.ready_len -= left;
        self.ready_bytes -= filled.bytes + filled.dropped_bytes;
        (!batch.messages.is_empty()).then_some(batch)
    }

    /// A request with these groups was answered.
    pub(crate) fn done(&mut self, groups: Vec<Arc<str>>) {
        for name in groups {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            group.under_way = false;
            if group.waiting.is_empty() {
                self.groups.remove(&name);
                continue;
            }
            self.ready_len += group.waiting.len();
            self.ready_bytes += group.waiting.iter().map(|waiting| waiting.message.bytes).sum::<usize>();
            self.ready.push_back(name);
        }
    }
}

/// What went from the outbox: into a request, and nowhere.
#[derive(Default)]
struct Filled {
    bytes: usize,
    dropped: usize,
    dropped_bytes: usize,
}

impl Filled {
    /// Moves what fits, and drops what nobody waits for.
    fn fill(&mut self, batch: &mut Vec<Waiting>, waiting: &mut VecDeque<Waiting>) {
        while batch.len() < MAX_ENTRIES
            && let Some(next) = waiting.pop_front_if(|next| {
                self.bytes + next.message.bytes <= MAX_REQUEST_BYTES || !next.ticket.is_awaited()
            })
        {
            if next.ticket.is_awaited() {
                self.bytes += next.message.bytes;
                batch.push(next);
            } else {
                self.dropped += 1;
                self.dropped_bytes += next.message.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{self, Answer};
    use crate::message;
    use ductape_core::message::{Attributes, IdSource};
    use ductape_core::{Message, Timestamp};
    use proptest::prelude::*;

    /// A message that somebody waits for.
    fn waiting(key: Option<&str>, number: usize, bytes: usize, fifo: bool) -> Waiting {
        let (waiting, answer) = called(key, number, bytes, fifo);
        Box::leak(Box::new(answer));
        waiting
    }

    /// A message that is waited for until the answer is dropped.
    fn called(key: Option<&str>, number: usize, bytes: usize, fifo: bool) -> (Waiting, Answer<Position>) {
        let attributes = Attributes { source: "/s".into(), event: "a:b".into(), content_type: "x".into() };
        let time = Timestamp::from_micros(1);
        let mut body = format!("{number}:");
        body.push_str(&"x".repeat(bytes));
        let mut message = Message::new(body, IdSource::new().next(time), time, Arc::new(attributes));
        message.key = key.map(Into::into);
        let (mut tickets, answer) = answer::call(1);
        let message = message::write(&message, fifo).unwrap();
        (Waiting { message, ticket: tickets.next().unwrap() }, answer)
    }

    fn number(waiting: Waiting) -> usize {
        let entry = waiting.message.entry(0).unwrap();
        entry.message_body().split_once(':').unwrap().0.parse().unwrap()
    }

    fn numbers(batch: Batch) -> Vec<usize> {
        batch.messages.into_iter().map(number).collect()
    }

    #[test]
    fn a_request_ends_at_ten_or_at_its_bytes() {
        let mut outbox = Outbox::default();
        (0..23).for_each(|n| outbox.push(waiting(None, n, 1, false)));
        assert!(outbox.has_full());
        assert_eq!(numbers(outbox.take().unwrap()), (0..10).collect::<Vec<_>>());
        assert_eq!(outbox.take().unwrap().messages.len(), 10);
        assert!(!outbox.has_full() && outbox.has_any());
        assert_eq!(outbox.take().unwrap().messages.len(), 3);
        assert!(outbox.take().is_none() && outbox.len() == 0);
        (0..3).for_each(|n| outbox.push(waiting(None, n, 400_000, false)));
        assert!(outbox.has_full());
        assert_eq!(numbers(outbox.take().unwrap()), [0, 1]);
        assert_eq!(numbers(outbox.take().unwrap()), [2]);
    }

    #[test]
    fn a_group_is_in_one_request_at_a_time() {
        let mut outbox = Outbox::default();
        (0..12).for_each(|n| outbox.push(waiting(Some("a"), n, 1, true)));
        (12..15).for_each(|n| outbox.push(waiting(Some("b"), n, 1, true)));
        let first = outbox.take().unwrap();
        let groups = first.groups.clone();
        assert_eq!(numbers(first), (0..10).collect::<Vec<_>>());
        assert_eq!(numbers(outbox.take().unwrap()), [12, 13, 14]);
        outbox.push(waiting(Some("a"), 15, 1, true));
        assert!(!outbox.has_any());
        outbox.done(groups);
        assert_eq!(numbers(outbox.take().unwrap()), [10, 11, 15]);
    }

    #[test]
    fn what_nobody_waits_for_is_left_out() {
        for key in [None, Some("a")] {
            let (mut outbox, fifo) = (Outbox::default(), key.is_some());
            let mut push = |n, bytes| {
                let (waiting, answer) = called(key, n, bytes, fifo);
                outbox.push(waiting);
                answer
            };
            let answers: Vec<_> = (0..30).map(|n| push(n, 1)).collect();
            let large = push(30, 1_000_000);
            let kept: Vec<_> =
                answers.into_iter().enumerate().filter_map(|(n, a)| (n % 3 == 0).then_some(a)).collect();
            drop(large);
            assert_eq!(numbers(outbox.take().unwrap()), (0..30).step_by(3).collect::<Vec<_>>());
            outbox.done(vec!["a".into()]);
            assert!(outbox.take().is_none());
            assert_eq!((outbox.len(), outbox.ready_len, outbox.ready_bytes), (0, 0, 0));
            assert!(outbox.groups.is_empty(), "no group is kept for it");
            drop(kept);
        }
    }

    proptest! {
        #[test]
        fn every_group_leaves_in_its_order_and_nothing_is_left(
            pushes in proptest::collection::vec((0..5_usize, 0..300_000_usize, proptest::bool::weighted(0.8)), 1..80),
            answered in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let mut outbox = Outbox::default();
            let (mut under_way, mut left) = (VecDeque::new(), Vec::new());
            for (n, (key, bytes, awaited)) in pushes.iter().enumerate() {
                let (waiting, answer) = called(Some(&key.to_string()), n, *bytes, true);
                outbox.push(waiting);
                if *awaited {
                    Box::leak(Box::new(answer));
                }
            }
            for answer_first in answered.into_iter().chain(std::iter::repeat(true)) {
                if answer_first && let Some(groups) = under_way.pop_front() {
                    outbox.done(groups);
                }
                match outbox.take() {
                    Some(batch) => {
                        prop_assert!(batch.messages.len() <= MAX_ENTRIES);
                        prop_assert!(under_way.iter().flatten().all(|group| !batch.groups.contains(group)));
                        under_way.push_back(batch.groups.clone());
                        left.extend(numbers(batch));
                    }
                    None if under_way.is_empty() => break,
                    None => {}
                }
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert_eq!((outbox.ready_len, outbox.ready_bytes), (0, 0));
            for key in 0..5 {
                let of_key = |n: &&usize| pushes[**n].0 == key;
                let order: Vec<_> = left.iter().filter(of_key).collect();
                prop_assert!(order.is_sorted(), "{order:?}");
            }
            prop_assert!(left.iter().all(|n| pushes[*n].2));
            prop_assert_eq!(left.len(), pushes.iter().filter(|(_, _, awaited)| *awaited).count());
        }
    }
}
