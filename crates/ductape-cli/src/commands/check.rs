//! `ductape check`: whether the catalogue is sound, and where each topic leads.

use crate::failure::{self, Failure, Outcome, message, note};
use crate::open;
use crate::run::Context;
use crate::table::Table;
use crate::terminal::{BAD, WARNING, styled};
use clap::Args;
use ductape::catalogue::{BrokerEntry, EnvEntry};
use ductape::{Catalogue, Ductape, Error};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// Read the catalogue, and print where each topic leads in each env
///
/// Secrets are resolved and never shown. One that is missing in the env in use (`--env`, else DUCTAPE_ENV, else
/// `dev`) is a fault; elsewhere it is a warning, since a developer's machine need not know those of production.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape check
  ductape check --env prd         in CI, with the secrets of prd
  ductape check --json | jq -r '.topics[].destination'")]
pub(crate) struct Arguments {}

/// Where a topic leads in one env.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    event: String,
    env: String,
    provider: &'static str,
    destination: String,
    group: String,
    dead_letters: String,
}

/// Something that is not as it should be.
#[derive(Debug)]
struct Finding {
    error: Error,
    /// Whether it is a fault of the env in use.
    fault: bool,
}

pub(crate) async fn run(context: &Context, _: &Arguments) -> Outcome {
    let path = open::path(&context.global)?;
    let client = open::client_of(&context.global, &path).await?;
    let catalogue = client.catalogue().await?;
    let envs = open::envs(&context.global, &catalogue)?;
    let places = places(&catalogue, &envs)?;
    let findings = findings(context, &client, &catalogue, &envs, &open::folder(&path));
    match context.output.is_json() {
        true => context.output.json(&report(&path, &catalogue, &places, &findings))?,
        false => print(context, &path, &catalogue, &places, &findings)?,
    }
    match findings.iter().any(|finding| finding.fault) {
        true => Err(Failure::Said),
        false => Ok(()),
    }
}

fn places(catalogue: &Catalogue, envs: &[(&BrokerEntry, &EnvEntry)]) -> Outcome<Vec<Place>> {
    let mut places = Vec::new();
    for (broker, entry) in envs {
        for (event, _) in broker.events() {
            let route = catalogue.route(&event, entry.slug.as_str())?;
            places.push(Place {
                event: event.to_string(),
                env: entry.slug.to_string(),
                provider: entry.kind.as_str(),
                destination: route.destination.name.to_string(),
                group: route.destination.default_group.to_string(),
                dead_letters: route.dead_letters().name.to_string(),
            });
        }
    }
    Ok(places)
}

fn findings(
    context: &Context,
    client: &Ductape,
    catalogue: &Catalogue,
    envs: &[(&BrokerEntry, &EnvEntry)],
    folder: &Path,
) -> Vec<Finding> {
    let in_use = open::env(&context.global).unwrap_or("dev");
    let mut findings = Vec::new();
    for (broker, entry) in envs {
        let fault = entry.slug.as_str() == in_use;
        let mut found = |error: Error| {
            let error = error.with_context("broker", &broker.tag).with_context("env", &entry.slug);
            findings.push(Finding { error, fault });
        };
        if let Err(error) = entry.config.resolve(folder) {
            found(error);
        }
        if !client.providers().contains(&entry.kind) {
            found(not_compiled_in(entry));
        }
    }
    let sessions = catalogue.sessions.iter().filter_map(|session| {
        let error = session.spec(folder).err()?.with_context("session", &session.tag);
        Some(Finding { error, fault: false })
    });
    findings.extend(sessions);
    findings
}

/// What is said of an env whose provider this build does not have.
pub(crate) fn not_compiled_in(entry: &EnvEntry) -> Error {
    let feature = entry.kind.feature();
    let what = format!("{} is not compiled into this `ductape`", entry.kind);
    Error::new(ductape::ErrorKind::ProviderNotEnabled, what)
        .with_help(format!("install it with `cargo install ductape-cli --features {feature}`"))
}

fn report(path: &Path, catalogue: &Catalogue, places: &[Place], findings: &[Finding]) -> Value {
    let of = |fault: bool| -> Vec<Value> {
        let chosen = findings.iter().filter(|finding| finding.fault == fault);
        chosen.map(|finding| failure::object(&finding.error).into()).collect()
    };
    json!({
        "file": path,
        "product": catalogue.product,
        "topics": places,
        "faults": of(true),
        "warnings": of(false),
    })
}

fn print(
    context: &Context,
    path: &Path,
    catalogue: &Catalogue,
    places: &[Place],
    findings: &[Finding],
) -> Outcome {
    let mut table = Table::new(["EVENT", "ENV", "PROVIDER", "DESTINATION", "GROUP"]);
    for place in places {
        table.row([&*place.event, &place.env, place.provider, &place.destination, &place.group]);
    }
    context.output.table(&table)?;
    for Finding { error, fault } in findings {
        let (style, word) = if *fault { (BAD, "fault:") } else { (WARNING, "warning:") };
        let place: Vec<_> = error.contexts().map(|(name, value)| format!("{name} {value}")).collect();
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        let line = format!("{} {} ({}){help}\n", styled(style, word), message(error), place.join(", "));
        // Where standard error is gone there is nobody to tell.
        let _ = std::io::Write::write_all(&mut anstream::stderr(), line.as_bytes());
    }
    if findings.iter().all(|finding| !finding.fault) {
        let sound = format!("{} is sound: product `{}`", path.display(), catalogue.product);
        note(context.format(), &sound);
    }
    Ok(())
}
