//! Connecting to a cluster.

use crate::admin;
use crate::consumer::{Handle, KafkaConsumer, Phase};
use crate::link::{Link, lock};
use crate::member::{Bell, Member};
use crate::publisher::KafkaPublisher;
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Batching, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, ErrorKind, Provider,
    ProviderConfig, ProviderKind, Publisher, Result, Start,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Makes connections to Apache Kafka clusters (`type: KAFKA`).
#[derive(Clone, Copy, Debug, Default)]
pub struct KafkaProvider;

struct KafkaBroker(Arc<Link>);

/// How long a consumer waits for its first partitions before it is handed over, within a connection's own limit. It goes
/// on by itself.
const JOIN: Duration = Duration::from_secs(5);

#[async_trait]
impl Provider for KafkaProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kafka
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::Kafka(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(
                Error::new(ErrorKind::ConfigInvalid, message).with_help("give KAFKA a config with `brokers`")
            );
        };
        let (config, options) = (config.clone(), options.clone());
        let connected = tokio::task::spawn_blocking(move || Link::connect(&config, &options)).await;
        let link = connected
            .map_err(|error| Error::new(ErrorKind::ProviderFailed, "connecting").with_source(error))??;
        Ok(Arc::new(KafkaBroker(Arc::new(link))))
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn capabilities(&self, _: &Destination) -> Capabilities {
        Capabilities {
            ordering: Ordering::PerKey,
            groups: Groups::Many,
            replay: Replay::Kept,
            delay: Delay::None,
            attempts: Attempts::CountedAtWatermark,
            durability: Durability::Stored,
            batching: Batching::Provider,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: self.0.settings.max_message_bytes,
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        let place = destination.clone();
        self.call(destination, move |link| admin::ensure(link, &place)).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        let place = destination.clone();
        self.call(destination, move |link| admin::inspect(link, &place)).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        self.0.check_open("the connection")?;
        Ok(Arc::new(KafkaPublisher::new(Arc::clone(&self.0), destination)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let (place, wanted) = (destination.clone(), options.clone());
        let consumer = self.call(destination, move |link| open(link, place, &wanted)).await?;
        consumer.0.has_joined(self.0.settings.heartbeat()).await;
        Ok(Arc::new(consumer))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        let (place, name) = (destination.clone(), group.to_owned());
        let deleted = self.call(destination, move |link| admin::delete_group(link, &place, &name)).await;
        deleted.map_err(|error| error.with_context("group", group))
    }

    async fn ping(&self) -> Result<()> {
        self.0.blocking(admin::ping).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl KafkaBroker {
    async fn call<T: Send + 'static>(
        &self,
        destination: &Destination,
        call: impl FnOnce(&Arc<Link>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let called = self.0.blocking(call).await;
        called.map_err(|error| error.with_context("destination", &destination.name))
    }
}

/// Opens a member with a thread of its own. It leaves the group when what is given back is dropped.
fn open(link: &Arc<Link>, destination: Destination, options: &ConsumerOptions) -> Result<KafkaConsumer> {
    let partitions = admin::partitions(link, &destination.name)?;
    let is_default = options.group == destination.default_group;
    // The default group is there since `ensure`; were it not, nothing may be missed.
    let start = if is_default { Start::Earliest } else { options.start };
    let handle = Arc::new(Handle {
        destination,
        group: Arc::clone(&options.group),
        max_in_flight: options.max_in_flight.max(1),
        limit: link.limit,
        queues: Mutex::default(),
        state: Mutex::default(),
        wake: Arc::new(Notify::new()),
        bell: Arc::default(),
        due: Bell::default(),
        phase: watch::Sender::new(Phase::Joins),
    });
    let config = link.settings.member(options);
    let failed = |error| handle.located(link.failed(&error, "the consumer", false));
    let member = Member::open(&config, Arc::clone(&handle), partitions, start).map_err(failed)?;
    let committer = member.committer();
    spawn("ductape-commit", move || committer.run())?;
    spawn("ductape-kafka", move || member.run())?;
    link.know(&handle.destination.name, &handle.group);
    link.enlist(&handle);
    // The connection may have been closed before it knew of this one, which then goes with it.
    let consumer = KafkaConsumer(handle);
    link.check_open("the connection")?;
    Ok(consumer)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned
        .map(drop)
        .map_err(|error| Error::new(ErrorKind::ProviderFailed, "no thread for a consumer").with_source(error))
}

impl Handle {
    /// Waits until the member has its share. A first share that is empty is looked at for a little longer: members that
    /// are there already give partitions up after their next heartbeat.
    async fn has_joined(&self, heartbeat: Duration) {
        // Well within the limit of the caller, who would give up on it: a group that members join and leave again
        // without end is never at rest.
        let patience = JOIN.min(self.limit / 3);
        let mut phase = self.phase.subscribe();
        let shares = phase.wait_for(|phase| *phase >= Phase::Shares);
        if tokio::time::timeout(patience, shares).await.is_err() {
            tracing::debug!(group = %self.group, "the member still waits for its partitions");
            return;
        }
        let deadline = Instant::now() + (heartbeat * 2 + Duration::from_millis(500)).min(patience);
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let has_some = !lock(&self.queues).partitions.is_empty();
            let leaves = *self.phase.borrow() >= Phase::Leaves;
            if has_some || leaves || tokio::time::timeout_at(deadline, woken).await.is_err() {
                return;
            }
        }
    }
}
