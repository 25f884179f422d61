//! The contract between core and a provider. **These docs are the specification**: an eighth provider is
//! written from them and from the conformance suite alone.
//!
//! ```text
//!  Provider ──connect──▶ Broker ──publisher──▶ Publisher   publish(batch) ─▶ one result a message
//!                          │  └────consumer──▶ Consumer    receive ─▶ deliveries ─▶ settle(batch)
//!                          └ ensure · inspect · delete_group · ping · close
//! ```
//!
//! What all providers share is written once, above this contract: lanes, retries with backoff, dead letters,
//! validation, sessions, sizes and header rules, batching of concurrent publishes, reconnecting. A provider
//! therefore never retries, never calls handlers, never spawns a task per message, and never checks what
//! [`Capabilities`] already say.
//!
//! # What holds for every method
//! - **Cancellation.** Dropping a future is allowed at any point. A publish may then be taken or not; a receive
//!   must lose nothing: what it had already taken from the server is handed out by the next one.
//! - **Errors** have a kind from [`crate::ErrorKind`], never a guess, and the [`crate::error::Retry`] that is
//!   true: [`Uncertain`](crate::error::Retry::Uncertain) wherever a message was sent and no answer came.
//! - **Deadlines.** Every call to a server ends within the connection's own time limit; core adds its own
//!   deadlines on top and drops the future when they pass.
//! - **Secrets** are resolved in [`Provider::connect`] and never appear in an error or in `Debug`.
//! - After `close` every method answers [`crate::ErrorKind::Closed`]; a second `close` is `Ok`.

pub use crate::destination::{Destination, Provision};

use crate::capability::Capabilities;
use crate::config::{ProviderConfig, ProviderKind};
use crate::delivery::{Delivery, OnRetry, Position, Settlement};
use crate::error::Result;
use crate::message::Message;
use crate::time::Clock;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// Makes connections of one kind.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Which provider this is.
    fn kind(&self) -> ProviderKind;

    /// Connects, and proves that the server answers and takes the credentials.
    ///
    /// # Errors
    /// `CONNECT_FAILED`, `AUTHENTICATION_FAILED`, `TLS_FAILED`, `TIMEOUT`, `SECRET_MISSING`, `CONFIG_INVALID`; for the
    /// embedded ones `STORAGE_*`. Each says which host or file, and what to mend.
    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>>;
}

/// What a connection is given besides its config.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Names this program to the server, where the config does not.
    pub client_name: String,
    /// How long connecting may take in all. Default 10 s.
    pub connect_timeout: Duration,
    /// How long one call to the server may take. Default 30 s.
    pub request_timeout: Duration,
    /// What relative paths in the config are relative to: the catalogue's folder.
    pub base_dir: std::path::PathBuf,
    /// What time it is, for the embedded providers' leases and delays.
    pub clock: Clock,
    /// Who is told of the retries of this client's workers. No provider needs it.
    pub on_retry: OnRetry,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            client_name: "ductape".into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            base_dir: ".".into(),
            clock: Clock::system(),
            on_retry: OnRetry::default(),
        }
    }
}

/// A connection to one provider. Survives the loss of its server: calls fail meanwhile and work again after.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// What this connection can do for this destination. No input or output happens here.
    fn capabilities(&self, destination: &Destination) -> Capabilities;

    /// Sees to it that the destination and its default group exist, and have the settings that the catalogue
    /// asks for. Idempotent and cheap where they do: core calls it once per destination and connection.
    /// From then on every message taken waits for the default group.
    ///
    /// # Errors
    /// `DESTINATION_NOT_FOUND` under [`Provision::Verify`]; `DESTINATION_MISMATCH` naming the setting that differs;
    /// `PERMISSION_DENIED`.
    async fn ensure(&self, destination: &Destination) -> Result<()>;

    /// Looks without touching: nothing is made, taken or counted.
    ///
    /// # Errors
    /// `DESTINATION_NOT_FOUND`.
    async fn inspect(&self, destination: &Destination) -> Result<Inspection>;

    /// Opens a publisher. Only called after [`Broker::ensure`].
    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>>;

    /// Opens a consumer. Only called after [`Broker::ensure`]. A group that is not there is made, and gets
    /// what is taken from now on, or with [`Start::Earliest`] all that is kept as well. Of a group that is
    /// there, `start` changes nothing.
    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>>;

    /// Forgets a group and what waits for it.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`; `UNSUPPORTED` where the provider cannot tell groups apart.
    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()>;

    /// One round trip to the server.
    async fn ping(&self) -> Result<()>;

    /// Ends the connection and everything opened on it.
    async fn close(&self) -> Result<()>;
}

/// Puts messages into one destination. Called from many tasks at once.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes a batch and returns when each message is taken for good, refused, or uncertain: as many
    /// results as messages, in their order. One bad message never fails the others.
    ///
    /// Calls may overlap. Messages of one key are taken in the order in which the calls were made (the order
    /// of their first polls), and within a batch in its order; a message that is refused leaves a gap, not a
    /// swap. Where a bound of the provider is reached the call waits.
    ///
    /// # Errors
    /// Each its own: `DESTINATION_FULL`, `DESTINATION_NOT_FOUND`, `MESSAGE_TOO_LARGE`, `STORAGE_FULL`, `THROTTLED`, `TIMEOUT`,
    /// `CONNECTION_LOST`, `CLOSED`.
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>>;
}

/// How a consumer is opened.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The group it is a member of.
    pub group: Arc<str>,
    /// Where a group that is new begins.
    pub start: Start,
    /// The most deliveries handed out and unsettled. The provider's prefetch is never beyond it.
    pub max_in_flight: usize,
    /// For how long a delivery is this consumer's without [`Consumer::extend`]. Default 30 s. A provider that cannot keep
    /// one for so long refuses to open the consumer.
    pub lease: Duration,
    /// Names this member to the server, unique in the group.
    pub member: Arc<str>,
}

impl ConsumerOptions {
    /// A member of this group, with 256 in flight and a lease of 30 s.
    pub fn new(group: impl Into<Arc<str>>) -> Self {
        ConsumerOptions {
            group: group.into(),
            start: Start::Latest,
            max_in_flight: 256,
            lease: Duration::from_secs(30),
            member: format!("member-{:016x}", fastrand::u64(..)).into(),
        }
    }
}

/// Where a group that is new begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Latest,
    /// With all that the provider still keeps.
    Earliest,
}

/// Takes deliveries from one destination for one member of a group.
///
/// `receive` is called by one task at a time; `settle` and `extend` by others meanwhile, so none of them may wait
/// for another.
///
/// A consumer is cheap to replace: where [`Consumer::receive`] says `CONNECTION_LOST` or `CLOSED`, core drops it and
/// opens another. Its unsettled deliveries then come back, to it or to another member, with their attempt
/// counted.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Waits until there is at least one delivery, or `wait` has passed, and returns up to `max` of them without
    /// waiting for more. An empty answer means that nothing came in time.
    ///
    /// - Never more unsettled than `max_in_flight`; at the bound it waits like one with nothing to hand out.
    /// - With [`Ordering::PerKey`](crate::capability::Ordering::PerKey) a message is handed out only when every
    ///   earlier message of its key in this group is settled, or is unsettled with *this* consumer. After a
    ///   retry, a release or a lost consumer the order still holds: the message comes back before any later
    ///   one of its key that is not with a consumer already.
    /// - [`Delivery::attempt`] is counted by the provider where it can.
    ///
    /// # Errors
    /// `CONNECTION_LOST`, `CLOSED`: open another consumer. Others: try again, by their [`crate::error::Retry`].
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>>;

    /// Settles deliveries of this consumer: as many results as settlements, in their order. Returns when the
    /// provider has them, so that a process that dies afterwards does not get an acknowledged message again.
    ///
    /// Settling out of order never settles another delivery. Settling twice is `Ok` and changes nothing, or
    /// `LEASE_LOST`.
    ///
    /// # Errors
    /// Each its own: `LEASE_LOST` where the delivery is no longer this consumer's; `CONNECTION_LOST`, `TIMEOUT`.
    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>>;

    /// Renews the lease of everything that this consumer has handed out and that is not settled. Core calls it
    /// every third of a lease. Where there are no leases it does nothing.
    async fn extend(&self) -> Result<()>;

    /// Releases what is unsettled and leaves the group's membership, not the group. Concurrent calls are fine, and one that
    /// is cut short is taken up by the next.
    async fn close(&self) -> Result<()>;
}

/// What [`Broker::inspect`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Messages kept, where the provider can tell.
    pub messages: Option<u64>,
    /// Bytes kept, where the provider can tell.
    pub bytes: Option<u64>,
    /// Its groups, by name.
    pub groups: Vec<GroupInspection>,
    /// What whoever operates it should know of it beside these numbers, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What [`Broker::inspect`] saw of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupInspection {
    /// The group.
    pub name: String,
    /// Messages that it has not settled, those in flight included, where the provider can tell.
    pub lag: Option<u64>,
    /// Messages handed out and not settled.
    pub in_flight: u64,
    /// Members there now, where the provider can tell.
    pub members: Option<u64>,
}
