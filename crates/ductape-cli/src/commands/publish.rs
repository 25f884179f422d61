//! `ductape publish`: one message a line, from the command line, a file or standard input.
//!
//! ```text
//!  source ─▶ lines (a thread: cut, check, key) ─▶ bounded channel ─▶ pipeline (a few batches under way)
//!                                                                      └▶ report: ids, refused lines, bar, count
//! ```
//!
//! Memory follows the bounds and not the file: so many pieces in the channel, so many batches under way. Batches are
//! handed to the publisher in the order of their lines, which keeps the order of each key.

mod line;
mod lines;
mod pace;
mod pipeline;
mod pointer;
mod progress;
mod rejects;
mod report;
mod source;

pub(super) use progress::Progress;

use super::input;
use crate::failure::{Failure, Outcome, note};
use crate::open;
use crate::run::Context;
use crate::stop::Stop;
use clap::Args;
use ductape::catalogue::Route;
use ductape::guard::Guard;
use ductape::message::{Attributes, HeaderValue, Headers, IdSource, JSON, Message};
use ductape::session::SessionVerifier;
use ductape::{Catalogue, Clock, Ductape, Error, ErrorKind, NewMessage, ProviderKind, Timestamp};
use pointer::Pointer;
use source::Source;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Publish messages, one a line, and end with {"published":N,"failed":N,"seconds":S}
///
/// Every line is one message of JSON, and is published as it stands. Empty lines are skipped; a byte order mark and
/// CRLF line ends are taken away. A line that is refused is told on standard error with its number and the reason,
/// and does not stop the others. Where the provider itself fails, publishing stops and says from which line to go on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape publish order-events:new-orders --message '{\"orderId\":\"12345\"}'
  ductape publish order-events:new-orders --file orders.ndjson --key /customerId --rejects refused.ndjson
  jq -c '.orders[]' export.json | ductape publish order-events:new-orders -
  ductape publish order-events:new-orders --file orders.ndjson --rate 100 --header source=import
  ductape publish order-events:new-orders --file orders.ndjson --ids > ids.ndjson")]
pub(crate) struct Arguments {
    /// The event, `broker:topic`
    event: String,
    /// Read standard input; also done where it is not a terminal and nothing else is named
    #[arg(value_name = "-", value_parser = dash, conflicts_with_all = ["message", "file"])]
    stdin: Option<String>,
    /// The message
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    message: Option<String>,
    /// A file with one message a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where in each message its key is, as a JSON Pointer such as `/customerId`. Messages of one key keep their order;
    /// a line without it is refused
    #[arg(long, value_name = "POINTER")]
    key: Option<String>,
    /// A header for every message; as often as needed
    #[arg(long, value_name = "K=V")]
    header: Vec<String>,
    /// Publish under a session of the catalogue. The token may be named instead, as `user:${TOKEN}` or
    /// `user:${file:token.jwt}`, to keep it out of the list of processes
    #[arg(long, value_name = "TAG:TOKEN")]
    session: Option<String>,
    /// The most messages in a second
    #[arg(long, value_name = "N", value_parser = input::at_least_one)]
    rate: Option<u64>,
    /// Write refused lines to this file, as they were
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Print {"line":N,"id":"…"} for each line that was taken
    #[arg(long)]
    ids: bool,
}

/// What every message of one run has in common.
#[derive(Clone, Debug)]
struct Template {
    headers: Headers,
    /// A session's tag and token. No `Debug` of a token: it is the library's to keep.
    session: Option<Session>,
}

#[derive(Clone)]
struct Session {
    tag: String,
    token: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.tag).finish()
    }
}

impl Template {
    fn message(&self, line: &line::Line, key: Option<ductape::Key>) -> NewMessage {
        let mut message = NewMessage::json_bytes(line.bytes.clone());
        if let Some(key) = key {
            message = message.key(key);
        }
        if !self.headers.is_empty() {
            message = message.headers(self.headers.clone());
        }
        match &self.session {
            Some(session) => message.session(session.tag.clone(), session.token.clone()),
            None => message,
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let pointer = arguments.key.as_deref().map(Pointer::parse).transpose()?;
    let path = open::path(&context.global)?;
    let client = open::client_of(&context.global, &path).await?;
    let env = open::env_of(&context.global, &client, &arguments.event).await?;
    let route = client.route(None, &arguments.event, Some(&env)).await?;
    let template = Template {
        headers: headers(&arguments.header)?,
        session: match &arguments.session {
            Some(text) => Some(session(text, &*client.catalogue().await?, &open::folder(&path))?),
            None => None,
        },
    };
    let source = Source::open(arguments)?;
    let rejects =
        arguments.rejects.as_deref().map(|path| rejects::Rejects::create(path, &source)).transpose()?;
    let stop = Stop::listen()?;
    let limit = check(&client, &route, &template).await?;
    let publisher = client.broker().publisher(&arguments.event, Some(&env)).await?;
    let job = pipeline::Job { publisher, template, pointer, limit, rate: arguments.rate };
    let report = report::Report::new(context, &source, arguments.ids, rejects);
    let outcome = pipeline::run(job, source, report, stop).await;
    if route.config.kind() == ProviderKind::Memory {
        note(context.format(), "MEMORY lives in this process: what was published is gone with it");
    }
    client.close().await?;
    outcome
}

fn dash(text: &str) -> Result<String, &'static str> {
    match text {
        "-" => Ok(text.to_owned()),
        _ => Err("only `-`, standard input, may stand here; a message is given with `--message`"),
    }
}

/// Holds what all messages have in common against the provider, so that a bad header is told once and not for every
/// line. Returns the largest message.
async fn check(client: &Ductape, route: &Route, template: &Template) -> Outcome<usize> {
    let capabilities = client.capabilities(route.event.as_str(), Some(route.env.as_str())).await?;
    let limit = capabilities.max_message_bytes;
    let attributes =
        Attributes { source: "/".into(), event: route.event.shared(), content_type: JSON.into() };
    let time = Timestamp::from_micros(0);
    let mut probe = Message::new("", IdSource::new().next(time), time, Arc::new(attributes));
    probe.headers = template.headers.clone();
    let checked = Guard::new(route.config.kind(), capabilities).message(&probe);
    checked.map_err(|error| Failure::usage(error.message(), "mend `--header`; nothing was published"))?;
    Ok(limit)
}

fn headers(options: &[String]) -> Outcome<Headers> {
    let mut headers = Headers::default();
    for option in options {
        let (name, value) = input::pair("--header", option, "NAME=VALUE")?;
        headers.insert(name, HeaderValue::from(value));
    }
    Ok(headers)
}

/// Reads `TAG:TOKEN` and verifies the token, so that a bad one is told once and nothing is published. The token is
/// never quoted back.
fn session(text: &str, catalogue: &Catalogue, folder: &Path) -> Outcome<Session> {
    let (tag, token) = match text.split_once(':') {
        Some((tag, token)) if !tag.is_empty() && !token.is_empty() => (tag, token),
        _ => return Err(Failure::usage("`--session` has no tag and token", "write `--session TAG:TOKEN`")),
    };
    let entry = catalogue.sessions.iter().find(|entry| entry.tag.as_str() == tag);
    let entry = entry.ok_or_else(|| no_session(tag, catalogue))?;
    let token = ductape::secret::resolve(token, folder, "--session")?;
    SessionVerifier::new(entry.spec(folder)?)?.verify(&token, Clock::system().now())?;
    Ok(Session { tag: tag.to_owned(), token })
}

fn no_session(tag: &str, catalogue: &Catalogue) -> Error {
    let tags: Vec<_> = catalogue.sessions.iter().map(|entry| format!("`{}`", entry.tag)).collect();
    let help = match tags.is_empty() {
        true => "the catalogue has no `sessions` yet".to_owned(),
        false => format!("the sessions are {}", tags.join(", ")),
    };
    let what = format!("the catalogue has no session `{}`", tag.escape_debug());
    Error::new(ErrorKind::SessionNotFound, what).with_help(help)
}
