//! Failures that lose something.

use crate::Mutant;
use crate::broken::{
    TOO_LONG, release_is_ack, retry_is_ack, with, with_letters, with_messages, with_rules, with_verdicts,
    without_attempts,
};
use bytes::Bytes;
use ductape_core::{Error, ErrorKind, Verdict};
use ductape_testkit::fault::{Calls, Fault, Operation, Rule};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new("attempts begin at two", "attempts count up from one", || {
        let more = |all: &mut Vec<ductape_core::Delivery>| all.iter_mut().for_each(|d| d.attempt += 1);
        with(Operation::Receive, Fault::edit_deliveries(more))
    }),
    Mutant::new("the attempt is not counted", "the attempt number survives its consumer", without_attempts),
    Mutant::new("dead letters lose their facts", "a rejected message skips its retries", || {
        with_letters(|letter| letter.extensions_mut().dead_letter = None)
    }),
    Mutant::new("what is rejected is handed out twice", "a rejected message skips its retries", || {
        let twice = Rule::new(Operation::Receive, Fault::Duplicate);
        with_rules([twice.on(|name| !name.ends_with("dead-letters"))])
    }),
    Mutant::new(
        "the bytes of dead letters change",
        "an exhausted message goes to the dead letters with its bytes intact",
        || with_letters(|letter| letter.payload = Bytes::from([&letter.payload[..], b"\n"].concat())),
    ),
    Mutant::new(
        "the headers of dead letters are dropped",
        "an exhausted message goes to the dead letters with its bytes intact",
        || with_letters(|letter| letter.headers.remove("source-ip")),
    ),
    Mutant::new(
        "dead letters are made UTF-8",
        "a message that cannot be decoded goes to the dead letters with its bytes and the reason",
        || {
            with_letters(|letter| {
                letter.payload = String::from_utf8_lossy(&letter.payload).into_owned().into()
            })
        },
    ),
    Mutant::new(
        "dead letters keep a hundred headers",
        "a message with as many headers as are taken can be dead-lettered and redriven with all of them",
        || {
            with_letters(|letter| {
                let few =
                    letter.headers.iter().take(100).map(|(name, value)| (name.to_owned(), value.clone()));
                letter.headers = few.collect();
            })
        },
    ),
    Mutant::new(
        "a redriven message is for every group",
        "a redriven dead letter comes back to the group that gave it up, and to no other",
        || {
            with_messages(|message| {
                if message.extensions.is_some() {
                    message.extensions_mut().redrive_group = None;
                }
            })
        },
    ),
    Mutant::new(
        "dead letters that are looked at are taken",
        "dead letters are listed without being taken, and purged when asked",
        || with_verdicts(release_is_ack),
    ),
    Mutant::new(
        "what is not settled at a stop is acknowledged",
        "a message whose dead letter is not taken stays where it is",
        || with_verdicts(|verdict| *verdict = Verdict::Ack),
    ),
    Mutant::new("a handler's panic acknowledges", "a handler that panics takes nothing else down", || {
        with_verdicts(retry_is_ack)
    }),
    Mutant::new(
        "a handler's time-out acknowledges",
        "a handler that takes too long is given up and tried again",
        || with_verdicts(retry_is_ack),
    ),
    Mutant::new(
        "no second consumer can be opened",
        "a worker that loses its consumer opens another and misses nothing",
        || {
            let failed = Error::new(ErrorKind::ProviderFailed, "one consumer is enough");
            with_rules([Rule::new(Operation::OpenConsumer, Fault::fail(failed)).calls(Calls::After(1))])
        },
    ),
    Mutant::new(
        "a second consumer takes very long to open",
        "a worker that loses its consumer opens another and misses nothing",
        || {
            let late = Rule::new(Operation::OpenConsumer, Fault::Delay(TOO_LONG));
            with_rules([late.calls(Calls::After(1))])
        },
    ),
];
