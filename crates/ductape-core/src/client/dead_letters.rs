//! The dead letters of an event: list, show, redrive and purge them, on every provider alike.
//!
//! They wait in a destination of their own for the group `dead-letters`. Looking takes them in hand and gives
//! them back, so that two who look at once each see what the other has not in hand.

use super::Client;
use super::connections::located;
use crate::broker::{Broker, Consumer, ConsumerOptions, Publisher};
use crate::catalogue::Route;
use crate::dead_letter::raise;
use crate::delivery::{Delivery, Settlement, Token, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::retry::RetryPolicy;
use crate::time::{Clock, Timestamp};
use crate::worker::keep_leases;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The most dead letters that one call looks at. Past them it ends, and another call goes on where letters
/// were taken away.
pub const MAX_SCAN: usize = 65_536;
/// Dead letters taken in hand by one receive.
const BATCH: usize = 256;
/// How long to wait for those that the provider says are there.
const WAIT: Duration = Duration::from_secs(5);
/// How long to wait for those of which it does not say so.
const LAST_LOOK: Duration = Duration::from_millis(300);
/// How long to wait for a further one where the provider cannot tell how many there are.
const BLIND_LOOK: Duration = Duration::from_secs(2);
/// How often a verdict is told at most.
const SETTLE_CALLS: u32 = 3;

/// The dead letters of one event in one env.
pub struct DeadLetters {
    broker: Arc<dyn Broker>,
    route: Route,
    /// Letters that failed after this are left: they would go round for ever.
    opened: Timestamp,
    clock: Clock,
}

/// Which dead letters.
#[derive(Clone, Copy, Debug)]
pub enum LetterFilter<'f> {
    /// All that were there when the [`DeadLetters`] were opened.
    All,
    /// Those with these message ids.
    Ids(&'f [String]),
}

/// How many dead letters an operation took away, and how many it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LetterCounts {
    /// Redriven or purged.
    pub taken: u64,
    /// Seen and left where they are: not asked for, or refused by their destination.
    pub left: u64,
}

impl DeadLetters {
    pub(super) async fn open(client: &Client, event: &str, env: Option<&str>) -> Result<Self> {
        let route = client.route(None, event, env).await?;
        let broker = Arc::clone(&client.connection(&route).await?.broker);
        let clock = client.0.connections.options().clock.clone();
        let opened = clock.now();
        Ok(DeadLetters { broker, route, opened, clock })
    }

    /// The oldest dead letters, `limit` at most; each tells of itself through [`Message::dead_letter`].
    ///
    /// # Errors
    /// Those of the provider. What was looked at stays where it is.
    pub async fn list(&self, limit: usize) -> Result<Vec<Message>> {
        Ok(self.scan(Search::First(limit)).await?.found)
    }

    /// One dead letter by its message id.
    ///
    /// # Errors
    /// Those of the provider.
    pub async fn show(&self, id: &str) -> Result<Option<Message>> {
        Ok(self.scan(Search::One(id)).await?.found.pop())
    }

    /// Publishes dead letters to their destination again, with bytes, headers, key and id as they were, for the
    /// group that gave them up. Each leaves the dead letters only after that publish was taken.
    ///
    /// # Errors
    /// Those of the provider. What was not taken is left.
    pub async fn redrive(&self, filter: LetterFilter<'_>) -> Result<LetterCounts> {
        let waiting = self.waiting().await?;
        if waiting == Waiting::Never {
            return Ok(LetterCounts::default());
        }
        // Also where the provider says that none waits: a server's count may lag behind what it has.
        self.broker.ensure(&self.route.destination).await.map_err(|e| self.located(e))?;
        let publisher = self.broker.publisher(&self.route.destination).await.map_err(|e| self.located(e))?;
        let search = Search::Taken { filter, until: self.opened, publisher: Some(&*publisher) };
        Ok(self.scan_of(waiting, search).await?.counts)
    }

    /// Takes dead letters away for good.
    ///
    /// # Errors
    /// Those of the provider.
    pub async fn purge(&self, filter: LetterFilter<'_>) -> Result<LetterCounts> {
        let search = Search::Taken { filter, until: self.opened, publisher: None };
        Ok(self.scan(search).await?.counts)
    }

    /// How many wait. Where the provider cannot tell they are taken in hand and counted, up to [`MAX_SCAN`].
    ///
    /// # Errors
    /// Those of the provider.
    pub async fn count(&self) -> Result<u64> {
        match self.waiting().await? {
            Waiting::Never => Ok(0),
            Waiting::So(count) => Ok(count),
            waiting @ Waiting::Unknown => {
                // Looks at all and takes none.
                let filter = LetterFilter::Ids(&[]);
                let search = Search::Taken { filter, until: self.opened, publisher: None };
                Ok(self.scan_of(waiting, search).await?.counts.left)
            }
        }
    }

    /// What the provider says of how many wait.
    async fn waiting(&self) -> Result<Waiting> {
        match self.broker.inspect(&self.route.dead_letters()).await {
            Ok(seen) => {
                let group = self.route.dead_letters().default_group;
                let lag: Option<u64> =
                    seen.groups.iter().filter(|other| other.name == *group).map(|group| group.lag).sum();
                Ok(lag.map_or(Waiting::Unknown, Waiting::So))
            }
            Err(error) if error.kind() == ErrorKind::DestinationNotFound => Ok(Waiting::Never),
            Err(error) => Err(self.located(error)),
        }
    }

    async fn scan(&self, search: Search<'_>) -> Result<Scanned> {
        self.scan_of(self.waiting().await?, search).await
    }

    /// Takes batches in hand until all that wait were seen, the search is over, or [`MAX_SCAN`].
    async fn scan_of(&self, waiting: Waiting, search: Search<'_>) -> Result<Scanned> {
        if waiting == Waiting::Never {
            return Ok(Scanned::default());
        }
        let destination = self.route.dead_letters();
        let mut options = ConsumerOptions::new(Arc::clone(&destination.default_group));
        options.max_in_flight = MAX_SCAN;
        let consumer = self.broker.consumer(&destination, &options).await.map_err(|e| self.located(e))?;
        let scanned = tokio::select! {
            biased;
            scanned = scan_with(&*consumer, waiting, search) => scanned.map_err(|e| self.located(e)),
            // It ends only with its consumer, which nobody closes meanwhile but with the connection.
            () = keep_leases(&*consumer, &self.clock, options.lease) => Err(self.located(Error::closed("the connection"))),
        };
        // Gives back what is still in hand, also after an error.
        let closed = consumer.close().await.map_err(|e| self.located(e));
        let scanned = scanned?;
        closed.map(|()| scanned)
    }

    fn located(&self, error: Error) -> Error {
        located(error, &self.route)
    }
}

/// How many dead letters wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Nothing was ever dead-lettered.
    Never,
    /// So many.
    So(u64),
    /// The provider cannot tell.
    Unknown,
}

impl Waiting {
    /// How long to wait for a further one when so many were seen.
    fn past(self, seen: usize) -> Duration {
        match self {
            Waiting::So(count) if (seen as u64) < count => WAIT,
            // A server's count may lag behind what it has, so there is a short look past it.
            Waiting::So(_) | Waiting::Never => LAST_LOOK,
            Waiting::Unknown => BLIND_LOOK,
        }
    }
}

/// What a scan is for.
#[derive(Clone, Copy)]
enum Search<'s> {
    /// Seeing the first so many.
    First(usize),
    /// Seeing the one with this id.
    One(&'s str),
    /// Taking away what fits and failed no later than this; publishing it first, where there is a publisher.
    Taken { filter: LetterFilter<'s>, until: Timestamp, publisher: Option<&'s dyn Publisher> },
}

impl Search<'_> {
    /// Whether this letter is to be taken away. `taken` is when those failed that were taken before, by their ids: one that
    /// was redriven and has failed again since would go round for ever.
    fn takes(&self, letter: &Message, taken: &mut HashMap<String, Timestamp>) -> bool {
        match self {
            Search::First(_) | Search::One(_) => false,
            Search::Taken { filter: LetterFilter::All, until, .. } => {
                letter.dead_letter().is_none_or(|dead| dead.failed_at <= *until)
            }
            Search::Taken { filter: LetterFilter::Ids(ids), .. } => {
                let (id, failed_at) =
                    (letter.id.to_string(), letter.dead_letter().map(|dead| dead.failed_at));
                let failed_at = failed_at.unwrap_or_default();
                ids.contains(&id) && *taken.entry(id).or_insert(failed_at) == failed_at
            }
        }
    }

    /// Adds what is to be seen of a batch. Whether no further batch need be looked at.
    fn see(&self, batch: &[Delivery], found: &mut Vec<Message>) -> bool {
        let mut letters = batch.iter().map(|delivery| &delivery.message);
        match self {
            Search::First(limit) => {
                found.extend(letters.take(limit.saturating_sub(found.len())).cloned());
                found.len() >= *limit
            }
            Search::One(id) => {
                found.extend(letters.find(|letter| letter.id.to_string() == *id).cloned());
                !found.is_empty()
            }
            Search::Taken { .. } => false,
        }
    }
}

/// What a scan came to.
#[derive(Default)]
struct Scanned {
    found: Vec<Message>,
    counts: LetterCounts,
}

async fn scan_with(consumer: &dyn Consumer, waiting: Waiting, search: Search<'_>) -> Result<Scanned> {
    let (mut scanned, mut left, mut seen) = (Scanned::default(), Vec::new(), 0);
    let mut taken_before = HashMap::new();
    while seen < MAX_SCAN {
        let batch = consumer.receive(BATCH.min(MAX_SCAN - seen), waiting.past(seen)).await?;
        if batch.is_empty() {
            break;
        }
        seen += batch.len();
        let enough = search.see(&batch, &mut scanned.found);
        let (wanted, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|delivery| search.takes(&delivery.message, &mut taken_before));
        // Given back only at the end, or they would come again at once.
        left.extend(others.into_iter().map(|delivery| delivery.token));
        let taken = match search {
            Search::Taken { publisher: Some(publisher), .. } => publish(publisher, wanted, &mut left).await,
            _ => wanted.into_iter().map(|delivery| delivery.token).collect(),
        };
        scanned.counts.taken += taken.len() as u64;
        settle(consumer, taken, Verdict::Ack).await?;
        if enough {
            break;
        }
    }
    scanned.counts.left = left.len() as u64;
    settle(consumer, left, Verdict::Release).await?;
    Ok(scanned)
}

/// Publishes letters as the messages they were. The tokens of those that were taken; the others are `left`.
async fn publish(publisher: &dyn Publisher, wanted: Vec<Delivery>, left: &mut Vec<Token>) -> Vec<Token> {
    let (tokens, letters): (Vec<_>, Vec<_>) =
        wanted.into_iter().map(|delivery| (delivery.token, raise(delivery.message))).unzip();
    let mut taken = Vec::with_capacity(tokens.len());
    for (token, result) in tokens.into_iter().zip(publisher.publish(letters).await) {
        match result {
            Ok(_) => taken.push(token),
            Err(error) => {
                tracing::warn!(%error, "a dead letter was not redriven");
                left.push(token);
            }
        }
    }
    taken
}

/// Tells a verdict of all of these, and again where it was not taken and may be.
async fn settle(consumer: &dyn Consumer, tokens: Vec<Token>, verdict: Verdict) -> Result<()> {
    let mut open: Vec<_> = tokens.into_iter().map(|token| Settlement { token, verdict }).collect();
    let waits = RetryPolicy { initial: Duration::from_millis(100), ..RetryPolicy::default() };
    for call in 1.. {
        if open.is_empty() {
            break;
        }
        let results = consumer.settle(open.clone()).await;
        let mut again = Vec::new();
        for (settlement, result) in open.into_iter().zip(results) {
            match result {
                // It has gone back by itself.
                Err(error) if verdict == Verdict::Release && error.kind() == ErrorKind::LeaseLost => {}
                Err(error) if call < SETTLE_CALLS && (error.is_retryable() || error.is_uncertain()) => {
                    again.push(settlement);
                }
                result => result?,
            }
        }
        open = again;
        if !open.is_empty() {
            tokio::time::sleep(waits.delay(call, fastrand::f64())).await;
        }
    }
    Ok(())
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("event", &self.route.event)
            .field("env", &self.route.env)
            .finish_non_exhaustive()
    }
}
