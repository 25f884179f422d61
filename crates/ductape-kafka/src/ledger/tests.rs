//! The ledger by example, and by whatever proptest thinks of.

use super::*;
use ductape_core::message::{Attributes, MessageId};
use ductape_core::{Message, Position, Timestamp};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const NOW: Verdict = Verdict::Retry(Duration::ZERO);

fn delivery(epoch: u32, offset: i64) -> Delivery {
    let attributes = Attributes { source: "s".into(), event: "e".into(), content_type: "c".into() };
    let (id, time) = (MessageId::Text(offset.to_string().into()), Timestamp::default());
    Delivery {
        message: Message::new("x", id, time, Arc::new(attributes)),
        attempt: 1,
        position: Position::Partition { partition: 0, offset: offset.unsigned_abs() },
        token: token(epoch, offset),
    }
}

/// A ledger of one partition, epoch 1, whose first message is counted already.
fn ledger(offsets: &[i64]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.assign(1, 0, Mark::new(offsets[0], 0), false);
    for offset in offsets {
        ledger.take_in(1, *offset, delivery(1, *offset));
    }
    commit(&mut ledger);
    ledger
}

fn commit(ledger: &mut Ledger) -> Vec<Mark> {
    let due = ledger.to_commit();
    due.iter().for_each(|(epoch, _, mark)| ledger.committed(*epoch, mark.clone()));
    due.into_iter().map(|(_, _, mark)| mark).collect()
}

fn hand_out(ledger: &mut Ledger, max: usize) -> Vec<(i64, u32)> {
    let mut out = Vec::new();
    ledger.hand_out(max, &mut out);
    out.iter().map(|d| (parts(&d.token).unwrap().offset, d.attempt)).collect()
}

/// Settles these as they were handed out last.
fn settle(ledger: &mut Ledger, offsets: &[i64], verdict: Verdict) -> Settled {
    let of = |ledger: &mut Ledger, offset: i64| {
        let open = ledger.partitions.get_mut(&1).and_then(|partition| partition.open.get_mut(offset));
        Settlement { token: nth_token(&token(1, offset), open.map_or(1, |entry| entry.times)), verdict }
    };
    let batch: Vec<_> = offsets.iter().map(|offset| of(ledger, *offset)).collect();
    ledger.settle(&batch)
}

fn mark(ledger: &Ledger) -> (i64, u32) {
    let mark = ledger.partitions[&1].mark();
    (mark.offset, mark.attempts)
}

#[test]
fn the_watermark_is_the_first_that_is_open_whatever_offsets_are_missing() {
    let mut ledger = ledger(&[40, 41, 43, 44, 47]);
    assert_eq!(hand_out(&mut ledger, 9).len(), 5);
    assert!(settle(&mut ledger, &[44, 41], Verdict::Ack).moved.contains(&1));
    assert_eq!(mark(&ledger), (40, 1));
    assert!(settle(&mut ledger, &[40], Verdict::Ack).moved.contains(&1));
    assert_eq!(mark(&ledger), (43, 1));
    settle(&mut ledger, &[43, 47], Verdict::Ack);
    assert_eq!((mark(&ledger), ledger.open()), ((48, 0), 0));
}

#[test]
fn the_first_message_is_held_back_until_its_count_is_told() {
    let mut ledger = Ledger::default();
    ledger.assign(1, 0, Mark::new(7, 2), false);
    assert!(!ledger.is_due());
    ledger.take_in(1, 7, delivery(1, 7));
    ledger.take_in(1, 8, delivery(1, 8));
    assert!(ledger.holds_back(1) && hand_out(&mut ledger, 9).is_empty());
    assert_eq!(commit(&mut ledger), [Mark::new(7, 3)]);
    assert_eq!(hand_out(&mut ledger, 9), [(7, 3), (8, 1)]);
}

#[test]
fn a_count_belongs_to_its_offset_alone() {
    let mut ledger = Ledger::default();
    ledger.assign(1, 0, Mark::new(7, 2), false);
    // 7 is gone from the topic.
    ledger.take_in(1, 9, delivery(1, 9));
    commit(&mut ledger);
    assert_eq!(hand_out(&mut ledger, 9), [(9, 1)]);
}

#[test]
fn a_retry_counts_and_a_release_does_not_and_both_come_before_what_is_behind_them() {
    let mut ledger = ledger(&[1, 2, 3]);
    assert_eq!(hand_out(&mut ledger, 2), [(1, 1), (2, 1)]);
    settle(&mut ledger, &[2], Verdict::Release);
    settle(&mut ledger, &[1], NOW);
    assert_eq!(mark(&ledger), (1, 1));
    assert_eq!(hand_out(&mut ledger, 9), [(1, 2), (2, 1), (3, 1)]);
    assert_eq!((mark(&ledger), ledger.is_due()), ((1, 2), true));
}

#[test]
fn settling_twice_changes_nothing_and_neither_does_a_verdict_on_what_waits() {
    let mut ledger = ledger(&[1, 2]);
    hand_out(&mut ledger, 9);
    settle(&mut ledger, &[1], Verdict::Ack);
    commit(&mut ledger);
    for verdict in [Verdict::Ack, NOW, Verdict::Release] {
        let again = settle(&mut ledger, &[1], verdict);
        assert!(again.results[0].is_ok() && again.moved.is_empty());
    }
    settle(&mut ledger, &[2], NOW);
    settle(&mut ledger, &[2], Verdict::Ack);
    assert_eq!(hand_out(&mut ledger, 9), [(2, 2)]);
}

#[test]
fn an_ack_told_again_holds_once_the_cluster_has_it() {
    let mut ledger = ledger(&[1, 2, 3, 4]);
    hand_out(&mut ledger, 9);
    for offsets in [[1], [3]] {
        settle(&mut ledger, &offsets, Verdict::Ack);
        assert!(settle(&mut ledger, &offsets, Verdict::Ack).moved.contains(&1));
        commit(&mut ledger);
        assert!(settle(&mut ledger, &offsets, Verdict::Ack).moved.is_empty());
    }
    settle(&mut ledger, &[2], NOW);
    assert!(settle(&mut ledger, &[2], Verdict::Ack).moved.is_empty(), "it is to come again");
}

#[test]
fn a_verdict_on_one_time_is_none_on_the_next() {
    let mut ledger = ledger(&[1]);
    let mut out = Vec::new();
    ledger.hand_out(1, &mut out);
    let first = out.remove(0).token;
    let tell = |ledger: &mut Ledger, verdict| {
        let settled = ledger.settle(&[Settlement { token: first.clone(), verdict }]);
        assert!(settled.results[0].is_ok() && settled.moved.is_empty());
    };
    tell(&mut ledger, Verdict::Release);
    assert_eq!(hand_out(&mut ledger, 9), [(1, 1)]);
    for verdict in [Verdict::Release, NOW, Verdict::Ack] {
        tell(&mut ledger, verdict);
        assert!(!ledger.is_idle(1) && hand_out(&mut ledger, 9).is_empty());
    }
}

#[test]
fn where_the_log_is_shorter_than_what_was_settled_nothing_that_is_there_is_passed_over() {
    let mut ledger = Ledger::default();
    ledger.assign(1, 0, Mark::read(1_000, "ductape attempts=2 done=2-10"), false);
    for offset in [3, 4, 1_000, 1_002] {
        ledger.take_in(1, offset, delivery(1, offset));
    }
    assert_eq!(commit(&mut ledger), [Mark::new(3, 1)]);
    assert_eq!(hand_out(&mut ledger, 9), [(3, 1), (4, 1), (1_000, 1), (1_002, 1)]);
    ledger.take_in(1, 2, delivery(1, 2));
    assert_eq!(ledger.open(), 4, "later nothing comes twice");
}

#[test]
fn what_the_cluster_has_stays_as_it_is_while_nothing_comes() {
    let told = Mark::read(40, "ductape attempts=2 done=2-10");
    let mut ledger = Ledger::default();
    ledger.assign(1, 0, told.clone(), false);
    ledger.leave(1);
    assert!(ledger.to_commit_at_last().is_empty());
    assert_eq!(ledger.partitions[&1].mark(), told);
}

#[test]
fn what_was_settled_above_the_watermark_is_kept_until_it_is_reached() {
    let assigned = || {
        let mut ledger = Ledger::default();
        ledger.assign(1, 0, Mark::read(40, "ductape attempts=2 done=2-10"), false);
        ledger.take_in(1, 40, delivery(1, 40));
        commit(&mut ledger);
        assert_eq!(hand_out(&mut ledger, 9), [(40, 3)]);
        ledger
    };
    let mut first = assigned();
    settle(&mut first, &[40], Verdict::Ack);
    assert_eq!(commit(&mut first).remove(0).metadata(), "ductape attempts=0 done=1-9");
    // Once all below it are settled, the watermark lies behind the whole run, also where that is not read yet.
    let mut second = assigned();
    second.take_in(1, 41, delivery(1, 41));
    second.take_in(1, 42, delivery(1, 42));
    hand_out(&mut second, 9);
    settle(&mut second, &[40, 41], Verdict::Ack);
    assert_eq!(commit(&mut second), [Mark::new(51, 0)]);
    (43..=51).for_each(|offset| second.take_in(1, offset, delivery(1, offset)));
    assert_eq!(hand_out(&mut second, 9), [(51, 1)]);
}

#[test]
fn what_is_settled_above_the_watermark_does_not_come_to_the_next_who_has_the_partition() {
    let mut first = ledger(&[1, 2, 3, 4, 6]);
    hand_out(&mut first, 9);
    settle(&mut first, &[2, 3, 6], Verdict::Ack);
    let told = commit(&mut first).remove(0);
    assert_eq!(told.metadata(), "ductape attempts=1 done=1-2,5");
    let mut second = Ledger::default();
    second.assign(1, 0, Mark::read(told.offset, &told.metadata()), false);
    [1, 2, 3, 4, 6, 7].iter().for_each(|offset| second.take_in(1, *offset, delivery(1, *offset)));
    commit(&mut second);
    assert_eq!(hand_out(&mut second, 9), [(1, 2), (4, 1), (7, 1)]);
    settle(&mut second, &[1, 4], Verdict::Ack);
    assert_eq!((mark(&second), second.partitions[&1].done.is_empty()), ((7, 1), true));
}

#[test]
fn a_partition_that_leaves_hands_nothing_out_and_settles_what_is_in_hand() {
    let mut ledger = ledger(&[1, 2, 3]);
    hand_out(&mut ledger, 2);
    ledger.leave(1);
    assert!(hand_out(&mut ledger, 9).is_empty() && !ledger.is_idle(1));
    assert!(settle(&mut ledger, &[1], Verdict::Ack).results[0].is_ok());
    settle(&mut ledger, &[2], NOW);
    assert!(ledger.is_idle(1) && hand_out(&mut ledger, 9).is_empty());
    assert_eq!(ledger.to_commit_at_last()[0].2, Mark::new(2, 1));
}

#[test]
fn what_is_lost_settles_nothing_even_when_the_partition_comes_back() {
    let mut ledger = ledger(&[1, 2]);
    hand_out(&mut ledger, 9);
    ledger.lose(1);
    assert_eq!(ledger.open(), 0);
    ledger.assign(2, 0, Mark::new(1, 0), false);
    ledger.take_in(2, 1, delivery(2, 1));
    let late = settle(&mut ledger, &[1], Verdict::Ack);
    assert_eq!(late.results[0].as_ref().unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(ledger.open(), 1);
}

#[test]
fn a_new_group_tells_where_it_begins_at_once() {
    let mut ledger = Ledger::default();
    ledger.assign(1, 3, Mark::new(5, 0), true);
    assert_eq!(ledger.to_commit(), [(1, 3, Mark::new(5, 0))]);
    ledger.leave(1);
    assert_eq!(ledger.to_commit_at_last(), [(1, 3, Mark::new(5, 0))], "also where it goes at once");
    ledger.committed(1, Mark::new(5, 0));
    assert!(!ledger.is_due() && ledger.to_commit_at_last().is_empty());
}

proptest! {
    /// Whatever is handed out and said, in whatever order: nothing at or above the committed offset is lost, and what
    /// is not acknowledged is never below it.
    #[test]
    fn no_message_that_is_not_acknowledged_is_below_the_watermark(
        gaps in proptest::collection::vec(1i64..4, 1..40),
        steps in proptest::collection::vec((0usize..40, 0u8..4, 1usize..6), 0..200),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(100, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut ledger = ledger(&offsets);
        let mut acked = BTreeSet::new();
        let mut in_hand = Vec::new();
        for (pick, verdict, count) in steps {
            in_hand.extend(hand_out(&mut ledger, count).into_iter().map(|(offset, _)| offset));
            if in_hand.is_empty() {
                continue;
            }
            let offset = in_hand.swap_remove(pick % in_hand.len());
            let verdict = [Verdict::Ack, Verdict::Ack, NOW, Verdict::Release][verdict as usize];
            prop_assert!(settle(&mut ledger, &[offset], verdict).results[0].is_ok());
            if verdict == Verdict::Ack {
                acked.insert(offset);
            }
            let first_open = offsets.iter().find(|offset| !acked.contains(*offset));
            prop_assert_eq!(mark(&ledger).0, first_open.copied().unwrap_or(offsets[offsets.len() - 1] + 1));
            prop_assert_eq!(ledger.open(), offsets.len() - acked.len());
        }
    }
}
