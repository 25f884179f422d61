//! How mutants are made.

use bytes::Bytes;
use ductape_core::config::MemoryConfig;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    ConnectOptions, Destination, ErrorKind, Message, Provider, ProviderConfig, Settlement, Timestamp, Verdict,
};
use ductape_memory::MemoryProvider;
use ductape_testkit::conformance::Subject;
use ductape_testkit::fault::{Fault, Faults, FaultyProvider, Operation, Rule};
use std::error::Error as StdError;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How long a property waits for what does not come.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);
/// Longer than any property waits for one thing.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(4);

/// All mutants share the messages of one provider, so that foreign ones reach them all; names keep them apart.
static MEMORY: LazyLock<MemoryProvider> = LazyLock::new(MemoryProvider::isolated);

pub(crate) fn memory() -> MemoryProvider {
    MEMORY.clone()
}

pub(crate) fn config() -> MemoryConfig {
    // Small, so that the largest message takes no time.
    MemoryConfig { max_bytes: 1 << 20, ..MemoryConfig::default() }
}

/// The suite's subject for a provider over MEMORY, with little patience.
pub(crate) fn subject(provider: impl Provider) -> Subject {
    let nothing_fits = ProviderConfig::Memory(MemoryConfig { max_bytes: 0, ..config() });
    Subject::new(provider, ProviderConfig::Memory(config()))
        .with_patience(PATIENCE)
        .with_quiet(Duration::from_millis(80))
        .with_lease(Some(Duration::from_millis(400)))
        .with_foreign_publish(publish_foreign)
        .with_refused(nothing_fits, ErrorKind::ConfigInvalid)
}

/// Past every rule, and with no metadata that Ductape would have written.
async fn publish_foreign(place: Destination, body: Bytes) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let config = ProviderConfig::Memory(config());
    let broker = memory().connect(&config, &ConnectOptions::default()).await?;
    let attributes = Attributes { source: "elsewhere".into(), event: "".into(), content_type: "".into() };
    let id = IdSource::new().next(Timestamp::default());
    let message = Message::new(body, id, Timestamp::default(), Arc::new(attributes));
    for result in broker.publisher(&place).await?.publish(vec![message]).await {
        result?;
    }
    Ok(())
}

/// MEMORY with these rules over it.
pub(crate) fn with_rules(rules: impl IntoIterator<Item = Rule>) -> Subject {
    let faults = Faults::new();
    rules.into_iter().for_each(|rule| faults.add(rule));
    subject(FaultyProvider::new(memory(), faults))
}

/// MEMORY with one fault on every call of an operation.
pub(crate) fn with(operation: Operation, fault: Fault) -> Subject {
    with_rules([Rule::new(operation, fault)])
}

/// MEMORY that changes each message on its way in.
pub(crate) fn with_messages(edit: impl Fn(&mut Message) + Send + Sync + 'static) -> Subject {
    with(Operation::Publish, each_message(edit))
}

pub(crate) fn each_message(edit: impl Fn(&mut Message) + Send + Sync + 'static) -> Fault {
    Fault::edit_messages(move |batch| batch.iter_mut().for_each(&edit))
}

/// MEMORY that changes the messages of dead-letter destinations on their way in.
pub(crate) fn with_letters(edit: impl Fn(&mut Message) + Send + Sync + 'static) -> Subject {
    with_messages(move |message| {
        if message.dead_letter().is_some() {
            edit(message);
        }
    })
}

/// MEMORY that takes verdicts for others.
pub(crate) fn with_verdicts(edit: impl Fn(&mut Verdict) + Send + Sync + 'static) -> Subject {
    let each = move |settlement: &mut Settlement| edit(&mut settlement.verdict);
    with(Operation::Settle, Fault::edit_settlements(move |batch| batch.iter_mut().for_each(&each)))
}

pub(crate) fn release_is_ack(verdict: &mut Verdict) {
    if *verdict == Verdict::Release {
        *verdict = Verdict::Ack;
    }
}

pub(crate) fn retry_is_ack(verdict: &mut Verdict) {
    if matches!(verdict, Verdict::Retry(_)) {
        *verdict = Verdict::Ack;
    }
}

/// MEMORY that forgets every key, and with it the order.
pub(crate) fn without_keys() -> Subject {
    with_messages(|message| message.key = None)
}

/// MEMORY that counts no attempts.
pub(crate) fn without_attempts() -> Subject {
    let first = Fault::edit_deliveries(|all| all.iter_mut().for_each(|delivery| delivery.attempt = 1));
    with(Operation::Receive, first)
}
