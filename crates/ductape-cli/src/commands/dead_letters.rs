//! `ductape dead-letters`: what was given up, to be looked at, sent again, or thrown away.

use super::subscribe::{push_head, push_tail};
use crate::failure::{Failure, Outcome, note};
use crate::open;
use crate::output::Output;
use crate::run::Context;
use crate::table::Table;
use clap::{Args, Subcommand};
use ductape::client::{LetterCounts, MAX_SCAN};
use ductape::message::DeadLetter;
use ductape::{DeadLetters, Ductape, Error, ErrorKind, LetterFilter, Message};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};

/// List, show, redrive and purge the messages that were given up
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  ductape dead-letters list order-events:new-orders
  ductape dead-letters redrive order-events:new-orders      after the fix: all go back to the group that gave them up
  ductape dead-letters purge order-events:new-orders 0190b3f4-0000-7000-8000-000000000000")]
pub(crate) enum Command {
    List(List),
    Show(Show),
    Redrive(Redrive),
    Purge(Purge),
}

/// List the oldest, with why they were given up
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape dead-letters list order-events:new-orders
  ductape dead-letters list order-events:new-orders --json --limit 1000 | jq -r .reason | sort | uniq -c")]
pub(crate) struct List {
    /// The event
    event: String,
    /// The most to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = super::input::at_least_one)]
    limit: u64,
}

/// Show one: where it comes from, why it was given up, and the message itself
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape dead-letters show order-events:new-orders 0190b3f4-0000-7000-8000-000000000000
  ductape dead-letters show order-events:new-orders 0190b3f4-0000-7000-8000-000000000000 --payload | ./handle-order.sh")]
pub(crate) struct Show {
    /// The event
    event: String,
    /// The message's id
    id: String,
    /// Print the bare payload
    #[arg(long)]
    payload: bool,
}

/// Publish them again, for the group that gave them up; all, or those named
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape dead-letters redrive order-events:new-orders
  ductape dead-letters redrive order-events:new-orders 0190b3f4-0000-7000-8000-000000000000")]
pub(crate) struct Redrive {
    /// The event
    event: String,
    /// The messages' ids; all unless named
    ids: Vec<String>,
}

/// Throw them away for good; all, or those named. Asks first on a terminal
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape dead-letters purge order-events:new-orders --yes
  ductape dead-letters purge order-events:new-orders 0190b3f4-0000-7000-8000-000000000000")]
pub(crate) struct Purge {
    /// The event
    event: String,
    /// The messages' ids; all unless named
    ids: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, command: &Command) -> Outcome {
    let event = match command {
        Command::List(List { event, .. }) | Command::Show(Show { event, .. }) => event,
        Command::Redrive(Redrive { event, .. }) | Command::Purge(Purge { event, .. }) => event,
    };
    let client = open::client(&context.global).await?;
    let env = open::env_of(&context.global, &client, event).await?;
    let outcome = match command {
        Command::List(arguments) => list(context, &client, &env, arguments).await,
        Command::Show(arguments) => show(context, &client, &env, arguments).await,
        Command::Redrive(arguments) => redrive(context, &client, &env, arguments).await,
        Command::Purge(arguments) => purge(context, &client, &env, arguments).await,
    };
    let closed = client.close().await;
    outcome.and(closed.map_err(Into::into))
}

async fn list(context: &Context, client: &Ductape, env: &str, arguments: &List) -> Outcome {
    let letters = client.broker().dead_letters(&arguments.event, Some(env)).await?;
    let limit = usize::try_from(arguments.limit).unwrap_or(MAX_SCAN).min(MAX_SCAN);
    let found = letters.list(limit).await?;
    if context.output.is_json() {
        return found.iter().try_for_each(|letter| context.output.text(&line(letter, &arguments.event)));
    }
    let mut table = Table::new(["ID", "FAILED AT", "ATTEMPTS", "GROUP", "KEY", "REASON"]);
    for letter in &found {
        let key = letter.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let told = |tell: &dyn Fn(&DeadLetter) -> String| letter.dead_letter().map(tell).unwrap_or_default();
        table.row([
            letter.id.to_string(),
            told(&|dead| dead.failed_at.to_string()),
            told(&|dead| dead.attempts.to_string()),
            told(&|dead| dead.group.to_string()),
            key,
            told(&|dead| dead.reason.to_string()),
        ]);
    }
    context.output.table(&table)?;
    let waiting = letters.count().await?;
    if waiting > found.len() as u64 {
        note(context.format(), &format!("{} of {waiting}; `--limit` lists more", found.len()));
    }
    Ok(())
}

async fn show(context: &Context, client: &Ductape, env: &str, arguments: &Show) -> Outcome {
    let letters = client.broker().dead_letters(&arguments.event, Some(env)).await?;
    let Some(letter) = letters.show(&arguments.id).await? else {
        let what = format!("there is no dead letter `{}`", arguments.id.escape_debug());
        let error = Error::new(ErrorKind::MessageInvalid, what).with_context("event", &arguments.event);
        return Err(error.with_help("list them with `ductape dead-letters list`").into());
    };
    if arguments.payload {
        return context.output.bytes(&[&letter.payload[..], b"\n"].concat());
    }
    let line = line(&letter, &arguments.event);
    match serde_json::from_str::<serde_json::Value>(&line) {
        Ok(value) if !context.output.is_json() => context.output.line(&format!("{value:#}")),
        _ => context.output.text(&line),
    }
}

/// The line of a delivery, with why it was given up in the place of its attempt.
fn line(letter: &Message, event: &str) -> String {
    let mut line = Vec::new();
    push_head(&mut line, letter, event);
    let text = |text: &str| serde_json::Value::from(text).to_string();
    if let Some(dead) = letter.dead_letter() {
        let told = format!(
            ",\"attempts\":{},\"failedAt\":\"{}\",\"group\":{},\"reason\":{},\"destination\":{},\"position\":{}",
            dead.attempts,
            dead.failed_at,
            text(&dead.group),
            text(&dead.reason),
            text(&dead.destination),
            text(&dead.position),
        );
        line.extend_from_slice(told.as_bytes());
    }
    push_tail(&mut line, letter);
    line.extend_from_slice(b"}\n");
    String::from_utf8_lossy(&line).into_owned()
}

async fn redrive(context: &Context, client: &Ductape, env: &str, arguments: &Redrive) -> Outcome {
    let letters = client.broker().dead_letters(&arguments.event, Some(env)).await?;
    let counts = all(&letters, &arguments.ids, async |letters, filter| letters.redrive(filter).await).await?;
    done(context.output, "redriven", counts, &arguments.ids)?;
    if counts.left > 0 && arguments.ids.is_empty() {
        let left = format!("{} dead letters were not taken by their destination", counts.left);
        let error = Error::new(ErrorKind::ProviderFailed, left).with_context("event", &arguments.event);
        return Err(error.with_help("they are still there; `-v` tells why each was refused").into());
    }
    Ok(())
}

async fn purge(context: &Context, client: &Ductape, env: &str, arguments: &Purge) -> Outcome {
    let letters = client.broker().dead_letters(&arguments.event, Some(env)).await?;
    if !arguments.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let many = match arguments.ids.len() as u64 {
            0 => letters.count().await?,
            named => named,
        };
        if !confirmed(&format!("throw {many} dead letters of {} in {env} away for good?", arguments.event)) {
            return Err(Failure::usage("nothing was thrown away", "answer `y`, or give `--yes`"));
        }
    }
    let counts = all(&letters, &arguments.ids, async |letters, filter| letters.purge(filter).await).await?;
    done(context.output, "purged", counts, &arguments.ids)
}

fn confirmed(question: &str) -> bool {
    // Without an answer nothing is done.
    let _ = write!(anstream::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Goes on until all were seen: one call looks at a bounded number of them.
async fn all(
    letters: &DeadLetters,
    ids: &[String],
    call: impl AsyncFn(&DeadLetters, LetterFilter<'_>) -> ductape::Result<LetterCounts>,
) -> Outcome<LetterCounts> {
    let filter = if ids.is_empty() { LetterFilter::All } else { LetterFilter::Ids(ids) };
    let mut sum = LetterCounts::default();
    loop {
        let counts = call(letters, filter).await?;
        sum = LetterCounts { taken: sum.taken + counts.taken, left: counts.left };
        let seen = counts.taken + counts.left;
        if seen < MAX_SCAN as u64 || counts.taken == 0 {
            return Ok(sum);
        }
    }
}

fn done(output: Output, what: &str, counts: LetterCounts, ids: &[String]) -> Outcome {
    match output.is_json() {
        true => output.json(&json!({ what: counts.taken, "left": counts.left }))?,
        false => output.line(&format!("{what} {}, left {}", counts.taken, counts.left))?,
    }
    let asked = ids.len() as u64;
    match counts.taken < asked {
        true => {
            let what = format!("{} of {asked} messages are no dead letters here", asked - counts.taken);
            Err(Error::new(ErrorKind::MessageInvalid, what)
                .with_help("list them with `ductape dead-letters list`")
                .into())
        }
        false => Ok(()),
    }
}
