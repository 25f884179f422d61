//! The example itself: subscribe twice, publish, wait, look at the dead letters.

use crate::board::{Board, Cancelled, Departure, Report};
use ductape::capability::Groups;
use ductape::client::DeadLetters;
use ductape::{
    Delivery, Ductape, Failure, LetterFilter, NewMessage, Outcome, Result, RetryPolicy, Subscribe,
    Subscription,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const EVENT: &str = "airport:departures";
const FLIGHTS: &str = include_str!("departures.ndjson");
/// Messages of one publish.
const BATCH: usize = 256;
/// Every so many flights the board fails once, as a handler that calls others would now and then.
const FAILS_EVERY: usize = 500;
/// By then a run has ended, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(120);

/// What both groups count, and a signal after each count.
struct Tally {
    run: String,
    board: Mutex<Board>,
    handled: watch::Sender<Handled>,
}

#[derive(Clone, Copy, Default)]
struct Handled {
    board: u64,
    audit: u64,
}

/// Runs the example in one env of the catalogue.
pub(crate) async fn run(catalogue: &Path, env: &str) -> Result<Report> {
    let ductape = Ductape::file(catalogue).env(env).build().await?;
    let provider = ductape.route(None, EVENT, None).await?.config.kind().to_string();
    let run = format!("{:?}", Instant::now());
    let tally = Arc::new(Tally { run, board: Mutex::default(), handled: watch::Sender::default() });

    // A group sees what is published after it was first opened, so both come before the first publish.
    let board = delay_board(&ductape, &tally).await?;
    // A queue of AWS_SQS has one group: there the board is alone.
    let audit = match ductape.capabilities(EVENT, None).await?.groups {
        Groups::One => None,
        _ => Some(audit(&ductape, &tally).await?),
    };

    let begun = Instant::now();
    let published = publish(&ductape, &tally.run).await?;
    let publishing = begun.elapsed();
    wait_for_all(&tally, published, audit.is_some()).await;
    let handling = begun.elapsed();

    let stats = board.stop().await?;
    let audited = audit.as_ref().map(|_| tally.handled.borrow().audit);
    if let Some(audit) = audit {
        audit.stop().await?;
    }
    let cancelled = cancelled(&ductape, &tally.run).await?;
    ductape.close().await?;
    let board = tally.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (env, retried) = (env.to_owned(), stats.retried);
    Ok(Report { env, provider, published, publishing, handling, board, audited, retried, cancelled })
}

/// The group `delay-board`: adds delays up, fails now and then, and rejects cancelled flights.
async fn delay_board(ductape: &Ductape, tally: &Arc<Tally>) -> Result<Subscription> {
    let tally = Arc::clone(tally);
    let quickly = RetryPolicy { initial: Duration::from_millis(20), ..RetryPolicy::default() };
    let subscribe = Subscribe::new(EVENT).group("delay-board").retry(quickly);
    let handler = move |departure: Departure, delivery: Delivery| {
        std::future::ready(show_on_board(&tally, &departure, &delivery))
    };
    ductape.broker().subscribe(subscribe, handler).await
}

fn show_on_board(tally: &Tally, departure: &Departure, delivery: &Delivery) -> Outcome {
    tally.check_run(delivery)?;
    if departure.cancelled {
        tally.handled.send_modify(|handled| handled.board += 1);
        return Err(Failure::reject(format_args!("{} was cancelled", departure.flight_id)));
    }
    if delivery.attempt == 1 && tally.is_unlucky(delivery) {
        return Err(Failure::retry("the board did not answer"));
    }
    tally.board.lock().unwrap_or_else(PoisonError::into_inner).add(departure);
    tally.handled.send_modify(|handled| handled.board += 1);
    Ok(())
}

/// The group `audit`: counts everything.
async fn audit(ductape: &Ductape, tally: &Arc<Tally>) -> Result<Subscription> {
    let tally = Arc::clone(tally);
    let handler = move |delivery: Delivery| {
        let outcome = tally.check_run(&delivery);
        if outcome.is_ok() {
            tally.handled.send_modify(|handled| handled.audit += 1);
        }
        std::future::ready(outcome)
    };
    ductape.broker().subscribe(Subscribe::new(EVENT).group("audit"), handler).await
}

impl Tally {
    /// What an earlier run left behind is not ours to count.
    fn check_run(&self, delivery: &Delivery) -> Outcome {
        match delivery.message.headers.get("run") {
            Some(run) if run.as_bytes() == self.run.as_bytes() => Ok(()),
            _ => Err(Failure::discard("of an earlier run")),
        }
    }

    fn is_unlucky(&self, delivery: &Delivery) -> bool {
        let line = delivery.message.headers.get("line").and_then(|line| line.as_str()?.parse::<usize>().ok());
        line.is_some_and(|line| line % FAILS_EVERY == 0)
    }
}

/// Publishes every line, keyed by tail number: what happens to one aircraft stays in order.
async fn publish(ductape: &Ductape, run: &str) -> Result<u64> {
    let publisher = ductape.broker().publisher(EVENT, None).await?;
    let lines: Vec<(usize, &str)> = FLIGHTS.lines().enumerate().collect();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} departures, {per_sec}, {eta} left");
    let bar = ProgressBar::new(lines.len() as u64);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    for batch in lines.chunks(BATCH) {
        let messages = batch.iter().map(|(line, flight)| message(run, line + 1, flight));
        for receipt in publisher.publish_batch(messages).await {
            receipt?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(lines.len() as u64)
}

fn message(run: &str, line: usize, flight: &'static str) -> NewMessage {
    let message = NewMessage::json_bytes(flight).header("run", run).header("line", line.to_string());
    match serde_json::from_str::<Departure>(flight).ok().and_then(|departure| departure.tail_number) {
        Some(tail_number) => message.key(tail_number),
        None => message,
    }
}

async fn wait_for_all(tally: &Tally, published: u64, is_audited: bool) {
    let mut handled = tally.handled.subscribe();
    let all =
        handled.wait_for(|handled| handled.board >= published && (!is_audited || handled.audit >= published));
    // Past the deadline the report shows what is missing.
    let _ = tokio::time::timeout(DEADLINE, all).await;
}

/// Lists this run's dead letters and takes them away.
async fn cancelled(ductape: &Ductape, run: &str) -> Result<Vec<Cancelled>> {
    let dead_letters: DeadLetters = ductape.broker().dead_letters(EVENT, None).await?;
    let mut letters = dead_letters.list(usize::MAX).await?;
    letters.retain(|letter| letter.headers.get("run").is_some_and(|of| of.as_bytes() == run.as_bytes()));
    let ids: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
    dead_letters.purge(LetterFilter::Ids(&ids)).await?;
    let cancelled = letters.iter().filter_map(|letter| {
        let departure: Departure = serde_json::from_slice(&letter.payload).ok()?;
        let reason = letter.dead_letter()?.reason.to_string();
        Some(Cancelled { flight_id: departure.flight_id, reason })
    });
    Ok(cancelled.collect())
}
