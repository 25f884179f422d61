//! `ductape apply`: brings another catalogue's brokers and topics into this one.

use crate::failure::{Failure, Outcome, note};
use crate::open;
use crate::run::Context;
use crate::terminal::{BAD, GOOD, WARNING, styled};
use clap::Args;
use ductape::Catalogue;
use ductape::catalogue::{Diff, FileStore, Store};
use serde_json::json;
use std::path::PathBuf;

/// Add and update what a file holds, and print the difference; takes nothing away
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape apply brokers.yaml --dry-run     what would change
  ductape apply brokers.yaml
  ductape apply brokers.yaml --json | jq '.changes | length'")]
pub(crate) struct Arguments {
    /// A catalogue of the same product, in YAML, JSON or TOML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let client = open::client(&context.global).await?;
    let other = read(arguments).await?;
    let diff = client.broker().apply(&other, arguments.dry_run).await?;
    if context.output.is_json() {
        return context.output.json(&json!({ "applied": !arguments.dry_run, "changes": diff.changes }));
    }
    print(context, &diff)?;
    let differ = match diff.changes.len() {
        0 => "nothing differs".to_owned(),
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    };
    let dry = if arguments.dry_run { "; nothing was written" } else { "" };
    note(context.format(), &format!("{differ}{dry}"));
    Ok(())
}

async fn read(arguments: &Arguments) -> Outcome<Catalogue> {
    let store = FileStore::new(&arguments.file);
    let snapshot = store.load().await.map_err(|error| Failure::from(named(error)))?;
    Ok(Catalogue::clone(&snapshot.catalogue))
}

/// A file to be applied is not one that `init` would make.
fn named(error: ductape::Error) -> ductape::Error {
    match error.kind() {
        ductape::ErrorKind::CatalogueNotFound => {
            ductape::Error::new(error.kind(), error.message()).with_help("name a file that is there")
        }
        _ => error,
    }
}

fn print(context: &Context, diff: &Diff) -> Outcome {
    let text: String = diff
        .to_string()
        .lines()
        .map(|line| match line.as_bytes().first() {
            Some(b'+') => styled(GOOD, line) + "\n",
            Some(b'-') => styled(BAD, line) + "\n",
            _ => styled(WARNING, line) + "\n",
        })
        .collect();
    context.output.text(&text)
}
