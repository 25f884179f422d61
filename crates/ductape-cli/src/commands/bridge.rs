//! `ductape bridge`: copies a topic's messages from one env's provider to another's.
//!
//! ```text
//!  source env, group `bridge-to-ENV` ─▶ batch ─▶ rounds (a key once in each) ─▶ target env ─▶ acknowledge
//! ```
//!
//! The group's position is the bridge's: what was taken by the target is acknowledged at the source, and nothing else
//! is. A bridge that is killed goes on where it was; what it had under way is copied again. A key stands once in each
//! round, and a round is begun when the one before was taken: no message overtakes another of its key.

mod copy;

use super::input;
use super::publish::Progress;
use crate::failure::{self, Failure, Outcome, note};
use crate::open;
use crate::run::Context;
use crate::stop::Stop;
use clap::Args;
use copy::{Copier, Counts};
use ductape::capability::Replay;
use ductape::catalogue::Route;
use ductape::{Ductape, Error, ErrorKind, Incoming, IncomingStream, ProviderKind, Start, Subscribe};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Copy a topic's messages from one env to another, and go on where it was when run again
///
/// Messages keep their id, time, key, headers and payload. What was copied is remembered as the position of a group at
/// the source, `bridge-to-ENV`, which sees every message and takes none away from other groups. Each message is copied
/// at least once, in the order of its key. Ends once all is copied, unless `--follow` keeps it waiting for more; and then
/// with {"copied":N,"failed":N,"seconds":S}.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape bridge order-events:new-orders --from prd --to dev
  ductape bridge order-events:new-orders --from prd --to dev --count 1000
  ductape bridge order-events:new-orders --from old --to new --follow      until it is stopped")]
pub(crate) struct Arguments {
    /// The event, `broker:topic`
    event: String,
    /// The env to copy from
    #[arg(long, value_name = "ENV")]
    from: String,
    /// The env to copy to
    #[arg(long, value_name = "ENV")]
    to: String,
    /// The group at the source that remembers the position; `bridge-to-ENV` unless named
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// Wait for more instead of ending once all is copied
    #[arg(long)]
    follow: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = input::at_least_one)]
    count: Option<u64>,
    /// End once nothing has arrived for this long, such as `30s`, also with `--follow`
    #[arg(long, value_name = "D", value_parser = input::duration)]
    timeout: Option<Duration>,
    /// Go past messages that the target refuses for their own sake, such as one that is too large; they are told and
    /// counted as failed. Without it the bridge stops at the first
    #[arg(long)]
    skip_refused: bool,
}

/// The most messages in hand.
const IN_HAND: usize = 1024;
/// How long nothing arrives before it is asked whether all is copied.
const QUIET: Duration = Duration::from_millis(500);
/// How long nothing must come from a source that cannot tell what it has left.
const BLIND_IDLE: Duration = Duration::from_secs(10);

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let path = open::path(&context.global)?;
    let client = open::client_of(&context.global, &path).await?;
    let from = client.route(None, &arguments.event, Some(&arguments.from)).await?;
    let to = client.route(None, &arguments.event, Some(&arguments.to)).await?;
    check(&from, &to, &open::folder(&path))?;
    let mut stop = Stop::listen()?;
    let group = arguments.group.clone().unwrap_or_else(|| format!("bridge-to-{}", to.env));
    let publisher = client.broker().publisher(&arguments.event, Some(&arguments.to)).await?;
    let subscribe = subscribe(context, &client, arguments, &from, &group).await?;
    let mut stream = client.broker().consume(subscribe).await?;
    let copier = Copier::new(context.format(), publisher, arguments.skip_refused);
    let mut bridge = Bridge { context, arguments, client: &client, group, copier, counts: Counts::default() };
    let begun = Instant::now();
    let outcome = bridge.run(&mut stream, &mut stop).await;
    // Gives back what is in hand and not copied; a second signal does not wait for that.
    tokio::select! {
        () = stream.close() => {}
        () = stop.insisted() => {}
    }
    let Counts { copied, failed } = bridge.counts;
    let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let told = context.output.json(&json!({ "copied": copied, "failed": failed, "seconds": seconds }));
    let closed = client.close().await;
    outcome.and(told).and(closed.map_err(Into::into))?;
    if failed > 0 { Err(Failure::Said) } else { Ok(()) }
}

/// Refuses what would copy messages onto themselves for ever.
fn check(from: &Route, to: &Route, folder: &Path) -> Outcome {
    let resolved = |route: &Route| route.config.resolve(folder).unwrap_or_else(|_| route.config.clone());
    let same_place = from.destination.name == to.destination.name && resolved(from) == resolved(to);
    if from.env == to.env || same_place {
        let what = format!("`--from {}` and `--to {}` lead to one place", from.env, to.env);
        return Err(Failure::usage(what, "name two envs whose messages lie apart"));
    }
    Ok(())
}

async fn subscribe(
    context: &Context,
    client: &Ductape,
    arguments: &Arguments,
    from: &Route,
    group: &str,
) -> Outcome<Subscribe> {
    let env = from.env.as_str();
    let subscribe = Subscribe::new(&arguments.event).env(env).group(group);
    if from.config.kind() == ProviderKind::Memory {
        note(context.format(), "MEMORY lives in this process: there is nothing to copy from it");
    }
    let wanted = arguments.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let subscribe = subscribe.max_in_flight(IN_HAND.min(wanted));
    Ok(match client.capabilities(&arguments.event, Some(env)).await?.replay {
        Replay::Kept => subscribe.start(Start::Earliest),
        Replay::None => {
            let kind = from.config.kind();
            note(
                context.format(),
                &format!("{kind} keeps nothing for new groups: what is published from now on is copied"),
            );
            subscribe
        }
    })
}

struct Bridge<'c> {
    context: &'c Context,
    arguments: &'c Arguments,
    client: &'c Ductape,
    group: String,
    copier: Copier,
    counts: Counts,
}

impl Bridge<'_> {
    async fn run(&mut self, stream: &mut IncomingStream, stop: &mut Stop) -> Outcome {
        let mut progress = Progress::new(self.context.format(), None);
        let outcome = self.copy(stream, stop, &mut progress).await;
        progress.finish();
        outcome
    }

    async fn copy(
        &mut self,
        stream: &mut IncomingStream,
        stop: &mut Stop,
        progress: &mut Progress,
    ) -> Outcome {
        let mut idle_since = Instant::now();
        loop {
            let left = self
                .arguments
                .count
                .map(|count| count.saturating_sub(self.counts.copied + self.counts.failed));
            if left == Some(0) {
                return Ok(());
            }
            let most = left.map_or(IN_HAND, |left| usize::try_from(left).unwrap_or(IN_HAND).min(IN_HAND));
            let arrived = tokio::select! {
                biased;
                () = stop.wanted() => return self.stopped(),
                arrived = stream.next_many(most) => arrived,
                () = tokio::time::sleep(QUIET) => {
                    if self.is_done(idle_since).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            if arrived.is_empty() {
                return Err(Error::closed("the subscription")
                    .with_help("run it again; it goes on where it was")
                    .into());
            }
            let deliveries = self.sort(arrived, progress);
            if !deliveries.is_empty() {
                idle_since = Instant::now();
            }
            let copied = self.copier.copy(deliveries, stop, &mut self.counts).await;
            progress.advance(self.counts.copied, self.counts.copied);
            copied?;
        }
    }

    /// Told to stop: the end of one that follows, and not of one that is to copy all.
    fn stopped(&self) -> Outcome {
        match self.arguments.follow {
            true => Ok(()),
            false => {
                let error = Error::new(ErrorKind::Closed, "told to stop before all was copied");
                Err(error.with_help("run it again; it goes on where it was").into())
            }
        }
    }

    /// Tells of what went wrong, and keeps what arrived. The stream mends itself.
    fn sort(&self, arrived: Vec<ductape::Result<Incoming>>, progress: &Progress) -> Vec<Incoming> {
        let keep = |arrived: ductape::Result<Incoming>| match arrived {
            Ok(incoming) => Some(incoming),
            Err(error) => {
                progress.aside(|| failure::tell(&error, None, self.context.format()));
                None
            }
        };
        arrived.into_iter().filter_map(keep).collect()
    }

    /// Whether there is nothing to wait for any more.
    async fn is_done(&self, idle_since: Instant) -> bool {
        if self.arguments.timeout.is_some_and(|timeout| idle_since.elapsed() >= timeout) {
            return true;
        }
        if self.arguments.follow {
            return false;
        }
        // Where the source cannot be asked now, the next time will do.
        let seen = self.client.inspect(&self.arguments.event, Some(&self.arguments.from)).await;
        let lag = |seen: &ductape::client::EventInspection| {
            seen.destination
                .groups
                .iter()
                .find(|group| group.name == self.group)
                .map_or(Some(0), |group| group.lag)
        };
        match seen {
            Ok(seen) => lag(&seen).map_or(idle_since.elapsed() >= BLIND_IDLE, |lag| lag == 0),
            Err(error) => error.kind() == ErrorKind::DestinationNotFound,
        }
    }
}
