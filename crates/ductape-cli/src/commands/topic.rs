//! `ductape topic`: the topics of the catalogue.

mod show;

use super::input;
use crate::failure::{Failure, Outcome};
use crate::open;
use crate::redact::redacted;
use crate::run::Context;
use crate::table::Table;
use clap::{Args, Subcommand, ValueEnum};
use ductape::catalogue::{NamedDestination, NewTopic, QueueUrl, TopicEntry, TopicPatch, Validation};
use ductape::{Event, Tag};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Create, update, list, show and delete topics
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  ductape topic create order-events:new-orders --sample '{\"orderId\":\"12345\"}'
  ductape topic list
  ductape topic show order-events:new-orders     who reads it, and how far behind")]
pub(crate) enum Command {
    Create(Create),
    Update(Update),
    List(List),
    Show(show::Show),
    Delete(Delete),
    Forget(Forget),
}

/// What a topic is, apart from its tag.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A message as it is expected
    #[arg(long, value_name = "JSON")]
    sample: Option<String>,
    /// A JSON Schema that says more than the sample can
    #[arg(long, value_name = "JSON")]
    schema: Option<String>,
    /// Whether a message that fits neither is refused
    #[arg(long, value_enum)]
    validation: Option<ValidationOption>,
    /// Whether order by key holds while members of a group compete
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ordered: Option<bool>,
    /// Its place in an env, where it is not to follow from the tags; for each env one
    #[arg(long, value_name = "SLUG=NAME")]
    destination: Vec<String>,
    /// Its SQS queue in an env; for each env one
    #[arg(long, value_name = "SLUG=URL")]
    queue_url: Vec<String>,
}

/// `--validation`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ValidationOption {
    /// It is published: the sample is for people
    None,
    /// It is refused
    Strict,
}

/// Add a topic to its broker
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic create order-events:new-orders --sample '{\"orderId\":\"12345\"}' --validation strict
  ductape topic create sqs-broker:new-orders --queue-url prd=https://sqs.us-east-1.amazonaws.com/123/orders
  ductape topic create --file topic.json")]
pub(crate) struct Create {
    /// Its event, `broker:topic`
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    event: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// The whole topic as JSON, with the fields of the catalogue; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "name", "description", "sample", "schema", "validation", "ordered", "destination", "queue_url",
    ])]
    file: Option<PathBuf>,
}

/// Change what is named of a topic
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic update order-events:new-orders --description 'One message a new order'
  ductape topic update order-events:new-orders --ordered=false")]
pub(crate) struct Update {
    /// Its event
    event: String,
    #[command(flatten)]
    settings: Settings,
}

/// List the topics, all or those of one broker
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic list
  ductape topic list order-events | cut -f1      the events alone")]
pub(crate) struct List {
    /// The broker's tag
    broker: Option<String>,
}

/// Take a topic out of the catalogue; its messages stay where they are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic delete order-events:new-orders")]
pub(crate) struct Delete {
    /// Its event
    event: String,
}

/// Forget a group and what waits for it, such as one that was made to look on; the topic and other groups stay
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape topic forget order-events:new-orders tail")]
pub(crate) struct Forget {
    /// Its event
    event: String,
    /// The group
    group: String,
}

pub(crate) async fn run(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Create(arguments) => create(context, arguments).await,
        Command::Update(arguments) => update(context, arguments).await,
        Command::List(arguments) => list(context, arguments.broker.as_deref()).await,
        Command::Show(arguments) => show::run(context, arguments).await,
        Command::Delete(arguments) => delete(context, &arguments.event).await,
        Command::Forget(arguments) => forget(context, arguments).await,
    }
}

async fn create(context: &Context, arguments: &Create) -> Outcome {
    let (topic, event) = match (&arguments.file, &arguments.event) {
        (Some(file), _) => {
            let topic: NewTopic = input::json_file(file)?;
            let event = topic
                .message_broker_tag
                .as_ref()
                .map_or_else(|| topic.tag.parse(), |broker| topic.event(broker))?;
            (topic, event)
        }
        (None, event) => {
            let event: Event = event.as_deref().unwrap_or_default().parse()?;
            (entry(&event, &arguments.settings)?, event)
        }
    };
    open::client(&context.global).await?.broker().topic().create(topic).await?;
    done(context, "created", &event)
}

fn entry(event: &Event, settings: &Settings) -> Outcome<TopicEntry> {
    let patch = patch(settings)?;
    Ok(TopicEntry {
        name: patch.name.unwrap_or_else(|| event.topic().to_owned()),
        message_broker_tag: None,
        tag: event.as_str().to_owned(),
        description: patch.description,
        sample: patch.sample,
        schema: patch.schema,
        validation: patch.validation.unwrap_or_default(),
        ordered: patch.ordered.unwrap_or_default(),
        queue_url: patch.queue_url.unwrap_or_default(),
        destinations: patch.destinations.unwrap_or_default(),
    })
}

fn patch(settings: &Settings) -> Outcome<TopicPatch> {
    let json = |option: &str, text: &Option<String>| -> Outcome<Option<Value>> {
        text.as_deref().map(|text| input::json(option, text)).transpose()
    };
    let pairs = |option: &str, form: &str, texts: &[String]| -> Outcome<Vec<(Tag, String)>> {
        let read = |text: &String| {
            let (slug, value) = input::pair(option, text, form)?;
            Ok((Tag::new(slug)?, value.to_owned()))
        };
        texts.iter().map(read).collect()
    };
    let destinations = pairs("--destination", "SLUG=NAME", &settings.destination)?
        .into_iter()
        .map(|(env_slug, name)| NamedDestination { env_slug, name })
        .collect::<Vec<_>>();
    let queues = pairs("--queue-url", "SLUG=URL", &settings.queue_url)?
        .into_iter()
        .map(|(env_slug, url)| QueueUrl { env_slug, url })
        .collect::<Vec<_>>();
    Ok(TopicPatch {
        name: settings.name.clone(),
        description: settings.description.clone(),
        sample: json("`--sample`", &settings.sample)?,
        schema: json("`--schema`", &settings.schema)?,
        validation: settings.validation.map(|validation| match validation {
            ValidationOption::None => Validation::None,
            ValidationOption::Strict => Validation::Strict,
        }),
        ordered: settings.ordered,
        queue_url: (!queues.is_empty()).then_some(queues),
        destinations: (!destinations.is_empty()).then_some(destinations),
    })
}

async fn update(context: &Context, arguments: &Update) -> Outcome {
    let event: Event = arguments.event.parse()?;
    let patch = patch(&arguments.settings)?;
    if patch == TopicPatch::default() {
        return Err(Failure::usage(
            "nothing is to change",
            "give at least one of the options that change it",
        ));
    }
    open::client(&context.global).await?.broker().topic().update(event.as_str(), patch).await?;
    done(context, "updated", &event)
}

async fn list(context: &Context, broker: Option<&str>) -> Outcome {
    let catalogue = open::client(&context.global).await?.catalogue().await?;
    let brokers = match broker {
        Some(tag) => vec![catalogue.broker(tag)?],
        None => catalogue.brokers.iter().collect(),
    };
    let topics = brokers.iter().flat_map(|broker| broker.events());
    if context.output.is_json() {
        let mut topics = topics;
        return topics.try_for_each(|(event, topic)| context.output.json(&shown(&event, topic)));
    }
    let mut table = Table::new(["EVENT", "NAME", "DESCRIPTION"]);
    for (event, topic) in topics {
        table.row([event.as_str(), &topic.name, topic.description.as_deref().unwrap_or_default()]);
    }
    context.output.table(&table)
}

/// A topic's entry under its whole event.
fn shown(event: &Event, topic: &TopicEntry) -> Value {
    let mut shown = json!({ "event": event.as_str() });
    if let (Value::Object(shown), Value::Object(entry)) = (&mut shown, redacted(json!(topic))) {
        shown.extend(entry);
    }
    shown
}

async fn delete(context: &Context, event: &str) -> Outcome {
    let event: Event = event.parse()?;
    open::client(&context.global).await?.broker().topic().delete(event.as_str()).await?;
    done(context, "deleted", &event)
}

async fn forget(context: &Context, arguments: &Forget) -> Outcome {
    let Forget { event, group } = arguments;
    let client = open::client(&context.global).await?;
    let env = open::env_of(&context.global, &client, event).await?;
    let forgotten = client.delete_group(event, Some(&env), group).await;
    let closed = client.close().await;
    forgotten.and(closed)?;
    match context.output.is_json() {
        true => context.output.json(&json!({ "forgotten": group })),
        false => context.output.line(&format!("forgot {group}")),
    }
}

fn done(context: &Context, what: &str, event: &Event) -> Outcome {
    match context.output.is_json() {
        true => context.output.json(&json!({ what: event.as_str() })),
        false => context.output.line(&format!("{what} {event}")),
    }
}
