//! How receives adapt, and what is in hand.

use super::*;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{Message, Position, Timestamp, Token};
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(30);

fn delivery(number: u64) -> Delivery {
    let attributes = Attributes { source: "/s".into(), event: "a:b".into(), content_type: "x".into() };
    let time = Timestamp::from_micros(1);
    Delivery {
        message: Message::new("x", IdSource::new().next(time), time, Arc::new(attributes)),
        attempt: 1,
        position: Position::Sequence(number),
        token: Token::Numbers(1, number),
    }
}

/// A receive that brings `got` of `asked`.
fn bring(hand: &mut Hand, asked: usize, got: usize, group: Option<&str>, now: Instant) {
    hand.polled(asked, Ok(got));
    for _ in 0..got {
        let number = hand.number();
        let receipt = format!("r-{number}").into();
        let group = group.map(Into::into);
        let held = Held { receipt, group, expires: now + LEASE, since: now, doubtful: false };
        hand.add(number, held, delivery(number));
    }
}

#[test]
fn receives_double_under_load_and_come_down_to_one() {
    let full = Polled::Messages { asked: 10, got: 10 };
    let grown = (0..6).fold(1, |target, _| adapt(target, full));
    assert_eq!(grown, MAX_POLLS);
    assert_eq!(adapt(8, Polled::Messages { asked: 10, got: 5 }), 8);
    assert_eq!(adapt(8, Polled::Messages { asked: 10, got: 4 }), 4);
    assert_eq!(adapt(8, Polled::Messages { asked: 10, got: 0 }), 1);
    assert_eq!(adapt(8, Polled::Failed), 1);
    assert_eq!(adapt(1, Polled::Messages { asked: 10, got: 1 }), 1);
}

#[tokio::test]
async fn an_empty_queue_has_one_receive_at_a_time() {
    let (mut hand, now) = (Hand::new(256), Instant::now());
    for _ in 0..5 {
        assert_eq!(hand.plan(256, now), [10]);
        assert!(hand.plan(256, now).is_empty());
        bring(&mut hand, 10, 0, None, now);
    }
}

#[tokio::test]
async fn no_more_is_asked_for_than_there_is_room() {
    let (mut hand, now) = (Hand::new(24), Instant::now());
    assert_eq!(hand.plan(24, now), [10]);
    bring(&mut hand, 10, 10, None, now);
    assert_eq!(hand.take(24, now).len(), 10);
    assert_eq!(hand.plan(24, now), [10]);
    bring(&mut hand, 10, 10, None, now);
    assert_eq!(hand.take(24, now).len(), 10);
    assert_eq!(hand.plan(24, now), [4]);
    bring(&mut hand, 4, 4, None, now);
    assert!(hand.plan(24, now).is_empty());
    assert_eq!(hand.take(24, now).len(), 4);
    assert!(hand.plan(24, now).is_empty());
    assert!(matches!(hand.begin(1, now), Found::Held(_)));
    assert!(hand.plan(24, now).is_empty(), "SQS has not heard of it yet");
    hand.settled(1, true);
    assert_eq!(hand.plan(24, now), [1]);
}

#[tokio::test]
async fn what_its_lease_left_is_not_handed_out_and_makes_room() {
    let (mut hand, now) = (Hand::new(10), Instant::now());
    hand.plan(10, now);
    bring(&mut hand, 10, 10, None, now);
    assert_eq!(hand.take(5, now).len(), 5);
    let later = now + LEASE;
    assert!(matches!(hand.begin(1, later), Found::Lost));
    assert!(hand.take(5, later).is_empty());
    assert_eq!(hand.plan(10, later).iter().sum::<usize>(), 10);
}

#[tokio::test]
async fn later_messages_of_a_group_go_back_with_an_earlier_one() {
    let (mut hand, now) = (Hand::new(20), Instant::now());
    hand.plan(20, now);
    bring(&mut hand, 10, 3, Some("a"), now);
    hand.plan(20, now);
    bring(&mut hand, 10, 1, Some("b"), now);
    assert_eq!(hand.take(1, now).len(), 1);
    let Found::Held(held) = hand.begin(1, now) else { panic!("not held") };
    let recalled: Vec<u64> =
        hand.recall(&held.group.unwrap()).into_iter().map(|(number, _)| number).collect();
    assert_eq!(recalled, [2, 3]);
    assert_eq!(hand.take(10, now).len(), 1, "the other group stays");
}

/// A hand with so many handed out.
fn hand_with(count: usize, now: Instant) -> Hand {
    let mut hand = Hand::new(count);
    hand.plan(count, now);
    bring(&mut hand, count, count, None, now);
    assert_eq!(hand.take(count, now).len(), count);
    hand
}

#[tokio::test]
async fn settling_twice_is_known() {
    let now = Instant::now();
    let mut hand = hand_with(2, now);
    assert!(matches!(hand.begin(1, now), Found::Held(_)));
    assert!(matches!(hand.begin(1, now), Found::BeingTold));
    let (mut tickets, answer) = crate::answer::call(1);
    hand.join(1, tickets.next().unwrap());
    hand.settled(1, true).into_iter().for_each(|ticket| ticket.answer(Ok(())));
    assert!(answer.wait().await[0].is_ok());
    assert!(matches!(hand.begin(1, now), Found::Settled));
    assert!(matches!(hand.begin(2, now), Found::Held(_)));
    hand.settled(2, false);
    assert!(matches!(hand.begin(2, now), Found::Lost), "SQS refused it for good");
    assert!(matches!(hand.begin(7, now), Found::Lost));
}

#[tokio::test]
async fn what_was_lost_or_went_back_is_not_settled() {
    let now = Instant::now();
    let mut hand = hand_with(4, now);
    hand.lost(1);
    assert!(matches!(hand.begin(1, now), Found::Lost));
    hand.renewed(2, now + LEASE * 3);
    // Makes room of what its lease left.
    hand.plan(4, now + LEASE);
    assert!(matches!(hand.begin(3, now), Found::Lost));
    assert!(matches!(hand.begin(2, now), Found::Held(held) if !held.doubtful));
    let mut hand = hand_with(1, now);
    assert_eq!(hand.clear().len(), 1);
    assert!(matches!(hand.begin(1, now), Found::Lost));
    hand.released();
    assert!(matches!(hand.begin(1, now), Found::Lost));
    assert_eq!(hand.plan(1, now), [1]);
}

#[tokio::test]
async fn what_was_settled_long_ago_is_forgotten() {
    let now = Instant::now();
    let mut hand = Hand::new(1);
    for number in 1..=REMEMBERED as u64 + 1 {
        hand.plan(1, now);
        bring(&mut hand, 1, 1, None, now);
        hand.take(1, now);
        assert!(matches!(hand.begin(number, now), Found::Held(_)));
        hand.settled(number, true);
    }
    assert_eq!(hand.settled.len(), REMEMBERED);
    assert!(matches!(hand.begin(1, now), Found::Lost));
    assert!(matches!(hand.begin(2, now), Found::Settled));
}

#[tokio::test]
async fn what_was_not_taken_is_not_renewed_and_may_be_settled_until_its_lease_ends() {
    let now = Instant::now();
    let mut hand = hand_with(1, now);
    assert_eq!(hand.due(LEASE, now), [1]);
    let Found::Held(held) = hand.begin(1, now) else { panic!("not held") };
    hand.keep(1, held);
    assert!(hand.due(LEASE, now).is_empty() && hand.begin_renewal(&[1], LEASE, now).is_empty());
    let Found::Held(held) = hand.begin(1, now) else { panic!("not held") };
    hand.keep(1, held);
    assert!(matches!(hand.begin(1, now + LEASE), Found::Lost));
}

#[tokio::test]
async fn what_was_settled_is_not_renewed_and_a_delay_that_a_renewal_may_undo_is_known() {
    let now = Instant::now();
    let mut hand = hand_with(3, now);
    assert!(matches!(hand.begin(3, now), Found::Held(_)));
    let renewals = hand.begin_renewal(&[1, 2, 3], LEASE, now);
    assert_eq!(renewals.iter().map(|renewal| renewal.number).collect::<Vec<_>>(), [1, 2]);
    assert!(hand.begin_renewal(&[1, 2], LEASE, now).is_empty(), "it is under way");
    let Found::Held(held) = hand.begin(1, now) else { panic!("not held") };
    let delay = Duration::from_secs(300);
    hand.hide(1, &held, delay, now);
    hand.settled(1, true);
    let undone = hand.renewals_over(&renewals);
    assert_eq!(
        undone.iter().map(|hidden| (hidden.number, hidden.until)).collect::<Vec<_>>(),
        [(1, now + delay)]
    );
    assert!(hand.renewing.is_empty());
}

#[tokio::test]
async fn a_lease_is_renewed_to_the_end_of_the_twelve_hours_and_not_beyond() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (now, lease) = (Instant::now(), HOUR * 9);
    let mut hand = hand_with(1, now);
    hand.renewed(1, now + lease);
    let mut renew_at = |hours| {
        let now = now + HOUR * hours;
        let due = hand.due(lease * 5 / 6, now);
        let renewals = hand.begin_renewal(&due, lease, now);
        renewals.iter().for_each(|renewal| hand.renewed(renewal.number, now + renewal.lease));
        hand.renewals_over(&renewals);
        renewals.first().map(|renewal| renewal.lease)
    };
    assert_eq!(renew_at(3), Some(lease - MOMENT));
    assert_eq!(renew_at(6), None, "it cannot be longer");
    assert_eq!(renew_at(9), None);
    assert!(matches!(hand.begin(1, now + HOUR * 12 - MOMENT * 2), Found::Held(_)));
}

proptest! {
    #[test]
    fn the_bound_holds_whatever_happens(bound in 1..40_usize, steps in proptest::collection::vec((0..4_u8, 0..40_usize), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut hand, now) = (Hand::new(bound), Instant::now());
            let (mut polls, mut out): (Vec<usize>, Vec<u64>) = (Vec::new(), Vec::new());
            for (step, n) in steps {
                match step {
                    0 => polls.extend(hand.plan(n, now)),
                    1 => if let Some(asked) = polls.pop() { bring(&mut hand, asked, n.min(asked), None, now) },
                    2 => out.extend(hand.take(n, now).into_iter().map(|delivery| match delivery.token {
                        Token::Numbers(_, number) => number,
                        Token::Text(_) => 0,
                    })),
                    _ => if let Some(number) = out.pop() {
                        assert!(matches!(hand.begin(number, now), Found::Held(_)));
                        hand.settled(number, true);
                    },
                }
                assert!(out.len() + hand.buffer.len() + polls.iter().sum::<usize>() <= bound);
                assert!(polls.len() <= MAX_POLLS);
            }
        });
    }
}
