//! `ductape subscribe`: what arrives, one line a delivery, or one command a delivery.
//!
//! ```text
//!  stream:  deliveries ─▶ a burst of lines ─▶ written and flushed ─▶ acknowledged as one
//!  --exec:  worker (lanes by key, retries, dead letters) ─▶ a command each, payload on its stdin
//! ```

mod envelope;
mod exec;
mod quota;
mod stream;

pub(super) use envelope::{push_head, push_tail};

use super::input;
use crate::failure::{Outcome, note};
use crate::open;
use crate::run::Context;
use crate::stop::Stop;
use crate::terminal;
use clap::{Args, ValueEnum};
use ductape::{ProviderKind, RetryPolicy, Start, Subscribe};
use std::time::Duration;

/// Print what arrives, one JSON object a line, and acknowledge it once it is written
///
/// Each line is {"id","event","time","key","attempt","headers","message"}. A message that is no JSON is a text there,
/// and bytes that are no text are {"$base64":"…"}. Runs until it is stopped, unless `--count` or `--timeout` ends it.
///
/// With --exec each message is given to a command on its standard input, with DUCTAPE_ID, DUCTAPE_EVENT, DUCTAPE_KEY,
/// DUCTAPE_ATTEMPT and DUCTAPE_TIME in its environment. Exit 0 acknowledges; everything else is tried again, later each
/// time, and goes to the dead letters after `--attempts`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape subscribe order-events:new-orders
  ductape subscribe order-events:new-orders --payload | jq .total
  ductape subscribe order-events:new-orders --group audit --start earliest --timeout 5s > all.ndjson
  ductape subscribe order-events:new-orders --exec './handle-order.sh' --concurrency 4
  ductape subscribe order-events:new-orders --count 1 --timeout 10s")]
pub(crate) struct Arguments {
    /// The event, `broker:topic`
    event: String,
    /// The group: every group gets every message, its members share them. The broker's default unless named
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// Where a group that is new begins
    #[arg(long, value_enum, default_value_t = StartOption::Latest, hide_default_value = true)]
    start: StartOption,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = input::at_least_one)]
    count: Option<u64>,
    /// End once nothing has arrived for this long, such as `30s`
    #[arg(long, value_name = "D", value_parser = input::duration)]
    timeout: Option<Duration>,
    /// With --exec the most commands at once (1 unless given), else the most messages in hand (1024 unless given)
    #[arg(long, value_name = "N", value_parser = input::at_least_one)]
    concurrency: Option<u64>,
    /// Print the bare payload
    #[arg(long, conflicts_with = "exec")]
    payload: bool,
    /// Run this command for each message, through the shell
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// With --exec, how often a message is tried before it goes to the dead letters
    #[arg(long, value_name = "N", value_parser = input::at_least_one, requires = "exec", default_value_t = 5)]
    attempts: u64,
}

/// `--start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StartOption {
    /// With what is published from now on
    Latest,
    /// With all that is kept
    Earliest,
}

/// The most deliveries in hand where nothing is said.
const IN_HAND: usize = 1024;
/// How long a stop waits for commands under way.
const DRAIN: Duration = Duration::from_secs(30);
/// Commands take as long as they take: whoever runs the tool watches over them.
const UNLIMITED: Duration = Duration::from_secs(365 * 86_400);

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let client = open::client(&context.global).await?;
    let env = open::env_of(&context.global, &client, &arguments.event).await?;
    let route = client.route(None, &arguments.event, Some(&env)).await?;
    let stop = Stop::listen()?;
    if route.config.kind() == ProviderKind::Memory {
        note(context.format(), "MEMORY lives in this process: nobody else's messages arrive here");
    } else if terminal::stderr_is_one() && terminal::stdout_is_one() {
        let group = arguments.group.as_deref().unwrap_or(&route.destination.default_group);
        note(context.format(), &format!("waiting as a member of `{group}`; Ctrl-C ends it"));
    }
    let outcome = match &arguments.exec {
        Some(command) => {
            exec::run(context, &client, subscribe(arguments, &env), arguments, command, stop).await
        }
        None => stream::run(context, &client, subscribe(arguments, &env), arguments, stop).await,
    };
    let closed = client.close().await;
    outcome.and(closed.map_err(Into::into))
}

/// What both ways have in common. Never more in hand than are wanted: what others of the group could have is not taken.
fn subscribe(arguments: &Arguments, env: &str) -> Subscribe {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let wanted = arguments.count.map_or(usize::MAX, number);
    let concurrency = arguments.concurrency.map(number);
    let start = match arguments.start {
        StartOption::Latest => Start::Latest,
        StartOption::Earliest => Start::Earliest,
    };
    let subscribe =
        Subscribe::new(&arguments.event).env(env).start(start).drain_timeout(DRAIN).timeout(UNLIMITED);
    let subscribe = match (&arguments.exec, concurrency) {
        (Some(_), concurrency) => {
            let commands = concurrency.unwrap_or(1);
            let attempts = u32::try_from(arguments.attempts).unwrap_or(u32::MAX);
            let subscribe = subscribe.retry(RetryPolicy { attempts, ..RetryPolicy::default() });
            subscribe.concurrency(commands).max_in_flight(commands.saturating_mul(2).max(64).min(wanted))
        }
        (None, in_hand) => subscribe.max_in_flight(in_hand.unwrap_or(IN_HAND).min(wanted)),
    };
    match &arguments.group {
        Some(group) => subscribe.group(group),
        None => subscribe,
    }
}
