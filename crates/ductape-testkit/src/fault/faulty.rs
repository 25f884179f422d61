//! The wrappers: each asks for a plan, and hands the call on as the plan says.

use super::plan::{Go, lost};
use super::{Faults, Operation};
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::{
    Broker, Capabilities, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Error, Message,
    Position, Provider, ProviderConfig, ProviderKind, Publisher, Result, Settlement,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

type EditCapabilities = dyn Fn(&mut Capabilities) + Send + Sync;

/// A provider whose connections have faults.
#[derive(Clone)]
pub struct FaultyProvider {
    inner: Arc<dyn Provider>,
    faults: Faults,
    capabilities: Option<Arc<EditCapabilities>>,
}

impl FaultyProvider {
    /// This provider, with these faults.
    pub fn new(provider: impl Provider, faults: Faults) -> Self {
        Self::over(Arc::new(provider), faults)
    }

    /// This provider, with these faults.
    pub fn over(provider: Arc<dyn Provider>, faults: Faults) -> Self {
        FaultyProvider { inner: provider, faults, capabilities: None }
    }

    /// Says other capabilities than the provider's own.
    #[must_use]
    pub fn with_capabilities(mut self, edit: impl Fn(&mut Capabilities) + Send + Sync + 'static) -> Self {
        self.capabilities = Some(Arc::new(edit));
        self
    }
}

impl fmt::Debug for FaultyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyProvider")
            .field("kind", &self.inner.kind())
            .field("faults", &self.faults)
            .finish()
    }
}

#[async_trait]
impl Provider for FaultyProvider {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let plan = self.faults.plan(Operation::Connect, None);
        let inner = plan.run(None, self.inner.connect(config, options)).await?;
        let (faults, capabilities) = (self.faults.clone(), self.capabilities.clone());
        Ok(Arc::new(FaultyBroker { inner, faults, capabilities }))
    }
}

/// A connection with faults. Publishers and consumers opened on it have them too.
pub struct FaultyBroker {
    inner: Arc<dyn Broker>,
    faults: Faults,
    capabilities: Option<Arc<EditCapabilities>>,
}

impl FaultyBroker {
    /// This connection, with these faults.
    pub fn over(broker: Arc<dyn Broker>, faults: Faults) -> Self {
        FaultyBroker { inner: broker, faults, capabilities: None }
    }
}

impl fmt::Debug for FaultyBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBroker").field("faults", &self.faults).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for FaultyBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        let mut capabilities = self.inner.capabilities(destination);
        if let Some(edit) = &self.capabilities {
            edit(&mut capabilities);
        }
        capabilities
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        let plan = self.faults.plan(Operation::Ensure, Some(&destination.name));
        plan.run(Some(()), self.inner.ensure(&plan.destination(destination))).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        let plan = self.faults.plan(Operation::Inspect, Some(&destination.name));
        let nothing = Some(Inspection::default());
        plan.run(nothing, self.inner.inspect(&plan.destination(destination))).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        let plan = self.faults.plan(Operation::OpenPublisher, Some(&destination.name));
        let inner = plan.run(None, self.inner.publisher(&plan.destination(destination))).await?;
        let (name, faults) = (Arc::clone(&destination.name), self.faults.clone());
        Ok(Arc::new(FaultyPublisher { inner, name, faults }))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let plan = self.faults.plan(Operation::OpenConsumer, Some(&destination.name));
        let (place, options) = (plan.destination(destination), plan.options(options));
        let inner = plan.run(None, self.inner.consumer(&place, &options)).await?;
        let (name, faults) = (Arc::clone(&destination.name), self.faults.clone());
        Ok(Arc::new(FaultyConsumer { inner, name, faults, lost: AtomicBool::new(false) }))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        let plan = self.faults.plan(Operation::DeleteGroup, Some(&destination.name));
        plan.run(Some(()), self.inner.delete_group(&plan.destination(destination), group)).await
    }

    async fn ping(&self) -> Result<()> {
        self.faults.plan(Operation::Ping, None).run(Some(()), self.inner.ping()).await
    }

    async fn close(&self) -> Result<()> {
        self.faults.plan(Operation::CloseBroker, None).run(Some(()), self.inner.close()).await
    }
}

struct FaultyPublisher {
    inner: Arc<dyn Publisher>,
    name: Arc<str>,
    faults: Faults,
}

#[async_trait]
impl Publisher for FaultyPublisher {
    async fn publish(&self, mut batch: Vec<Message>) -> Vec<Result<Position>> {
        let plan = self.faults.plan(Operation::Publish, Some(&self.name));
        let count = batch.len();
        match plan.before().await {
            Go::On => {}
            Go::Pretend => return fitted(Vec::new(), count, nowhere),
            Go::Failed(error) | Go::Lost(error) => return all(count, &error),
        }
        plan.edit_messages(&mut batch);
        if plan.duplicates() {
            // Only that the first publish was taken counts for the caller.
            drop(self.inner.publish(batch.clone()).await);
        }
        let results = self.inner.publish(batch).await;
        match plan.after().await {
            Ok(()) => fitted(results, count, nowhere),
            Err(error) => all(count, &error),
        }
    }
}

/// The position of a message that was dropped.
fn nowhere() -> Position {
    Position::Text("nowhere".into())
}

/// As many results as the caller asked for: of what was added none, of what was dropped success.
fn fitted<T>(mut results: Vec<Result<T>>, count: usize, dropped: impl Fn() -> T) -> Vec<Result<T>> {
    results.truncate(count);
    results.resize_with(count, || Ok(dropped()));
    results
}

/// The same error for each of a batch.
fn all<T>(count: usize, error: &Error) -> Vec<Result<T>> {
    (0..count).map(|_| Err(error.replicate())).collect()
}

struct FaultyConsumer {
    inner: Arc<dyn Consumer>,
    name: Arc<str>,
    faults: Faults,
    /// Whether it has said that its connection is lost: it is finished then.
    lost: AtomicBool,
}

impl FaultyConsumer {
    fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::Acquire) { Err(lost()) } else { Ok(()) }
    }

    /// Finishes it. Its unsettled go back to the group.
    async fn lose(&self, error: Error) -> Error {
        self.lost.store(true, Ordering::Release);
        // A consumer that cannot close has lost its deliveries all the same.
        drop(self.inner.close().await);
        error
    }
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.check()?;
        let plan = self.faults.plan(Operation::Receive, Some(&self.name));
        match plan.before().await {
            Go::On => {}
            Go::Pretend => return Ok(Vec::new()),
            Go::Failed(error) => return Err(error),
            Go::Lost(error) => return Err(self.lose(error).await),
        }
        let mut deliveries = self.inner.receive(max, wait).await?;
        plan.edit_deliveries(&mut deliveries);
        plan.after().await.map(|()| deliveries)
    }

    async fn settle(&self, mut batch: Vec<Settlement>) -> Vec<Result<()>> {
        let count = batch.len();
        if let Err(error) = self.check() {
            return all(count, &error);
        }
        let plan = self.faults.plan(Operation::Settle, Some(&self.name));
        match plan.before().await {
            Go::On => {}
            Go::Pretend => return fitted(Vec::new(), count, || ()),
            Go::Failed(error) => return all(count, &error),
            Go::Lost(error) => return all(count, &self.lose(error).await),
        }
        plan.edit_settlements(&mut batch);
        let results = self.inner.settle(batch).await;
        match plan.after().await {
            Ok(()) => fitted(results, count, || ()),
            Err(error) => all(count, &error),
        }
    }

    async fn extend(&self) -> Result<()> {
        self.check()?;
        self.faults.plan(Operation::Extend, Some(&self.name)).run(Some(()), self.inner.extend()).await
    }

    async fn close(&self) -> Result<()> {
        let plan = self.faults.plan(Operation::CloseConsumer, Some(&self.name));
        plan.run(Some(()), self.inner.close()).await
    }
}
