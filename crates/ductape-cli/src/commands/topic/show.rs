//! `ductape topic show`: where a topic leads, who reads it and how far behind, and what its provider can do.

use super::super::capabilities;
use crate::failure::{Outcome, note};
use crate::open;
use crate::run::Context;
use crate::table::Table;
use crate::terminal::{HEADING, styled};
use clap::Args;
use ductape::catalogue::Route;
use ductape::client::EventInspection;
use ductape::{Capabilities, ErrorKind};
use serde_json::{Value, json};

/// Show a topic's destination, its groups with their lag, its dead letters, and what its provider can do
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic show order-events:new-orders
  ductape topic show order-events:new-orders --env prd --json | jq '.groups[] | {name, lag}'")]
pub(crate) struct Show {
    /// Its event
    event: String,
}

pub(crate) async fn run(context: &Context, arguments: &Show) -> Outcome {
    let client = open::client(&context.global).await?;
    let env = open::env_of(&context.global, &client, &arguments.event).await?;
    let route = client.route(None, &arguments.event, Some(&env)).await?;
    let capabilities = client.capabilities(&arguments.event, Some(&env)).await?;
    let inspection = match client.inspect(&arguments.event, Some(&env)).await {
        Ok(inspection) => Some(inspection),
        Err(error) if error.kind() == ErrorKind::DestinationNotFound => None,
        Err(error) => return Err(error.into()),
    };
    client.close().await?;
    match context.output.is_json() {
        true => context.output.json(&object(&route, inspection.as_ref(), &capabilities)),
        false => print(context, &route, inspection.as_ref(), &capabilities),
    }
}

fn object(route: &Route, inspection: Option<&EventInspection>, capabilities: &Capabilities) -> Value {
    let destination = inspection.map(|seen| &seen.destination);
    let mut object = json!({
        "event": route.event.as_str(),
        "env": route.env,
        "provider": route.config.kind(),
        "destination": &*route.destination.name,
        "exists": inspection.is_some(),
        "defaultGroup": &*route.destination.default_group,
        "messages": destination.and_then(|seen| seen.messages),
        "bytes": destination.and_then(|seen| seen.bytes),
        "groups": destination.map_or(&[][..], |seen| &seen.groups),
        "deadLetters": inspection.map_or(Some(0), |seen| seen.dead_letters),
        "deadLetterDestination": &*route.dead_letters().name,
        "capabilities": capabilities,
        "topic": super::shown(&route.event, &route.topic),
    });
    if let Some(seen) = destination.filter(|seen| !seen.notes.is_empty()) {
        object["notes"] = json!(seen.notes);
    }
    object
}

fn print(
    context: &Context,
    route: &Route,
    inspection: Option<&EventInspection>,
    capabilities: &Capabilities,
) -> Outcome {
    let known =
        |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    let mut lines = vec![
        ("event", route.event.to_string()),
        ("env", route.env.to_string()),
        ("provider", route.config.kind().to_string()),
        ("destination", route.destination.name.to_string()),
    ];
    if let Some(seen) = inspection {
        lines.push(("messages", known(seen.destination.messages)));
        lines.push(("bytes", known(seen.destination.bytes)));
        lines
            .push(("dead letters", format!("{} in {}", known(seen.dead_letters), route.dead_letters().name)));
        lines.extend(seen.destination.notes.iter().map(|note| ("note", note.clone())));
    }
    let text: String = lines
        .iter()
        .map(|(name, value)| format!("{} {value}\n", styled(HEADING, &format!("{name}:"))))
        .collect();
    context.output.text(&text)?;
    match inspection {
        Some(seen) => context.output.table(&groups(seen))?,
        None => note(context.format(), "the destination is not there yet; the first publish makes it"),
    }
    let cells = capabilities::HEADINGS.into_iter().zip(capabilities::cells(capabilities));
    let can: Vec<_> = cells.map(|(name, value)| format!("{} {value}", name.to_lowercase())).collect();
    context.output.line(&format!("{} {}", styled(HEADING, "can:"), can.join("; ")))
}

fn groups(seen: &EventInspection) -> Table {
    let mut table = Table::new(["GROUP", "LAG", "IN HAND", "MEMBERS"]);
    for group in &seen.destination.groups {
        let known = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let (lag, members) = (known(group.lag), known(group.members));
        table.row([group.name.clone(), lag, group.in_flight.to_string(), members]);
    }
    table
}
