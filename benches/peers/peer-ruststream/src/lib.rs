//! RustStream as a contestant: its in-memory broker by the broker's own publisher and subscriber.
//!
//! Its brokers for networks are crates of their own, and those of its version 0.7 need a newer Rust than the one that
//! is measured with.

use bytes::Bytes;
use ductape_contest::{About, Contestant, Messages, Result, Seen, Setup, peer};
use futures_util::StreamExt;
use ruststream::memory::{Discarding, MemoryBroker, MemoryPublisher, MemorySubscriber};
use ruststream::{IncomingMessage, OutgoingMessage, Publisher, Subscriber};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The program.
///
/// # Errors
/// The contestant's own.
pub fn main() -> Result<()> {
    peer(list, |_, setup| ductape_contest::main::<Memory>(setup))
}

fn list(provider: &str) -> Vec<About> {
    if provider != "memory" {
        return Vec::new();
    }
    vec![About {
        name: "ruststream".into(),
        version: "0.7.7".into(),
        note: "an unbounded channel, by the broker's own publisher and subscriber, without the router and its handlers"
            .into(),
        confirmed: true,
    }]
}

struct Memory {
    publisher: MemoryPublisher,
    subscriber: Mutex<MemorySubscriber<Discarding>>,
    name: String,
}

impl Contestant for Memory {
    async fn open(setup: &Setup) -> Result<Self> {
        let broker = MemoryBroker::new();
        let subscriber = Mutex::new(broker.subscribe(&setup.name));
        Ok(Memory { publisher: broker.publisher(), subscriber, name: setup.name.clone() })
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        for payload in messages {
            self.send(&payload).await?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        self.send(&payload).await
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let mut subscriber = self.subscriber.lock().await;
        let mut messages = pin!(subscriber.stream());
        while !seen.is_complete() {
            let message = messages.next().await.ok_or("the subscription ended")??;
            seen.take(message.payload());
            message.ack().await?;
        }
        Ok(())
    }
}

impl Memory {
    async fn send(&self, payload: &[u8]) -> Result<()> {
        let message = OutgoingMessage::new(self.name.as_str(), payload);
        Ok(self.publisher.publish(message, None).await?)
    }
}
