//! mq-bridge as a contestant: its endpoints' own `send_batch` and `receive_batch`, as its benchmarks use them.

use bytes::Bytes;
use ductape_contest::{About, Contestant, Messages, Result, Seen, Setup, Windows, peer};
use futures_util::StreamExt;
use mq_bridge::CanonicalMessage;
use mq_bridge::traits::{MessageConsumer, MessageDisposition, MessagePublisher, SentBatch};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// The program.
///
/// # Errors
/// The contestant's own.
pub fn main() -> Result<()> {
    #[cfg(feature = "rabbitmq")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    peer(list, |_, setup| ductape_contest::main::<Bridge>(setup))
}

fn list(provider: &str) -> Vec<About> {
    let note = match provider {
        "memory" => "a bounded channel of batches",
        "redis" => "pipelines of XADD, several under way; messages carry an id and no other metadata",
        "rabbitmq" => "confirmed batches, several under way; a classic queue, not a quorum queue",
        "kafka" => "its own producer settings; messages carry an id and no other metadata",
        _ => return Vec::new(),
    };
    let about =
        About { name: "mq-bridge".into(), version: "1.3.0".into(), note: note.into(), confirmed: true };
    vec![about]
}

struct Bridge {
    publisher: Box<dyn MessagePublisher>,
    consumer: Mutex<Box<dyn MessageConsumer>>,
    windows: Windows,
}

impl Contestant for Bridge {
    async fn open(setup: &Setup) -> Result<Self> {
        let windows = Windows::of(setup.corpus);
        let (publisher, consumer) = ends(setup, windows).await?;
        Ok(Bridge { publisher, consumer: Mutex::new(consumer), windows })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        let batches =
            std::iter::from_fn(|| Some(messages.batch(self.windows.batch)).filter(|batch| batch.left() > 0));
        let publisher = &*self.publisher;
        let mut sent = futures_util::stream::iter(batches)
            .map(|batch: Messages| publisher.send_batch(batch.map(message).collect()))
            .buffer_unordered(self.windows.batches);
        while let Some(sent) = sent.next().await {
            taken(sent?)?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        self.publisher.send(message(payload)).await?;
        Ok(())
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let (mut consumer, mut commits) = (self.consumer.lock().await, JoinSet::new());
        while !seen.is_complete() {
            let batch = consumer.receive_batch(self.windows.deliveries).await?;
            batch.messages.iter().for_each(|message| _ = seen.take(&message.payload));
            commits.spawn((batch.commit)(vec![MessageDisposition::Ack; batch.messages.len()]));
            while commits.len() > self.windows.batches {
                commits.join_next().await.transpose()?.transpose()?;
            }
        }
        while let Some(committed) = commits.join_next().await {
            committed??;
        }
        Ok(())
    }
}

fn message(payload: Bytes) -> CanonicalMessage {
    CanonicalMessage::new_bytes(payload, None)
}

fn taken(sent: SentBatch) -> Result<()> {
    match sent {
        SentBatch::Ack => Ok(()),
        SentBatch::Partial { failed, .. } if failed.is_empty() => Ok(()),
        SentBatch::Partial { failed, .. } => Err(format!("{} messages were not taken", failed.len()).into()),
    }
}

type Ends = (Box<dyn MessagePublisher>, Box<dyn MessageConsumer>);

async fn ends(setup: &Setup, windows: Windows) -> Result<Ends> {
    match setup.provider.as_str() {
        #[cfg(feature = "memory")]
        "memory" => memory(setup, windows).await,
        #[cfg(feature = "redis")]
        "redis" => redis(setup, windows).await,
        #[cfg(feature = "rabbitmq")]
        "rabbitmq" => rabbitmq(setup, windows).await,
        #[cfg(feature = "kafka")]
        "kafka" => kafka(setup).await,
        other => Err(format!("{other} is not compiled in, for {windows:?}").into()),
    }
}

#[cfg(feature = "memory")]
async fn memory(setup: &Setup, _windows: Windows) -> Result<Ends> {
    use mq_bridge::endpoints::memory::{MemoryConsumer, MemoryPublisher};
    use mq_bridge::models::MemoryConfig;
    // Its capacity counts batches; a single message is a batch too.
    let capacity = Some(setup.messages as usize);
    let config = MemoryConfig { topic: setup.name.clone(), capacity, ..MemoryConfig::default() };
    let consumer = MemoryConsumer::new_async(&config).await?;
    Ok((Box::new(MemoryPublisher::new_async(&config).await?), Box::new(consumer)))
}

#[cfg(feature = "redis")]
async fn redis(setup: &Setup, windows: Windows) -> Result<Ends> {
    use mq_bridge::endpoints::redis_streams::{RedisStreamsConsumer, RedisStreamsPublisher};
    use mq_bridge::models::RedisStreamsConfig;
    let config = RedisStreamsConfig {
        url: format!("redis://{}", setup.endpoint.address),
        stream: Some(setup.name.clone()),
        group: Some("bench".into()),
        username: Some(setup.endpoint.username.clone()),
        password: Some(setup.endpoint.password.clone()),
        read_from_start: true,
        internal_buffer_size: Some(windows.deliveries),
        ..RedisStreamsConfig::default()
    };
    let consumer = RedisStreamsConsumer::new(&config).await?;
    Ok((Box::new(RedisStreamsPublisher::new(&config).await?), Box::new(consumer)))
}

#[cfg(feature = "rabbitmq")]
async fn rabbitmq(setup: &Setup, windows: Windows) -> Result<Ends> {
    use mq_bridge::endpoints::amqp::{AmqpConsumer, AmqpPublisher};
    use mq_bridge::models::AmqpConfig;
    let config = AmqpConfig {
        url: format!("amqp://{}/%2f", setup.endpoint.address),
        queue: Some(setup.name.clone()),
        username: Some(setup.endpoint.username.clone()),
        password: Some(setup.endpoint.password.clone()),
        prefetch_count: Some(windows.deliveries as u16),
        ..AmqpConfig::default()
    };
    let consumer = AmqpConsumer::new(&config).await?;
    Ok((Box::new(AmqpPublisher::new(&config).await?), Box::new(consumer)))
}

#[cfg(feature = "kafka")]
async fn kafka(setup: &Setup) -> Result<Ends> {
    use mq_bridge::endpoints::kafka::{KafkaConsumer, KafkaPublisher};
    use mq_bridge::models::KafkaConfig;
    let config = KafkaConfig {
        url: setup.endpoint.address.clone(),
        topic: Some(setup.name.clone()),
        group_id: Some("bench".into()),
        partitions: Some(4),
        create_topic: Some(true),
        ..KafkaConfig::default()
    };
    let publisher = KafkaPublisher::new(&config).await?;
    Ok((Box::new(publisher), Box::new(KafkaConsumer::new(&config).await?)))
}
