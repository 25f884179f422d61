//! Verdicts that are not heeded.

use crate::Mutant;
use crate::broken::{release_is_ack, retry_is_ack, with, with_rules, with_verdicts};
use ductape_core::{Delivery, Settlement, Token, Verdict};
use ductape_testkit::conformance::Subject;
use ductape_testkit::fault::{Calls, Fault, Operation, Rule};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "acks are lost",
        "an acknowledged message never comes back, even on a new connection",
        || with(Operation::Settle, Fault::Pretend),
    ),
    Mutant::new(
        "an ack is a release",
        "an acknowledged message never comes back, even on a new connection",
        || {
            with_verdicts(|verdict| {
                if *verdict == Verdict::Ack {
                    *verdict = Verdict::Release;
                }
            })
        },
    ),
    Mutant::new("nacks are lost", "a retried message comes back", || with_verdicts(retry_is_ack)),
    Mutant::new("the delay is ignored", "a delayed retry does not come back before its time", || {
        with_verdicts(|verdict| {
            if matches!(verdict, Verdict::Retry(_)) {
                *verdict = Verdict::Retry(Duration::ZERO);
            }
        })
    }),
    Mutant::new("a release is an ack", "a released message comes back", || with_verdicts(release_is_ack)),
    Mutant::new(
        "the last retry of a batch is lost",
        "a hundred messages retried three times lose nothing",
        || {
            let last = |batch: &mut Vec<Settlement>| {
                batch.iter_mut().skip(99).for_each(|settlement| retry_is_ack(&mut settlement.verdict));
            };
            with(Operation::Settle, Fault::edit_settlements(last))
        },
    ),
    Mutant::new(
        "an ack settles all that came before",
        "settling out of order never skips an unsettled message",
        || {
            with_all_in_hand(|in_hand, batch| {
                let acked = batch.iter().filter(|settlement| settlement.verdict == Verdict::Ack);
                let last = acked.filter_map(|s| in_hand.iter().position(|token| *token == s.token)).max();
                ack(batch, &in_hand[..last.unwrap_or(0)]);
            })
        },
    ),
    Mutant::new("the bound is one too high", "one delivery is in flight when the bound is one", || {
        with(Operation::OpenConsumer, Fault::edit_options(|options| options.max_in_flight += 1))
    }),
    Mutant::new(
        "capacity is unbounded",
        "at the bound nothing more is handed out, and a settled one makes room",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.max_in_flight = usize::MAX)),
    ),
    Mutant::new(
        "what is settled makes no room",
        "a worker at its bound pauses, and goes on when its handlers make room",
        || with(Operation::Settle, Fault::Pretend),
    ),
    Mutant::new("settling twice settles everything", "settling twice is harmless", || {
        let settled: Mutex<Vec<Token>> = Mutex::default();
        with_all_in_hand(move |in_hand, batch| {
            let mut settled = settled.lock().unwrap();
            if batch.iter().any(|settlement| settled.contains(&settlement.token)) {
                ack(batch, in_hand);
            }
            settled.extend(batch.iter().map(|settlement| settlement.token.clone()));
        })
    }),
    Mutant::new(
        "a closed consumer keeps its deliveries",
        "an unsettled delivery of a closed consumer comes back",
        || with(Operation::CloseConsumer, Fault::Pretend),
    ),
    Mutant::new("a second close does nothing", "a close that was cut short is taken up by the next", || {
        with_rules([
            Rule::new(Operation::CloseConsumer, Fault::Hang).calls(Calls::Nth(1)),
            Rule::new(Operation::CloseConsumer, Fault::Pretend).calls(Calls::Nth(2)),
        ])
    }),
    Mutant::new(
        "a closed connection keeps its deliveries",
        "an unsettled delivery of a closed connection comes back",
        || with(Operation::CloseBroker, Fault::Pretend),
    ),
    Mutant::new(
        "leases never end",
        "a lease that ran out gives the delivery to another, and a late verdict changes nothing",
        || {
            let year = Duration::from_secs(365 * 24 * 60 * 60);
            with(Operation::OpenConsumer, Fault::edit_options(move |options| options.lease = year))
        },
    ),
    Mutant::new("leases are not renewed", "a renewed lease keeps the delivery", || {
        with(Operation::Extend, Fault::Pretend)
    }),
    Mutant::new(
        "one settle in ten is lost",
        "publishers, members that come and go, and verdicts of every kind at once lose nothing",
        || with_rules([Rule::new(Operation::Settle, Fault::Pretend).calls(Calls::Every(10))]),
    ),
    Mutant::new(
        "nacks are acks",
        "publishers, members that come and go, and verdicts of every kind at once lose nothing",
        || with_verdicts(retry_is_ack),
    ),
];

/// MEMORY whose settles are changed by one who knows all tokens that were handed out.
fn with_all_in_hand(edit: impl Fn(&[Token], &mut Vec<Settlement>) + Send + Sync + 'static) -> Subject {
    let tokens: Arc<Mutex<Vec<Token>>> = Arc::default();
    let seen = Arc::clone(&tokens);
    let see = move |all: &mut Vec<Delivery>| {
        seen.lock().unwrap().extend(all.iter().map(|delivery| delivery.token.clone()));
    };
    let settle = move |batch: &mut Vec<Settlement>| edit(&tokens.lock().unwrap(), batch);
    with_rules([
        Rule::new(Operation::Receive, Fault::edit_deliveries(see)),
        Rule::new(Operation::Settle, Fault::edit_settlements(settle)),
    ])
}

fn ack(batch: &mut Vec<Settlement>, tokens: &[Token]) {
    batch.extend(tokens.iter().map(|token| Settlement { token: token.clone(), verdict: Verdict::Ack }));
}
