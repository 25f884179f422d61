//! `ductape broker`: the brokers of the catalogue.

use super::input;
use crate::failure::{Failure, Outcome};
use crate::open;
use crate::redact::redacted;
use crate::run::Context;
use crate::table::Table;
use clap::{Args, Subcommand};
use ductape::catalogue::{BrokerEntry, BrokerPatch, EnvEntry, NewBroker};
use ductape::{Catalogue, Tag};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Create, update, list, show and delete brokers
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  ductape broker list
  ductape broker create order-events --provider 'dev=SQLITE:{\"path\":\".ductape/dev.db\"}'
  ductape broker show order-events --json")]
pub(crate) enum Command {
    Create(Create),
    Update(Update),
    List(List),
    Show(Show),
    Delete(Delete),
}

/// Add a broker to the catalogue
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape broker create order-events --name 'Order Events' --provider 'dev=SQLITE:{\"path\":\".ductape/dev.db\"}'
  ductape broker create order-events --provider dev=MEMORY \\
      --provider 'prd=KAFKA:{\"brokers\":[\"kafka:9092\"],\"topic\":\"orders.{topic}\"}'
  ductape broker create --file broker.json")]
pub(crate) struct Create {
    /// Its tag, which events begin with
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    tag: Option<String>,
    /// Its name, for people; the tag unless given
    #[arg(long, conflicts_with = "file")]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    description: Option<String>,
    /// Its provider in an env; for each env one. Name secrets as `${NAME}`, and they are read when needed
    #[arg(long, value_name = "SLUG=TYPE[:CONFIG]", conflicts_with = "file")]
    provider: Vec<String>,
    /// The whole broker as JSON, with the fields of the catalogue; `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Change what is named of a broker
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape broker update order-events --description 'All that happens to orders'
  ductape broker update order-events --provider 'stg=REDIS:{\"host\":\"redis\",\"password\":\"${REDIS_PASSWORD}\"}'")]
pub(crate) struct Update {
    /// Its tag
    tag: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its provider in an env, in the place of the one there; other envs stay
    #[arg(long, value_name = "SLUG=TYPE[:CONFIG]")]
    provider: Vec<String>,
}

/// List the brokers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape broker list
  ductape broker list | cut -f1      the tags alone")]
pub(crate) struct List {}

/// Show a broker; secrets stay hidden
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape broker show order-events
  ductape broker show order-events --json | jq '.envs[].type'")]
pub(crate) struct Show {
    /// Its tag
    tag: String,
}

/// Take a broker and its topics out of the catalogue; their messages stay where they are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape broker delete order-events")]
pub(crate) struct Delete {
    /// Its tag
    tag: String,
}

pub(crate) async fn run(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Create(arguments) => create(context, arguments).await,
        Command::Update(arguments) => update(context, arguments).await,
        Command::List(_) => list(context).await,
        Command::Show(arguments) => show(context, &arguments.tag).await,
        Command::Delete(arguments) => delete(context, &arguments.tag).await,
    }
}

async fn create(context: &Context, arguments: &Create) -> Outcome {
    let broker: NewBroker = match (&arguments.file, &arguments.tag) {
        (Some(file), _) => input::json_file(file)?,
        (None, tag) => {
            let tag = Tag::new(tag.as_deref().unwrap_or_default())?;
            BrokerEntry {
                name: arguments.name.clone().unwrap_or_else(|| tag.to_string()),
                tag,
                description: arguments.description.clone(),
                envs: providers(&arguments.provider)?,
                topics: Vec::new(),
            }
        }
    };
    let tag = broker.tag.clone();
    open::client(&context.global).await?.broker().create(broker).await?;
    done(context, "created", &tag)
}

async fn update(context: &Context, arguments: &Update) -> Outcome {
    let Update { tag, name, description, provider } = arguments;
    if name.is_none() && description.is_none() && provider.is_empty() {
        return Err(Failure::usage("nothing is to change", "give `--name`, `--description` or `--provider`"));
    }
    let client = open::client(&context.global).await?;
    let current = client.broker().fetch(tag).await?;
    if provider.is_empty() {
        let patch = BrokerPatch { name: name.clone(), description: description.clone(), envs: None };
        client.broker().update(tag, patch).await?;
    } else {
        // Brought in env by env, so that what somebody else does to another env meanwhile is not lost.
        let entry = BrokerEntry {
            name: name.clone().unwrap_or_else(|| current.name.clone()),
            tag: current.tag.clone(),
            description: description.clone(),
            envs: providers(provider)?,
            topics: Vec::new(),
        };
        let product = client.catalogue().await?.product.clone();
        let change = Catalogue { product, brokers: vec![entry], sessions: Vec::new() };
        client.broker().apply(&change, false).await?;
    }
    done(context, "updated", &current.tag)
}

/// Reads `SLUG=TYPE:CONFIG`.
fn providers(options: &[String]) -> Outcome<Vec<EnvEntry>> {
    let read = |option: &String| {
        let form = "'dev=SQLITE:{\"path\":\"dev.db\"}'";
        let (slug, provider) = input::pair("--provider", option, form)?;
        let (kind, config) = provider.split_once(':').unwrap_or((provider, "{}"));
        let config: Value = input::json("the config of `--provider`", config)?;
        let entry = json!({ "slug": slug, "type": kind, "config": config });
        input::json("`--provider`", &entry.to_string())
    };
    options.iter().map(read).collect()
}

async fn list(context: &Context) -> Outcome {
    let brokers = open::client(&context.global).await?.broker().fetch_all().await?;
    if context.output.is_json() {
        return brokers.iter().try_for_each(|broker| context.output.json(&shown(broker)));
    }
    let mut table = Table::new(["TAG", "NAME", "ENVS", "TOPICS"]);
    for broker in &brokers {
        let envs = broker.envs.iter().map(|entry| format!("{} ({})", entry.slug, entry.kind));
        let envs = envs.collect::<Vec<_>>().join(", ");
        table.row([broker.tag.to_string(), broker.name.clone(), envs, broker.topics.len().to_string()]);
    }
    context.output.table(&table)
}

async fn show(context: &Context, tag: &str) -> Outcome {
    let client = open::client(&context.global).await?;
    let shown = shown(&*client.broker().fetch(tag).await?);
    match context.output.is_json() {
        true => context.output.json(&shown),
        false => context.output.line(&format!("{shown:#}")),
    }
}

fn shown(broker: &BrokerEntry) -> Value {
    redacted(json!(broker))
}

async fn delete(context: &Context, tag: &str) -> Outcome {
    let client = open::client(&context.global).await?;
    let tag = client.broker().fetch(tag).await?.tag.clone();
    client.broker().delete(tag.as_str()).await?;
    done(context, "deleted", &tag)
}

fn done(context: &Context, what: &str, tag: &Tag) -> Outcome {
    match context.output.is_json() {
        true => context.output.json(&json!({ what: tag })),
        false => context.output.line(&format!("{what} {tag}")),
    }
}
