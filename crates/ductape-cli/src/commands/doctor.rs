//! `ductape doctor`: what is broken, and how to mend it.
//!
//! ```text
//!  each broker and env, in a thread of its own:
//!     compiled in · secrets · resolve ─▶ connect      (by our own means)
//!                             authenticate · round trip · destination · groups · dead letters   (by the provider's)
//!  ─▶ findings, as they come ─▶ whatever has not answered by the deadline is told as such
//! ```
//!
//! A thread each, since a provider that hangs may hang in a call that no runtime can take back.

mod embedded;
mod endpoint;
mod examine;
mod finding;

use crate::failure::{Failure, Outcome};
use crate::open;
use crate::run::Context;
use crate::table::Table;
use crate::terminal::{BAD, FAINT, GOOD, WARNING, styled};
use clap::Args;
use ductape::catalogue::SessionEntry;
use ductape::session::SessionVerifier;
use examine::Patient;
use finding::{Finding, State};
use serde_json::json;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// When all that has not answered is told as hanging.
const DEADLINE: Duration = Duration::from_secs(8);

/// Check each broker in each env, and say for each fault how to mend it
///
/// Looks whether the provider is compiled in, its secrets are there, its host resolves and answers, it takes the
/// credentials, each destination is there, who lags, and whether there are dead letters. Nothing is made or changed.
/// All is checked side by side, and told after ten seconds at most. Exit code 1 where there is a fault.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape doctor
  ductape doctor --env prd
  ductape doctor --json | jq '.checks[] | select(.state == \"fault\")'")]
pub(crate) struct Arguments {}

pub(crate) async fn run(context: &Context, _: &Arguments) -> Outcome {
    let begun = Instant::now();
    let path = open::path(&context.global)?;
    let catalogue = open::client_of(&context.global, &path).await?.catalogue().await?;
    let folder = open::folder(&path);
    let mut patients = Vec::new();
    for (broker, entry) in open::envs(&context.global, &catalogue)? {
        patients.push(Patient::new(&catalogue, broker, entry, &folder));
    }
    let mut findings = examined(patients, begun);
    findings.extend(catalogue.sessions.iter().map(|session| examine_session(session, &folder)));
    tell(context, &path, &findings)?;
    match findings.iter().any(|finding| finding.state == State::Fault) {
        true => Err(Failure::Said),
        false => Ok(()),
    }
}

/// The findings of all, in the order of the catalogue.
fn examined(patients: Vec<Patient>, begun: Instant) -> Vec<Finding> {
    let (sender, findings) = mpsc::channel();
    let mut found: Vec<Vec<Finding>> = patients.iter().map(|_| Vec::new()).collect();
    let mut open: Vec<Option<Finding>> =
        patients.iter().map(|patient| Some(patient.hanging(DEADLINE))).collect();
    for (index, patient) in patients.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            patient.examine(&|finding| drop(sender.send((index, Some(finding)))));
            // Whoever waited may have given up.
            drop(sender.send((index, None)));
        });
    }
    drop(sender);
    while open.iter().any(Option::is_some) {
        let left = DEADLINE.saturating_sub(begun.elapsed());
        match findings.recv_timeout(left) {
            Ok((index, Some(finding))) => found[index].push(finding),
            Ok((index, None)) => open[index] = None,
            Err(_) => break,
        }
    }
    let order = |mut findings: Vec<Finding>, hanging: Option<Finding>| {
        findings.sort_by_key(Finding::place);
        findings.into_iter().chain(hanging)
    };
    found.into_iter().zip(open).flat_map(|(findings, hanging)| order(findings, hanging)).collect()
}

fn examine_session(session: &SessionEntry, folder: &Path) -> Finding {
    let finding = Finding::new("", "", "session", &session.tag);
    match session.spec(folder).and_then(SessionVerifier::new) {
        Ok(_) => finding.good("its key is there"),
        Err(error) => finding.fault_of(&error),
    }
}

fn tell(context: &Context, path: &Path, findings: &[Finding]) -> Outcome {
    let faults = findings.iter().filter(|finding| finding.state == State::Fault).count();
    if context.output.is_json() {
        return context.output.json(&json!({ "file": path, "faults": faults, "checks": findings }));
    }
    let mut table = Table::new(["", "BROKER", "ENV", "CHECK", "FOUND"]);
    for finding in findings {
        let fix = finding.fix.as_ref().map(|fix| format!(" — {fix}")).unwrap_or_default();
        let check = match finding.subject.is_empty() {
            true => finding.check.to_owned(),
            false => format!("{} {}", finding.check, finding.subject),
        };
        let found = format!("{}{fix}", finding.found);
        table.row([finding.state.as_str(), &finding.broker, &finding.env, &check, &found]);
    }
    context.output.table(&table.with_first_styled(|word| match word {
        "ok" => styled(GOOD, word),
        "warning" => styled(WARNING, word),
        "fault" => styled(BAD, word),
        _ => styled(FAINT, word),
    }))
}
