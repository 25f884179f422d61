//! shove as a contestant: `publish_batch` from several tasks, and its batch consumer.

use bytes::Bytes;
use ductape_contest::{About, Contestant, Messages, Result, Seen, Setup, Windows, peer};
use futures_util::{StreamExt, TryStreamExt};
use shove::batch_consumer::BatchConsumerOptions;
use shove::{
    BatchMessageHandler, Broker, MessageMetadata, NotSequenced, Outcome, QueueTopology, RawBytesCodec, Topic,
    TopologyBuilder,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a batch waits to fill.
const BATCH_AGE: Duration = Duration::from_millis(5);

/// A topic is a type and its name a constant; each run is a process, and has a name of its own.
static TOPOLOGY: OnceLock<QueueTopology> = OnceLock::new();

/// The program.
///
/// # Errors
/// The contestant's own.
pub fn main() -> Result<()> {
    peer(list, |_, setup| {
        TOPOLOGY.get_or_init(|| TopologyBuilder::new(setup.name.clone()).build());
        play(setup)
    })
}

fn list(provider: &str) -> Vec<About> {
    let note = match provider {
        "memory" => "publish_batch, batch consumer; the payload is copied into a message of its own",
        "redis" => {
            "publish_batch sends one XADD after the other, so several batches are under way at once; batch consumer; \
             no metadata"
        }
        "rabbitmq" => "confirmed publish_batch, several under way at once; batch consumer",
        "kafka" => "publish_batch, several under way at once; batch consumer; its own producer settings",
        _ => return Vec::new(),
    };
    vec![About { name: "shove".into(), version: "0.16.0".into(), note: note.into(), confirmed: true }]
}

fn play(setup: &Setup) -> Result<()> {
    match setup.provider.as_str() {
        #[cfg(feature = "memory")]
        "memory" => ductape_contest::main::<Shove<backends::Memory>>(setup),
        #[cfg(feature = "redis")]
        "redis" => ductape_contest::main::<Shove<backends::Redis>>(setup),
        #[cfg(feature = "rabbitmq")]
        "rabbitmq" => ductape_contest::main::<Shove<backends::RabbitMq>>(setup),
        #[cfg(feature = "kafka")]
        "kafka" => ductape_contest::main::<Shove<backends::Kafka>>(setup),
        other => Err(format!("{other} is not compiled in").into()),
    }
}

/// How each of its backends is opened.
trait Opened: Send + Sync + 'static {
    type Backend: shove::Backend + shove::HasBatchConsumption;

    fn open(setup: &Setup) -> impl Future<Output = Result<Broker<Self::Backend>>> + Send;
}

#[allow(dead_code, reason = "one of them is compiled in")]
mod backends {
    use super::*;

    #[cfg(feature = "memory")]
    pub(super) struct Memory;

    #[cfg(feature = "memory")]
    impl Opened for Memory {
        type Backend = shove::InMemory;

        async fn open(setup: &Setup) -> Result<Broker<shove::InMemory>> {
            let room = std::num::NonZeroUsize::new(setup.messages as usize).ok_or("no messages")?;
            let config = shove::inmemory::InMemoryConfig::default().with_default_capacity(room);
            Ok(Broker::new(config).await?)
        }
    }

    #[cfg(feature = "redis")]
    pub(super) struct Redis;

    #[cfg(feature = "redis")]
    impl Opened for Redis {
        type Backend = shove::Redis;

        async fn open(setup: &Setup) -> Result<Broker<shove::Redis>> {
            use shove::redis::{RedisConfig, RedisMode};
            let at = &setup.endpoint;
            let url = format!("redis://{}:{}@{}", at.username, at.password, at.address);
            Ok(Broker::new(RedisConfig::new(RedisMode::Standalone { url })).await?)
        }
    }

    #[cfg(feature = "rabbitmq")]
    pub(super) struct RabbitMq;

    #[cfg(feature = "rabbitmq")]
    impl Opened for RabbitMq {
        type Backend = shove::RabbitMq;

        async fn open(setup: &Setup) -> Result<Broker<shove::RabbitMq>> {
            let at = &setup.endpoint;
            let uri = format!("amqp://{}:{}@{}/%2f", at.username, at.password, at.address);
            Ok(Broker::new(shove::rabbitmq::RabbitMqConfig::new(uri)).await?)
        }
    }

    #[cfg(feature = "kafka")]
    pub(super) struct Kafka;

    #[cfg(feature = "kafka")]
    impl Opened for Kafka {
        type Backend = shove::Kafka;

        async fn open(setup: &Setup) -> Result<Broker<shove::Kafka>> {
            Ok(Broker::new(shove::kafka::KafkaConfig::new(&setup.endpoint.address)).await?)
        }
    }
}

struct Payloads;

impl Topic for Payloads {
    type Message = Vec<u8>;
    type Codec = RawBytesCodec;

    fn topology() -> &'static QueueTopology {
        TOPOLOGY.get_or_init(|| TopologyBuilder::new("bench").build())
    }
}

impl NotSequenced for Payloads {}

struct Shove<O: Opened> {
    broker: Broker<O::Backend>,
    publisher: shove::Publisher<O::Backend>,
    windows: Windows,
}

impl<O: Opened> Contestant for Shove<O> {
    async fn open(setup: &Setup) -> Result<Self> {
        let broker = O::open(setup).await?;
        broker.topology().declare::<Payloads>().await?;
        let publisher = broker.publisher().await?;
        Ok(Shove { broker, publisher, windows: Windows::of(setup.corpus) })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        let batches = std::iter::from_fn(|| {
            let batch = Some(messages.batch(self.windows.batch)).filter(|batch| batch.left() > 0)?;
            Some(batch.map(|payload| payload.to_vec()).collect::<Vec<_>>())
        });
        futures_util::stream::iter(batches)
            .map(|batch: Vec<Vec<u8>>| publish(Arc::clone(&self), batch))
            .buffer_unordered(self.windows.batches)
            .try_collect::<()>()
            .await
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        Ok(self.publisher.publish::<Payloads>(&payload.to_vec()).await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let (consumer, stop) = (self.broker.batch_consumer(), CancellationToken::new());
        let options = BatchConsumerOptions::new()
            .with_max_batch_size(self.windows.batch)
            .with_max_batch_age(BATCH_AGE)
            .with_shutdown(stop.clone());
        let notes = seen.clone();
        let running =
            tokio::spawn(async move { consumer.run::<Payloads, _>(Handler(notes), (), options).await });
        seen.all().await;
        // It acknowledges what its handler has returned from before it ends.
        stop.cancel();
        running.await??;
        Ok(())
    }
}

async fn publish<O: Opened>(shove: Arc<Shove<O>>, batch: Vec<Vec<u8>>) -> Result<()> {
    Ok(shove.publisher.publish_batch::<Payloads>(&batch).await?)
}

struct Handler(Seen);

impl BatchMessageHandler<Payloads> for Handler {
    type Context = ();

    async fn handle_batch(&self, messages: Vec<(Vec<u8>, MessageMetadata)>, _: &()) -> Outcome {
        messages.iter().for_each(|(payload, _)| _ = self.0.take(payload));
        Outcome::Ack
    }
}
