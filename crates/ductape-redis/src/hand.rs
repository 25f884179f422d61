//! What a consumer has in hand: fetched, handed out and not settled, to be handed out again.

use crate::entry::StreamId;
use crate::open::Open;
use ductape_core::{Delivery, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// A delivery, and until when it is surely this consumer's. Of an elected member's the term decides until it is handed
/// out.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) delivery: Delivery,
    pub(crate) until: Instant,
}

/// Everything that the server counts as pending with this consumer.
#[derive(Debug)]
pub(crate) struct Hand {
    most: usize,
    /// Fetched, in the stream's order.
    ready: VecDeque<Held>,
    /// Handed out and not settled.
    open: Open,
    /// Settled as to be handed out again, which comes before all that is fetched.
    again: BTreeMap<StreamId, Held>,
    /// Acknowledged, and the server did not answer: how often each was handed out.
    unanswered: Vec<(StreamId, u32)>,
    /// Whether somebody waits for a delivery.
    pub(crate) is_asked: bool,
}

/// What a batch of settlements comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// With how often each was handed out, should the server not answer.
    pub(crate) acks: Vec<(StreamId, u32)>,
    /// Retries, by what the server's count is to be.
    pub(crate) counts: BTreeMap<u32, Vec<StreamId>>,
    /// Whether a lease may have run out, so that the server must be asked whose they are.
    pub(crate) is_doubtful: bool,
}

impl Hand {
    pub(crate) fn new(most: usize) -> Self {
        Hand {
            most: most.max(1),
            ready: VecDeque::new(),
            open: Open::default(),
            again: BTreeMap::new(),
            unanswered: Vec::new(),
            is_asked: false,
        }
    }

    /// How many more may be fetched.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.open.len() + self.again.len() + self.ready.len())
    }

    /// How many are worth a fetch now: whatever fits where somebody waits, and else a good part of the bound, so that
    /// the next are here before they are asked for.
    pub(crate) fn wanted(&self) -> usize {
        let room = self.room();
        let is_hungry = self.is_asked && self.ready.is_empty();
        if is_hungry || room >= self.most.div_ceil(2) { room } else { 0 }
    }

    pub(crate) fn fetched(&mut self, deliveries: impl IntoIterator<Item = Delivery>, until: Instant) {
        self.ready.extend(deliveries.into_iter().map(|delivery| Held { delivery, until }));
    }

    /// Hands out up to so many: first what comes again. What may be another's by now is let go; an elected member's is
    /// its own until the end of its `term`, whatever became of a lease in between: letting one go would hand out the next
    /// of its key first.
    pub(crate) fn take(&mut self, max: usize, now: Instant, term: Option<Instant>) -> Vec<Delivery> {
        let count = max.min(self.most.saturating_sub(self.open.len()));
        let mut taken = Vec::with_capacity(count.min(self.again.len() + self.ready.len()));
        while taken.len() < count {
            let next = match self.again.pop_first() {
                Some((_, held)) => Some(held),
                None => self.ready.pop_front(),
            };
            let Some(mut held) = next else { break };
            held.until = term.unwrap_or(held.until);
            if let Some(id) = StreamId::of_token(&held.delivery.token).filter(|_| held.until > now) {
                taken.push(held.delivery.clone());
                self.open.insert(id, held);
            }
        }
        taken
    }

    /// Takes settlements in: what the server is to be told of those in hand, and for each whether it was.
    pub(crate) fn settle(
        &mut self,
        batch: &[(Option<StreamId>, Verdict)],
        now: Instant,
    ) -> (Orders, Vec<bool>) {
        let mut orders = Orders::default();
        let mut settle_one = |(id, verdict): &(Option<StreamId>, Verdict)| {
            let Some(id) = *id else { return false };
            let Some(mut held) = self.open.remove(id) else { return false };
            orders.is_doubtful |= held.until <= now;
            match verdict {
                Verdict::Ack => orders.acks.push((id, held.delivery.attempt)),
                Verdict::Retry(_) => {
                    held.delivery.attempt = held.delivery.attempt.saturating_add(1);
                    orders.counts.entry(held.delivery.attempt).or_default().push(id);
                    self.again.insert(id, held);
                }
                Verdict::Release => {
                    self.again.insert(id, held);
                }
            }
            true
        };
        let known = batch.iter().map(&mut settle_one).collect();
        (orders, known)
    }

    /// Remembers acks of which the server may not know.
    pub(crate) fn unanswered(&mut self, acks: Vec<(StreamId, u32)>) {
        self.unanswered.extend(acks);
    }

    /// Lets go of what is another's.
    pub(crate) fn lose(&mut self, ids: impl IntoIterator<Item = StreamId>) {
        for id in ids {
            self.open.remove(id);
            self.again.remove(&id);
        }
    }

    /// Everything in hand, in the stream's order.
    pub(crate) fn ids(&self) -> Vec<StreamId> {
        let ready = self.ready.iter().filter_map(|held| StreamId::of_token(&held.delivery.token));
        let mut ids: Vec<_> = self.open.iter().map(|(id, _)| id).collect();
        ids.extend(self.again.keys().copied().chain(ready));
        ids.sort_unstable();
        ids
    }

    /// Of what the server was asked about, keeps what it said is this consumer's, until then. Both in the stream's
    /// order. What came meanwhile stays as it is.
    pub(crate) fn renewed(&mut self, asked: &[StreamId], owned: &[StreamId], until: Instant) {
        let mut keep = |held: &mut Held| {
            let Some(id) = StreamId::of_token(&held.delivery.token) else { return false };
            let is_owned = owned.binary_search(&id).is_ok();
            if is_owned {
                held.until = held.until.max(until);
            }
            is_owned || asked.binary_search(&id).is_err()
        };
        self.ready.retain_mut(&mut keep);
        self.open.retain(&mut keep);
        self.again.retain(|_, held| keep(held));
    }

    /// Renews what was handed out, where one lease stands for all.
    pub(crate) fn renewed_open(&mut self, until: Instant) {
        self.open.values_mut().for_each(|held| held.until = until);
    }

    /// Whether a handed-out delivery's lease has run out.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.open.iter().any(|(_, held)| held.until <= now)
    }

    pub(crate) fn holds(&self, id: StreamId) -> bool {
        self.open.contains(id)
            || self.again.contains_key(&id)
            || self.ready.iter().any(|held| StreamId::of_token(&held.delivery.token) == Some(id))
    }

    /// How many were fetched and never handed out.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn clear(&mut self) {
        self.unanswered.clear();
        self.ready.clear();
        self.open.clear();
        self.again.clear();
    }

    /// Of everything in hand, how often it has been handed out: what the server's count must be, so that the next
    /// member's attempt is the right one.
    pub(crate) fn counts(&self) -> Vec<(StreamId, u32)> {
        let open = self.open.iter().map(|(id, held)| (id, held.delivery.attempt));
        let waiting = self.again.values().chain(&self.ready).filter_map(|held| {
            let id = StreamId::of_token(&held.delivery.token)?;
            Some((id, held.delivery.attempt.saturating_sub(1)))
        });
        open.chain(waiting).chain(self.unanswered.iter().copied()).collect()
    }
}

/// Longer than anything here takes, and short enough to reckon with.
pub(crate) const LONGEST: Duration = Duration::from_secs(86_400 * 365);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ductape_core::message::Attributes;
    use ductape_core::{Message, MessageId, Timestamp};
    use std::sync::Arc;

    const LEASE: Duration = Duration::from_secs(30);

    pub(crate) fn id(number: u64) -> StreamId {
        StreamId { millis: number, number: 0 }
    }

    pub(crate) fn delivery(number: u64) -> Delivery {
        let attributes = Attributes { source: "s".into(), event: "e".into(), content_type: "t".into() };
        let id = id(number);
        Delivery {
            message: Message::new("x", MessageId::parse("m"), Timestamp::default(), Arc::new(attributes)),
            attempt: 1,
            position: id.position(),
            token: id.token(),
        }
    }

    fn hand(most: usize, fetched: u64, now: Instant) -> Hand {
        let mut hand = Hand::new(most);
        hand.fetched((1..=fetched).map(delivery), now + LEASE);
        hand
    }

    fn numbers(taken: &[Delivery]) -> Vec<u64> {
        taken.iter().filter_map(|delivery| StreamId::of_token(&delivery.token)).map(|id| id.millis).collect()
    }

    fn settle(hand: &mut Hand, number: u64, verdict: Verdict, now: Instant) -> (Orders, Vec<bool>) {
        hand.settle(&[(Some(id(number)), verdict)], now)
    }

    const RETRY: Verdict = Verdict::Retry(Duration::ZERO);

    #[test]
    fn what_is_tried_again_comes_before_what_is_fetched_in_its_old_order() {
        let now = Instant::now();
        let mut hand = hand(10, 5, now);
        assert_eq!(numbers(&hand.take(3, now, None)), [1, 2, 3]);
        settle(&mut hand, 3, RETRY, now);
        settle(&mut hand, 1, Verdict::Release, now);
        let again = hand.take(10, now, None);
        assert_eq!(numbers(&again), [1, 3, 4, 5]);
        assert_eq!([again[0].attempt, again[1].attempt], [1, 2]);
    }

    #[test]
    fn no_more_are_out_than_the_bound_allows() {
        let now = Instant::now();
        let mut hand = hand(2, 5, now);
        assert_eq!(hand.take(10, now, None).len(), 2);
        assert_eq!((hand.take(10, now, None).len(), hand.room()), (0, 0));
        settle(&mut hand, 1, Verdict::Ack, now);
        assert_eq!(numbers(&hand.take(10, now, None)), [3]);
    }

    #[test]
    fn a_verdict_counts_once_and_only_in_hand() {
        let now = Instant::now();
        let mut hand = hand(10, 2, now);
        hand.take(1, now, None);
        let (orders, known) = settle(&mut hand, 1, Verdict::Ack, now);
        assert_eq!((orders.acks, known), (vec![(id(1), 1)], vec![true]));
        for number in [1, 2, 9] {
            let (orders, known) = settle(&mut hand, number, Verdict::Ack, now);
            assert_eq!((orders, known), (Orders::default(), vec![false]), "{number}");
        }
    }

    #[test]
    fn what_may_be_anothers_is_not_handed_out_and_its_verdicts_are_doubtful() {
        let now = Instant::now();
        let mut hand = hand(10, 2, now);
        hand.take(1, now, None);
        let later = now + LEASE;
        assert!(hand.has_expired(later) && !hand.has_expired(now));
        assert!(hand.take(10, later, None).is_empty());
        assert!(settle(&mut hand, 1, Verdict::Ack, later).0.is_doubtful);
    }

    #[test]
    fn a_renewal_keeps_what_the_server_knows_and_what_came_since() {
        let now = Instant::now();
        let mut hand = hand(10, 2, now);
        hand.take(2, now, None);
        let asked = now + LEASE;
        let ids = hand.ids();
        // Claimed before and told after: with an older lease than the renewal gives.
        hand.fetched([delivery(3)], asked);
        hand.renewed(&ids, &[id(1)], asked + LEASE);
        assert!(hand.holds(id(1)) && !hand.holds(id(2)) && hand.holds(id(3)));
        assert!(!hand.has_expired(asked));
    }

    #[test]
    fn an_elected_members_retry_is_not_let_go_while_its_term_lasts() {
        let now = Instant::now();
        let mut hand = hand(10, 2, now);
        hand.take(1, now, Some(now + LEASE));
        let later = now + LEASE;
        settle(&mut hand, 1, RETRY, later);
        assert_eq!(numbers(&hand.take(2, later, Some(later + LEASE))), [1, 2]);
        assert!(!hand.has_expired(later));
    }

    #[test]
    fn everything_in_hand_is_told_in_the_streams_order() {
        let now = Instant::now();
        let mut hand = hand(10, 4, now);
        hand.take(3, now, None);
        settle(&mut hand, 2, RETRY, now);
        hand.fetched([delivery(0)], now + LEASE);
        assert_eq!(hand.ids(), [0, 1, 2, 3, 4].map(id));
    }

    #[test]
    fn the_counts_are_how_often_each_was_handed_out() {
        let now = Instant::now();
        let mut hand = hand(10, 4, now);
        hand.take(3, now, None);
        settle(&mut hand, 1, RETRY, now);
        settle(&mut hand, 2, Verdict::Release, now);
        let mut counts = hand.counts();
        counts.sort_unstable();
        assert_eq!(counts, [(id(1), 1), (id(2), 0), (id(3), 1), (id(4), 0)]);
    }

    #[test]
    fn a_bound_may_be_as_large_as_numbers_go() {
        assert_eq!(Hand::new(usize::MAX).wanted(), usize::MAX);
    }

    #[test]
    fn the_next_are_fetched_early_only_where_it_is_worth_it() {
        let now = Instant::now();
        let mut hand = hand(4, 3, now);
        hand.take(3, now, None);
        assert_eq!((hand.room(), hand.wanted()), (1, 0));
        hand.is_asked = true;
        assert_eq!(hand.wanted(), 1);
        hand.is_asked = false;
        settle(&mut hand, 1, Verdict::Ack, now);
        assert_eq!(hand.wanted(), 2);
    }
}
