//! Keys that lose their order.

use crate::Mutant;
use crate::broken::{each_message, with, with_rules, without_keys};
use ductape_core::{Settlement, Verdict};
use ductape_testkit::fault::{Calls, Fault, Operation, Rule};
use std::time::Duration;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "the order of a batch is swapped",
        "messages of one key come in the order they were published",
        || with(Operation::Publish, Fault::Reorder),
    ),
    Mutant::new(
        "every other publish overtakes the one before",
        "overlapping publishes of one key are taken in the order of the calls",
        || {
            let late = Fault::Delay(Duration::from_millis(20));
            with_rules([Rule::new(Operation::Publish, late).calls(Calls::Every(2))])
        },
    ),
    Mutant::new(
        "a retried message goes behind the others",
        "a retried message comes back before the later ones of its key",
        || {
            let behind = |settlement: &mut Settlement| {
                if matches!(settlement.verdict, Verdict::Retry(_)) {
                    settlement.verdict = Verdict::Retry(Duration::from_millis(40));
                }
            };
            let behind = Fault::edit_settlements(move |batch| batch.iter_mut().for_each(behind));
            with_rules([
                Rule::new(Operation::Publish, each_message(|message| message.key = None)),
                Rule::new(Operation::Settle, behind),
            ])
        },
    ),
    Mutant::new(
        "what a lost member had comes last",
        "a key goes on in order when the member that had it is gone",
        || {
            with_rules([
                Rule::new(Operation::Publish, each_message(|message| message.key = None)),
                Rule::new(Operation::CloseConsumer, Fault::Pretend),
            ])
        },
    ),
    Mutant::new(
        "a key is with several members at once",
        "while a member holds a message of a key, the later ones go to nobody else",
        without_keys,
    ),
    Mutant::new(
        "keys are forgotten",
        "a key keeps its order through retries and members that leave, with many workers",
        without_keys,
    ),
];
