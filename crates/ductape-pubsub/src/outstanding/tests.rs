//! What comes of what arrives, is settled, and runs out.

use super::*;
use ductape_core::message::{Attributes, MessageId};
use ductape_core::{Message, Position, Timestamp, Token};
use std::sync::Arc;

const LEASE: Duration = Duration::from_secs(10);
const NOW: Verdict = Verdict::Retry(Duration::ZERO);

struct Rig {
    held: Outstanding,
    now: Instant,
}

impl Rig {
    fn new(ordered: bool) -> Self {
        Rig { held: Outstanding::new(ordered, LEASE), now: Instant::now() }
    }

    /// Its key is its first letter.
    fn arrive(&mut self, id: &str, ack: &str) {
        let attributes =
            Attributes { source: "/s".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message = Message::new(
            id.to_owned(),
            MessageId::Text(id.into()),
            Timestamp::default(),
            Arc::new(attributes),
        );
        message.key = Some(id[..1].into());
        self.held.arrive(ack.into(), id.into(), self.now, |number| Delivery {
            message,
            attempt: 1,
            position: Position::Text(id.into()),
            token: Token::Numbers(0, number),
        });
    }

    fn take(&mut self) -> Vec<String> {
        let taken = self.held.take(100, 100, self.now);
        taken.iter().map(|it| format!("{}#{}", it.position, it.attempt)).collect()
    }

    fn settle(&mut self, number: u64, verdict: Verdict) -> Told {
        self.held.settle(number, verdict, self.now)
    }
}

#[test]
fn what_is_acknowledged_is_held_until_the_server_has_it() {
    let mut rig = Rig::new(false);
    rig.arrive("a", "1");
    assert_eq!(rig.take(), ["a#1"]);
    assert_eq!(rig.settle(0, Verdict::Ack), Told::Ack("1".into()));
    assert_eq!((rig.held.len(), rig.held.handed()), (1, 1));
    rig.held.acked(0);
    assert_eq!((rig.held.len(), rig.held.handed()), (0, 0));
    assert_eq!(rig.settle(0, NOW), Told::Lost, "settled before");
    assert_eq!(rig.settle(7, NOW), Told::Lost, "never ours");
}

#[test]
fn what_is_given_back_may_come_again_before_the_server_has_answered() {
    let mut rig = Rig::new(false);
    rig.arrive("a", "1");
    rig.take();
    assert_eq!(rig.settle(0, NOW), Told::Nack("1".into()));
    rig.arrive("a", "2");
    assert_eq!(rig.take(), ["a#1"]);
    assert_eq!(rig.settle(1, Verdict::Ack), Told::Ack("2".into()));
}

#[test]
fn an_ordered_retry_comes_again_before_later_ones_and_is_counted() {
    let mut rig = Rig::new(true);
    rig.arrive("a1", "1");
    assert_eq!(rig.take(), ["a1#1"]);
    rig.arrive("a2", "2");
    assert_eq!(rig.settle(0, NOW), Told::Nothing);
    assert_eq!(rig.take(), ["a1#2", "a2#1"]);
    assert_eq!(rig.settle(0, Verdict::Release), Told::Nothing);
    assert_eq!(rig.take(), ["a1#2"]);
    assert_eq!(rig.settle(0, Verdict::Ack), Told::Ack("1".into()));
}

#[test]
fn what_is_held_and_delivered_again_is_handed_out_once() {
    let mut rig = Rig::new(false);
    rig.arrive("a", "1");
    rig.arrive("a", "2");
    assert_eq!(rig.take(), ["a#1"]);
    rig.arrive("a", "3");
    assert!(rig.take().is_empty());
    assert_eq!(rig.settle(0, Verdict::Ack), Told::Ack("3".into()));
}

#[test]
fn a_lease_that_ran_out_makes_a_verdict_late_and_a_redelivery_new() {
    let mut rig = Rig::new(false);
    rig.arrive("a", "1");
    rig.arrive("b", "2");
    rig.take();
    rig.now += LEASE;
    rig.arrive("a", "3");
    assert_eq!(rig.take(), ["a#1"]);
    assert_eq!(rig.settle(0, NOW), Told::Lost);
    assert_eq!(rig.settle(1, Verdict::Ack), Told::Lost);
    assert_eq!(rig.settle(2, Verdict::Ack), Told::Ack("3".into()));
    rig.held.acked(2);
    assert_eq!((rig.held.len(), rig.held.handed()), (0, 0));
}

#[test]
fn at_the_end_of_a_lease_only_an_acknowledgement_is_told() {
    for ordered in [false, true] {
        let mut rig = Rig::new(ordered);
        ["a", "b", "c"].into_iter().for_each(|id| rig.arrive(id, id));
        rig.take();
        rig.now += LEASE * 9 / 10;
        assert_eq!(rig.settle(0, NOW), Told::Lost);
        assert_eq!(rig.settle(1, Verdict::Release), Told::Lost);
        assert_eq!(rig.settle(2, Verdict::Ack), Told::Ack("c".into()));
        assert!(rig.take().is_empty(), "none of them is handed out from here");
    }
}

#[test]
fn what_could_not_be_acknowledged_is_tried_again_or_comes_again() {
    let mut rig = Rig::new(false);
    ["a", "b", "c"].into_iter().for_each(|id| rig.arrive(id, id));
    rig.take();
    (0..3).for_each(|number| rig.held.doubt(number));
    assert_eq!(rig.settle(0, Verdict::Ack), Told::Ack("a".into()), "tried again");
    rig.held.acked(0);
    rig.arrive("b", "new");
    assert_eq!(rig.take(), ["b#1"], "it came again, and so is handed out again");
    let now = rig.now;
    assert_eq!(rig.held.leased(now), [(3, "new".into())], "nobody keeps what nobody settles");
    rig.now += LEASE - Duration::from_millis(1);
    rig.held.extended([3], rig.now);
    rig.now += Duration::from_millis(1);
    rig.held.forget_lost(rig.now);
    assert_eq!((rig.held.len(), rig.held.handed()), (1, 1), "its place is free again");
}

#[test]
fn a_lease_that_is_renewed_runs_on() {
    let mut rig = Rig::new(false);
    rig.arrive("a", "1");
    rig.take();
    rig.now += LEASE / 2;
    let leased = rig.held.leased(rig.now);
    rig.held.extended(leased.into_iter().map(|(number, _)| number), rig.now);
    rig.now += LEASE / 2 + Duration::from_secs(1);
    assert_eq!(rig.settle(0, Verdict::Ack), Told::Ack("1".into()));
}

#[test]
fn what_ran_out_before_it_was_handed_out_takes_later_ones_of_its_key_along() {
    let mut rig = Rig::new(true);
    rig.arrive("a1", "1");
    rig.now += LEASE / 2;
    rig.arrive("a2", "2");
    rig.arrive("b1", "3");
    rig.now += LEASE / 2;
    assert_eq!(rig.take(), ["b1#1"]);
    rig.arrive("a1", "4");
    rig.arrive("a2", "5");
    assert_eq!(rig.take(), ["a1#1", "a2#1"]);
}

#[test]
fn no_more_is_handed_out_than_the_bound() {
    let mut rig = Rig::new(false);
    ["a", "b", "c"].into_iter().for_each(|id| rig.arrive(id, id));
    assert_eq!(rig.held.take(9, 2, rig.now).len(), 2);
    assert!(!rig.held.has_ready(2) && rig.held.has_ready(3));
}

const PATIENCE: Patience = Patience { beyond: Duration::from_secs(1), unasked: Duration::from_secs(5) };

#[test]
fn what_waits_beyond_the_bound_is_let_go_for_others() {
    let mut rig = Rig::new(false);
    ["a", "b", "c", "d"].into_iter().for_each(|id| rig.arrive(id, id));
    rig.held.take(1, 1, rig.now);
    assert!(rig.held.surplus(2, PATIENCE, rig.now).is_empty(), "they just came");
    rig.now += PATIENCE.beyond;
    let now = rig.now;
    assert_eq!(rig.held.surplus(2, PATIENCE, now), ["d", "c"]);
    assert!(rig.held.surplus(2, PATIENCE, now).is_empty());
}

#[test]
fn what_lapsed_where_nobody_asks_is_let_go_for_others_but_a_key_stays_together() {
    for (ordered, forgotten) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(ordered);
        rig.arrive("a1", "1");
        rig.take();
        rig.now += LEASE;
        if forgotten {
            // The server's clock may be the slower one.
            rig.held.forget_lost(rig.now);
        }
        rig.arrive("a1", "2");
        rig.arrive("a2", "3");
        rig.now += PATIENCE.beyond;
        let surplus = rig.held.surplus(9, PATIENCE, rig.now);
        assert_eq!(surplus, if ordered { vec![] } else { vec!["2"] });
    }
}

#[test]
fn what_lapsed_is_handed_out_to_who_asks() {
    let mut rig = Rig::new(false);
    rig.arrive("a1", "1");
    rig.take();
    rig.now += LEASE;
    rig.arrive("a1", "2");
    assert_eq!(rig.take(), ["a1#1"]);
    assert!(rig.held.surplus(9, PATIENCE, rig.now).is_empty());
}

#[test]
fn what_was_lost_after_it_was_handed_out_is_not_overtaken_by_those_behind_it() {
    let later = |rig: &mut Rig| {
        rig.now += LEASE / 2;
        ["a2", "b1"].into_iter().for_each(|id| rig.arrive(id, id));
    };
    let lost: [fn(&mut Rig); 4] = [
        |rig| assert_eq!(rig.settle(0, NOW), Told::Lost, "a verdict that came late"),
        |rig| rig.held.forget_lost(rig.now),
        |rig| rig.held.lose(0),
        |rig| rig.arrive("a1", "came again"),
    ];
    for lose in lost {
        let mut rig = Rig::new(true);
        rig.arrive("a1", "1");
        rig.take();
        later(&mut rig);
        rig.now += LEASE / 2;
        lose(&mut rig);
        ["a1", "a2"].into_iter().for_each(|id| rig.arrive(id, "again"));
        let taken = rig.take();
        assert_eq!(taken.iter().filter(|id| id.starts_with('a')).collect::<Vec<_>>(), ["a1#1", "a2#1"]);
        assert!(taken.contains(&"b1#1".to_owned()), "another key");
    }
}

#[test]
fn one_that_is_lost_leaves_those_before_it() {
    let mut rig = Rig::new(true);
    ["a1", "a2", "a3"].into_iter().for_each(|id| rig.arrive(id, id));
    rig.take();
    for number in [0, 2] {
        assert_eq!(rig.settle(number, Verdict::Release), Told::Nothing);
    }
    rig.held.lose(1);
    assert_eq!(rig.take(), ["a1#1"]);
}

#[test]
fn at_the_end_everything_that_may_be_ours_is_let_go_in_its_order() {
    for (ordered, ours) in [(true, vec!["1", "2", "3"]), (false, vec!["2", "3"])] {
        let mut rig = Rig::new(ordered);
        rig.arrive("a", "1");
        rig.take();
        rig.now += LEASE;
        rig.arrive("b", "2");
        rig.arrive("c", "3");
        let now = rig.now;
        assert_eq!(rig.held.ours(now), ours);
        rig.held.clear();
        assert_eq!((rig.held.len(), rig.held.handed()), (0, 0));
    }
}

#[test]
fn what_is_being_acknowledged_is_not_let_go_nor_what_is_behind_it_in_its_order() {
    for (ordered, wanted) in [(true, ["1", "4"].as_slice()), (false, &["1", "3", "4"])] {
        let mut rig = Rig::new(ordered);
        for (id, ack) in [("a1", "1"), ("a2", "2"), ("a3", "3"), ("b1", "4")] {
            rig.arrive(id, ack);
        }
        rig.take();
        assert_eq!(rig.settle(1, Verdict::Ack), Told::Ack("2".into()));
        assert!(rig.held.is_acking());
        assert_eq!(rig.held.ours(rig.now), wanted);
        rig.held.doubt(1);
        assert!(!rig.held.is_acking());
        assert_eq!(rig.held.ours(rig.now), ["1", "2", "3", "4"], "it failed");
    }
}
