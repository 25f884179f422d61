//! Each property of the suite can fail: for each there is a broker that is broken on purpose, and that the property
//! catches by its name.
//!
//! A mutant is MEMORY with rules of [`ductape_testkit::fault`] over it, or with a provider of its own around it.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod broken;
mod capability;
mod delivery;
mod failure;
mod lifecycle;
mod order;
mod secrets;
mod settlement;

use broken::{memory, subject};
use ductape_core::capability::{Attempts, Delay, Groups, HeaderNames, HeaderValues, Ordering, Replay};
use ductape_core::{Error, ProviderKind};
use ductape_testkit::conformance::{Report, Section, Selection, Status, Subject, Suite};
use ductape_testkit::fault::{Fault, Faults, FaultyProvider, Operation, Rule};
use futures_util::stream::{self, StreamExt};
use std::collections::HashSet;
use std::future::Future;

/// A broker that breaks one promise.
struct Mutant {
    /// What is wrong with it.
    fault: &'static str,
    /// The sentence of the property that sees it.
    caught_by: &'static str,
    subject: fn() -> Subject,
}

impl Mutant {
    const fn new(fault: &'static str, caught_by: &'static str, subject: fn() -> Subject) -> Self {
        Mutant { fault, caught_by, subject }
    }

    /// Runs the one property against it; what went wrong with that, if something did.
    async fn escape(&self) -> Option<String> {
        let report = Suite::new((self.subject)()).run(&Selection::word(self.caught_by)).await;
        match report.properties.iter().find(|property| property.sentence == self.caught_by) {
            Some(property) if matches!(property.status, Status::Failed { .. }) => None,
            Some(property) => Some(format!("{}: {property}", self.fault)),
            None => Some(format!("{}: there is no property `{}`", self.fault, self.caught_by)),
        }
    }
}

fn mutants() -> impl Iterator<Item = &'static Mutant> {
    let all = [
        delivery::MUTANTS,
        settlement::MUTANTS,
        order::MUTANTS,
        failure::MUTANTS,
        lifecycle::MUTANTS,
        capability::MUTANTS,
        secrets::MUTANTS,
    ];
    all.into_iter().flatten()
}

/// Mutants that are tried at once: most of them wait.
const AT_ONCE: usize = 24;

/// A runtime that does not wait for the threads that a mutant left blocked.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_all().build().unwrap();
    let output = runtime.block_on(work);
    runtime.shutdown_background();
    output
}

#[test]
fn every_mutant_is_caught_by_its_property() {
    let escaped: Vec<_> = run(stream::iter(mutants())
        .map(Mutant::escape)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |escape| escape)
        .collect());
    assert!(escaped.is_empty(), "mutants that are not caught:\n{}", escaped.join("\n"));
}

#[test]
fn every_property_has_a_mutant() {
    let caught: HashSet<_> = mutants().map(|mutant| mutant.caught_by).collect();
    let without: Vec<_> =
        Suite::sentences().into_iter().filter(|property| !caught.contains(property)).collect();
    assert!(without.is_empty(), "properties that no mutant breaks:\n{}", without.join("\n"));
}

fn assert_all_passed(report: &Report) {
    let others: Vec<_> = report.properties.iter().filter(|p| p.status != Status::Passed).collect();
    assert!(others.is_empty(), "{}", others.iter().map(|p| format!("{p}\n")).collect::<String>());
}

#[test]
fn the_provider_under_the_mutants_passes_everything() {
    assert_all_passed(&run(Suite::new(subject(memory())).run(&Selection::default())));
}

#[test]
fn a_provider_that_can_do_less_and_says_so_passes() {
    let faults = Faults::new();
    let one_group = Error::unsupported(ProviderKind::Memory, "deleting a group");
    faults.add(Rule::new(Operation::DeleteGroup, Fault::fail(one_group)));
    let provider = FaultyProvider::new(memory(), faults).with_capabilities(|capabilities| {
        capabilities.ordering = Ordering::None;
        capabilities.groups = Groups::One;
        capabilities.replay = Replay::None;
        capabilities.delay = Delay::None;
        capabilities.attempts = Attempts::Forgotten;
        capabilities.header_values = HeaderValues::Text;
        capabilities.header_names = HeaderNames::Unique;
        capabilities.max_headers = Some(5);
        capabilities.max_message_bytes = 10_000;
    });
    let report = run(Suite::new(subject(provider)).run(&Selection::default()));
    assert!(report.is_ok(), "{}", report.failed().join("\n"));
    let skipped = report.properties.iter().filter(|p| matches!(p.status, Status::Skipped { .. }));
    let skipped: Vec<_> = skipped.map(|property| (property.section, property.sentence)).collect();
    let expected = [
        (Section::Settlement, "a delayed retry does not come back before its time"),
        (Section::Failure, "the attempt number survives its consumer"),
    ];
    assert_eq!(skipped, expected);
}
