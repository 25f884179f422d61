//! Beginnings and ends that go wrong.

use crate::Mutant;
use crate::broken::{TOO_LONG, config, memory, release_is_ack, subject, with, with_rules, with_verdicts};
use async_trait::async_trait;
use ductape_core::broker::Provision;
use ductape_core::{Broker, ConnectOptions, Error, Provider, ProviderConfig, ProviderKind, Result, Verdict};
use ductape_testkit::fault::{Calls, Fault, Operation, Rule};
use std::sync::Arc;
use std::time::Duration;

/// Longer than a stop may take.
const AGES: Duration = Duration::from_secs(15);

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "what is given back at a stop is lost",
        "a worker stopped in the middle of a backlog and started again misses nothing",
        || with_verdicts(release_is_ack),
    ),
    Mutant::new(
        "a close blocks its thread",
        "a stop ends in its time while the broker takes no verdict",
        || with(Operation::CloseConsumer, Fault::Block(AGES)),
    ),
    Mutant::new(
        "a receive that waits blocks its thread",
        "a stop ends in its time while the broker closes no consumer",
        || with_rules([Rule::new(Operation::Receive, Fault::Block(AGES)).calls(Calls::After(1))]),
    ),
    Mutant::new("every verdict is an ack", "a subscription that is dropped gives back what it holds", || {
        with_verdicts(|verdict| *verdict = Verdict::Ack)
    }),
    Mutant::new(
        "a group ends with its last member",
        "a group keeps what comes while it has no members",
        || {
            let fresh = || format!("group-{:x}", fastrand::u64(..));
            with(Operation::OpenConsumer, Fault::edit_options(move |options| options.group = fresh().into()))
        },
    ),
    Mutant::new("a second close fails", "many closes at once all succeed, and so does another", || {
        let failed = Fault::fail(Error::closed("the consumer"));
        with_rules([Rule::new(Operation::CloseConsumer, failed).calls(Calls::After(1))])
    }),
    Mutant::new("a close leaves a receive waiting", "a close ends a receive that waits", || {
        with(Operation::Receive, Fault::Delay(TOO_LONG))
    }),
    Mutant::new(
        "a closed connection still makes destinations",
        "what is used after its close is refused as CLOSED",
        || with_rules([Rule::new(Operation::Ensure, Fault::Pretend).calls(Calls::After(1))]),
    ),
    Mutant::new("ping lies", "a ping is answered until the connection is closed", || {
        with(Operation::Ping, Fault::Pretend)
    }),
    Mutant::new(
        "a missing destination is taken for there",
        "a missing destination is DESTINATION_NOT_FOUND under `provision: verify`, and is not made",
        || {
            let missing = Rule::new(Operation::Ensure, Fault::Pretend);
            with_rules([missing.on(|name| name.contains("missing"))])
        },
    ),
    Mutant::new(
        "what is missing is made",
        "a missing destination is DESTINATION_NOT_FOUND under `provision: verify`, and is not made",
        || {
            let make = Fault::edit_destination(|place| place.provision = Provision::Create);
            with(Operation::Ensure, make)
        },
    ),
    Mutant::new(
        "looking sees nothing",
        "looking at a destination counts what waits and touches nothing",
        || with(Operation::Inspect, Fault::Pretend),
    ),
    Mutant::new(
        "a group is not deleted",
        "a group that is deleted is gone with what waited for it, or deleting is UNSUPPORTED",
        || with(Operation::DeleteGroup, Fault::Pretend),
    ),
    Mutant::new(
        "a config is not looked at",
        "a config that cannot work is refused with its own error and with help",
        || subject(Careless),
    ),
    Mutant::new(
        "a refusal gives no help",
        "a config that cannot work is refused with its own error and with help",
        || {
            let short = Error::new(ductape_core::ErrorKind::ConfigInvalid, "no");
            with_rules([Rule::new(Operation::Connect, Fault::fail(short)).calls(Calls::After(1))])
        },
    ),
];

/// Connects with its own idea of a config.
struct Careless;

#[async_trait]
impl Provider for Careless {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Memory
    }

    async fn connect(&self, _: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        memory().connect(&ProviderConfig::Memory(config()), options).await
    }
}
