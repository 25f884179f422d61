//! SeaStreamer as a contestant.
//!
//! Its producer pipelines by itself and gives a receipt for each message; a window of receipts keeps memory bounded. Its
//! consumer acknowledges in the background, and is asked to commit what is left at the end.

use bytes::Bytes;
use ductape_contest::{About, Contestant, Messages, Result, Seen, Setup, Windows, peer};
use sea_streamer_redis::{
    AutoCommit, AutoStreamReset, RedisConnectOptions, RedisConsumer, RedisConsumerOptions, RedisProducer,
    RedisStreamer,
};
use sea_streamer_types::{
    Buffer, Consumer, ConsumerGroup, ConsumerMode, ConsumerOptions, Message, Producer, StreamKey, Streamer,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The program.
///
/// # Errors
/// The contestant's own.
pub fn main() -> Result<()> {
    peer(list, |_, setup| ductape_contest::main::<Redis>(setup))
}

fn list(provider: &str) -> Vec<About> {
    if provider != "redis" {
        return Vec::new();
    }
    vec![About {
        name: "sea-streamer".into(),
        version: "1.0.0-rc.5".into(),
        note: "its own pipelining with a receipt a message; acknowledged by hand, committed as it goes; no metadata"
            .into(),
        confirmed: true,
    }]
}

struct Redis {
    streamer: RedisStreamer,
    producer: RedisProducer,
    key: StreamKey,
    windows: Windows,
}

impl Redis {
    async fn consumer(&self) -> Result<RedisConsumer> {
        let mut options = RedisConsumerOptions::new(ConsumerMode::LoadBalanced);
        options.set_consumer_group(ConsumerGroup::new("bench"))?;
        options.set_auto_stream_reset(AutoStreamReset::Earliest);
        options.set_auto_commit(AutoCommit::Rolling).set_auto_commit_interval(Duration::ZERO);
        options.set_batch_size(self.windows.batch).set_mkstream(true);
        Ok(self.streamer.create_consumer(&[self.key.clone()], options).await?)
    }
}

impl Contestant for Redis {
    async fn open(setup: &Setup) -> Result<Self> {
        let at = &setup.endpoint;
        let mut options = RedisConnectOptions::default();
        options.set_username(Some(at.username.clone())).set_password(Some(at.password.clone()));
        let streamer = RedisStreamer::connect(format!("redis://{}", at.address).parse()?, options).await?;
        let key = StreamKey::new(setup.name.clone())?;
        let producer = streamer.create_producer(key.clone(), Default::default()).await?;
        Ok(Redis { streamer, producer, key, windows: Windows::of(setup.corpus) })
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        let mut receipts = VecDeque::with_capacity(self.windows.messages());
        for payload in messages {
            if receipts.len() == self.windows.messages()
                && let Some(receipt) = receipts.pop_front()
            {
                let receipt: sea_streamer_redis::SendFuture = receipt;
                receipt.await?;
            }
            receipts.push_back(self.producer.send(&payload[..])?);
        }
        for receipt in receipts {
            receipt.await?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        self.producer.send(&payload[..])?.await?;
        Ok(())
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let consumer = self.consumer().await?;
        while !seen.is_complete() {
            let message = consumer.next().await?;
            seen.take(message.message().as_bytes());
            consumer.ack(&message)?;
        }
        Ok(consumer.end().await?)
    }
}
