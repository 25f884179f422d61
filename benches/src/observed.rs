//! A broker around another that notes when each delivery is handed to the worker and when it is settled, so that
//! the worker's own share can be told from the provider's and the handler's.

use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::{
    Broker, Capabilities, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Provider,
    ProviderConfig, ProviderKind, Publisher, Result, Settlement, Token,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The times of all deliveries so far.
#[derive(Clone, Debug, Default)]
pub struct Times(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    received: HashMap<Token, Instant>,
    /// From handing out to settling.
    held: HashMap<Token, Duration>,
    handled: HashMap<Token, Duration>,
}

impl Times {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how long the handler itself took with a delivery.
    pub fn handled(&self, token: Token, took: Duration) {
        self.noted().handled.insert(token, took);
    }

    /// What the worker added to each handler's own time, in microseconds: from the delivery's arrival at the
    /// worker to its verdict's arrival at the consumer, less the handler's time. Only of settled deliveries.
    pub fn added(&self) -> Vec<f64> {
        let noted = self.noted();
        let added = noted.held.iter().filter_map(|(token, held)| {
            Some(held.saturating_sub(*noted.handled.get(token)?).as_secs_f64() * 1e6)
        });
        added.collect()
    }

    fn received(&self, deliveries: &[Delivery]) {
        let now = Instant::now();
        self.noted().received.extend(deliveries.iter().map(|delivery| (delivery.token.clone(), now)));
    }

    fn settled(&self, batch: &[Settlement]) {
        let now = Instant::now();
        let mut noted = self.noted();
        for settlement in batch {
            if let Some(received) = noted.received.remove(&settlement.token) {
                noted.held.insert(settlement.token.clone(), now - received);
            }
        }
    }
}

/// Makes connections of another provider, and notes the times of their deliveries.
#[derive(Debug)]
pub struct ObservedProvider<P> {
    /// The provider that does the work.
    pub inner: P,
    /// Where the times go.
    pub times: Times,
}

#[async_trait]
impl<P: Provider> Provider for ObservedProvider<P> {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let inner = self.inner.connect(config, options).await?;
        Ok(Arc::new(Observed { inner, times: self.times.clone() }))
    }
}

struct Observed {
    inner: Arc<dyn Broker>,
    times: Times,
}

struct ObservedConsumer {
    inner: Arc<dyn Consumer>,
    times: Times,
}

#[async_trait]
impl Broker for Observed {
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
        Ok(Arc::new(ObservedConsumer { inner, times: self.times.clone() }))
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
impl Consumer for ObservedConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let deliveries = self.inner.receive(max, wait).await?;
        self.times.received(&deliveries);
        Ok(deliveries)
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        self.times.settled(&batch);
        self.inner.settle(batch).await
    }

    async fn extend(&self) -> Result<()> {
        self.inner.extend().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
