//! A provider that writes down what goes through it, and changes nothing but its kind and the length of leases.

use super::Record;
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::config::MemoryConfig;
use ductape_core::{
    Broker, Capabilities, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Message,
    Position, Provider, ProviderConfig, ProviderKind, Publisher, Result, Settlement, Token, Verdict,
};
use ductape_memory::MemoryProvider;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longer than a test moves its clock, so that no jump loses a lease.
const LEASE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) struct RecordingProvider {
    memory: MemoryProvider,
    kind: ProviderKind,
    record: Arc<Record>,
}

struct RecordingBroker {
    inner: Arc<dyn Broker>,
    record: Arc<Record>,
}

struct RecordingPublisher {
    inner: Arc<dyn Publisher>,
    record: Arc<Record>,
}

struct RecordingConsumer {
    inner: Arc<dyn Consumer>,
    record: Arc<Record>,
    /// What is handed out and not settled.
    open: Mutex<HashMap<Token, Message>>,
}

impl RecordingProvider {
    pub(super) fn new(memory: MemoryProvider, kind: ProviderKind, record: Arc<Record>) -> Self {
        RecordingProvider { memory, kind, record }
    }
}

#[async_trait]
impl Provider for RecordingProvider {
    fn kind(&self) -> ProviderKind {
        self.kind
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let config = match config {
            own @ ProviderConfig::Memory(_) => own.clone(),
            _ => ProviderConfig::Memory(MemoryConfig::default()),
        };
        let inner = self.memory.connect(&config, options).await?;
        Ok(Arc::new(RecordingBroker { inner, record: Arc::clone(&self.record) }))
    }
}

#[async_trait]
impl Broker for RecordingBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        self.inner.capabilities(destination)
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        self.inner.ensure(destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        self.inner.inspect(destination).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        let inner = self.inner.publisher(destination).await?;
        Ok(Arc::new(RecordingPublisher { inner, record: Arc::clone(&self.record) }))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let options = ConsumerOptions { lease: LEASE, ..options.clone() };
        let inner = self.inner.consumer(destination, &options).await?;
        let (record, open) = (Arc::clone(&self.record), Mutex::default());
        Ok(Arc::new(RecordingConsumer { inner, record, open }))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        self.inner.delete_group(destination, group).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Publisher for RecordingPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let messages = batch.clone();
        let results = self.inner.publish(batch).await;
        let taken = messages.into_iter().zip(&results).filter(|(_, result)| result.is_ok());
        self.record.add(|seen| {
            for (message, _) in taken {
                let list = match message.dead_letter() {
                    Some(_) => &mut seen.dead_lettered,
                    None => &mut seen.published,
                };
                list.push(message);
            }
        });
        results
    }
}

#[async_trait]
impl Consumer for RecordingConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let deliveries = self.inner.receive(max, wait).await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend(deliveries.iter().map(|delivery| (delivery.token.clone(), delivery.message.clone())));
        Ok(deliveries)
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        let settled: Vec<_> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            batch.iter().map(|it| (it.verdict, open.remove(&it.token))).collect()
        };
        let results = self.inner.settle(batch).await;
        self.record.add(|seen| {
            for ((verdict, message), result) in settled.into_iter().zip(&results) {
                let (Some(message), Ok(())) = (message, result) else { continue };
                match verdict {
                    // The acknowledgement of what went to the dead letters is no success.
                    Verdict::Ack if seen.dead_lettered.iter().any(|dead| dead.id == message.id) => {}
                    Verdict::Ack => seen.acked.push(message),
                    Verdict::Release => seen.released.push(message),
                    // Workers tell of their retries themselves, with the reason.
                    Verdict::Retry(_) => {}
                }
            }
        });
        results
    }

    async fn extend(&self) -> Result<()> {
        self.inner.extend().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
