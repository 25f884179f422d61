//! What every property begins with: a connection, a destination of its own, and short words for what it does
//! with them, each with a deadline.

use super::outcome::{Outcome, Wanted, check, cut, fault, same, skip};
use super::subject::{Subject, Target};
use bytes::Bytes;
use ductape_core::capability::{Durability, HeaderNames};
use ductape_core::message::{Attributes, IdSource, OCTET_STREAM};
use ductape_core::{
    Broker, Capabilities, Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Headers,
    Message, Position, Settlement, Verdict,
};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Tells the names of this process from those of every other run on the same server.
static RUN: LazyLock<u32> = LazyLock::new(|| fastrand::u32(..));
static NAMES: AtomicU64 = AtomicU64::new(0);

/// A connection with an empty destination.
#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) subject: Arc<Subject>,
    pub(super) target: Target,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) destination: Destination,
    name: Arc<str>,
}

impl Fixture {
    /// Connects, and makes a destination that nobody has used.
    pub(super) async fn open(subject: Arc<Subject>, target: Target) -> Outcome<Self> {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name: Arc<str> = format!("ductape-{:08x}-{number}", *RUN).into();
        let destination = (subject.destinations)(&name);
        let broker = connect(&subject, &target).await?;
        let fixture = Fixture { subject, target, broker, destination, name };
        fixture.ensure(&fixture.destination).await?;
        Ok(fixture)
    }

    /// The same on another destination, which is made.
    pub(super) async fn moved_to(&self, destination: Destination) -> Outcome<Self> {
        let fixture = self.at(destination);
        fixture.ensure(&fixture.destination).await?;
        Ok(fixture)
    }

    /// The same on another destination, which is not made here.
    pub(super) fn at(&self, destination: Destination) -> Self {
        Fixture { destination, ..self.clone() }
    }

    /// The same on a destination of which order is asked.
    pub(super) async fn ordered(&self) -> Outcome<Self> {
        self.moved_to(Destination { ordered: true, ..self.fresh("ordered") }).await
    }

    /// Skips what needs a destination that keeps messages.
    pub(super) fn check_keeping(&self, works_without: bool) -> Outcome {
        match self.capabilities().durability {
            Durability::FireAndForget if !works_without => {
                skip("the destination fires and forgets: it keeps nothing")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.broker.capabilities(&self.destination)
    }

    /// What names of this property's own begin with.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The default group.
    pub(super) fn group(&self) -> &str {
        &self.destination.default_group
    }

    /// A name for a second group of this property's own.
    pub(super) fn another_group(&self) -> String {
        format!("{}-others", self.name)
    }

    /// A destination that nobody has used and that is not made yet.
    pub(super) fn fresh(&self, suffix: &str) -> Destination {
        (self.subject.destinations)(&format!("{}-{suffix}", self.name))
    }

    /// The same property on a connection of its own.
    pub(super) async fn reconnected(&self) -> Outcome<Self> {
        let broker = connect(&self.subject, &self.target).await?;
        let fixture = Fixture { broker, ..self.clone() };
        fixture.ensure(&fixture.destination).await?;
        Ok(fixture)
    }

    pub(super) async fn ensure(&self, destination: &Destination) -> Outcome {
        self.within("the destination is made", self.broker.ensure(destination)).await
    }

    /// A result of the broker within the patience.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Outcome<T> {
        within(self.subject.patience, what, work).await?.wanted(what)
    }

    /// A refusal of this kind within the patience.
    pub(super) async fn refused<T>(
        &self,
        what: &str,
        kind: ErrorKind,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Outcome {
        let expected = || format!("{what} is refused as {kind}");
        match within(self.subject.patience, what, work).await? {
            Err(error) => check(error.kind() == kind, expected(), || error.to_string()),
            Ok(_) => Err(fault(expected(), "it is done")),
        }
    }

    /// Publishes all of these as one batch, and each must be taken.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Outcome<Vec<Position>> {
        let results = self.try_publish(messages).await?;
        let wanted = |result: Result<Position, Error>| result.wanted("the message is taken");
        results.into_iter().map(wanted).collect()
    }

    /// Publishes all of these as one batch: one result a message.
    pub(super) async fn try_publish(&self, messages: Vec<Message>) -> Outcome<Vec<Result<Position, Error>>> {
        let count = messages.len();
        let publisher =
            self.within("a publisher is opened", self.broker.publisher(&self.destination)).await?;
        let results = within(self.subject.patience, "the publish ends", publisher.publish(messages)).await?;
        let expected = format!("one result a message: {count}");
        check(results.len() == count, expected, || results.len().to_string())?;
        Ok(results)
    }

    /// Publishes these texts without a key.
    pub(super) async fn publish_texts(&self, texts: &[String]) -> Outcome {
        self.publish(texts.iter().map(|text| message(text.clone())).collect()).await.map(drop)
    }

    /// A member of the default group.
    pub(super) async fn member(&self) -> Outcome<Member> {
        self.member_of(self.group(), |_| {}).await
    }

    /// A member of a group, opened as `change` says.
    pub(super) async fn member_of(
        &self,
        group: &str,
        change: impl FnOnce(&mut ConsumerOptions),
    ) -> Outcome<Member> {
        let mut options = ConsumerOptions::new(group);
        change(&mut options);
        let consumer =
            self.within("a consumer is opened", self.broker.consumer(&self.destination, &options)).await?;
        Ok(Member { consumer, patience: self.subject.patience, quiet: self.subject.quiet })
    }
}

/// The headers are the same; in their order where the provider keeps one.
pub(super) fn same_headers(f: &Fixture, expected: &Headers, seen: &Headers) -> Outcome {
    let sorted = |headers: &Headers| {
        let mut pairs: Vec<_> = headers.iter().map(|(n, v)| (n.to_owned(), v.clone())).collect();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs
    };
    match f.capabilities().header_names {
        HeaderNames::Repeatable => same("the headers", expected, seen),
        HeaderNames::Unique => same("the headers, by name", &sorted(expected), &sorted(seen)),
    }
}

async fn connect(subject: &Subject, target: &Target) -> Outcome<Arc<dyn Broker>> {
    let connect = target.provider.connect(&target.config, &target.options);
    within(subject.patience, "a connection", connect).await?.wanted("a connection")
}

async fn within<T>(patience: Duration, what: &str, work: impl Future<Output = T>) -> Outcome<T> {
    match tokio::time::timeout(patience, work).await {
        Ok(output) => Ok(output),
        Err(_) => Err(fault(what, format!("nothing within {patience:?}"))),
    }
}

/// Asks, ever more slowly, until the answer is so or time is over. The last answer, and whether it was so.
pub(super) async fn until<T, Fut: Future<Output = Outcome<T>>>(
    patience: Duration,
    ask: impl Fn() -> Fut,
    so: impl Fn(&T) -> bool,
) -> Outcome<(T, bool)> {
    let (start, mut pace) = (Instant::now(), Duration::from_millis(5));
    loop {
        let answer = ask().await?;
        if so(&answer) || start.elapsed() >= patience {
            let so = so(&answer);
            return Ok((answer, so));
        }
        tokio::time::sleep(pace).await;
        pace = (pace * 2).min(Duration::from_millis(200));
    }
}

/// A consumer in a property's hands.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) consumer: Arc<dyn Consumer>,
    patience: Duration,
    quiet: Duration,
}

impl Member {
    /// One receive, which must end in its time.
    pub(super) async fn receive(&self, max: usize, wait: Duration) -> Outcome<Vec<Delivery>> {
        let what = "a receive ends in its time";
        let received = within(wait + self.patience, what, self.consumer.receive(max, wait)).await?;
        let received = received.wanted("a receive")?;
        let expected = format!("no more than the {max} deliveries that were asked for");
        check(received.len() <= max, expected, || received.len().to_string())?;
        Ok(received)
    }

    /// So many deliveries, within the patience.
    pub(super) async fn take(&self, count: usize) -> Outcome<Vec<Delivery>> {
        let (start, mut taken) = (Instant::now(), Vec::new());
        while taken.len() < count {
            let left = self.patience.saturating_sub(start.elapsed());
            let more = self.receive(count - taken.len(), left).await?;
            if more.is_empty() && start.elapsed() >= self.patience {
                let seen = format!("{} within {:?}: {}", taken.len(), self.patience, cut(&texts(&taken)));
                return Err(fault(format!("{count} deliveries"), seen));
            }
            taken.extend(more);
        }
        Ok(taken)
    }

    /// One delivery, within the patience.
    pub(super) async fn take_one(&self) -> Outcome<Delivery> {
        self.take(1).await?.pop().wanted("a delivery")
    }

    /// Whatever comes until it has been quiet for a while, up to `max` of it.
    pub(super) async fn drain(&self, max: usize) -> Outcome<Vec<Delivery>> {
        let mut drained = Vec::new();
        while drained.len() < max {
            let more = self.receive(max - drained.len(), self.quiet).await?;
            if more.is_empty() {
                break;
            }
            drained.extend(more);
        }
        Ok(drained)
    }

    /// Nothing comes; `why` says why nothing should.
    pub(super) async fn take_nothing(&self, why: &str) -> Outcome {
        let more = self.receive(10, self.quiet).await?;
        check(more.is_empty(), format!("no delivery: {why}"), || cut(&texts(&more)))
    }

    /// Says this of all of these in one call, and each verdict must be taken.
    pub(super) async fn settle(&self, deliveries: &[Delivery], verdict: Verdict) -> Outcome {
        for result in self.try_settle(deliveries, verdict).await? {
            result.wanted(&format!("{verdict:?} of a delivery in hand is taken"))?;
        }
        Ok(())
    }

    /// Says this of all of these in one call: one result each.
    pub(super) async fn try_settle(
        &self,
        deliveries: &[Delivery],
        verdict: Verdict,
    ) -> Outcome<Vec<Result<(), Error>>> {
        let settlement = |delivery: &Delivery| Settlement { token: delivery.token.clone(), verdict };
        let batch = deliveries.iter().map(settlement).collect();
        let results = within(self.patience, "a settle ends", self.consumer.settle(batch)).await?;
        let expected = format!("one result a settlement: {}", deliveries.len());
        check(results.len() == deliveries.len(), expected, || results.len().to_string())?;
        Ok(results)
    }

    pub(super) async fn ack(&self, deliveries: &[Delivery]) -> Outcome {
        self.settle(deliveries, Verdict::Ack).await
    }

    /// Takes so many and acknowledges them.
    pub(super) async fn take_and_ack(&self, count: usize) -> Outcome<Vec<Delivery>> {
        let taken = self.take(count).await?;
        self.ack(&taken).await?;
        Ok(taken)
    }

    /// Takes so many and acknowledges each lot as it comes: a provider may keep back what follows in a key while what it
    /// has handed out of it is not settled.
    pub(super) async fn take_in_turn(&self, count: usize) -> Outcome<Vec<Delivery>> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let lot = self.receive(count - taken.len(), self.patience).await?;
            if lot.is_empty() {
                let seen = format!("{} and then nothing: {}", taken.len(), cut(&texts(&taken)));
                return Err(fault(format!("{count} deliveries"), seen));
            }
            self.ack(&lot).await?;
            taken.extend(lot);
        }
        Ok(taken)
    }

    pub(super) async fn close(&self) -> Outcome {
        let what = "a consumer closes";
        within(self.patience, what, self.consumer.close()).await?.wanted(what)
    }
}

/// A message with this body and no key.
pub(super) fn message(body: impl Into<Bytes>) -> Message {
    let time = ductape_core::Clock::system().now();
    let attributes = Attributes {
        source: "/ductape-testkit".into(),
        event: "testkit:messages".into(),
        content_type: OCTET_STREAM.into(),
    };
    Message::new(body, IdSource::new().next(time), time, Arc::new(attributes))
}

/// A message with this key.
pub(super) fn keyed(key: &str, body: impl Into<Bytes>) -> Message {
    Message { key: Some(key.into()), ..message(body) }
}

/// `word-0`, `word-1` and so on.
pub(super) fn numbered(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{word}-{n}")).collect()
}

pub(super) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.payload).into_owned()
}

pub(super) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// The texts in an order of their own, where the broker promises none.
pub(super) fn sorted(deliveries: &[Delivery]) -> Vec<String> {
    sort(texts(deliveries))
}

pub(super) fn sort(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
