//! Messages that do not arrive as they should.

use crate::Mutant;
use crate::broken::{PATIENCE, memory, subject, with, with_messages, with_rules};
use bytes::Bytes;
use ductape_core::{Delivery, Error, ErrorKind, Headers, Message, MessageId};
use ductape_testkit::fault::{Calls, Fault, Faults, FaultyProvider, Operation, Rule};
use std::time::Duration;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "headers are dropped",
        "payload, key, headers and metadata arrive as they were published",
        || with_messages(|message| message.headers = Headers::default()),
    ),
    Mutant::new(
        "trace context is dropped",
        "payload, key, headers and metadata arrive as they were published",
        || with_messages(|message| message.extensions_mut().traceparent = None),
    ),
    Mutant::new(
        "the spaces around a header's value are dropped",
        "odd UTF-8 in a header survives byte for byte, or the publish is refused",
        || with_messages(|message| edit_values(&mut message.headers, |text| text.trim().to_owned())),
    ),
    Mutant::new(
        "bodies are made UTF-8",
        "a body that is not UTF-8 survives, and so does an empty one",
        || with_messages(|message| message.payload = lossy(&message.payload)),
    ),
    Mutant::new(
        "what comes before its first consumer is lost",
        "what is published before anyone consumes waits for the default group",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.group = fresh_group())),
    ),
    Mutant::new(
        "a consumer that waits looks again after a long time",
        "a consumer that waits is woken by a publish",
        || {
            let late = Fault::Delay(PATIENCE + Duration::from_millis(200));
            with_rules([Rule::new(Operation::Receive, late).calls(Calls::Nth(2))])
        },
    ),
    Mutant::new("all topics are one", "topics are isolated from each other", || {
        let share = |operation| {
            let one = Fault::edit_destination(|place| place.name = "all-topics".into());
            Rule::new(operation, one)
        };
        use Operation::{Ensure, OpenConsumer, OpenPublisher};
        with_rules([Ensure, OpenConsumer, OpenPublisher].map(share))
    }),
    Mutant::new(
        "one group steals the shares of another",
        "two groups each get everything, or the second is UNSUPPORTED",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.group = "thieves".into())),
    ),
    Mutant::new(
        "a second group is refused though the capabilities promise it",
        "two groups each get everything, or the second is UNSUPPORTED",
        || {
            let refused = Error::new(ErrorKind::ProviderFailed, "no second group");
            with_rules([Rule::new(Operation::OpenConsumer, Fault::fail(refused)).calls(Calls::Nth(2))])
        },
    ),
    Mutant::new(
        "every member gets every message",
        "members of a group share its messages and each goes to one",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.group = fresh_group())),
    ),
    Mutant::new(
        "one batch in a hundred is lost",
        "10,000 messages of parallel publishers all arrive, and none twice without a redelivery",
        || with_rules([Rule::new(Operation::Publish, Fault::Pretend).calls(Calls::Every(100))]),
    ),
    Mutant::new(
        "deliveries are handed out twice",
        "10,000 messages of parallel publishers all arrive, and none twice without a redelivery",
        || with(Operation::Receive, Fault::edit_deliveries(|all| repeat_first(all))),
    ),
    Mutant::new(
        "ids are given twice",
        "10,000 messages of parallel publishers all arrive, and none twice without a redelivery",
        || with_messages(|message| message.id = MessageId::Text("1".into())),
    ),
    Mutant::new(
        "messages without an event are skipped",
        "a message that Ductape did not publish is delivered",
        || {
            let own = |all: &mut Vec<Delivery>| all.retain(|d| !d.message.event().is_empty());
            with(Operation::Receive, Fault::edit_deliveries(own))
        },
    ),
    Mutant::new(
        "the size limit is off by one",
        "the largest message allowed passes and one byte more is refused",
        || {
            let provider = FaultyProvider::new(memory(), Faults::new());
            subject(provider.with_capabilities(|capabilities| capabilities.max_message_bytes += 1))
        },
    ),
    Mutant::new(
        "a large body is cut short",
        "the largest message allowed passes and one byte more is refused",
        || with_messages(|message| message.payload.truncate(1 << 16)),
    ),
    Mutant::new(
        "one bad message fails its batch",
        "a message that is refused takes nothing of its batch with it",
        || {
            let spoil = |batch: &mut Vec<Message>| {
                let largest = batch.iter().map(|message| message.payload.clone()).max_by_key(Bytes::len);
                if let Some(largest) = largest.filter(|largest| largest.len() > 1 << 20) {
                    batch.iter_mut().for_each(|message| message.payload = largest.clone());
                }
            };
            with(Operation::Publish, Fault::edit_messages(spoil))
        },
    ),
    Mutant::new(
        "what a dropped receive had taken is lost",
        "a receive that is dropped loses nothing",
        || with(Operation::Receive, Fault::DelayAnswer(Duration::from_millis(1))),
    ),
];

fn repeat_first(deliveries: &mut [Delivery]) {
    if let [first, .., last] = deliveries {
        *last = first.clone();
    }
}

fn edit_values(headers: &mut Headers, edit: impl Fn(&str) -> String) {
    let edited = headers.iter().map(|(name, value)| match value.as_str() {
        Some(text) => (name.to_owned(), edit(text).into()),
        None => (name.to_owned(), value.clone()),
    });
    *headers = edited.collect();
}

fn lossy(bytes: &Bytes) -> Bytes {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn fresh_group() -> std::sync::Arc<str> {
    format!("group-{:x}", fastrand::u64(..)).into()
}
