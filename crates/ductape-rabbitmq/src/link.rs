//! The connections to the server: one that all publishers share, one for all administration, each made at need and anew
//! after a loss, and one a consumer.
//!
//! Nothing shares the publishers' since the server stops reading from a connection that publishes while memory or disk
//! run short, and verdicts, and consumers that connect anew, must get through then, of all times. A consumer has its own
//! also since the server drops the whole connection where one asks for a quorum queue that is just made and has no
//! leader yet.

use crate::address::{address, authorities};
use crate::alarm::Alarm;
use crate::error;
use crate::farewells::Farewells;
use ductape_core::config::RabbitMqConfig;
use ductape_core::error::Retry;
use ductape_core::{Clock, ConnectOptions, Error, ErrorKind, Result};
use futures_util::future::join_all;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

const DEFAULT_EXCHANGE: &str = "ductape";
const OK: u16 = 200;
/// How long the server has to answer the end of a connection: nothing waits for its answer.
const GOODBYE: Duration = Duration::from_secs(5);

/// What everything opened on one connection shares. It has no `Debug`: its address holds the password.
pub(crate) struct Link {
    address: AMQPUri,
    tls: OwnedTLSConfig,
    client_name: String,
    pub(crate) exchange: String,
    /// Whether the config names the default group's queue.
    pub(crate) names_queue: bool,
    pub(crate) clock: Clock,
    /// How long one call may take.
    pub(crate) limit: Duration,
    connect_limit: Duration,
    state: tokio::sync::Mutex<State>,
    closed: AtomicBool,
    pub(crate) alarm: Alarm,
    /// The publishers' channels that nobody uses any more.
    pub(crate) farewells: Farewells,
    /// The largest payload that the server takes, once it has said so.
    largest: AtomicUsize,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct State {
    administering: Option<Connection>,
    publishing: Option<Connection>,
    /// How many publishers' connections there were.
    published_on: u64,
    /// Attempts that failed in a row, and when the next may be made.
    failed: u32,
    not_before: Option<Instant>,
}

/// A connection and a channel for one consumer, and for nothing else. It ends with [`Dedicated::close`], with the link,
/// or when it is dropped.
pub(crate) struct Dedicated {
    connection: Arc<Connection>,
    pub(crate) channel: Channel,
}

/// What was opened here, for `inspect`: AMQP does not tell which queues an exchange has.
#[derive(Default)]
struct Opened {
    groups: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// What consumers of a queue have in hand.
    in_flight: Vec<(String, Weak<AtomicUsize>)>,
    /// The consumers' connections.
    dedicated: Vec<Weak<Connection>>,
}

impl Link {
    /// A link by this config. Nothing is connected yet.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub(crate) fn new(config: &RabbitMqConfig, options: &ConnectOptions) -> Result<Self> {
        let address = address(config)?;
        Ok(Link {
            address,
            tls: OwnedTLSConfig { identity: None, cert_chain: authorities(config, &options.base_dir)? },
            client_name: options.client_name.clone(),
            exchange: config.exchange.clone().unwrap_or_else(|| DEFAULT_EXCHANGE.into()),
            names_queue: config.queue.is_some(),
            clock: options.clock.clone(),
            limit: options.request_timeout,
            connect_limit: options.connect_timeout,
            state: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            alarm: Alarm::default(),
            farewells: Farewells::default(),
            largest: AtomicUsize::new(usize::MAX),
            opened: Mutex::default(),
        })
    }

    /// A channel for administration, on a connection that is made anew where it is lost.
    ///
    /// # Errors
    /// `CLOSED`; those of connecting.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        let mut state = self.state.lock().await;
        self.check_open("the connection")?;
        if !is_up(state.administering.as_ref()) {
            state.administering = Some(self.connect(&mut state).await?);
        }
        self.channel_of(&mut state.administering).await
    }

    /// A publisher's channel, on a connection that is made anew where it is lost; and which one in a row that is.
    ///
    /// # Errors
    /// `CLOSED`; those of connecting.
    pub(crate) async fn publishing(&self) -> Result<(Channel, u64)> {
        let mut state = self.state.lock().await;
        self.check_open("the connection")?;
        if !is_up(state.publishing.as_ref()) {
            let connection = self.connect(&mut state).await?;
            self.alarm.watch(connection.events_listener());
            self.largest.store(usize::MAX, Ordering::Release);
            state.publishing = Some(connection);
            state.published_on += 1;
        }
        let channel = self.channel_of(&mut state.publishing).await?;
        Ok((channel, state.published_on))
    }

    /// Uses this connection of the publishers' for no further channel, since it does not answer.
    pub(crate) async fn let_go(&self, published_on: u64) {
        let mut state = self.state.lock().await;
        if state.published_on == published_on {
            state.publishing = None;
        }
    }

    /// A channel of a connection, which is let go where it does not answer. Half the time that a call has, so that
    /// whoever gives a call no more than its time still gets here.
    async fn channel_of(&self, connection: &mut Option<Connection>) -> Result<Channel> {
        let Some(open) = connection else { return Err(error::closed("the connection")) };
        match tokio::time::timeout(self.limit / 2, open.create_channel()).await {
            Ok(channel) => channel.map_err(|error| error::call(&error, "a channel", false)),
            Err(_) => {
                *connection = None;
                Err(self.silent("a channel", self.limit / 2).with_retry(Retry::Safe))
            }
        }
    }

    /// The largest payload that the server is known to take.
    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::Acquire)
    }

    /// Remembers what the server said that it takes at most.
    pub(crate) fn takes_at_most(&self, bytes: usize) {
        self.largest.store(bytes, Ordering::Release);
    }

    /// A connection for one consumer, with a channel.
    ///
    /// # Errors
    /// `CLOSED`; those of connecting.
    pub(crate) async fn dedicated(&self) -> Result<Dedicated> {
        let connection = {
            let mut state = self.state.lock().await;
            self.check_open("the connection")?;
            let connection = Arc::new(self.connect(&mut state).await?);
            let mut opened = self.opened();
            opened.dedicated.retain(|connection| connection.strong_count() > 0);
            opened.dedicated.push(Arc::downgrade(&connection));
            connection
        };
        let channel = self.within("a channel", false, connection.create_channel()).await?;
        Ok(Dedicated { connection, channel })
    }

    /// Connects, if it is time to; failures in a row are further and further apart.
    async fn connect(&self, state: &mut State) -> Result<Connection> {
        self.wait_its_turn(state)?;
        match self.connect_once().await {
            Ok(connection) => {
                (state.failed, state.not_before) = (0, None);
                Ok(connection)
            }
            Err(error) => {
                state.failed = state.failed.saturating_add(1);
                state.not_before = Some(Instant::now() + backoff(state.failed));
                Err(error)
            }
        }
    }

    /// Tries no sooner than the backoff allows, however many ask.
    fn wait_its_turn(&self, state: &State) -> Result<()> {
        let left = state.not_before.map(|time| time.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Error::new(ErrorKind::ConnectionLost, "the server is not there")
                .with_retry(Retry::After(left))
                .with_context("server", self.place())
                .with_help("it is tried again by itself; see that the server is up")),
        }
    }

    async fn connect_once(&self) -> Result<Connection> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.client_name.as_str().into());
        let runtime = lapin::runtime::default_runtime().map_err(|e| self.not_connected(&e))?;
        let (address, tls) = (self.address.clone(), self.tls.clone());
        let connecting = Connection::connect_uri_with_config(address, properties, tls, runtime);
        let connection = match tokio::time::timeout(self.connect_limit, connecting).await {
            Ok(connection) => connection.map_err(|error| self.not_connected(&error))?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("no answer within {:?}", self.connect_limit),
                )
                .with_retry(Retry::Safe)
                .with_context("server", self.place())
                .with_help("see that this is RabbitMQ's AMQP port, and whether it speaks TLS"));
            }
        };
        tracing::debug!(server = self.place(), "connected");
        Ok(connection)
    }

    fn not_connected(&self, error: &lapin::Error) -> Error {
        error::connect(error, &self.place(), &self.address.vhost)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.address.authority.host, self.address.authority.port)
    }

    /// A call to the server within the time that a call has. `sent` is whether it may have acted on it.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        sent: bool,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        let retry = if sent { Retry::Uncertain } else { Retry::Safe };
        match tokio::time::timeout(self.limit, call).await {
            Ok(result) => result.map_err(|error| error::call(&error, what, sent)),
            Err(_) => Err(self.silent(what, self.limit).with_retry(retry)),
        }
    }

    fn silent(&self, what: &str, limit: Duration) -> Error {
        Error::new(ErrorKind::Timeout, format!("{what}: no answer within {limit:?}"))
            .with_context("server", self.place())
    }

    /// Why a publish had no turn in the time that a call has. Nothing of it was sent.
    pub(crate) fn no_turn(&self) -> Error {
        let error = match self.alarm.reason() {
            Some(reason) => self.blocked(&reason),
            None => Error::new(
                ErrorKind::Timeout,
                format!("the publishes before this one were not sent within {:?}", self.limit),
            )
            .with_context("server", self.place())
            .with_help("publish less at once, or raise the connection's time limit"),
        };
        error.with_retry(Retry::Safe)
    }

    /// Why publishes that were sent have no answer, where the server has said so.
    pub(crate) fn blocks(&self) -> Option<Error> {
        self.alarm.reason().map(|reason| self.blocked(&reason).with_retry(Retry::Uncertain))
    }

    fn blocked(&self, reason: &str) -> Error {
        Error::new(ErrorKind::DestinationFull, format!("the server takes no publishes: {reason}"))
            .with_context("server", self.place())
            .with_help("free memory or disk on the server, or raise its watermark")
    }

    /// # Errors
    /// `CLOSED`.
    pub(crate) fn check_open(&self, what: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed(what)) } else { Ok(()) }
    }

    /// Remembers a group of a destination.
    pub(crate) fn know(&self, destination: &Arc<str>, group: &Arc<str>) {
        self.opened().groups.entry(Arc::clone(destination)).or_default().insert(Arc::clone(group));
    }

    pub(crate) fn forget(&self, destination: &str, group: &str) {
        if let Some(groups) = self.opened().groups.get_mut(destination) {
            groups.remove(group);
        }
    }

    /// The groups of a destination that were opened on this connection.
    pub(crate) fn known(&self, destination: &str) -> Vec<Arc<str>> {
        self.opened().groups.get(destination).map_or_else(Vec::new, |groups| groups.iter().cloned().collect())
    }

    /// A count of what a consumer of this queue has in hand, to be kept up by it.
    pub(crate) fn count_in_flight(&self, queue: &str) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let mut opened = self.opened();
        opened.in_flight.retain(|(_, count)| count.strong_count() > 0);
        opened.in_flight.push((queue.to_owned(), Arc::downgrade(&count)));
        count
    }

    /// What consumers of this connection have of a queue.
    pub(crate) fn in_flight(&self, queue: &str) -> u64 {
        let opened = self.opened();
        let counts = opened.in_flight.iter().filter(|(name, _)| name == queue);
        counts.filter_map(|(_, count)| count.upgrade()).map(|n| n.load(Ordering::Acquire) as u64).sum()
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens nothing any more.
    pub(crate) fn shut(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Ends all connections. One that is cut short may be begun again.
    pub(crate) async fn close(&self) -> Result<()> {
        self.shut();
        let mut state = self.state.lock().await;
        let (administering, publishing) = (state.administering.take(), state.publishing.take());
        drop(state);
        // A server that does not read the connection does not answer its close either, and it has nothing to give back.
        let publishing = publishing.filter(|_| self.alarm.reason().is_none());
        let dedicated = std::mem::take(&mut self.opened().dedicated);
        let dedicated: Vec<_> = dedicated.iter().filter_map(Weak::upgrade).collect();
        let shared = administering.iter().chain(&publishing);
        let all = shared.chain(dedicated.iter().map(Arc::as_ref)).map(|connection| self.end(connection));
        join_all(all).await;
        self.farewells.end();
        Ok(())
    }

    /// Closes a connection, which gives back what was not settled on it. A server that is slow to answer does so all the
    /// same.
    async fn end(&self, connection: &Connection) {
        if !connection.status().connected() {
            return;
        }
        match tokio::time::timeout(GOODBYE, connection.close(OK, "OK".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, server = self.place(), "the connection was lost at its close")
            }
            Err(_) => tracing::warn!(
                server = self.place(),
                "the server has not answered the close of a connection; it gives back what was not settled when it does"
            ),
        }
    }
}

impl Dedicated {
    /// Closes it, which gives back what was not settled.
    pub(crate) async fn close(&self, link: &Link) {
        link.end(&self.connection).await;
    }
}

fn is_up(connection: Option<&Connection>) -> bool {
    connection.is_some_and(|connection| connection.status().connected())
}

/// How long to leave a server alone that could not be reached so many times: 50 ms, doubling up to 3.2 s.
fn backoff(failed: u32) -> Duration {
    Duration::from_millis(25 << failed.min(7))
}
