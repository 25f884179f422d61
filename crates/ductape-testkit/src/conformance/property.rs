//! A property: a sentence about brokers, and the code that tries it.

use super::fixture::Fixture;
use super::outcome::Outcome;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// The part of the contract that a property is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// What is published arrives, as it was.
    Delivery,
    /// What is said about a delivery holds.
    Settlement,
    /// Messages of one key keep their order.
    Order,
    /// Failing handlers and dead letters.
    Failure,
    /// Opening, stopping, closing, looking.
    Lifecycle,
    /// What the capabilities promise, and what they do not.
    Capability,
    /// Nothing shows a secret.
    Secrets,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Delivery => "delivery",
            Section::Settlement => "settlement",
            Section::Order => "order",
            Section::Failure => "failure",
            Section::Lifecycle => "lifecycle",
            Section::Capability => "capability",
            Section::Secrets => "secrets",
        })
    }
}

pub(super) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One property. Its name is `section: sentence`.
pub(super) struct Property {
    pub(super) section: Section,
    pub(super) sentence: &'static str,
    pub(super) run: fn(Fixture) -> Running,
    /// Whether it holds of a destination that keeps nothing (`FireAndForget`).
    pub(super) without_keeping: bool,
}

impl Property {
    pub(super) const fn new(section: Section, sentence: &'static str, run: fn(Fixture) -> Running) -> Self {
        Property { section, sentence, run, without_keeping: false }
    }

    /// Says that it holds also where the destination keeps nothing.
    pub(super) const fn without_keeping(mut self) -> Self {
        self.without_keeping = true;
        self
    }

    pub(super) fn name(&self) -> String {
        format!("{}: {}", self.section, self.sentence)
    }
}

/// Every property, in the order of the sections.
pub(super) fn all() -> Vec<&'static Property> {
    [
        super::delivery::PROPERTIES,
        super::settlement::PROPERTIES,
        super::stress::PROPERTIES,
        super::order::PROPERTIES,
        super::failure::PROPERTIES,
        super::lifecycle::PROPERTIES,
        super::capability::PROPERTIES,
        super::secrets::PROPERTIES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
