//! The checker on histories that never were: each broken promise is found by its name, and what is in order is not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape::ErrorKind;
use ductape_chaos::check::{Cause, Example, Log, Promises, Report, check};
use ductape_chaos::{ActorName, Ending, Failing, Fault, Kind, MessageRef, Record};
use std::collections::BTreeMap;
use std::time::Duration;

const PUBLISHER: ActorName = ActorName::Publisher { index: 0, life: 0 };
const A: ActorName = ActorName::Subscriber { group: 0, member: 0, life: 0 };
const B: ActorName = ActorName::Subscriber { group: 0, member: 1, life: 0 };
const SECOND: u64 = 1_000_000_000;

/// A history: who wrote what, one second after another.
#[derive(Default)]
struct History {
    logs: BTreeMap<ActorName, Vec<Record>>,
    time: u64,
}

impl History {
    /// Messages 0 to `count` are taken. All have one key.
    fn published(count: u32) -> Self {
        let intent = Record::of(Kind::Intent, message(0)).extra(count);
        let taken = Record::of(Kind::Taken, message(0)).extra(count);
        History::default().write(PUBLISHER, intent).write(PUBLISHER, taken)
    }

    fn write(mut self, actor: ActorName, record: Record) -> Self {
        self.time += SECOND;
        self.logs.entry(actor).or_default().push(Record { time: self.time, ..record });
        self
    }

    fn says(self, actor: ActorName, kind: Kind, number: u32) -> Self {
        self.write(actor, Record::of(kind, message(number)).attempt(1).extra(number))
    }

    /// Delivered and handled, and its acknowledgement taken.
    fn done(self, actor: ActorName, number: u32) -> Self {
        self.says(actor, Kind::Delivered, number).says(actor, Kind::Handled, number).settled(actor, number)
    }

    fn settled(self, actor: ActorName, number: u32) -> Self {
        self.says(actor, Kind::Settled, number)
    }

    fn fault(self, fault: Fault) -> Self {
        let begins = Record::new(Kind::Begins).detail(fault as u8);
        self.write(ActorName::Conductor, begins).write(ActorName::Conductor, Record::new(Kind::Over))
    }

    fn ended(self, actor: ActorName, how: Ending) -> Self {
        let actor = MessageRef { publisher: 0, number: actor.code() };
        self.write(ActorName::Conductor, Record::of(Kind::Ended, actor).detail(how as u8))
    }

    fn dead(self, number: u32) -> Self {
        self.write(ActorName::Conductor, Record::of(Kind::Dead, message(number)))
    }

    fn failed(self, actor: ActorName, number: u32, how: Failing, attempt: u32) -> Self {
        self.write(actor, Record::of(Kind::Failed, message(number)).detail(how as u8).attempt(attempt))
    }

    fn check(&self) -> Report {
        self.check_as(&promises())
    }

    fn check_as(&self, promises: &Promises) -> Report {
        let open = || {
            let log = |(name, records): (&ActorName, &Vec<Record>)| Log {
                name: *name,
                records: Box::new(records.clone().into_iter()) as _,
            };
            Ok(self.logs.iter().map(log).collect())
        };
        check(|_| Some(0), promises, open).unwrap()
    }

    /// The one promise that is broken, and how often.
    #[track_caller]
    fn breaks(&self, what: Example, times: u64) {
        let report = self.check();
        let broken: Vec<_> =
            report.groups[0].broken.iter().map(|(what, (count, _))| (*what, *count)).collect();
        assert_eq!(broken, [(what, times)], "{report}");
        assert!(!report.is_clean());
    }

    #[track_caller]
    fn is_clean(&self) -> Report {
        let report = self.check();
        assert!(report.is_clean(), "{report}");
        report
    }

    /// The one cause of duplicates.
    #[track_caller]
    fn duplicates(&self, cause: Cause, times: u64) {
        let report = self.check();
        assert_eq!(report.groups[0].duplicates, [(cause, times)].into(), "{report}");
    }
}

fn promises() -> Promises {
    Promises {
        groups: vec!["board".into()],
        ordered: true,
        acks_hold: true,
        attempts: 3,
        aftermath: Duration::from_secs(2),
        to_the_end: true,
        stop_within: Duration::from_secs(15),
    }
}

fn message(number: u32) -> MessageRef {
    MessageRef { publisher: 0, number }
}

#[test]
fn a_run_in_which_all_is_well_is_clean() {
    let report = History::published(3).done(A, 0).done(B, 1).done(A, 2).is_clean();
    assert_eq!((report.published.taken, report.groups[0].delivered), (3, 3));
    assert!(report.to_string().ends_with("CLEAN"));
}

#[test]
fn what_was_taken_and_never_delivered_is_lost() {
    History::published(2).done(A, 0).breaks(Example::Lost, 1);
}

#[test]
fn what_was_delivered_and_never_handled_is_unfinished() {
    History::published(1).says(A, Kind::Delivered, 0).breaks(Example::Unfinished, 1);
}

#[test]
fn what_nobody_was_about_to_send_is_invented() {
    History::published(1).done(A, 0).says(A, Kind::Delivered, 7).breaks(Example::Invented, 1);
    History::published(1).done(A, 0).write(A, Record::new(Kind::Foreign)).breaks(Example::Invented, 1);
}

#[test]
fn what_was_refused_must_not_come_and_what_is_uncertain_may() {
    let history = |kind| {
        let intent = Record::of(Kind::Intent, message(0)).extra(1);
        let outcome = Record::of(kind, message(0));
        History::default().write(PUBLISHER, intent).write(PUBLISHER, outcome)
    };
    history(Kind::Refused).done(A, 0).breaks(Example::Refused, 1);
    history(Kind::Refused).is_clean();
    history(Kind::Uncertain).done(A, 0).is_clean();
    history(Kind::Uncertain).is_clean();
    // Its publisher died before it was told.
    let died = History::default().write(PUBLISHER, Record::of(Kind::Intent, message(0)).extra(1));
    assert_eq!(died.done(A, 0).is_clean().groups[0].delivered_uncertain, 1);
}

#[test]
fn other_bytes_than_were_sent_are_found() {
    History::published(1).says(A, Kind::Altered, 0).done(A, 0).breaks(Example::Altered, 1);
}

#[test]
fn a_key_out_of_order_is_found() {
    History::published(2).done(A, 1).done(A, 0).breaks(Example::OutOfOrder, 1);
    let unordered = Promises { ordered: false, ..promises() };
    assert!(History::published(2).done(A, 1).done(A, 0).check_as(&unordered).is_clean());
}

#[test]
fn a_key_that_goes_on_while_its_first_is_in_hand_is_found() {
    let overtaken = History::published(2).says(A, Kind::Delivered, 0).says(B, Kind::Delivered, 1);
    overtaken.says(A, Kind::Handled, 0).says(B, Kind::Handled, 1).breaks(Example::Overtaking, 1);
}

#[test]
fn order_is_that_of_first_deliveries() {
    let first = History::published(2).done(A, 0).says(A, Kind::Delivered, 1).ended(A, Ending::Killed);
    first.done(B, 0).done(B, 1).check().groups[0].broken.iter().for_each(|(what, _)| {
        assert_eq!(*what, Example::AckIgnored, "and that is another matter");
    });
}

#[test]
fn an_acknowledgement_that_is_ignored_is_found() {
    History::published(1).done(A, 0).done(B, 0).breaks(Example::AckIgnored, 1);
    // A fault long before is no excuse, and one in between only where acknowledgements are at risk.
    let early = History::published(1).fault(Fault::Cut).done(A, 0);
    early.done(B, 0).breaks(Example::AckIgnored, 1);
    let between = || History::published(1).done(A, 0).fault(Fault::Cut).done(B, 0);
    between().breaks(Example::AckIgnored, 1);
    let at_risk = Promises { acks_hold: false, ..promises() };
    let report = between().check_as(&at_risk);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.groups[0].duplicates, [(Cause::AckAtRisk, 1)].into());
}

#[test]
fn what_lay_with_another_since_before_the_acknowledgement_is_explained_by_what_moved_it() {
    let stale = |history: History| history.says(A, Kind::Received, 0);
    let moved = stale(History::published(1)).fault(Fault::ClockJump).done(B, 0).done(A, 0);
    moved.duplicates(Cause::Moved(Fault::ClockJump), 1);
    stale(History::published(1)).done(B, 0).done(A, 0).breaks(Example::AckIgnored, 1);
    // Received twice by one, and handled in the wrong order.
    let twice = stale(stale(History::published(1)).fault(Fault::ClockJump));
    twice.done(A, 0).done(A, 0).duplicates(Cause::Moved(Fault::ClockJump), 1);
    // An earlier attempt, written down as received too late.
    let second = |history: History| {
        let delivered = Record::of(Kind::Delivered, message(0)).attempt(2);
        history.write(B, delivered).says(B, Kind::Handled, 0).fault(Fault::ClockJump).settled(B, 0)
    };
    let late = stale(second(History::published(1))).done(A, 0);
    late.duplicates(Cause::Moved(Fault::ClockJump), 1);
    // A retry that waits within a worker, and of which somebody else was quicker.
    let waits = || stale(History::published(1)).says(A, Kind::Delivered, 0).failed(A, 0, Failing::Hang, 1);
    let overtaken = waits().fault(Fault::ClockJump).done(B, 0).done(A, 0);
    assert!(overtaken.check().is_clean(), "{}", overtaken.check());
    waits().done(B, 0).done(A, 0).breaks(Example::AckIgnored, 1);
}

#[test]
fn a_duplicate_has_a_cause_or_is_found() {
    let open = || History::published(1).says(A, Kind::Delivered, 0);
    open().done(B, 0).breaks(Example::Unexplained, 1);
    open().ended(A, Ending::Killed).done(B, 0).duplicates(Cause::Killed, 1);
    open().ended(A, Ending::Crashed).done(B, 0).duplicates(Cause::Crashed, 1);
    open().ended(A, Ending::Stopped).done(B, 0).duplicates(Cause::Stopped, 1);
    open().write(A, Record::new(Kind::Lost)).done(A, 0).duplicates(Cause::ConsumerLost, 1);
    open().says(A, Kind::Unsettled, 0).done(B, 0).duplicates(Cause::VerdictRefused, 1);
    open().fault(Fault::SubscriberStall).done(B, 0).duplicates(Cause::Moved(Fault::SubscriberStall), 1);
    open().fault(Fault::Panic).done(B, 0).breaks(Example::Unexplained, 1);
    // Another position: it stands there twice.
    let twice = open().write(B, Record::of(Kind::Delivered, message(0)).extra(99)).says(B, Kind::Handled, 0);
    twice.duplicates(Cause::StoredTwice, 1);
}

#[test]
fn a_retry_is_no_duplicate() {
    let failed = History::published(1).says(A, Kind::Delivered, 0).failed(A, 0, Failing::Panic, 1);
    let report = failed.done(A, 0).is_clean();
    assert_eq!((report.groups[0].retries, report.groups[0].duplicates.len()), (1, 0));
}

#[test]
fn what_was_rejected_is_among_the_dead_letters_and_nothing_else_is() {
    let rejected = || {
        let history = History::published(1).says(A, Kind::Delivered, 0);
        history.failed(A, 0, Failing::Reject, 1).settled(A, 0)
    };
    rejected().breaks(Example::DeadMissing, 1);
    assert_eq!(rejected().dead(0).is_clean().groups[0].dead.found, 1);
    assert_eq!(rejected().dead(0).dead(0).is_clean().groups[0].dead.twice, 1);
    History::published(1).done(A, 0).dead(0).breaks(Example::DeadUnasked, 1);
    let exhausted = History::published(1).says(A, Kind::Delivered, 0).failed(A, 0, Failing::Hang, 3);
    exhausted.breaks(Example::DeadMissing, 1);
    let aborted = History::published(1).says(A, Kind::Delivered, 0).failed(A, 0, Failing::Abort, 1);
    aborted.breaks(Example::DeadMissing, 1);
}

#[test]
fn what_was_redriven_is_handled_and_gone() {
    let redriven = || {
        let history = History::published(1).says(A, Kind::Delivered, 0);
        history.failed(A, 0, Failing::Reject, 1).settled(A, 0).dead(0)
    };
    let all = |history: History| history.write(ActorName::Conductor, Record::new(Kind::Redriven));
    all(redriven()).breaks(Example::NotRedriven, 1);
    let again = |history: History| {
        let delivered = Record::of(Kind::Delivered, message(0)).detail(1).extra(5);
        history.write(B, delivered).says(B, Kind::Handled, 0)
    };
    assert_eq!(all(again(redriven())).is_clean().groups[0].redriven, 1);
    let left = Record::of(Kind::Leftover, message(0));
    all(again(redriven())).write(ActorName::Conductor, left).breaks(Example::Leftover, 1);
}

#[test]
fn a_stop_that_takes_too_long_is_found() {
    let stopped =
        |millis| History::published(1).done(A, 0).write(A, Record::new(Kind::Stopped).extra(millis));
    let report = stopped(15_000).is_clean();
    assert_eq!((report.stops.count, report.stops.longest), (1, Duration::from_secs(15)));
    assert_eq!(stopped(15_001).check().stops.late, 1);
    assert!(!stopped(15_001).check().is_clean());
}

#[test]
fn groups_are_checked_apart() {
    let other = ActorName::Subscriber { group: 1, member: 0, life: 0 };
    let two = Promises { groups: vec!["board".into(), "audit".into()], ..promises() };
    let report = History::published(1).done(A, 0).check_as(&two);
    assert_eq!((report.groups[0].count(Example::Lost), report.groups[1].count(Example::Lost)), (0, 1));
    assert!(History::published(1).done(A, 0).done(other, 0).check_as(&two).is_clean());
}

#[test]
fn what_is_left_when_a_run_is_ended_is_its_backlog_and_what_comes_before_its_turn_is_out_of_order() {
    let ended = Promises { to_the_end: false, ..promises() };
    let history = History::published(3).done(A, 0).says(A, Kind::Delivered, 1);
    let report = history.check_as(&ended);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.groups[0].backlog, 2);
    let waits = History::published(1).says(A, Kind::Delivered, 0).failed(A, 0, Failing::Reject, 1);
    assert_eq!(waits.check_as(&ended).groups[0].backlog, 1, "its dead letter was not taken yet");
    waits.breaks(Example::DeadMissing, 1);
    let report = History::published(3).done(A, 0).done(A, 2).check_as(&ended);
    assert_eq!((report.groups[0].backlog, report.groups[0].count(Example::OutOfOrder)), (1, 1));
}

#[test]
fn errors_of_publishes_are_counted_by_kind() {
    let kind = |kind| ErrorKind::ALL.iter().position(|other| *other == kind).unwrap() as u8;
    let of = |outcome, number, error| Record::of(outcome, message(number)).detail(kind(error));
    let history = History::published(1)
        .write(PUBLISHER, Record::of(Kind::Intent, message(1)).extra(3))
        .write(PUBLISHER, of(Kind::Refused, 1, ErrorKind::StorageFull))
        .write(PUBLISHER, of(Kind::Refused, 2, ErrorKind::StorageFull))
        .write(PUBLISHER, of(Kind::Uncertain, 3, ErrorKind::Timeout))
        .done(A, 0);
    let errors = history.is_clean().errors;
    assert_eq!(errors, [(ErrorKind::StorageFull.code(), 2), (ErrorKind::Timeout.code(), 1)].into());
}
