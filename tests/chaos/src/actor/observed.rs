//! A provider that is looked at: it writes down which acknowledgements the provider took. No handler ever knows.

use crate::journal::Journal;
use crate::load::{IDENTITY, read_identity};
use crate::record::{Kind, MessageRef, Record};
use async_trait::async_trait;
use ductape::broker::Inspection;
use ductape::{
    Broker, Capabilities, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind,
    Provider, ProviderConfig, ProviderKind, Publisher, Result, Settlement, Token, Verdict,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A provider that writes down acknowledgements.
pub(super) struct Observed {
    pub(super) inner: Arc<dyn Provider>,
    pub(super) journal: Arc<Journal>,
}

struct ObservedBroker {
    inner: Arc<dyn Broker>,
    journal: Arc<Journal>,
}

struct ObservedConsumer {
    inner: Arc<dyn Consumer>,
    journal: Arc<Journal>,
    /// What is in hand. Its bound is that of what is in flight.
    open: Mutex<HashMap<Token, MessageRef>>,
}

#[async_trait]
impl Provider for Observed {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let inner = self.inner.connect(config, options).await?;
        Ok(Arc::new(ObservedBroker { inner, journal: Arc::clone(&self.journal) }))
    }
}

#[async_trait]
impl Broker for ObservedBroker {
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
        self.inner.publisher(destination).await
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let inner = self.inner.consumer(destination, options).await?;
        // Whatever there was before, its deliveries are not with this actor's consumer any more.
        self.journal.write(Record::new(Kind::Lost));
        Ok(Arc::new(ObservedConsumer { inner, journal: Arc::clone(&self.journal), open: Mutex::default() }))
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

impl ObservedConsumer {
    fn with_open<R>(&self, look: impl FnOnce(&mut HashMap<Token, MessageRef>) -> R) -> R {
        look(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn message_of(delivery: &Delivery) -> Option<MessageRef> {
    read_identity(delivery.message.headers.get(IDENTITY)?.as_str()?)
}

/// An error's kind as one byte.
pub(super) fn code(error: &Error) -> u8 {
    ErrorKind::ALL.iter().position(|kind| *kind == error.kind()).unwrap_or(usize::from(u8::MAX)) as u8
}

#[async_trait]
impl Consumer for ObservedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let received = self.inner.receive(max, wait).await;
        match &received {
            Ok(deliveries) => {
                let known = |delivery: &Delivery| Some((delivery.token.clone(), message_of(delivery)?));
                self.with_open(|open| open.extend(deliveries.iter().filter_map(known)));
                self.journal.write_all(deliveries.iter().filter_map(|delivery| {
                    let received = Record::of(Kind::Received, message_of(delivery)?);
                    Some(received.attempt(delivery.attempt))
                }));
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Closed) => {
                self.journal.write(Record::new(Kind::Lost).detail(code(error)));
            }
            Err(_) => {}
        }
        received
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        let said: Vec<_> = self.with_open(|open| {
            let message = |settlement: &Settlement| {
                let done = settlement.verdict == Verdict::Ack;
                (done, open.get(&settlement.token).copied(), settlement.token.clone())
            };
            batch.iter().map(message).collect()
        });
        let results = self.inner.settle(batch).await;
        let mut records = Vec::with_capacity(results.len());
        self.with_open(|open| {
            for ((acked, message, token), result) in said.into_iter().zip(&results) {
                if result.is_ok() {
                    open.remove(&token);
                }
                let Some(message) = message else { continue };
                match result {
                    Ok(()) if acked => records.push(Record::of(Kind::Settled, message)),
                    Ok(()) => {}
                    Err(error) => records.push(Record::of(Kind::Unsettled, message).detail(code(error))),
                }
            }
        });
        self.journal.write_all(records);
        results
    }

    async fn extend(&self) -> Result<()> {
        self.inner.extend().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
