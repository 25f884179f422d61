//! What grows, and how one row of it is measured.

use ductape_benches::Result;
use ductape_benches::workload::{BATCH, Counter, raw};
use ductape_core::catalogue::Catalogue;
use ductape_core::client::{Client, EventPublisher, NewMessage, Subscribe};
use ductape_core::{Delivery, Subscription};
use ductape_memory::MemoryProvider;
use ductape_sqlite::SqliteProvider;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::future::ready;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BYTES: usize = 64;
const IN_FLIGHT: usize = 1024;

/// What a process measures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) provider: String,
    pub(crate) shape: Shape,
}

/// What there is so much of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Shape {
    Backlog(u64),
    Topics(u64),
    Keys(u64),
    Publishers(u64),
}

impl Shape {
    /// Every series of a provider, each from its smallest to its largest.
    pub(crate) fn all(provider: &str, quick: bool) -> Vec<Vec<Shape>> {
        let most: u64 = if quick { 100_000 } else { 10_000_000 };
        let up_to = |most: u64, steps: &[u64]| -> Vec<u64> {
            steps.iter().copied().filter(|step| *step <= most).collect()
        };
        let backlog = up_to(most, &[1_000, 10_000, 100_000, 1_000_000, 10_000_000]);
        let keys = up_to(most, &[1, 1_000, 1_000_000]);
        let mut series = vec![
            backlog.into_iter().map(Shape::Backlog).collect(),
            [1, 10, 100, 1_000].map(Shape::Topics).into(),
            keys.into_iter().map(Shape::Keys).collect(),
        ];
        let publishers: &[u64] = if provider == "sqlite" && quick { &[1, 64] } else { &[1, 64, 1_024] };
        series.push(publishers.iter().copied().map(Shape::Publishers).collect());
        series
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Shape::Backlog(_) => "backlog",
            Shape::Topics(_) => "topics",
            Shape::Keys(_) => "keys",
            Shape::Publishers(_) => "publishers",
        }
    }

    pub(crate) fn size(self) -> u64 {
        let (Shape::Backlog(size) | Shape::Topics(size) | Shape::Keys(size) | Shape::Publishers(size)) = self;
        size
    }
}

/// Microseconds a message.
pub(crate) fn measure(row: &Row) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = TempDir::with_prefix("ductape-bench-")?;
    runtime.block_on(async {
        let place = Place::open(row, folder.path()).await?;
        let took = match row.shape {
            Shape::Backlog(depth) => place.beside_a_backlog(depth).await?,
            Shape::Topics(_) => place.all_topics().await?,
            Shape::Keys(keys) => place.with_keys(keys).await?,
            Shape::Publishers(tasks) => place.published_by(tasks).await?,
        };
        place.client.close().await?;
        Ok(took)
    })
}

struct Place {
    client: Client,
    topics: Vec<String>,
    /// Messages of a measurement.
    messages: u64,
}

impl Place {
    async fn open(row: &Row, folder: &Path) -> Result<Self> {
        let count = if let Shape::Topics(count) = row.shape { count } else { 1 };
        let topics: Vec<String> = (0..count).map(|n| format!("bench:topic-{n}")).collect();
        let entries = topics.iter().map(|tag| json!({ "name": tag, "tag": tag })).collect::<Vec<_>>();
        let broker =
            json!({ "name": "Bench", "tag": "bench", "envs": [env(row, folder)], "topics": entries });
        let catalogue =
            Catalogue::from_json(&json!({ "product": "bench", "brokers": [broker] }).to_string())?;
        let builder = Client::memory(catalogue).provider(MemoryProvider::isolated()).provider(SqliteProvider);
        let messages = match (row.provider.as_str(), row.shape) {
            ("sqlite", Shape::Publishers(tasks)) => (tasks * 200).clamp(300, 50_000),
            ("sqlite", _) => 100_000,
            // Each key is met.
            (_, Shape::Keys(_)) => 1_000_000,
            _ => 500_000,
        };
        Ok(Place { client: builder.env("dev").build().await?, topics, messages })
    }

    async fn publisher(&self, topic: usize) -> Result<EventPublisher> {
        Ok(self.client.broker().publisher(&self.topics[topic], None).await?)
    }

    async fn subscribe(&self, topic: usize, counter: &Counter) -> Result<Subscription> {
        let counter = counter.clone();
        let subscribe = Subscribe::new(&self.topics[topic]).max_in_flight(IN_FLIGHT);
        let handler = move |delivery: Delivery| {
            std::hint::black_box(&delivery.message.payload);
            counter.add();
            ready(())
        };
        Ok(self.client.broker().subscribe(subscribe, handler).await?)
    }

    /// Publishes a batch whenever one was handled, so that `depth` messages always wait.
    async fn beside_a_backlog(&self, depth: u64) -> Result<f64> {
        let (publisher, counter) = (self.publisher(0).await?, Counter::default());
        publish(&publisher, depth, |_| NewMessage::raw(raw(BYTES))).await?;
        let start = Instant::now();
        let subscription = self.subscribe(0, &counter).await?;
        let mut published = 0;
        while published < self.messages {
            counter.reached((published + 1).min(self.messages)).await;
            let handled = counter.count().min(self.messages);
            publish(&publisher, handled - published, |_| NewMessage::raw(raw(BYTES))).await?;
            published = handled;
        }
        let took = start.elapsed();
        subscription.stop().await?;
        Ok(each(took, self.messages))
    }

    async fn all_topics(&self) -> Result<f64> {
        let counter = Counter::default();
        let (mut subscriptions, mut publishers) = (Vec::new(), Vec::new());
        for topic in 0..self.topics.len() {
            publishers.push(self.publisher(topic).await?);
            subscriptions.push(self.subscribe(topic, &counter).await?);
        }
        let start = Instant::now();
        let mut published = 0;
        for publisher in publishers.iter().cycle() {
            if published >= self.messages {
                break;
            }
            publish(publisher, BATCH as u64, |_| NewMessage::raw(raw(BYTES))).await?;
            published += BATCH as u64;
        }
        counter.reached(published).await;
        let took = start.elapsed();
        for subscription in subscriptions {
            subscription.stop().await?;
        }
        Ok(each(took, published))
    }

    async fn with_keys(&self, keys: u64) -> Result<f64> {
        let (publisher, counter) = (self.publisher(0).await?, Counter::default());
        let subscription = self.subscribe(0, &counter).await?;
        let start = Instant::now();
        publish(&publisher, self.messages, |n| {
            // As wide for few keys as for many, so that the key's own bytes make no difference.
            NewMessage::raw(raw(BYTES)).key(format!("key-{:08}", n % keys))
        })
        .await?;
        counter.reached(self.messages).await;
        let took = start.elapsed();
        subscription.stop().await?;
        Ok(each(took, self.messages))
    }

    async fn published_by(&self, tasks: u64) -> Result<f64> {
        let (publisher, of_each) = (self.publisher(0).await?, (self.messages / tasks).max(1));
        let start = Instant::now();
        let mut publishing = tokio::task::JoinSet::new();
        for _ in 0..tasks {
            let publisher = publisher.clone();
            publishing.spawn(async move {
                for _ in 0..of_each {
                    publisher.publish(NewMessage::raw(raw(BYTES))).await?;
                }
                Result::<()>::Ok(())
            });
        }
        while let Some(ended) = publishing.join_next().await {
            ended??;
        }
        Ok(each(start.elapsed(), of_each * tasks))
    }
}

async fn publish(publisher: &EventPublisher, count: u64, message: impl Fn(u64) -> NewMessage) -> Result<()> {
    let mut next = 0;
    while next < count {
        let end = (next + BATCH as u64).min(count);
        for result in publisher.publish_batch((next..end).map(&message)).await {
            result?;
        }
        next = end;
    }
    Ok(())
}

fn env(row: &Row, folder: &Path) -> Value {
    let (kind, config) = match (row.provider.as_str(), row.shape) {
        ("memory", _) => ("MEMORY", json!({ "maxMessages": 20_000_000, "maxBytes": 16_u64 << 30 })),
        (_, Shape::Publishers(_)) => ("SQLITE", json!({ "path": folder.join("b.db"), "durability": "full" })),
        _ => ("SQLITE", json!({ "path": folder.join("b.db"), "durability": "normal" })),
    };
    json!({ "slug": "dev", "type": kind, "config": config })
}

fn each(took: Duration, messages: u64) -> f64 {
    took.as_secs_f64() * 1e6 / messages as f64
}
