//! Secrets that are shown.

use crate::Mutant;
use crate::broken::{config, memory, subject, with, with_messages};
use async_trait::async_trait;
use ductape_core::config::MemoryConfig;
use ductape_core::{
    Broker, ConnectOptions, Error, ErrorKind, Provider, ProviderConfig, ProviderKind, Result,
};
use ductape_testkit::conformance::Subject;
use ductape_testkit::fault::{Fault, Operation};
use std::sync::Arc;

const PASSWORD: &str = "correct-horse-battery-staple";

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "a password stands in a field that is not a secret",
        "nothing that can be shown by Debug shows a secret",
        || {
            let config = MemoryConfig { name: PASSWORD.into(), ..config() };
            Subject::new(memory(), ProviderConfig::Memory(config)).with_secret(PASSWORD)
        },
    ),
    Mutant::new("an error quotes the password", "no error shows a secret", || {
        let error = Error::new(ErrorKind::DestinationNotFound, format!("refused for {PASSWORD}"));
        with(Operation::Inspect, Fault::fail(error)).with_secret(PASSWORD)
    }),
    Mutant::new("an error's context holds the password", "no error shows a secret", || {
        let error =
            Error::closed("the connection").with_context("url", format!("broker://me:{PASSWORD}@host"));
        with(Operation::Ping, Fault::fail(error)).with_secret(PASSWORD)
    }),
    Mutant::new("a connection logs its password", "no log shows a secret", || {
        subject(Talkative).with_secret(PASSWORD)
    }),
    Mutant::new(
        "the token of a session travels as a header",
        "a session's token stays behind when its message travels",
        || {
            // The signature of the suite's own token.
            let token = "zt8s0qUIzLVQnxhstiqK6gqTj6i9fFNFEnnQB0yMFzs";
            with_messages(move |message| message.headers.insert("authorization", token))
        },
    ),
];

/// Tells its log too much.
struct Talkative;

#[async_trait]
impl Provider for Talkative {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Memory
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        tracing::debug!(password = PASSWORD, "connecting");
        memory().connect(config, options).await
    }
}
