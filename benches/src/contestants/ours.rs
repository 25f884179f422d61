//! Ours on any provider, through the client as a service uses it.

use crate::Result;
use crate::ours::Ours;
use bytes::Bytes;
use ductape_contest::{Contestant, Corpus, Messages, Seen, Setup, Windows};
use ductape_core::Delivery;
use ductape_core::client::NewMessage;
use ductape_memory::MemoryProvider;
use ductape_sqlite::SqliteProvider;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::future::ready;
use std::sync::Arc;

pub(super) struct Contender {
    ours: Ours,
    corpus: Corpus,
    windows: Windows,
}

impl Contestant for Contender {
    async fn open(setup: &Setup) -> Result<Self> {
        Ok(Contender { ours: open(setup).await?, corpus: setup.corpus, windows: Windows::of(setup.corpus) })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        let batches =
            std::iter::from_fn(|| Some(messages.batch(self.windows.batch)).filter(|it| it.left() > 0));
        let publisher = self.ours.publisher();
        let mut results = futures_util::stream::iter(batches)
            .map(|batch| publisher.publish_batch(batch.map(|payload| self.message(payload))))
            .buffer_unordered(self.windows.batches);
        while let Some(results) = results.next().await {
            results.into_iter().try_for_each(|result| result.map(drop))?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        self.ours.publisher().publish(self.message(message)).await?;
        Ok(())
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let notes = seen.clone();
        let handler = move |delivery: Delivery| {
            notes.take(&delivery.message.payload);
            ready(())
        };
        let subscription = self.ours.subscribe_with(self.windows.deliveries, handler).await?;
        seen.all().await;
        subscription.stop().await?;
        Ok(())
    }

    async fn left(&self) -> Result<Option<u64>> {
        self.ours.known_lag().await
    }
}

impl Contender {
    fn message(&self, payload: Bytes) -> NewMessage {
        if self.corpus.is_json() { NewMessage::json_bytes(payload) } else { NewMessage::raw(payload) }
    }
}

async fn open(setup: &Setup) -> Result<Ours> {
    let (name, at) = (setup.name.as_str(), &setup.endpoint);
    match setup.provider.as_str() {
        "memory" => {
            let config = json!({ "maxMessages": setup.messages.max(1), "maxBytes": 4_u64 << 30 });
            Ours::open(name, MemoryProvider::isolated(), env("MEMORY", config)).await
        }
        "sqlite" => {
            let config = json!({ "path": setup.folder.join("ours.db") });
            Ours::open(name, SqliteProvider, env("SQLITE", config)).await
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            let config = json!({ "brokers": [at.address], "partitions": super::kafka::PARTITIONS });
            Ours::open(name, ductape_kafka::KafkaProvider, env("KAFKA", config)).await
        }
        #[cfg(feature = "pubsub")]
        "pubsub" => {
            let endpoint = format!("http://{}", at.address);
            let config = json!({ "projectId": "bench", "endpoint": endpoint });
            Ours::open(name, ductape_pubsub::PubSubProvider, env("GOOGLE_PUBSUB", config)).await
        }
        #[cfg(feature = "rabbitmq")]
        "rabbitmq" => {
            let config = json!({
                "host": at.host(), "port": at.port(), "username": at.username, "password": at.password,
            });
            Ours::open(name, ductape_rabbitmq::RabbitMqProvider, env("RABBITMQ", config)).await
        }
        #[cfg(feature = "redis")]
        "redis" => {
            let config = json!({
                "host": at.host(), "port": at.port(), "username": at.username, "password": at.password,
            });
            Ours::open(name, ductape_redis::RedisProvider, env("REDIS", config)).await
        }
        #[cfg(feature = "sqs")]
        "sqs" => {
            let config = json!({
                "region": "us-east-1", "endpoint": format!("http://{}", at.address),
                "accessKeyId": "bench", "secretAccessKey": "bench",
            });
            Ours::open(name, ductape_sqs::SqsProvider, env("AWS_SQS", config)).await
        }
        other => Err(format!("{other} is not compiled in, of {}", at.address).into()),
    }
}

fn env(kind: &str, config: Value) -> Value {
    json!({ "slug": "dev", "type": kind, "config": config })
}
