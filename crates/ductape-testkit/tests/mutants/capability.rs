//! Capabilities that promise what is not so.

use crate::Mutant;
use crate::broken::{memory, subject, with, with_messages};
use ductape_core::message::HeaderValue;
use ductape_core::{Capabilities, Headers, Start};
use ductape_testkit::conformance::Subject;
use ductape_testkit::fault::{Fault, Faults, FaultyProvider, Operation};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "a redelivery does not wait",
        "a retry waits for its time, whether the provider can delay or the worker must",
        || with(Operation::Receive, Fault::Duplicate),
    ),
    Mutant::new(
        "a new group is never given what is kept",
        "a new group starts with the earliest that is kept, or asking for it is UNSUPPORTED",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.start = Start::Latest)),
    ),
    Mutant::new(
        "a new group is always given what is kept",
        "a new group starts with what is published from then on",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.start = Start::Earliest)),
    ),
    Mutant::new(
        "all groups are one",
        "a second group is served, or is UNSUPPORTED to whoever subscribes as one",
        || with(Operation::OpenConsumer, Fault::edit_options(|options| options.group = "one".into())),
    ),
    Mutant::new(
        "an ordered destination is not",
        "a destination that is asked for order keeps it, or asking is UNSUPPORTED",
        || with(Operation::Publish, Fault::Reorder),
    ),
    Mutant::new(
        "the size limit is one too high",
        "a payload as large as is allowed passes through a client and a larger one is MESSAGE_TOO_LARGE",
        || with_capabilities(|capabilities| capabilities.max_message_bytes += 1),
    ),
    Mutant::new(
        "a header too many is dropped",
        "as many headers as are allowed arrive, and one more is MESSAGE_INVALID",
        || with_messages(|message| message.headers.remove("x-99")),
    ),
    Mutant::new(
        "header values are made UTF-8",
        "header values of any bytes arrive as they are, or are MESSAGE_INVALID",
        || with_messages(|message| message.headers = lossy(&message.headers)),
    ),
    Mutant::new(
        "the last of two headers of one name stays",
        "headers of one name arrive in their order, or are MESSAGE_INVALID",
        || with_messages(|message| message.headers = unique(&message.headers)),
    ),
    Mutant::new(
        "every look at the capabilities gives others",
        "capabilities are the same on every connection",
        || {
            let looks = AtomicUsize::new(0);
            with_capabilities(move |capabilities| {
                capabilities.max_message_bytes -= looks.fetch_add(1, Ordering::Relaxed);
            })
        },
    ),
];

fn with_capabilities(edit: impl Fn(&mut Capabilities) + Send + Sync + 'static) -> Subject {
    subject(FaultyProvider::new(memory(), Faults::new()).with_capabilities(edit))
}

fn lossy(headers: &Headers) -> Headers {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
}

fn unique(headers: &Headers) -> Headers {
    let mut unique = Headers::default();
    headers.iter().for_each(|(name, value)| unique.insert(name.to_owned(), value.clone()));
    unique
}
