//! A subscription as users write it: to what, as whom, and how.

use super::Client;
use super::connections::located;
use super::incoming::IncomingStream;
use crate::broker::{ConsumerOptions, Start};
use crate::catalogue::Route;
use crate::dead_letter::DeadLetterSink;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::retry::RetryPolicy;
use crate::worker::{Handler, IntoHandler, Subscription, WorkerOptions, WorkerSource};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use std::time::Duration;

/// The most deliveries in hand unless said otherwise.
const MAX_IN_FLIGHT: usize = 256;

/// What is subscribed to, and how it is worked off.
///
/// It can be read as data too, with the fields `event`, `env`, `product`, `group`, `start`, `concurrency` and
/// `maxInFlight`; all but `event` may be left out, and unknown ones are refused. The handler is given apart.
#[derive(Clone, Debug)]
#[must_use = "a subscription does nothing until it is given to `broker().subscribe`"]
pub struct Subscribe {
    event: String,
    env: Option<String>,
    product: Option<String>,
    group: Option<String>,
    start: Start,
    max_in_flight: Option<usize>,
    lease: Option<Duration>,
    worker: WorkerOptions,
}

impl Subscribe {
    /// A subscription to this event, in the default group and with the default options.
    pub fn new(event: impl Into<String>) -> Self {
        Subscribe {
            event: event.into(),
            env: None,
            product: None,
            group: None,
            start: Start::Latest,
            max_in_flight: None,
            lease: None,
            worker: WorkerOptions::default(),
        }
    }

    /// The env; else the client's.
    pub fn env(mut self, env: impl Into<String>) -> Self {
        self.env = Some(env.into());
        self
    }

    /// The product, for those who want it checked: a catalogue has one.
    pub fn product(mut self, product: impl Into<String>) -> Self {
        self.product = Some(product.into());
        self
    }

    /// The group; else the config's default, else the product's tag. Every group gets every message; its
    /// members share them.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Where a group that is new begins. Default: with what is published from then on.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// The most handlers under way at once. Default 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.worker.concurrency = handlers;
        self
    }

    /// The most deliveries in hand at once: under way, waiting for their lane, or waiting for a retry. Verdicts that
    /// are on their way to the provider are not counted, up to eight times as many. Default
    /// 256, or the concurrency where that is more.
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.max_in_flight = Some(deliveries);
        self
    }

    /// When a failed delivery is tried again, and when it is given up.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.worker.retry = policy;
        self
    }

    /// How long one attempt of a handler may take. Default 60 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.worker.timeout = timeout;
        self
    }

    /// How long a stop waits for handlers under way. Default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.worker.drain_timeout = timeout;
        self
    }

    /// For how long a delivery is this subscriber's after its process died or hung. It is renewed while the
    /// process lives. Default 30 s. AWS_SQS keeps 12 h at most and GOOGLE_PUBSUB 10 min: subscribing for longer is refused
    /// as `CONFIG_INVALID`.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    fn check(&self) -> Result<()> {
        let zero = [
            ("concurrency", self.worker.concurrency == 0),
            ("max_in_flight", self.max_in_flight == Some(0)),
            ("retry.attempts", self.worker.retry.attempts == 0),
            ("timeout", self.worker.timeout.is_zero()),
            ("lease", self.lease.is_some_and(|lease| lease < Duration::from_millis(10))),
        ];
        match zero.iter().find(|(_, bad)| *bad) {
            None => Ok(()),
            Some((field, _)) => Err(Error::new(ErrorKind::ConfigInvalid, format!("`{field}` is too small"))
                .with_help("give at least 1, and a lease of at least 10 ms")),
        }
    }

    pub(super) async fn with_worker<M, H: IntoHandler<M>>(
        self,
        client: &Client,
        handler: H,
    ) -> Result<Subscription>
    where
        H::Handler: Handler,
    {
        let (source, route) = self.source(client).await?;
        let started = Subscription::start(source, self.worker, handler.into_handler()).await;
        started.map_err(|error| located(error, &route))
    }

    pub(super) async fn by_hand(self, client: &Client) -> Result<IncomingStream> {
        let (source, route) = self.source(client).await?;
        IncomingStream::open(source).await.map_err(|error| located(error, &route))
    }

    async fn source(&self, client: &Client) -> Result<(WorkerSource, Route)> {
        self.check()?;
        let route = client.route(self.product.as_deref(), &self.event, self.env.as_deref()).await?;
        match self.open(client, &route).await {
            Ok(source) => Ok((source, route)),
            Err(error) => Err(located(error, &route)),
        }
    }

    async fn open(&self, client: &Client, route: &Route) -> Result<WorkerSource> {
        let connection = client.connection(route).await?;
        let (broker, destination) = (Arc::clone(&connection.broker), route.destination.clone());
        let capabilities = broker.capabilities(&destination);
        let group = self.group.as_deref().unwrap_or(&destination.default_group);
        Guard::new(route.config.kind(), capabilities.clone()).subscription(
            &destination,
            group,
            self.start,
        )?;
        connection.ensure(&destination).await?;
        let options = client.0.connections.options();
        let mut consumer = ConsumerOptions::new(group);
        consumer.start = self.start;
        consumer.max_in_flight = self.max_in_flight.unwrap_or(MAX_IN_FLIGHT.max(self.worker.concurrency));
        consumer.lease = self.lease.unwrap_or(consumer.lease);
        let dead_letters = DeadLetterSink::new(
            Arc::clone(&broker),
            Arc::clone(&destination.name),
            route.dead_letters(),
            options.request_timeout,
        );
        Ok(WorkerSource {
            broker,
            destination,
            consumer,
            capabilities,
            dead_letters: Arc::new(dead_letters),
            clock: options.clock.clone(),
            deadline: options.request_timeout,
            on_retry: options.on_retry.clone(),
        })
    }
}

/// The part of a subscription that is data.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSubscribe {
    event: String,
    env: Option<String>,
    product: Option<String>,
    group: Option<String>,
    #[serde(default)]
    start: Start,
    concurrency: Option<usize>,
    max_in_flight: Option<usize>,
}

impl<'de> Deserialize<'de> for Subscribe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawSubscribe { event, env, product, group, start, concurrency, max_in_flight } =
            RawSubscribe::deserialize(deserializer)?;
        let mut subscribe = Subscribe { env, product, group, start, max_in_flight, ..Subscribe::new(event) };
        if let Some(handlers) = concurrency {
            subscribe.worker.concurrency = handlers;
        }
        Ok(subscribe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subscription_is_read_with_everything_that_it_may_say() {
        let read = serde_json::from_value::<Subscribe>(json!({
            "event": "a:b", "env": "prd", "group": "audit", "start": "earliest", "concurrency": 3, "maxInFlight": 9,
        }));
        let read = read.unwrap();
        assert_eq!((read.event.as_str(), read.env.as_deref(), read.product), ("a:b", Some("prd"), None));
        assert_eq!((read.group.as_deref(), read.start), (Some("audit"), Start::Earliest));
        assert_eq!((read.worker.concurrency, read.max_in_flight), (3, Some(9)));
        let misspelt = serde_json::from_value::<Subscribe>(json!({ "event": "a:b", "groups": "audit" }));
        assert!(misspelt.unwrap_err().to_string().contains("unknown field `groups`"));
    }
}
