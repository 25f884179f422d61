//! Everything at once: publishers, members that come and go, and verdicts of every kind.

use super::fixture::{Fixture, Member, keyed, message};
use super::outcome::{Outcome, Wanted, check, fault, same};
use super::property::{Property, Section};
use ductape_core::capability::Attempts;
use ductape_core::{Delivery, Message, MessageId, Settlement, Verdict};
use futures_util::future::{try_join, try_join_all};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) const PROPERTIES: &[Property] = &[Property::new(
    Section::Settlement,
    "publishers, members that come and go, and verdicts of every kind at once lose nothing",
    |f| Box::pin(everything_at_once(f)),
)];

const PUBLISHERS: usize = 4;
const BATCHES: usize = 25;
const BATCH: usize = 20;
const MEMBERS: usize = 4;
const KEYS: usize = 16;

async fn everything_at_once(f: Fixture) -> Outcome {
    let ledger = Ledger::new(PUBLISHERS * BATCHES * BATCH);
    let publish = try_join_all((0..PUBLISHERS).map(|n| {
        let (f, ledger) = (f.clone(), ledger.clone());
        joined(async move { publish(&f, n, &ledger).await })
    }));
    let consume = try_join_all((0..MEMBERS).map(|n| {
        let (f, ledger) = (f.clone(), ledger.clone());
        joined(async move { Consuming::new(&f, n).await?.run(&ledger).await })
    }));
    try_join(publish, consume).await?;
    same("messages never acknowledged", &0, &ledger.missing())?;
    if f.capabilities().attempts != Attempts::CountedAtWatermark {
        f.member().await?.take_nothing("every message is acknowledged").await?;
    }
    Ok(())
}

/// On a task of its own, so that several run at the same time.
async fn joined(work: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    tokio::spawn(work).await.map_err(|panic| fault("no panic", panic.to_string()))?
}

/// Some with a key, some without.
fn numbered(publisher: usize, n: usize) -> Message {
    let body = format!("{publisher}-{n}");
    match n % 3 {
        0 => message(body),
        _ => keyed(&format!("key-{}", (publisher + n) % KEYS), body),
    }
}

async fn publish(f: &Fixture, publisher: usize, ledger: &Ledger) -> Outcome {
    let place = f.within("a publisher is opened", f.broker.publisher(&f.destination)).await?;
    for round in 0..BATCHES {
        let batch: Vec<_> = (0..BATCH).map(|n| numbered(publisher, round * BATCH + n)).collect();
        let ids: Vec<_> = batch.iter().map(|message| message.id.clone()).collect();
        for result in place.publish(batch).await {
            result.wanted("the message is taken")?;
        }
        ledger.published(ids);
    }
    Ok(())
}

/// What was published, and when it was acknowledged.
#[derive(Clone)]
struct Ledger(Arc<Mutex<Books>>);

struct Books {
    total: usize,
    published: HashSet<MessageId>,
    acked: HashMap<MessageId, Instant>,
}

impl Ledger {
    fn new(total: usize) -> Self {
        let books = Books { total, published: HashSet::new(), acked: HashMap::new() };
        Ledger(Arc::new(Mutex::new(books)))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self, ids: Vec<MessageId>) {
        self.books().published.extend(ids);
    }

    fn acked(&self, id: MessageId) {
        self.books().acked.insert(id, Instant::now());
    }

    fn is_done(&self) -> bool {
        let books = self.books();
        books.acked.len() >= books.total
    }

    fn acked_before(&self, id: &MessageId, moment: Instant) -> bool {
        self.books().acked.get(id).is_some_and(|acked| *acked < moment)
    }

    fn missing(&self) -> usize {
        let books = self.books();
        books.published.iter().filter(|id| !books.acked.contains_key(*id)).count()
    }
}

/// A member that now and then closes with deliveries in hand and comes back.
struct Consuming {
    f: Fixture,
    member: Member,
    random: fastrand::Rng,
    quiet_since: Instant,
}

impl Consuming {
    /// Every other member has a connection of its own.
    async fn new(f: &Fixture, n: usize) -> Outcome<Self> {
        let f = if n.is_multiple_of(2) { f.clone() } else { f.reconnected().await? };
        let member = join(&f).await?;
        Ok(Consuming { f, member, random: fastrand::Rng::with_seed(n as u64), quiet_since: Instant::now() })
    }

    async fn run(mut self, ledger: &Ledger) -> Outcome {
        while !ledger.is_done() {
            let start = Instant::now();
            let deliveries = self.member.receive(self.random.usize(1..64), Duration::from_millis(20)).await?;
            self.check_progress(&deliveries)?;
            for delivery in &deliveries {
                self.check_unsettled(delivery, ledger, start)?;
            }
            if self.random.usize(..30) == 0 {
                self.member.close().await?;
                self.member = join(&self.f).await?;
            } else {
                self.settle(deliveries, ledger).await?;
            }
        }
        self.member.close().await
    }

    fn check_progress(&mut self, deliveries: &[Delivery]) -> Outcome {
        if !deliveries.is_empty() {
            self.quiet_since = Instant::now();
        }
        // The last messages are with other members for a while, so a quiet member alone is no fault.
        let quiet = self.quiet_since.elapsed();
        check(quiet < self.f.subject.patience * 2, "a delivery, since messages are left", || {
            format!("none for {quiet:?}")
        })
    }

    /// A receive that began after an ack was taken must not bring its message.
    fn check_unsettled(&self, delivery: &Delivery, ledger: &Ledger, receive: Instant) -> Outcome {
        let gone = ledger.acked_before(&delivery.message.id, receive);
        let counted = self.f.capabilities().attempts == Attempts::CountedAtWatermark;
        check(!gone || counted, "no message that is acknowledged", || delivery.message.id.to_string())
    }

    async fn settle(&mut self, deliveries: Vec<Delivery>, ledger: &Ledger) -> Outcome {
        let batch: Vec<_> = deliveries
            .iter()
            .map(|delivery| Settlement { token: delivery.token.clone(), verdict: self.verdict() })
            .collect();
        let verdicts: Vec<_> = batch.iter().map(|settlement| settlement.verdict).collect();
        let what = "a settle";
        let results = self.f.within(what, async { Ok(self.member.consumer.settle(batch).await) }).await?;
        same("results of a settle", &verdicts.len(), &results.len())?;
        for ((delivery, verdict), result) in deliveries.into_iter().zip(verdicts).zip(results) {
            result.wanted("a verdict on a delivery in hand is taken")?;
            if verdict == Verdict::Ack {
                ledger.acked(delivery.message.id);
            }
        }
        Ok(())
    }

    fn verdict(&mut self) -> Verdict {
        match self.random.u8(..10) {
            0 | 1 => Verdict::Retry(Duration::ZERO),
            2 => Verdict::Release,
            _ => Verdict::Ack,
        }
    }
}

async fn join(f: &Fixture) -> Outcome<Member> {
    f.member_of(f.group(), |options| options.max_in_flight = 64).await
}
