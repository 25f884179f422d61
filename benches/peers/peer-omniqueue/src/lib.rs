//! omniqueue as a contestant.
//!
//! Its batch call sends one message after the other where the backend has nothing better, so the fastest documented way
//! is to send from many tasks over its pool of connections, and to acknowledge from many tasks likewise.

use bytes::Bytes;
use ductape_contest::{About, Contestant, Messages, Result, Seen, Setup, Windows, peer};
use futures_util::{StreamExt, TryStreamExt, stream};
use omniqueue::{Delivery, QueueConsumer, QueueProducer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Sends and acknowledgements under way at once.
const TASKS: usize = 64;
#[cfg(feature = "redis")]
const CONNECTIONS: u16 = 32;

/// The program.
///
/// # Errors
/// The contestant's own.
pub fn main() -> Result<()> {
    peer(list, |_, setup| play(setup))
}

fn list(provider: &str) -> Vec<About> {
    let note = match provider {
        "memory" => "an unbounded channel; the payload is copied for each delivery",
        "redis" => "one XADD a call, one XACK and XDEL a message, 64 tasks over 32 connections; no metadata",
        _ => return Vec::new(),
    };
    vec![About { name: "omniqueue".into(), version: "0.3.0".into(), note: note.into(), confirmed: true }]
}

fn play(setup: &Setup) -> Result<()> {
    match setup.provider.as_str() {
        #[cfg(feature = "memory")]
        "memory" => ductape_contest::main::<Memory>(setup),
        #[cfg(feature = "redis")]
        "redis" => ductape_contest::main::<Redis>(setup),
        other => Err(format!("{other} is not compiled in").into()),
    }
}

struct Pair<P, C> {
    producer: P,
    consumer: Mutex<C>,
    windows: Windows,
}

impl<P: QueueProducer + Send + Sync, C: QueueConsumer> Pair<P, C> {
    fn new((producer, consumer): (P, C), setup: &Setup) -> Self {
        Pair { producer, consumer: Mutex::new(consumer), windows: Windows::of(setup.corpus) }
    }

    async fn publish(&self, messages: Messages) -> Result<()> {
        stream::iter(messages)
            .map(|payload| async move { self.producer.send_bytes(&payload).await })
            .buffer_unordered(TASKS)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    async fn publish_one(&self, payload: Bytes) -> Result<()> {
        Ok(self.producer.send_bytes(&payload).await?)
    }

    async fn consume(&self, seen: Seen) -> Result<()> {
        let mut consumer = self.consumer.lock().await;
        while !seen.is_complete() {
            let deliveries = consumer.receive_all(self.windows.batch, Duration::from_secs(1)).await?;
            deliveries
                .iter()
                .for_each(|delivery| _ = seen.take(delivery.borrow_payload().unwrap_or_default()));
            let acks = stream::iter(deliveries).map(acknowledge).buffer_unordered(TASKS);
            acks.try_collect::<()>().await?;
        }
        Ok(())
    }
}

async fn acknowledge(delivery: Delivery) -> Result<()> {
    delivery.ack().await.map_err(|(error, _)| error.into())
}

#[cfg(feature = "memory")]
struct Memory(Pair<omniqueue::backends::InMemoryProducer, omniqueue::backends::InMemoryConsumer>);

#[cfg(feature = "memory")]
impl Contestant for Memory {
    async fn open(setup: &Setup) -> Result<Self> {
        let pair = omniqueue::backends::InMemoryBackend::builder().build_pair().await?;
        Ok(Memory(Pair::new(pair, setup)))
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        self.0.publish(messages).await
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        self.0.publish_one(payload).await
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        self.0.consume(seen).await
    }
}

#[cfg(feature = "redis")]
type Manager = omniqueue::backends::redis::RedisConnectionManager;

#[cfg(feature = "redis")]
struct Redis(
    Pair<
        omniqueue::backends::redis::RedisProducer<Manager>,
        omniqueue::backends::redis::RedisConsumer<Manager>,
    >,
);

#[cfg(feature = "redis")]
impl Contestant for Redis {
    async fn open(setup: &Setup) -> Result<Self> {
        use omniqueue::backends::redis::{RedisBackend, RedisConfig};
        let at = &setup.endpoint;
        let dsn = format!("redis://{}:{}@{}", at.username, at.password, at.address);
        make_group(&dsn, &setup.name).await?;
        let pair = RedisBackend::builder(RedisConfig {
            dsn,
            max_connections: CONNECTIONS,
            reinsert_on_nack: false,
            queue_key: setup.name.clone(),
            delayed_queue_key: format!("{}-delayed", setup.name),
            delayed_lock_key: format!("{}-lock", setup.name),
            consumer_group: setup.name.clone(),
            consumer_name: "member".into(),
            payload_key: "payload".into(),
            ack_deadline_ms: 300_000,
            dlq_config: None,
            sentinel_config: None,
        });
        Ok(Redis(Pair::new(pair.build_pair().await?, setup)))
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        self.0.publish(messages).await
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        self.0.publish_one(payload).await
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        self.0.consume(seen).await
    }
}

/// It expects its group to be there.
#[cfg(feature = "redis")]
async fn make_group(dsn: &str, name: &str) -> Result<()> {
    let mut connection = redis::Client::open(dsn)?.get_multiplexed_async_connection().await?;
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(name).arg(name).arg("0").arg("MKSTREAM");
    Ok(create.exec_async(&mut connection).await?)
}
