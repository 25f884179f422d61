//! `ductape providers`: what there is, what is compiled in, and what each can do.

use super::capabilities;
use crate::failure::{Failure, Outcome};
use crate::run::Context;
use crate::table::Table;
use clap::Args;
use ductape::{Capabilities, Catalogue, Ductape, ProviderKind};
use serde_json::{Value, json};

/// Print what each provider can do, and whether it is compiled in
///
/// What a provider with a server can do may depend on the server: `ductape topic show EVENT` asks it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape providers
  ductape providers --json | jq -r '.providers[] | select(.compiledIn) | .type'")]
pub(crate) struct Arguments {}

/// One line of the table.
#[derive(Debug)]
struct Provider {
    kind: ProviderKind,
    compiled_in: bool,
    /// Of those that need no server.
    capabilities: Option<Capabilities>,
}

pub(crate) async fn run(context: &Context, _: &Arguments) -> Outcome {
    let providers = providers().await?;
    if context.output.is_json() {
        let list: Vec<Value> = providers.iter().map(object).collect();
        return context.output.json(&json!({ "providers": list }));
    }
    let headings = ["TYPE", "FEATURE", "COMPILED IN"].into_iter().chain(capabilities::HEADINGS);
    let mut table = Table::new(headings);
    for provider in &providers {
        let known = match &provider.capabilities {
            Some(known) => capabilities::cells(known),
            None => capabilities::HEADINGS.map(|_| "?".to_owned()),
        };
        let compiled_in = if provider.compiled_in { "yes" } else { "no" };
        let head = [provider.kind.as_str(), provider.kind.feature(), compiled_in].map(str::to_owned);
        table.row(head.into_iter().chain(known));
    }
    context.output.table(&table)
}

fn object(provider: &Provider) -> Value {
    json!({
        "type": provider.kind,
        "feature": provider.kind.feature(),
        "compiledIn": provider.compiled_in,
        "capabilities": provider.capabilities,
    })
}

/// Those that need no server are opened, in a folder that goes away, and asked.
async fn providers() -> Outcome<Vec<Provider>> {
    let folder = tempfile::tempdir().map_err(|error| {
        Failure::io("no temporary folder can be made", error, "see that TMPDIR may be written to")
    })?;
    let client = Ductape::in_memory(catalogue(&folder.path().join("providers.db"))?).build().await?;
    let compiled_in = client.providers();
    let mut providers = Vec::new();
    for kind in ProviderKind::ALL {
        let compiled_in = compiled_in.contains(&kind);
        let capabilities = match kind {
            ProviderKind::Memory | ProviderKind::Sqlite if compiled_in => {
                Some(client.capabilities("own:topic", Some(kind.as_str())).await?)
            }
            _ => None,
        };
        providers.push(Provider { kind, compiled_in, capabilities });
    }
    client.close().await?;
    Ok(providers)
}

/// A catalogue with an env for each provider that needs no server, called as it is.
fn catalogue(file: &std::path::Path) -> Outcome<Catalogue> {
    let env = |kind: ProviderKind, config: Value| json!({ "slug": kind, "type": kind, "config": config });
    let envs = [env(ProviderKind::Memory, json!({})), env(ProviderKind::Sqlite, json!({ "path": file }))];
    let broker = json!({
        "name": "Own", "tag": "own", "envs": envs, "topics": [{ "name": "Topic", "tag": "topic" }],
    });
    Ok(Catalogue::from_json(&json!({ "product": "own", "brokers": [broker] }).to_string())?)
}
