//! Our side: a broker, a publisher, and a worker with a handler.

use crate::Result;
use crate::observed::{ObservedProvider, Times};
use crate::workload::Counter;
use bytes::Bytes;
use ductape_core::catalogue::Catalogue;
use ductape_core::client::{Client, EventPublisher, NewMessage, Subscribe};
use ductape_core::config::Durability;
use ductape_core::message::{Attributes, IdSource, OCTET_STREAM};
use ductape_core::worker::{Handler, IntoHandler};
use ductape_core::{Delivery, Message, Provider, Subscription, Timestamp};
use ductape_memory::MemoryProvider;
use ductape_sqlite::SqliteProvider;
use serde_json::{Value, json};
use std::future::ready;
use std::path::Path;
use std::sync::Arc;

/// The most messages that wait, on either side of a comparison.
pub const BOUND: usize = 4096;

/// The broker and product, where nobody else uses the server.
const NAME: &str = "bench";

/// The most that a worker has in hand.
const IN_FLIGHT: usize = 1024;

/// A client with one topic, as a service has it.
#[derive(Debug)]
pub struct Ours {
    client: Client,
    publisher: EventPublisher,
    event: String,
}

impl Ours {
    /// MEMORY with room for [`BOUND`] messages.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn memory() -> Result<Self> {
        Self::open(NAME, MemoryProvider::isolated(), memory()).await
    }

    /// As [`Ours::memory`], with the worker's times noted.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn memory_observed(times: Times) -> Result<Self> {
        Self::open(NAME, ObservedProvider { inner: MemoryProvider::isolated(), times }, memory()).await
    }

    /// SQLITE in this file.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn sqlite(path: &Path, durability: Durability) -> Result<Self> {
        let config = json!({ "path": path, "durability": durability });
        Self::open(NAME, SqliteProvider, json!({ "slug": "dev", "type": "SQLITE", "config": config })).await
    }

    /// Any provider, as the entry of an env with the slug `dev`. The product, the broker and the default group are
    /// called `name`.
    ///
    /// # Errors
    /// Those of the catalogue, and of connecting.
    pub async fn open(name: &str, provider: impl Provider, env: Value) -> Result<Self> {
        let event = format!("{name}:messages");
        let topic = json!({ "name": "Messages", "tag": event });
        let broker = json!({ "name": "Bench", "tag": name, "envs": [env], "topics": [topic] });
        let catalogue = Catalogue::from_json(&json!({ "product": name, "brokers": [broker] }).to_string())?;
        let client = Client::memory(catalogue).provider(provider).env("dev").build().await?;
        let publisher = client.broker().publisher(&event, None).await?;
        Ok(Ours { client, publisher, event })
    }

    /// Publishes to its one topic.
    pub fn publisher(&self) -> &EventPublisher {
        &self.publisher
    }

    /// Starts a worker that has at most so many deliveries in hand.
    ///
    /// # Errors
    /// Those of opening a consumer.
    pub async fn subscribe_with<M, H: IntoHandler<M>>(
        &self,
        in_flight: usize,
        handler: H,
    ) -> Result<Subscription>
    where
        H::Handler: Handler,
    {
        let subscribe = Subscribe::new(&self.event).max_in_flight(in_flight);
        Ok(self.client.broker().subscribe(subscribe, handler).await?)
    }

    /// Starts a worker with this handler.
    ///
    /// # Errors
    /// Those of opening a consumer.
    pub async fn subscribe<M, H: IntoHandler<M>>(&self, handler: H) -> Result<Subscription>
    where
        H::Handler: Handler,
    {
        self.subscribe_with(IN_FLIGHT, handler).await
    }

    /// Starts a worker that counts raw deliveries.
    ///
    /// # Errors
    /// As [`Ours::subscribe`].
    pub async fn count(&self, counter: &Counter) -> Result<Subscription> {
        let counter = counter.clone();
        self.subscribe(move |delivery: Delivery| {
            std::hint::black_box(&delivery.message.payload);
            counter.add();
            ready(())
        })
        .await
    }

    /// Publishes payloads as one batch, and returns when all are taken.
    ///
    /// # Errors
    /// The first message's that is not taken.
    pub async fn publish(&self, payloads: impl IntoIterator<Item = Bytes>) -> Result<()> {
        for result in self.publisher.publish_batch(payloads.into_iter().map(NewMessage::raw)).await {
            result?;
        }
        Ok(())
    }

    /// Publishes one message with a key.
    ///
    /// # Errors
    /// As [`Ours::publish`].
    pub async fn publish_with_key(&self, payload: Bytes, key: u64) -> Result<()> {
        self.publisher.publish(NewMessage::raw(payload).key(key.to_string())).await?;
        Ok(())
    }

    /// Publishes `count` messages of one payload, `batch` at once.
    ///
    /// # Errors
    /// As [`Ours::publish`].
    pub async fn publish_all(&self, payload: &Bytes, count: u64, batch: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let now = left.min(batch as u64);
            self.publish((0..now).map(|_| payload.clone())).await?;
            left -= now;
        }
        Ok(())
    }

    /// Messages that the group has not settled; 0 where the provider cannot tell.
    ///
    /// # Errors
    /// Those of looking.
    pub async fn lag(&self) -> Result<u64> {
        Ok(self.known_lag().await?.unwrap_or(0))
    }

    /// As [`Ours::lag`]; none where the provider cannot tell.
    ///
    /// # Errors
    /// Those of looking.
    pub async fn known_lag(&self) -> Result<Option<u64>> {
        let inspection = self.client.inspect(&self.event, None).await?;
        Ok(inspection.destination.groups.iter().map(|group| group.lag).sum())
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// Those of closing.
    pub async fn close(&self) -> Result<()> {
        Ok(self.client.close().await?)
    }
}

fn memory() -> Value {
    json!({ "slug": "dev", "type": "MEMORY", "config": { "maxMessages": BOUND } })
}

/// A message as a publisher makes it, for the baselines to move.
pub fn template(payload: Bytes) -> Message {
    let time = Timestamp::from_micros(0);
    let attributes = Attributes {
        source: "/bench".into(),
        event: "bench:messages".into(),
        content_type: OCTET_STREAM.into(),
    };
    Message::new(payload, IdSource::new().next(time), time, Arc::new(attributes))
}

/// Publishes `count` messages in batches while a worker handles them, to the last acknowledgement.
///
/// # Errors
/// Those of its parts.
pub async fn publish_and_handle(ours: Arc<Ours>, payload: Bytes, count: u64, batch: usize) -> Result<()> {
    let counter = Counter::default();
    let subscription = ours.count(&counter).await?;
    let publisher = {
        let ours = Arc::clone(&ours);
        tokio::spawn(async move { ours.publish_all(&payload, count, batch).await })
    };
    counter.reached(count).await;
    publisher.await??;
    subscription.stop().await?;
    match ours.lag().await? {
        0 => Ok(()),
        lag => Err(format!("{lag} messages are not settled").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::raw;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_published_is_handled_and_settled_past_the_bound() {
        let ours = Arc::new(Ours::memory().await.unwrap());
        publish_and_handle(ours, raw(64), 2 * BOUND as u64 + 1, 100).await.unwrap();
    }

    #[tokio::test]
    async fn the_observed_worker_adds_a_time_to_each_delivery() {
        let (times, counter) = (Times::default(), Counter::default());
        let ours = Ours::memory_observed(times.clone()).await.unwrap();
        let (noted, handled) = (times.clone(), counter.clone());
        let subscription = ours
            .subscribe(move |delivery: Delivery| {
                noted.handled(delivery.token, Duration::ZERO);
                handled.add();
                ready(())
            })
            .await
            .unwrap();
        for key in 0..10 {
            ours.publish_with_key(raw(1), key).await.unwrap();
        }
        counter.reached(10).await;
        subscription.stop().await.unwrap();
        assert_eq!(times.added().len(), 10);
        assert!(times.added().iter().all(|added| *added > 0.0));
    }
}
